"""VideoSource, the face that every video shows, and VideoFile, encoded videos.

decord decodes; PyAV takes over where decord cannot. Only the frames asked for are held in memory.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import math
import os
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

# PyAV first: loaded after decord's older copy of the codecs it cannot open some of its own (VP9).
try:
    import av
except ImportError:  # pragma: no cover - files are then left to decord
    av = None
try:
    import decord
except ImportError:  # pragma: no cover - decord has no wheel on some machines; PyAV then does everything
    decord = None

_ITERATION_CHUNK = 8  # frames decoded at a time when a video is looped over
_SEEK_AHEAD = 48  # frames; decoding this many onwards is cheaper than a seek back to a key frame


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
        if size < 1:
            raise ValueError(f"`size`={size} must be at least 1.")
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
        """Seconds from the first frame to frame `index`; None when the frame rate is unknown."""
        return None if not self.fps else index / self.fps

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


def _caller_level() -> int:
    """The `stacklevel` with which a warning of our caller names the first line outside this package."""
    package = __name__.rpartition(".")[0]
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").rpartition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level


class VideoFile(VideoSource):
    """An encoded video in a file or in memory. decord reads it; PyAV takes over when decord cannot."""

    def __init__(self, data: str | bytes, name: str) -> None:
        """Open with the first decoder that can.

        Args:
            data: a path, or the bytes of a file.
            name: what to call it in messages.
        """
        self.name = name
        self._data = data
        self._decord: Any = None
        self._pyav: _PyAVReader | None = None
        if decord is None and av is None:
            raise ValueError("`video` files need a decoder; run `pip install decord` or `pip install av`.")
        if len(data) == 0 or (isinstance(data, str) and os.path.getsize(data) == 0):
            raise ValueError(f"`video`={name!r} is empty (0 bytes); was the download or copy cut short?")
        # PyAV looks first: it says what is wrong in Python (decord writes to stderr), and decord returns rows with
        # their padding for videos that are shown turned.
        turned = av is not None and _is_turned(data, name)
        if decord is None or turned or not self._open_decord():
            self._open_pyav()

    def _open_decord(self) -> bool:
        decord.logging.set_level(decord.logging.QUIET)  # what it would say follows as an error or a warning
        try:
            reader = decord.VideoReader(io.BytesIO(self._data) if isinstance(self._data, bytes) else self._data)
            count, rate = len(reader), float(reader.get_avg_fps())
            first = reader[0].asnumpy() if count else None
        except Exception:  # decord raises RuntimeError, DECORDError (a bare Exception) and others; PyAV will tell
            return False
        if first is None:
            return False
        self._decord, self.num_frames = reader, count
        self.height, self.width = first.shape[:2]
        self.fps = rate if math.isfinite(rate) and rate > 0 else None
        return True

    def _open_pyav(self) -> None:
        """Open with PyAV, or raise the error that the user sees."""
        if av is None:
            raise ValueError(f"`video`={self.name!r} is nothing that decord can read; `pip install av` reads more.")
        self._pyav = _PyAVReader(self._data, self.name)
        self.height, self.width, self.fps = self._pyav.height, self._pyav.width, self._pyav.fps
        self.num_frames = self._pyav.num_frames
        if self._pyav.problem is not None:
            self.break_off(self.num_frames, self._pyav.problem)

    def _read(self, indices: list[int]) -> list[np.ndarray]:
        if self._decord is not None:
            try:
                return list(self._decord.get_batch(indices).asnumpy())
            except Exception as error:  # see _open_decord; a file that breaks in the middle ends here
                self._decord = None
                if av is None:
                    self.break_off(indices[0], f"decord: {str(error).splitlines()[0]}")
                    return []
                self._pyav = _PyAVReader(self._data, self.name)
        if self._pyav is None:
            raise ValueError(f"{self.name!r} is closed; open it again.")
        frames = self._pyav.read(indices)
        if len(frames) < len(indices):
            self.break_off(self._pyav.num_frames, self._pyav.problem or "the end of the file")
        return frames

    def timestamp(self, index: int) -> float | None:
        """Seconds from the first frame to frame `index`, as written in the file where it says."""
        if self._decord is not None and self.num_frames and 0 <= index < self.num_frames:
            return float(self._decord.get_frame_timestamp(index)[0] - self._decord.get_frame_timestamp(0)[0])
        if self._pyav is not None and index < len(self._pyav.seconds):
            return self._pyav.seconds[index]
        return super().timestamp(index)

    def close(self) -> None:
        """Free the decoder; the source can not be read afterwards."""
        if self._pyav is not None:
            self._pyav.close()
        self._decord = self._pyav = None


class _PyAVReader:
    """Frames by index through PyAV: one pass over the packets finds the times, reading seeks to them.

    Attributes:
        num_frames: frames that can be read, as far as known.
        problem: why the file ends early, or None.
        seconds: start of each frame, seconds from the first.
    """

    def __init__(self, data: str | bytes, name: str) -> None:
        self._data = data
        self._container = _open_container(data, name)
        stream = self._container.streams.video[0]
        self.height, self.width = 0, 0  # known with the first frame, which may be turned
        self.fps = float(stream.average_rate) if stream.average_rate else None
        self.problem: str | None = None
        packets: list[int | None] = []
        time_base = stream.time_base
        try:
            for packet in self._container.demux(stream):
                if packet.size and not packet.is_discard:
                    packets.append(packet.pts)
        except av.error.FFmpegError as error:
            self.problem = error.strerror or str(error)
        # Raw streams carry no times: they are counted, and read from the beginning.
        self._times = sorted(packets) if packets and None not in packets else []
        declared = stream.frames or len(packets)
        self.num_frames = len(packets) or declared
        self.seconds = [float((t - self._times[0]) * time_base) for t in self._times]
        self._cursor, self._decoded = -1, None
        if not self.problem and len(packets) < declared:
            self.problem = f"it is truncated: {declared} frames are announced"
        self.read([0])

    def read(self, indices: list[int]) -> list[np.ndarray]:
        """Frames as (H, W, 3) uint8 RGB; fewer when the file ends or breaks, with `problem` and `num_frames` set."""
        frames: list[np.ndarray] = []
        for index in indices:
            frame = self._frame_at(index)
            if frame is None:
                break
            frames.append(frame)
        return frames

    def _frame_at(self, index: int) -> np.ndarray | None:
        """Decode on, or seek, until frame `index` comes."""
        far = bool(self._times) and index > self._cursor + _SEEK_AHEAD
        if self._decoded is None or index <= self._cursor or far:
            self._seek(index)
        while True:
            try:
                frame = next(self._decoded, None)
            except av.error.FFmpegError as error:
                frame, self.problem = None, self.problem or error.strerror or str(error)
            pixels = None if frame is None else _upright(frame)
            if pixels is not None and not self.height:
                self.height, self.width = pixels.shape[:2]
            if pixels is not None and pixels.shape[:2] != (self.height, self.width):
                self.problem, pixels = f"the frame size changes to {pixels.shape[1]} x {pixels.shape[0]}", None
            if pixels is None:
                self.num_frames = index if self._times and self._cursor < 0 else self._cursor + 1
                return None
            has_time = self._times and frame.pts is not None
            self._cursor = bisect.bisect_left(self._times, frame.pts) if has_time else self._cursor + 1
            if self._cursor >= index:
                return pixels

    def _seek(self, index: int) -> None:
        """Start decoding at the key frame before `index`; at the beginning where that cannot be found."""
        stream, sought = self._container.streams.video[0], False
        if index < len(self._times):
            with contextlib.suppress(av.error.FFmpegError, OSError):  # not every format can seek
                self._container.seek(self._times[index], stream=stream, backward=True)
                sought = True
        if not sought:
            self._container.close()
            self._container = _open_container(self._data, "video")
            stream = self._container.streams.video[0]
        self._decoded = self._container.decode(stream)
        self._cursor = -1  # set by the time of the first decoded frame

    def close(self) -> None:
        """Free the container."""
        self._container.close()


def _open_container(data: str | bytes, name: str) -> Any:
    """A PyAV container that has pictures, or the ValueError that says what the file is instead."""
    reason = "no picture or sound found in it"
    try:
        container = av.open(io.BytesIO(data) if isinstance(data, bytes) else data)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        container, reason = None, getattr(error, "strerror", None) or str(error)
    if container is None or not (container.streams.video or container.streams.audio):
        raise ValueError(
            f"`video`={name!r} is not a video that can be decoded ({reason}); it may be truncated or of another kind. "
            "Try to play or re-encode it."
        )
    if not container.streams.video:
        container.close()
        raise ValueError(f"`video`={name!r} holds only audio; pass a file with a video stream.")
    return container


def _is_turned(data: str | bytes, name: str) -> bool:
    """Whether the frames have to be turned before they are shown."""
    with _open_container(data, name) as container:
        try:
            return bool(next(container.decode(video=0)).rotation)
        except (av.error.FFmpegError, StopIteration):
            return False  # nothing to see: the decoders will find out and say so


def _upright(frame: Any) -> np.ndarray:
    """Pixels as they are shown: phones film sideways and note the angle (counter-clockwise) beside the picture."""
    turns = round(getattr(frame, "rotation", 0) / 90)
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
