"""VideoFile: encoded videos in files or in memory.

PyAV makes an exact index of the frames. decord, which is faster with small frames, reads where the index says that
any reader gets the frames right, and where decord counts the same frames at the same times; PyAV reads all others.
Only the frames asked for are held in memory.
"""

from __future__ import annotations

import io
import math
import os
from typing import Any

import numpy as np

from .pyav_reader import PyAVReader
from .video_source import VideoSource

# PyAV first: loaded after decord's older copy of the codecs it cannot open some of its own (VP9).
try:
    import av
except ImportError:  # pragma: no cover - files are then left to decord, unchecked
    av = None  # type: ignore[assignment]
try:
    import decord
except ImportError:  # pragma: no cover - decord has no wheel on some machines; PyAV then does everything
    decord = None

_LATEST_S = 1e7  # a later time of presentation, four months, is none


class VideoFile(VideoSource):
    """An encoded video in a file or in memory."""

    def __init__(self, data: str | bytes, name: str) -> None:
        """Open the video and find its frames.

        Args:
            data: a path, or the bytes of a file.
            name: what to call it in messages.

        Raises:
            ValueError: the file is empty, no video, has no moving pictures, or there is no decoder.
        """
        self.name = name
        self._data = data
        self._decord: Any = None
        self._pyav: PyAVReader | None = None
        self._seconds: np.ndarray | None = None
        if decord is None and av is None:
            raise ValueError("`video` files need a decoder; run `pip install decord` or `pip install av`.")
        if len(data) == 0 or (isinstance(data, str) and os.path.getsize(data) == 0):
            raise ValueError(f"`video`={name!r} is empty (0 bytes); was the download or copy cut short?")
        if av is None:
            self._open_decord_alone()
            return
        self._pyav = PyAVReader(data, name)
        self.height, self.width, self.fps = self._pyav.height, self._pyav.width, self._pyav.fps
        self.num_frames, self._seconds = self._pyav.num_frames, self._pyav.index.seconds
        if self._pyav.problem is not None or not self.num_frames:
            self.break_off(self.num_frames, self._pyav.problem or "its packets give no picture")
        elif decord is not None and self._pyav.is_plain and self._decord_agrees():
            self._pyav.close()  # its index stays, in case that decord fails

    def _open_decord(self) -> np.ndarray | None:
        """Open with decord.

        Returns:
            (F,) seconds at which it shows its frames, or None if it can not read the file.
        """
        decord.logging.set_level(decord.logging.QUIET)  # what it would say follows as an error or a warning
        try:
            source = io.BytesIO(self._data) if isinstance(self._data, bytes) else os.path.abspath(self._data)
            self._decord = decord.VideoReader(source)
            return np.asarray(self._decord.get_frame_timestamp(range(len(self._decord))), np.float64)[:, 0]
        except Exception:  # decord raises RuntimeError, DECORDError (a bare Exception) and others; PyAV will tell
            self._decord = None
            return None

    def _decord_agrees(self) -> bool:
        """Return whether decord finds the frames of the index at their times; else it is dropped."""
        seconds, known = self._open_decord(), self._seconds
        if seconds is not None and known is not None and len(seconds) == self.num_frames:
            least = np.diff(known).min(initial=1.0)
            if np.abs(seconds - seconds[0] - known).max(initial=0.0) < least / 2:
                return True
        self._decord = None
        return False

    def _open_decord_alone(self) -> None:
        """Take what decord says, where there is no PyAV to check it."""
        seconds = self._open_decord()
        try:
            first = self._decord[0].asnumpy() if seconds is not None and len(seconds) else None
        except Exception:  # see _open_decord
            first = None
        if seconds is None or first is None:
            raise ValueError(f"`video`={self.name!r} is nothing that decord can read; `pip install av` reads more.")
        self.height, self.width = first.shape[:2]
        self.num_frames, rate = len(seconds), float(self._decord.get_avg_fps())
        self.fps = rate if math.isfinite(rate) and rate > 0 else None
        if np.isfinite(seconds).all() and np.abs(seconds).max() < _LATEST_S and (np.diff(seconds) >= 0).all():
            self._seconds = seconds - seconds[0]

    def _read(self, indices: list[int]) -> list[np.ndarray]:
        if self._decord is not None:
            try:
                return list(self._decord.get_batch(indices).asnumpy())
            except Exception as error:  # see _open_decord; a file that breaks in the middle ends here
                self._decord = None
                if self._pyav is None:
                    self.break_off(indices[0], f"decord: {str(error).splitlines()[0]}")
                    return []
        if self._pyav is None:
            raise ValueError(f"{self.name!r} is closed; open it again.")
        frames = self._pyav.read(indices)
        if self._seconds is not None:
            self._seconds = self._pyav.index.seconds  # which is made anew where it proves wrong
        if len(frames) < len(indices):
            self.break_off(self._pyav.num_frames, self._pyav.problem or "the end of the file")
        return frames

    def timestamp(self, index: int) -> float | None:
        """Return seconds from the first frame to frame `index`, as a player shows it."""
        if self._seconds is not None and 0 <= index < len(self._seconds):
            return float(self._seconds[index])
        return super().timestamp(index)

    def play_at(self, fps: float) -> None:
        """Take `fps` for the frame rate, whatever the file says, and count the time by it."""
        super().play_at(fps)
        self._seconds = None

    def close(self) -> None:
        """Free the decoder; the source can not be read afterwards."""
        if self._pyav is not None:
            self._pyav.close()
        self._decord = self._pyav = None
