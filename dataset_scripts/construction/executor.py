"""Runs the pipeline: videos in input order are cut into shards, each finished whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import itertools
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from .config import BuildConfig, fingerprint
from .items import CaptionedVideo, VideoResult
from .manifest import Manifest, ShardEntry
from .rows import write_trajectories
from .workers import map_videos

__all__ = ["run_build"]

# The order in which a video meets the stages; reasons are written in it.
ORDER = (
    "caption", "noun_chunks", "video", "phrases_of_dropped_videos", "shots", "grounding", "unique", "tracking",
    "drift", "consistency", "forward_backward",
)  # fmt: skip
DETAIL = 300  # characters of a quarantined video's detail
Place = tuple[int, int, str]  # number of a shard, position in it, id of the video there


@dataclass
class _Shard:
    """A shard in work; `results` has id and result by position."""

    number: int
    size: int
    digest: str
    results: dict[int, tuple[str, VideoResult]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return len(self.results) == self.size


def run_build(
    config: BuildConfig,
    items: Iterable[CaptionedVideo],
    on_result: Callable[[VideoResult], None] = lambda result: None,
    on_skipped: Callable[[ShardEntry], None] = lambda entry: None,
) -> list[ShardEntry]:
    """Work on all videos that no finished shard has.

    The files depend on settings and input alone: not on the number of processes, nor on how often a run was killed.

    Args:
        config: of the run.
        items: videos in input order, from the beginning.
        on_result: called with what became of each video, as it is known.
        on_skipped: called with each shard that an earlier run finished.

    Returns:
        The entries of all shards, by number.

    Raises:
        ValueError: the build is another's (see `Manifest`), the input has changed, or components cannot be built.
        OSError: the disk is full; finished shards are kept.
    """
    map_all = _mapper(config)
    with Manifest(config) as manifest:
        open_shards: dict[int, _Shard] = {}
        todo = _todo(config, items, manifest, open_shards, on_skipped)
        for (number, position, name), result in map_all(config, todo):
            open_shards[number].results[position] = name, result
            on_result(result)
            _finish(config, manifest, open_shards, on_result)
        _finish(config, manifest, open_shards, on_result)
        return [manifest.finished[number] for number in sorted(manifest.finished)]


def _mapper(config: BuildConfig) -> Callable[..., Iterator[tuple[Place, VideoResult]]]:
    """Return what hands videos to workers; Ray is imported by who asks for it."""
    if config.executor == "local":
        return map_videos
    from .ray_executor import map_videos_on_ray

    return map_videos_on_ray


def _todo(
    config: BuildConfig,
    items: Iterable[CaptionedVideo],
    manifest: Manifest,
    open_shards: dict[int, _Shard],
    on_skipped: Callable[[ShardEntry], None],
) -> Iterator[tuple[Place, CaptionedVideo]]:
    """Yield the videos of unfinished shards and open these; a second video of the same id is put aside at once."""
    seen, source, earlier = _Seen(), iter(items), set(manifest.finished)
    for number in itertools.count():
        chunk = list(itertools.islice(source, config.shard_size))
        if not chunk:
            break
        fresh = [seen.add(item.id) for item in chunk]
        digest = _digest([item.id for item in chunk])
        if number in earlier:
            if manifest.finished[number].input_digest != digest:
                raise _changed(config, f"shard {number} was made of other videos")
            on_skipped(manifest.finished[number])
            continue
        shard = open_shards[number] = _Shard(number, len(chunk), digest)
        for position, item in enumerate(chunk):
            if not fresh[position]:
                reason = ("duplicate_id", f"an earlier video has the id {item.id!r} too")
                shard.results[position] = item.id, VideoResult(quarantined=reason)
        for position, item in enumerate(chunk):
            if fresh[position]:
                yield (number, position, item.id), item
    if any(past >= number for past in earlier):
        raise _changed(config, f"it ends before shard {number}, and shard {max(earlier)} is finished")


def _changed(config: BuildConfig, how: str) -> ValueError:
    return ValueError(
        f"input.path={config.input.path!r} has changed since {config.output} was begun: {how}; name a new output, or "
        "bring the old input back."
    )


def _finish(
    config: BuildConfig,
    manifest: Manifest,
    open_shards: dict[int, _Shard],
    on_result: Callable[[VideoResult], None],
) -> None:
    """Write the shards that are whole."""
    for shard in [shard for shard in open_shards.values() if shard.whole]:
        results = [shard.results[position] for position in range(shard.size)]
        name = f"shard-{shard.number:05d}.parquet"
        write_trajectories(config.folder / name, (row for _, result in results for row in result.rows))
        manifest.add(_entry(shard, results, name, fingerprint(config)))
        for _, result in results:
            if result.quarantined and result.quarantined[0] == "duplicate_id":
                on_result(result)
        del open_shards[shard.number]


def _entry(shard: _Shard, results: list[tuple[str, VideoResult]], name: str, settings: str) -> ShardEntry:
    counts, dropped, seconds = Counter(videos=len(results), phrases=0, kept=0), Counter[str](), Counter[str]()
    put_aside = []
    for video, result in results:
        counts.update(result.counts)
        dropped.update(result.dropped)
        seconds.update(result.seconds)
        if result.quarantined is not None:
            reason, detail = result.quarantined
            put_aside.append({"id": video, "reason": reason, "detail": detail[:DETAIL]})
    return ShardEntry(
        shard=shard.number, file=name, fingerprint=settings, input_digest=shard.digest, counts=dict(counts),
        dropped=dict(sorted(dropped.items(), key=_by_stage)),
        quarantined=dict(sorted(Counter(one["reason"] for one in put_aside).items())), quarantined_videos=put_aside,
        seconds={stage: round(spent, 4) for stage, spent in sorted(seconds.items())},
    )  # fmt: skip


def _by_stage(item: tuple[str, int]) -> tuple[int, str]:
    stage = item[0].partition(".")[0]
    return ORDER.index(stage) if stage in ORDER else len(ORDER), item[0]


def _digest(ids: list[str]) -> str:
    text = "\n".join(ids).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:16]


class _Seen:
    """The ids so far, in a temporary file, so that memory stays flat over millions of videos."""

    def __init__(self) -> None:
        self._base = sqlite3.connect("", isolation_level=None)  # "": a file of its own that goes with the connection
        self._base.execute("PRAGMA synchronous=OFF")
        self._base.execute("CREATE TABLE seen (id BLOB PRIMARY KEY) WITHOUT ROWID")

    def add(self, name: str) -> bool:
        """Remember an id; returns whether it is new."""
        key = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:16]
        try:
            return self._base.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount == 1
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            raise OSError(errno.ENOSPC, f"the folder for temporary files ({tempfile.gettempdir()}) is full") from error
