"""Sources of clips: frames and their record, by number.

Training mixes sources and knows nothing else of where data comes from. `SyntheticSource` draws clips, `RecordsSource`
reads any file of records; an adapter of a corpus writes such a file. What cannot be read by number is a stream
(`streams.py`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from processing_elysium.frames import open_video, random_indices
from processing_elysium.video_source import VideoSource

from .records import VideoRecord, parse_record
from .synthetic import SPLITS, SyntheticConfig, make_clip

__all__ = [
    "Clip", "RecordedClip", "RecordsSource", "Source", "SyntheticSource", "check_boxes", "open_frames",
    "open_recorded", "records_in",
]  # fmt: skip

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
_START_ATTEMPTS = 30


class Clip(Protocol):
    """What a source gives: F frames `(H, W, 3)` uint8 RGB, and a record whose boxes belong to exactly these."""

    @property
    def frames(self) -> Any:
        """The frames; a clip of files decodes them when they are first looked at."""

    @property
    def record(self) -> VideoRecord:
        """What is known about them."""


class RecordedClip:
    """A record of the frames that are shown; the frames are read from their files when they are first looked at.

    Args:
        record: what is known about exactly these frames.
        where: the file of the record, named in errors.
        root: folder that the record's `video` is relative to.

    Raises:
        ValueError: a box lies outside the frame, with the record's id.
    """

    def __init__(self, record: VideoRecord, where: str, root: str | os.PathLike[str] = ".") -> None:
        self.record, self._where, self._root = record, where, root
        self._frames: list[np.ndarray] | None = None
        check_boxes(record)

    @property
    def frames(self) -> list[np.ndarray]:
        """F frames `(H, W, 3)` uint8 RGB, decoded once.

        Raises:
            ValueError: a file is missing or broken, or ends before the annotation does; with the record's id.
        """
        if self._frames is None:
            try:
                self._frames = self.decode()
            except (ValueError, OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
                raise ValueError(f"{self._where}, record {self.record.id!r}: {error}") from error
        return self._frames

    def decode(self) -> list[np.ndarray]:
        """Read the frames."""
        return open_frames(self.record, self._root) if self.record.frame_indices else []


class Source(Protocol):
    """Clips by number.

    Attributes:
        shuffled: whether training should visit the numbers in random order, once each per pass; false for a source
            whose numbers mean nothing.
    """

    shuffled: bool

    def __len__(self) -> int:
        """How many numbers there are."""

    def read(self, index: int, num_frames: int, rng: np.random.Generator, batch_rng: np.random.Generator) -> Clip:
        """Read one clip, the same one for the same arguments.

        Args:
            index: from 0 to the length of the source.
            num_frames: frames wanted; a source that has fewer gives what it has.
            rng: draws which frames, and whatever else the source leaves to chance.
            batch_rng: in the same state for all clips of a batch, so that they can be alike where that saves padding.
        """


@dataclass(frozen=True, kw_only=True)
class SyntheticSource:
    """Drawn clips (`dataset_scripts.synthetic`).

    Attributes:
        seed: of the dataset.
        size: frame width and height in pixels.
        split: a key of `SPLITS`.
        objects: fewest and most objects in a scene; all clips of a batch have as many.
        interval: smallest and largest distance between frames, in native frames.
        irregular: share of clips in which every distance is drawn anew; with equal distances a model can continue the
            boxes it has written without looking at the frames.
    """

    seed: int = 0
    size: int = 140
    split: str = "train"
    objects: tuple[int, int] = (2, 5)
    interval: tuple[int, int] = (1, 1)
    irregular: float = 0.0
    shuffled = False

    def __post_init__(self) -> None:
        SyntheticConfig(self.seed, self.size, *self.objects)
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {sorted(SPLITS)}; got {self.split!r}.")
        if not 0 <= self.irregular <= 1:
            raise ValueError(f"irregular is a share between 0 and 1; got {self.irregular}.")

    def __len__(self) -> int:
        return SPLITS[self.split][1]

    def read(self, index: int, num_frames: int, rng: np.random.Generator, batch_rng: np.random.Generator) -> Clip:
        """Draw clip `index`; see [`Source.read`]."""
        low, high = self.objects
        objects = int(batch_rng.integers(low, high + 1))
        irregular = self.irregular > 0 and rng.random() < self.irregular
        config = SyntheticConfig(self.seed, self.size, objects, objects)
        return make_clip(config, self.split, index, num_frames, self.interval, irregular)


@dataclass(kw_only=True)
class RecordsSource:
    """A file of records (JSON lines); lines are parsed and frames decoded when a clip is read.

    Attributes:
        path: the file.
        root: folder that the records' `video` is relative to; None: that of the file.
        max_interval: largest distance between the frames of a clip, in annotated frames (paper: 1 to 60).
        index: find where every record begins; without it, only records at hand can be read (`clip_of`).

    Raises:
        ValueError: the file does not exist or holds no record.
    """

    path: str
    root: str | None = None
    max_interval: int = 60
    index: bool = True
    shuffled = True

    def __post_init__(self) -> None:
        if self.max_interval < 1:
            raise ValueError(f"max_interval={self.max_interval} must be at least 1.")
        if not Path(self.path).is_file():
            raise ValueError(
                f"{self.path} does not exist; give the path of a file of records (working folder: {os.getcwd()})."
            )
        # An array, not a list of numbers: twenty million records are 160 MB, which workers share.
        self._starts = np.fromiter((start for start, _ in records_in(self.path)), np.int64) if self.index else []
        if self.index and not len(self._starts):
            raise ValueError(f"{self.path} holds no record; write one JSON object per line.")

    def __len__(self) -> int:
        return len(self._starts)

    def record(self, index: int) -> VideoRecord:
        """Parse record `index`."""
        # Opened anew each time: worker processes must not share the position in one open file.
        with open(self.path, "rb") as file:
            file.seek(int(self._starts[index]))
            line = file.readline()
        return self.parse(line, index)

    def parse(self, line: bytes, index: int) -> VideoRecord:
        """Parse a line of the file; errors name the file and the record."""
        try:
            return parse_record(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{self.path}, record {index}: {error}") from error

    def read(self, index: int, num_frames: int, rng: np.random.Generator, batch_rng: np.random.Generator) -> Clip:
        """A clip of record `index` that starts where an object is seen; see [`Source.read`]."""
        return self.clip_of(self.record(index), num_frames, rng)

    def clip_of(self, record: VideoRecord, num_frames: int, rng: np.random.Generator) -> Clip:
        """A clip of a record; nothing is decoded before its frames are looked at.

        A record of a conversation alone, without pictures, gives no frames.

        Raises:
            ValueError: the video is missing, or a box lies outside the frame; with the record's id.
        """
        root = Path(self.path).parent if self.root is None else Path(self.root)
        try:
            if record.video is None and record.frame_indices is None and record.messages:
                return RecordedClip(replace(record, frame_indices=None), self.path)
            if record.frame_indices is None:
                record = replace(record, frame_indices=list(range(_count_frames(record, root))))
            return RecordedClip(record.at(self._positions(record, num_frames, rng)), self.path, root)
        except (ValueError, OSError, SyntaxError) as error:
            raise ValueError(f"{self.path}, record {record.id!r}: {error}") from error

    def _positions(self, record: VideoRecord, num_frames: int, rng: np.random.Generator) -> list[int]:
        """Equally spaced annotated frames; the interval and the start are random."""
        known = [track.known for track in record.objects]
        for _ in range(_START_ATTEMPTS):
            positions = random_indices(record.num_frames, num_frames, self.max_interval, rng)
            if not known or any(row[positions[0]] for row in known):
                return positions
        return positions


def records_in(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Lines of a file of records that hold one, each with the byte it starts at."""
    offset = 0
    with open(path, "rb") as file:
        for line in file:
            if line.strip():
                yield offset, line
            offset += len(line)


def check_boxes(record: VideoRecord) -> None:
    """Refuse boxes that no part of the frame is in; a box that sticks out is cut when it is written.

    Raises:
        ValueError: an object is called present where its box lies outside the frame.
    """
    for number, track in enumerate(record.objects):
        outside = (track.boxes[:, :2] >= 1).any(axis=1) | (track.boxes[:, 2:] <= 0).any(axis=1)  # False for NaN
        wrong = np.flatnonzero(outside & ~track.absent)
        if len(wrong):
            frame = record.frame_indices[wrong[0]] if record.frame_indices else wrong[0]
            raise ValueError(
                f"object {number} has the box {track.boxes[wrong[0]].round(3).tolist()} outside the frame in frame "
                f"{frame}; correct it, or mark the frame in `absent`."
            )


def open_frames(record: VideoRecord, root: str | os.PathLike[str] = ".") -> list[np.ndarray]:
    """Read the annotated frames of a record, `(H, W, 3)` uint8 RGB each, and nothing else of the video.

    Args:
        record: with `video` and `frame_indices`.
        root: folder that `video` is relative to.

    Raises:
        ValueError: the record names no video, or the video cannot be read or ends before the last annotated frame.
    """
    indices = record.frame_indices or []
    if isinstance(record.video, list):
        with open_video([_path(record.video[index], root) for index in indices]) as video:
            frames = video.read(range(len(indices)))
    else:
        with open_recorded(record, root) as video:
            frames = video.read(indices)
    if len(frames) < len(indices):
        raise ValueError(
            f"the annotation names frame {indices[-1]}, but {record.video!r} gave {len(frames)} of {len(indices)} "
            "frames; correct `frames`, or get the whole video."
        )
    return list(frames)


def open_recorded(record: VideoRecord, root: str | os.PathLike[str] = ".") -> VideoSource:
    """Open the whole video of a record.

    Args:
        record: with `video`.
        root: folder that `video` is relative to.

    Raises:
        ValueError: the record names no video, or it cannot be read.
    """
    if record.video is None:
        raise ValueError("the record names no `video`; give the path of a video or an image.")
    if isinstance(record.video, list):
        return open_video([_path(name, root) for name in record.video])
    path = _path(record.video, root)
    return open_video([path] if record.video.lower().endswith(IMAGE_SUFFIXES) else path)


def _count_frames(record: VideoRecord, root: str | os.PathLike[str]) -> int:
    with open_recorded(record, root) as video:
        return video.num_frames


def _path(name: str, root: str | os.PathLike[str]) -> str:
    return name if "://" in name else os.path.join(root, name)
