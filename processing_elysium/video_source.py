"""VideoSource, the interface of every video: frames by index, their times, and what to do when a video breaks off."""

from __future__ import annotations

import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

_ITERATION_CHUNK = 8  # frames decoded at a time when a video is looped over


class VideoSource(ABC):
    """A video that is read by frame index.

    Attributes:
        name: what to call it in messages.
        width: frame width in pixels.
        height: frame height in pixels.
        fps: frames per second, None when unknown.
        num_frames: length, None while unknown (an iterator that has not ended). A video that turns out to be
            damaged lowers it when the damage is met.
        num_read: frames that have come so far from a source of unknown length; 0 where frames are read by index.
    """

    name: str = "video"
    width: int = 0
    height: int = 0
    fps: float | None = None
    num_frames: int | None = None
    num_read: int = 0

    def read(self, indices: Iterable[int]) -> list[np.ndarray]:
        """Read frames.

        Args:
            indices: frame numbers from 0, ascending. An iterator can only be read forwards; it keeps the frames
                of the last call, so clips may overlap.

        Returns:
            One uint8 RGB array of shape (H, W, 3) per index. The list is shorter when the video ends or breaks
            before; then `num_frames` says where, and a broken video has warned once.

        Raises:
            ValueError: an index is negative, not ascending, or already forgotten by an iterator.
        """
        wanted = [int(index) for index in indices]
        if any(index < 0 for index in wanted) or any(b <= a for a, b in pairwise(wanted)):
            raise ValueError(f"`indices`={wanted[:8]} must be ascending frame numbers from 0.")
        if self.num_frames is not None:
            wanted = [index for index in wanted if index < self.num_frames]
        return self._read(wanted) if wanted else []

    @abstractmethod
    def _read(self, indices: list[int]) -> list[np.ndarray]:
        """Read frames that are known to be in order and within the length, if the length is known."""

    def chunks(self, size: int) -> Iterator[list[np.ndarray]]:
        """The whole video, `size` frames at a time; the last list may be shorter. Memory stays that of one list."""
        check_positive(size=size)
        start = 0
        while True:
            frames = self.read(range(start, start + size))
            if frames:
                yield frames
            if len(frames) < size:
                return
            start += size

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frame after frame, from the beginning."""
        for frames in self.chunks(_ITERATION_CHUNK):
            yield from frames

    def timestamp(self, index: int) -> float | None:
        """Return seconds from the first frame to frame `index`; None when the frame rate is unknown."""
        return None if not self.fps else index / self.fps

    @property
    def timestamps(self) -> list[float] | None:
        """Seconds from the first frame to each frame, ascending; None where they or the length are unknown.

        Who writes the frames of a video with a variable frame rate anew needs them to keep its timing.
        """
        if self.num_frames is None or self.timestamp(0) is None:
            return None
        known = [float(time) for time in map(self.timestamp, range(self.num_frames)) if time is not None]
        return known if len(known) == self.num_frames else None

    def play_at(self, fps: float) -> None:
        """Take `fps` for the frame rate, whatever the source says, and count the time by it."""
        self.fps = fps

    def close(self) -> None:  # noqa: B027 - most sources hold no decoder and have nothing to free
        """Free the decoder; the source can not be read afterwards."""

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def break_off(
        self, index: int, reason: str, advice: str = "Re-encode or download the video again to get the rest."
    ) -> None:
        """Note that nothing can be read from frame `index` on, and warn.

        Args:
            index: frames that there are.
            reason: what ended them.
            advice: what to do, a sentence.

        Raises:
            ValueError: there is no frame at all.
        """
        self.num_frames = index
        if index == 0:
            raise ValueError(f"`video`={self.name!r} holds no readable frame ({reason}); pass another file.")
        warnings.warn(
            f"{self.name!r} breaks off after {index} frames ({reason}); going on with these. {advice}",
            stacklevel=_caller_level(),
        )


def check_positive(**values: int) -> None:
    """Raise ValueError naming the first argument that is below 1."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"`{name}`={value} must be at least 1.")


def _caller_level() -> int:
    """Return the `stacklevel` with which a warning of our caller names the first line outside this package."""
    package = __name__.rpartition(".")[0]
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").rpartition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level
