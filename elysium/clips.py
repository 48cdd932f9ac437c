"""Which frames go together: the clip schedule, reading a video clip by clip, and what stands in a gap.

The paper (section 4.3) answers a video of at most 32 frames in one piece and cuts a longer one into clips of 8 frames
that share one frame. `clip_schedule` is that rule as pure index maths; `read_clips` applies it to an opened video and
reads every frame once.
"""

from __future__ import annotations

import math
import numbers
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .answering import VideoFrame
from .checks import check_choice, check_count, check_switch
from .read_ahead import NOT_YET, StallError

GAP_POLICIES = ("hold", "previous_velocity", "none")
RSOT_CONTINUATIONS = ("box", "expression")
DECODINGS = ("drafted", "plain")


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
    _check_clip_options(clip_len, overlap, single_pass_up_to)
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


def bridge_gap(policy: str, seen: list[tuple[int, np.ndarray]], step: int) -> np.ndarray | None:
    """The box to report for a frame whose answer held none.

    Args:
        policy: `"hold"` repeats the last box; `"previous_velocity"` moves it on by the velocity of its centre between
            the last two boxes, never past the frame's edge; `"none"` reports nothing.
        seen: the latest (step, box (4,) in [0, 1]) pairs that the model gave, oldest first; at most two are used.
        step: the step of the gap; a step is one frame in the direction of tracking.

    Returns:
        Box of shape (4,) in [0, 1], or None when the policy is `"none"` or nothing was seen yet.
    """
    if policy == "none" or not seen:
        return None
    last_step, last = seen[-1]
    if policy == "hold" or len(seen) < 2:
        return last.copy()
    first_step, first = seen[-2]
    centre, half = (last[:2] + last[2:]) / 2, (last[2:] - last[:2]) / 2
    velocity = (centre - (first[:2] + first[2:]) / 2) / (last_step - first_step)
    centre = np.clip(centre + velocity * (step - last_step), 0.0, 1.0)  # a centre in the frame leaves a box with area
    return np.clip(np.concatenate([centre - half, centre + half]), 0.0, 1.0)


@dataclass(frozen=True)
class TrackingOptions:
    """How a session cuts and continues, and how its answers are decoded.

    Attributes:
        clip_len: frames per clip of a long video.
        overlap: frames shared by neighbouring clips.
        single_pass_up_to: videos of at most this many frames go in one piece. A source of unknown length (a camera)
            is read this far ahead to find out; 0 starts with the first clip.
        gap_policy: `"hold"`, `"previous_velocity"` or `"none"`, see `bridge_gap`.
        rsot_continuation: `"box"`: an expression is grounded in the first clip, later clips continue from the box;
            `"expression"`: it is grounded anew in every clip (the authors' released behaviour).
        prompt: a template with `{box}` or `{expression}` instead of the built-in wording.
        decoding: `"drafted"`: several tokens per pass of the model; `"plain"`: one, by the library's `generate`. Both
            give the same answers.
        constrained: answers follow the box format, so every frame gets a box; False leaves the model its own words,
            and frames without a box to `gap_policy`.
        compile: drafted decoding compiles the language model (`torch.compile`), and on a GPU records its passes as
            CUDA graphs. Worth its first half minute where much is tracked; boxes may differ where rounding decides.
        vision_memory_mb: bounds the frames per pass of the vision tower: its widest activation takes at most so many
            MiB. None: what suits the device.
        stall_timeout: seconds that the next frame of a source of unknown length is waited for, where a thread reads
            ahead; the source then counts as ended, with a warning. None waits for ever.

    Raises:
        ValueError: a value that is not allowed.
    """

    clip_len: int = 8
    overlap: int = 1
    single_pass_up_to: int = 32
    gap_policy: str = "hold"
    rsot_continuation: str = "box"
    prompt: str | None = None
    decoding: str = "drafted"
    constrained: bool = True
    compile: bool = False
    vision_memory_mb: int | None = None
    stall_timeout: float | None = 60.0

    def __post_init__(self) -> None:
        _check_clip_options(self.clip_len, self.overlap, self.single_pass_up_to)
        check_choice("gap_policy", self.gap_policy, GAP_POLICIES)
        check_choice("rsot_continuation", self.rsot_continuation, RSOT_CONTINUATIONS)
        check_choice("decoding", self.decoding, DECODINGS)
        check_switch("constrained", self.constrained)
        check_switch("compile", self.compile)
        check_count("vision_memory_mb", self.vision_memory_mb, optional=True)
        _check_stall_timeout(self.stall_timeout)


# --------------------------------------------------------------------------------------------------------------
# reading clip by clip
# --------------------------------------------------------------------------------------------------------------
@dataclass
class ReadClip:
    """A clip in memory: its frames in the order of tracking; `report_from` is the row of the first new frame."""

    first_step: int
    frames: list[VideoFrame]
    report_from: int


def read_clips(
    source: Any,
    start: int,
    backward: bool,
    options: TrackingOptions,
    frames: Iterator[VideoFrame | None] | None = None,
) -> Iterator[ReadClip]:
    """Clips from `start` on, each frame read once: shared frames (and their features) pass from clip to clip.

    Args:
        source: an opened video.
        start: the first frame.
        backward: from there to the beginning.
        options: how to cut.
        frames: `stream_frames` of a source of unknown length, by way of a thread for example; None reads it here.

    Yields:
        Clips, and `NOT_YET` for every one of those among `frames`. What a source of unknown length raises is raised
        behind the frames before it, so that none is lost.
    """
    if source.num_frames is None:
        yield from _clips_of_stream(source, start, options, frames or stream_frames(source, start))
        return
    total = start + 1 if backward else source.num_frames - start
    shared: list[VideoFrame] = []
    for clip in clip_schedule(total, options.clip_len, options.overlap, options.single_pass_up_to):
        steps = range(clip.report_from, clip.stop)
        indices = [start - step if backward else start + step for step in steps]
        fresh = _read(source, indices)
        if fresh:
            frames = shared + fresh
            yield ReadClip(clip.start, frames, len(shared))
            shared = frames[len(frames) - options.overlap :]
        if len(fresh) < len(indices):  # the video broke off; the source has warned
            return


def stream_frames(source: Any, start: int) -> Iterator[VideoFrame | None]:
    """Frames of a source of unknown length from `start` on; None for each that is passed over before, as it comes."""
    index = min(source.num_read, start)
    while images := source.read([index]):
        yield VideoFrame(index, source.timestamp(index), images[0]) if index >= start else None
        index += 1


def _clips_of_stream(
    source: Any, start: int, options: TrackingOptions, frames: Iterator[VideoFrame | None]
) -> Iterator[ReadClip]:
    """The same clips for a source that ends when it ends; equal to `clip_schedule` of its length."""
    ahead: deque[VideoFrame] = deque()
    errors: list[Exception] = []

    def coming() -> Iterator[VideoFrame]:
        try:
            yield from (frame for frame in frames if frame is not None)
        except StallError:
            waited = f"no frame came for {options.stall_timeout:g} s"
            advice = "Pass a longer `stall_timeout` to wait longer, None to wait for ever."
            source.break_off(source.num_read, waited, advice)
        except Exception as error:
            errors.append(error)

    fresh_frames, size = coming(), options.clip_len

    def filled(count: int) -> Iterator[Any]:
        """Read until `ahead` holds so many frames or there are no more; `NOT_YET` for each that has yet to come."""
        while len(ahead) < count and (frame := next(fresh_frames, None)) is not None:
            if frame is NOT_YET:
                yield NOT_YET
            else:
                ahead.append(frame)

    if options.single_pass_up_to > size:  # only one frame more tells that it does not go in one piece
        yield from filled(options.single_pass_up_to + 1)
        size = size if len(ahead) > options.single_pass_up_to else options.single_pass_up_to
    shared: list[VideoFrame] = []
    first_step = 0
    while True:
        wanted = size - len(shared)
        yield from filled(wanted)
        if not ahead:
            break
        clip = shared + [ahead.popleft() for _ in range(min(wanted, len(ahead)))]
        yield ReadClip(first_step, clip, len(shared))
        shared = clip[len(clip) - options.overlap :]
        first_step += len(clip) - len(shared)
    if errors:
        raise errors[0]
    check_start_frame(source, start)  # only now is the length known


def _read(source: Any, indices: list[int]) -> list[VideoFrame]:
    """Frames in the order of `indices` (ascending or descending), fewer when the video ends early."""
    ascending = sorted(indices)
    images = source.read(ascending)
    frames = [VideoFrame(i, source.timestamp(i), image) for i, image in zip(ascending, images, strict=False)]
    return frames if ascending == indices else (frames[::-1] if len(frames) == len(indices) else [])


# --------------------------------------------------------------------------------------------------------------
# checks
# --------------------------------------------------------------------------------------------------------------
def check_start_frame(source: Any, start_frame: Any) -> None:
    """Raise ValueError unless `start_frame` is a frame of the video (unknown lengths pass)."""
    if isinstance(start_frame, bool) or not isinstance(start_frame, (int, np.integer)) or start_frame < 0:
        raise ValueError(f"`start_frame`={start_frame!r} is not a frame index; pass a whole number from 0 on.")
    if source.num_frames is not None and start_frame >= source.num_frames:
        raise ValueError(
            f"`start_frame`={start_frame} is past the end of the video, which has {source.num_frames} frame(s); "
            f"pass a number from 0 to {source.num_frames - 1}."
        )


def _check_clip_options(clip_len: int, overlap: int, single_pass_up_to: int) -> None:
    if clip_len < 1:
        raise ValueError(f"`clip_len`={clip_len} must be at least 1 frame; the paper uses 8.")
    if not 0 <= overlap < clip_len:
        raise ValueError(f"`overlap`={overlap} must be at least 0 and below `clip_len`={clip_len}; the paper uses 1.")
    if single_pass_up_to < 0:
        raise ValueError(f"`single_pass_up_to`={single_pass_up_to} is negative; pass 0 to always cut into clips.")


def _check_stall_timeout(seconds: Any) -> None:
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, numbers.Real) or not seconds > 0 or math.isinf(seconds):
        raise ValueError(
            f"`stall_timeout`={seconds!r} must be a number of seconds above 0, for example 60; pass None to wait for "
            "ever."
        )
