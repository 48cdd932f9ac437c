"""Sources that are read from front to back, shard by shard: for what cannot be indexed or does not fit on a disk.

Each process and worker reads shards of its own. Where it stands is three numbers, and going on from there skips what
comes before in the shard without decoding it.
"""

from __future__ import annotations

import glob
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
from PIL import Image

from .adapters import grit
from .adapters.common import Skip, Skipped
from .records import VideoRecord, parse_record
from .sources import IMAGE_SUFFIXES, Clip, RecordedClip, RecordsSource, records_in

__all__ = ["NothingToAsk", "RecordsStream", "StreamCursor", "StreamSource", "TarStream", "is_stream"]

LAYOUTS = ("records", "grit")
PASSED_OVER = 10_000  # entries in a row without anything to ask: then it is no matter of chance


class NothingToAsk(ValueError):  # noqa: N818 - the entry is sound, and the next one is taken in its place
    """An entry is as published, but no question fits it; it does not count as broken."""


class StreamEntry(Protocol):
    """One clip of a stream, its frames not decoded yet."""

    def clip(self, num_frames: int, rng: np.random.Generator) -> Clip:
        """The clip, as `Source.read` gives it.

        Raises:
            NothingToAsk: the next entry should be taken.
            ValueError: the entry is broken; its name is in the message.
        """


class StreamSource(Protocol):
    """Clips in shards.

    Attributes:
        shards: names, in a fixed order.
    """

    shards: Sequence[str]

    def entries(self, shard: int, start: int) -> Iterator[StreamEntry]:
        """Entries of a shard from number `start` on.

        Raises:
            ValueError: the shard cannot be read.
        """


def is_stream(source: Any) -> TypeGuard[StreamSource]:
    """Whether a source is read from front to back."""
    return hasattr(source, "shards")


class StreamCursor:
    """Reads the shards of one reader, pass after pass, each pass in another order.

    Args:
        source: the stream.
        reader: number of this reader (worker of a process) among `readers`; no two read the same entry in a pass.
        readers: how many there are.
        seed: of the orders.
        position: where to go on, see `position`; None begins.

    Raises:
        ValueError: there are more readers than shards, which would leave readers without data.
    """

    def __init__(
        self,
        source: StreamSource,
        reader: int,
        readers: int,
        seed: Sequence[int],
        position: Sequence[int] | None = None,
    ) -> None:
        if readers > len(source.shards):
            raise ValueError(
                f"{readers} readers (processes x workers) share {len(source.shards)} shard(s) of a stream; cut it "
                f"into {readers} shards at least, or use fewer workers."
            )
        self._source, self._reader, self._readers, self._seed = source, reader, readers, tuple(seed)
        self.turn, self.place, self.entry = position or (0, 0, 0)
        self._entries: Iterator[StreamEntry] | None = None

    @property
    def position(self) -> list[int]:
        """Passes, shards of this pass and entries of this shard that are behind."""
        return [self.turn, self.place, self.entry]

    def __next__(self) -> StreamEntry:
        """The next entry; the stream has no end.

        Raises:
            ValueError: no shard of the stream holds an entry.
        """
        empty: set[int] = set()
        while True:
            mine = self._mine()
            if self._entries is None:
                self._entries = self._source.entries(mine[self.place], self.entry)
            found = next(self._entries, None)
            if found is not None:
                self.entry += 1
                return found
            if self.entry == 0:
                empty.add(mine[self.place])  # every pass gives this reader other shards: in time it has seen all
            if len(empty) == len(self._source.shards):
                raise ValueError(f"shards {self._source.shards[:3]} ... hold no entry.")
            self._entries, self.entry, self.place = None, 0, self.place + 1
            if self.place == len(mine):
                self.turn, self.place = self.turn + 1, 0

    def clip(self, num_frames: int, rng: np.random.Generator) -> Clip:
        """The clip of the next entry that has something to ask; see `StreamEntry.clip`.

        Raises:
            ValueError: an entry is broken, or none of very many has anything to ask.
        """
        for _ in range(PASSED_OVER):
            entry = next(self)
            try:
                return entry.clip(num_frames, rng)
            except NothingToAsk as error:
                reason = error
        raise ValueError(f"{PASSED_OVER} entries in a row have nothing to ask; the last one: {reason}")

    def _mine(self) -> list[int]:
        """Shards of this reader in this pass."""
        order = np.random.default_rng([*self._seed, self.turn]).permutation(len(self._source.shards))
        return [int(number) for number in order[self._reader :: self._readers]]


# --------------------------------------------------------------------------------------------------------------
# streams of ours
# --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _RecordEntry:
    """A line of a file of records."""

    source: RecordsSource
    line: bytes
    number: int

    def clip(self, num_frames: int, rng: np.random.Generator) -> Clip:
        return self.source.clip_of(self.source.parse(self.line, self.number), num_frames, rng)


@dataclass(kw_only=True)
class RecordsStream:
    """Files of records (JSON lines), read from front to back.

    Attributes:
        path: pattern of the files, such as `grit/*.jsonl`.
        root: folder that the records' `video` is relative to; None: that of each file.
        max_interval: see `RecordsSource`.

    Raises:
        ValueError: no file matches.
    """

    path: str
    root: str | None = None
    max_interval: int = 60

    def __post_init__(self) -> None:
        self.shards = _matching(self.path, "files of records")

    def entries(self, shard: int, start: int) -> Iterator[StreamEntry]:
        """See `StreamSource.entries`."""
        path = self.shards[shard]
        source = RecordsSource(path=path, root=self.root, max_interval=self.max_interval, index=False)
        for number, (_, line) in enumerate(records_in(path)):
            if number >= start:
                yield _RecordEntry(source, line, number)


@dataclass(frozen=True)
class _TarEntry:
    """The files of one sample of a tar, as they are stored."""

    shard: str
    key: str
    files: dict[str, bytes]
    layout: str

    def clip(self, num_frames: int, rng: np.random.Generator) -> Clip:
        if self.layout == "grit":
            return self._of_grit(rng)
        try:
            if ".json" not in self.files:
                raise ValueError(f"it holds {sorted(self.files)} and no .json with the record.")
            record = parse_record({"id": self.key, **json.loads(self.files[".json"])})
            pictures = [data for suffix, data in sorted(self.files.items()) if suffix in IMAGE_SUFFIXES]
            if len(pictures) != 1:
                raise ValueError(f"it holds {sorted(self.files)}; a sample has one picture.")
            if record.num_frames not in (None, 1):
                raise ValueError(f"its record has {record.num_frames} frames, a sample of a tar is one picture.")
            return _TarClip(replace(record, frame_indices=[0]), self.shard, pictures[0])
        except ValueError as error:
            raise ValueError(f"{self.shard}, sample {self.key!r}: {error}") from error

    def _of_grit(self, rng: np.random.Generator) -> Clip:
        """One of the sample's records by chance: where a box has several expressions, each pass asks for one."""
        files = {suffix.removeprefix("."): data for suffix, data in self.files.items()}
        where = f"{self.shard}, sample {self.key!r}"
        try:
            ending, records = grit.read_sample(f"{Path(self.shard).stem}/{Path(self.key).name}", files, Skipped())
        except (Skip, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ValueError(f"{where}: {error or type(error).__name__}") from error
        if not records:
            raise NothingToAsk(f"{where}: no usable box")
        return _TarClip(records[int(rng.integers(len(records)))], self.shard, files[ending])


class _TarClip(RecordedClip):
    """A picture that is still compressed."""

    def __init__(self, record: VideoRecord, shard: str, data: bytes) -> None:
        super().__init__(record, shard)
        self._data = data

    def decode(self) -> list[np.ndarray]:
        """See `RecordedClip.decode`."""
        with Image.open(io.BytesIO(self._data)) as image:
            return [np.asarray(image.convert("RGB"))]


@dataclass(kw_only=True)
class TarStream:
    """WebDataset tars: neighbors with one name are a sample, `KEY.json` with its record and `KEY.jpg` or alike.

    The record is one of `dataset_scripts.records` without `video`; where it has no `id`, the key is its id.

    Attributes:
        path: pattern of the tars, such as `grit/*.tar`.
        layout: of `KEY.json`: "records", or "grit" as img2dataset writes GRIT (see `adapters/grit.py`).

    Raises:
        ValueError: no file matches, or the layout is unknown.
    """

    path: str
    layout: str = "records"

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout is {self.layout!r}; give one of {LAYOUTS}.")
        self.shards = _matching(self.path, "tars")

    def entries(self, shard: int, start: int) -> Iterator[StreamEntry]:
        """See `StreamSource.entries`; of what comes before `start` only the headers are read."""
        path = self.shards[shard]
        try:
            with tarfile.open(path, "r:*") as archive:
                for number, (key, members) in enumerate(_samples(archive)):
                    if number >= start:
                        files = {suffix: _content(archive, member) for suffix, member in members.items()}
                        yield _TarEntry(path, key, files, self.layout)
        except (tarfile.TarError, OSError) as error:
            raise ValueError(f"{path} cannot be read as a tar ({error}); download it again.") from error


def _samples(archive: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Neighboring files with one name, by suffix."""
    key, members = "", {}
    for member in archive:
        if not member.isfile():
            continue
        folder, name = os.path.split(member.name)
        stem, dot, suffix = name.partition(".")
        name = os.path.join(folder, stem)
        if name != key:
            if members:
                yield key, members
            key, members = name, {}
        members[(dot + suffix).lower()] = member
    if members:
        yield key, members


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None  # only regular files come here
    return file.read()


def _matching(pattern: str, what: str) -> list[str]:
    found = sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())
    if not found:
        raise ValueError(f"{pattern} matches no file; give the pattern of {what} (working folder: {os.getcwd()}).")
    return found
