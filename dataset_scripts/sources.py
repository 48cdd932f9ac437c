"""Sources of clips: frames and their record, by number.

Training mixes sources and knows nothing else of where data comes from. `SyntheticSource` draws clips, `RecordsSource`
reads any file of records; an adapter of a corpus writes such a file or is a source of its own.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from processing_elysium.frames import open_video, random_indices
from processing_elysium.video_source import VideoSource

from .records import VideoRecord, parse_record
from .synthetic import SPLITS, SyntheticConfig, make_clip

__all__ = ["Clip", "RecordsSource", "Source", "SyntheticSource", "open_frames", "open_recorded"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
_START_ATTEMPTS = 30


class Clip(Protocol):
    """What a source gives: F frames `(H, W, 3)` uint8 RGB, and a record whose boxes belong to exactly these."""

    frames: Any
    record: VideoRecord


@dataclass(frozen=True)
class RecordedClip:
    """Frames read from files, and their record."""

    frames: list[np.ndarray]
    record: VideoRecord


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

    Raises:
        ValueError: the file does not exist or holds no record.
    """

    path: str
    root: str | None = None
    max_interval: int = 60
    shuffled = True

    def __post_init__(self) -> None:
        if self.max_interval < 1:
            raise ValueError(f"max_interval={self.max_interval} must be at least 1.")
        if not Path(self.path).is_file():
            raise ValueError(
                f"{self.path} does not exist; give the path of a file of records (working folder: {os.getcwd()})."
            )
        self._starts: list[int] = []
        offset = 0
        with open(self.path, "rb") as file:
            for line in file:
                if line.strip():
                    self._starts.append(offset)
                offset += len(line)
        if not self._starts:
            raise ValueError(f"{self.path} holds no record; write one JSON object per line.")

    def __len__(self) -> int:
        return len(self._starts)

    def record(self, index: int) -> VideoRecord:
        """Parse record `index`."""
        # Opened anew each time: worker processes must not share the position in one open file.
        with open(self.path, "rb") as file:
            file.seek(self._starts[index])
            line = file.readline()
        try:
            return parse_record(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{self.path}, record {index}: {error}") from error

    def read(self, index: int, num_frames: int, rng: np.random.Generator, batch_rng: np.random.Generator) -> Clip:
        """Read a clip of record `index` that starts where an object is seen; see [`Source.read`]."""
        record = self.record(index)
        root = Path(self.path).parent if self.root is None else Path(self.root)
        try:
            if record.frame_indices is None:
                record = replace(record, frame_indices=list(range(_count_frames(record, root))))
            record = record.at(self._positions(record, num_frames, rng))
            return RecordedClip(open_frames(record, root), record)
        except (ValueError, OSError) as error:
            raise ValueError(f"{self.path}, record {record.id!r}: {error}") from error

    def _positions(self, record: VideoRecord, num_frames: int, rng: np.random.Generator) -> list[int]:
        """Equally spaced annotated frames; the interval and the start are random."""
        known = [track.known for track in record.objects]
        for _ in range(_START_ATTEMPTS):
            positions = random_indices(record.num_frames, num_frames, self.max_interval, rng)
            if not known or any(row[positions[0]] for row in known):
                return positions
        return positions


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
