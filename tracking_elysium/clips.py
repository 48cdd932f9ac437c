"""Which frames go together: the clip schedule, and reading a video clip by clip.

The paper (section 4.3) answers a video of at most 32 frames in one piece and cuts a longer one into clips of 8 frames
that share one frame. `clip_schedule` is that rule as pure index maths; `read_clips` applies it to an opened video and
reads every frame once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .exchange import VideoFrame
from .options import TrackingOptions, check_clip_options
from .protocols import VideoSource
from .read_ahead import NOT_YET, StallError


@dataclass(frozen=True)
class Clip:
    """Frames [start, stop) are shown to the model together; frames [report_from, stop) are new and are reported."""

    start: int
    stop: int
    report_from: int


def clip_schedule(num_frames: int, clip_len: int = 8, overlap: int = 1, single_pass_up_to: int = 32) -> list[Clip]:
    """Cut a video into clips (paper, section 4.3).

    Args:
        num_frames: length of the video in frames.
        clip_len: frames per clip.
        overlap: frames that a clip shares with the clip before it.
        single_pass_up_to: a video of at most this many frames is one clip.

    Returns:
        Clips in order. Every frame is reported by exactly one clip, and no clip holds only shared frames.

    Raises:
        ValueError: a negative number of frames, or a clip length and an overlap that do not fit together.
    """
    if num_frames < 0:
        raise ValueError(f"`num_frames`={num_frames} is negative; pass the number of frames of the video.")
    check_clip_options(clip_len, overlap, single_pass_up_to)
    if num_frames == 0:
        return []
    if num_frames <= max(single_pass_up_to, clip_len):
        return [Clip(0, num_frames, 0)]
    clips = [Clip(0, clip_len, 0)]
    while clips[-1].stop < num_frames:
        seen = clips[-1].stop
        start = seen - overlap
        clips.append(Clip(start, min(start + clip_len, num_frames), seen))
    return clips


def pair_schedule(num_frames: int) -> list[Clip]:
    """Cut a video frame by frame, as search windows ask for: the first alone, then each with the one before it.

    Args:
        num_frames: length of the video in frames.

    Returns:
        Clips in order; every frame is reported by exactly one of them.
    """
    pairs = [Clip(frame - 1, frame + 1, frame) for frame in range(1, num_frames)]
    return [Clip(0, 1, 0), *pairs] if num_frames else []


# --------------------------------------------------------------------------------------------------------------
# reading clip by clip
# --------------------------------------------------------------------------------------------------------------
@dataclass
class ReadClip:
    """A clip in memory: its frames in the order of tracking, from frame_in_clip `report_from` on new ones."""

    first_step: int
    frames: list[VideoFrame]
    report_from: int


def read_clips(
    source: VideoSource,
    start: int,
    backward: bool,
    options: TrackingOptions,
    frames: Iterator[VideoFrame | None] | None = None,
) -> Iterator[ReadClip]:
    """Read clips from `start` on, each frame once: shared frames (and their features) pass from clip to clip.

    Args:
        source: an opened video.
        start: the first frame.
        backward: from there to the beginning.
        options: how to cut.
        frames: `stream_frames` of a source of unknown length, by way of a thread for example; None reads it here.

    Yields:
        Clips, and `NOT_YET` for every one of those among `frames`. What a source of unknown length raises is raised
        after the frames before it, so that none is lost.
    """
    if source.num_frames is None:
        yield from _clips_of_stream(source, start, options, frames or stream_frames(source, start))
        return
    total = start + 1 if backward else source.num_frames - start
    shared: list[VideoFrame] = []
    overlap = options.cut[1]
    for clip in pair_schedule(total) if options.one_by_one else clip_schedule(total, *options.cut):
        steps = range(clip.report_from, clip.stop)
        indices = [start - step if backward else start + step for step in steps]
        fresh = _read(source, indices)
        if fresh:
            together = shared + fresh
            yield ReadClip(clip.start, together, len(shared))
            shared = together[len(together) - overlap :]
        if len(fresh) < len(indices):  # the video broke off; the source has warned
            return


def stream_frames(source: VideoSource, start: int) -> Iterator[VideoFrame | None]:
    """Yield frames of a source of unknown length from `start` on, as they come; None for each that is passed over."""
    index = min(source.num_read, start)
    while images := source.read([index]):
        yield VideoFrame(index, source.timestamp(index), images[0]) if index >= start else None
        index += 1


def _clips_of_stream(
    source: VideoSource, start: int, options: TrackingOptions, frames: Iterator[VideoFrame | None]
) -> Iterator[ReadClip]:
    """Read the same clips from a source that ends when it ends; equal to `clip_schedule` of its length."""
    size, overlap, in_one_piece = options.cut
    ahead = _FramesAhead(source, frames, options.stall_timeout)
    if in_one_piece > size:  # only one frame more tells that it does not go in one piece
        yield from ahead.fill(in_one_piece + 1)
        size = size if len(ahead) > in_one_piece else in_one_piece
    shared: list[VideoFrame] = []
    first_step = 0
    while True:
        wanted = 1 if options.one_by_one else size - len(shared)  # one by one, the first frame stands alone
        yield from ahead.fill(wanted)
        if not len(ahead):
            break
        clip = shared + ahead.take(wanted)
        yield ReadClip(first_step, clip, len(shared))
        shared = clip[len(clip) - overlap :]
        first_step += len(clip) - len(shared)
    ahead.raise_error()
    check_start_frame(source, start)  # only now is the length known


class _FramesAhead:
    """Frames of a stream that have come and are in no clip yet.

    Args:
        source: the stream; it is told when it stalls.
        frames: its frames, None for each that is passed over, `NOT_YET` for each that is not there when asked for.
        stall_timeout: seconds, for the message.
    """

    def __init__(self, source: VideoSource, frames: Iterator[VideoFrame | None], stall_timeout: float | None) -> None:
        self._source, self._stall_timeout = source, stall_timeout
        self._frames: deque[VideoFrame] = deque()
        self._error: Exception | None = None
        self._coming = self._guarded(frames)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def _guarded(self, frames: Iterator[VideoFrame | None]) -> Iterator[VideoFrame]:
        """Pass frames on; a stall ends them with a warning, an error is kept for after the last clip."""
        try:
            yield from (frame for frame in frames if frame is not None)
        except StallError:
            waited = f"no frame came for {self._stall_timeout:g} s"
            advice = "Pass a longer `stall_timeout` to wait longer, None to wait for ever."
            self._source.break_off(self._source.num_read, waited, advice)
        except Exception as error:
            self._error = error

    def fill(self, count: int) -> Iterator[Any]:
        """Read until there are `count` frames or the stream ends; yield `NOT_YET` for each that has yet to come."""
        while len(self._frames) < count and (frame := next(self._coming, None)) is not None:
            if frame is NOT_YET:
                yield NOT_YET
            else:
                self._frames.append(frame)

    def take(self, count: int) -> list[VideoFrame]:
        """Take up to `count` frames."""
        return [self._frames.popleft() for _ in range(min(count, len(self._frames)))]

    def raise_error(self) -> None:
        """Raise what ended the stream, if it was an error: after the clips of the frames before, so none is lost."""
        if self._error is not None:
            raise self._error


def _read(source: VideoSource, indices: list[int]) -> list[VideoFrame]:
    """Return frames in the order of `indices` (ascending or descending), fewer when the video ends early."""
    ascending = sorted(indices)
    images = source.read(ascending)
    frames = [VideoFrame(i, source.timestamp(i), image) for i, image in zip(ascending, images, strict=False)]
    return frames if ascending == indices else (frames[::-1] if len(frames) == len(indices) else [])


# --------------------------------------------------------------------------------------------------------------
# checks
# --------------------------------------------------------------------------------------------------------------
def check_start_frame(source: VideoSource, start_frame: Any) -> None:
    """Raise ValueError unless `start_frame` is a frame of the video (unknown lengths pass)."""
    if isinstance(start_frame, bool) or not isinstance(start_frame, (int, np.integer)) or start_frame < 0:
        raise ValueError(f"`start_frame`={start_frame!r} is not a frame index; pass a whole number from 0 on.")
    if source.num_frames is not None and start_frame >= source.num_frames:
        raise ValueError(
            f"`start_frame`={start_frame} is past the end of the video, which has {source.num_frames} frame(s); "
            f"pass a number from 0 to {source.num_frames - 1}."
        )
