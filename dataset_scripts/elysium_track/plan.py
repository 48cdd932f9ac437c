"""What is published: settings, the rows after review, and the split of each video."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..construction.builds import build_files, read_build
from ..construction.rows import Trajectory, read_trajectories, write_trajectories
from ..review.decisions import apply_decisions, read_log
from .elysium_track import SPLITS

__all__ = ["PublishSettings", "planned_rows", "row_shards", "split_of"]


@dataclass(frozen=True, kw_only=True)
class PublishSettings:
    """What to publish and how.

    Attributes:
        build: folder (or file) with rows.
        videos: folder that their videos are relative to.
        decisions: log of reviewers, None applies none.
        require_review: splits of which only accepted rows are published.
        name: of the data set, for people.
        license: identifier of the Hub for the whole, such as `cc-by-4.0`; `other` sends readers to each row's own.
        validation, test: shares of the videos for these splits, where the rows name no split.
        seed: of that division.
        max_frames: so many frames of a trajectory, evenly spread, in the configurations that hold frames; None: all.
        max_side: frames are shrunk to this longest side in pixels; None: as they are.
        quality: of the JPEGs.
        rows_per_shard: trajectories in one parquet file.
    """

    build: str
    videos: str
    decisions: str | None = None
    require_review: tuple[str, ...] = ()
    name: str = "ElysiumTrack"
    license: str = "other"
    validation: float = 0.01
    test: float = 0.01
    seed: int = 0
    max_frames: int | None = None
    max_side: int | None = None
    quality: int = 90
    rows_per_shard: int = 500

    def __post_init__(self) -> None:
        if self.validation < 0 or self.test < 0 or self.validation + self.test >= 1:
            raise ValueError(
                f"`validation`={self.validation} and `test`={self.test} are shares of the videos; give numbers from "
                "0, below 1 together."
            )
        for name in ("max_frames", "max_side", "rows_per_shard"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}`={value}; give 1 or more.")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"`quality`={self.quality}; give 1 to 100.")
        if set(self.require_review) - set(SPLITS):
            raise ValueError(f"`require_review`={list(self.require_review)}; splits are {list(SPLITS)}.")
        if self.require_review and self.decisions is None:
            raise ValueError("`require_review` needs `decisions`, the log of the reviewers.")

    def fingerprint(self) -> str:
        """Return what a half-finished publication must agree with to be gone on with: settings and input files."""
        inputs = [*build_files(self.build), *([Path(self.decisions)] if self.decisions else [])]
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in inputs]
        facts = [dataclasses.asdict(self), stats]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def split_of(video_id: str, settings: PublishSettings) -> str:
    """Draw the split of a video from its name and the seed: all its trajectories fall on one side, in every run."""
    digest = hashlib.sha256(f"{settings.seed} {video_id}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < settings.test:
        return "test"
    return "validation" if place < settings.test + settings.validation else "train"


def planned_rows(settings: PublishSettings, counts: Counter[str]) -> Iterator[Trajectory]:
    """Read the rows of a build as they will be published.

    Args:
        settings: what to publish.
        counts: told what became of the rows (`accepted`, `rejected`, ...), where there are decisions.

    Raises:
        ValueError: an id that occurs twice, a video in two splits, or a split of another name.
    """
    ids: set[str] = set()
    splits: dict[str, str] = {}
    decisions = read_log(settings.decisions) if settings.decisions else []
    if settings.decisions and not Path(settings.decisions).is_file():
        raise ValueError(f"the log of decisions {settings.decisions} does not exist.")
    divided = (replace(row, split=row.split or split_of(row.video_id, settings)) for row in read_build(settings.build))
    for row, what in apply_decisions(_checked(divided, ids, splits), decisions, settings.require_review):
        if decisions:
            counts[what] += 1
        if row is not None:
            yield row


def _checked(rows: Iterable[Trajectory], ids: set[str], splits: dict[str, str]) -> Iterator[Trajectory]:
    for row in rows:
        if row.id in ids:
            raise ValueError(f"the id {row.id!r} occurs twice in the build; ids are unique.")
        ids.add(row.id)
        if row.split not in SPLITS:
            raise ValueError(f"trajectory {row.id!r} is of the split {row.split!r}; allowed are {list(SPLITS)}.")
        if splits.setdefault(row.video_id, row.split) != row.split:
            raise ValueError(
                f"the video {row.video_id!r} is in {splits[row.video_id]} and in {row.split}; a model would be tested "
                "on a video that it was trained on. Give all its rows one split."
            )
        yield row


def row_shards(rows: Iterable[Trajectory], folder: str | os.PathLike[str], size: int) -> dict[str, list[Path]]:
    """Write rows as `SPLIT-NNNNN.parquet`, `size` rows each, in their order.

    Returns:
        The files by split; splits without rows are left out.
    """
    held: dict[str, list[Trajectory]] = {name: [] for name in SPLITS}
    files: dict[str, list[Path]] = {name: [] for name in SPLITS}

    def write(name: str) -> None:
        path = Path(folder) / f"{name}-{len(files[name]):05d}.parquet"
        write_trajectories(path, held[name])
        files[name].append(path)
        held[name] = []

    for row in rows:
        name = row.split or "train"
        held[name].append(row)
        if len(held[name]) == size:
            write(name)
    for name in SPLITS:
        if held[name]:
            write(name)
    return {name: paths for name, paths in files.items() if paths}


def rows_of(files: Iterable[Path]) -> Iterator[Trajectory]:
    """Read the rows of several shards."""
    for file in files:
        yield from read_trajectories(file)
