"""Which frames of a video a question is asked about, for the tasks that do not look at every frame."""

from __future__ import annotations

from typing import Any

from .answering import VideoFrame


def evenly_spaced_frames(source: Any, num_frames: int) -> list[VideoFrame]:
    """Read `num_frames` frames evenly spread over the whole video, the middle of each of as many equal parts.

    Args:
        source: an opened video. A source of unknown length is read to its end with at most 2 x `num_frames` frames in
            memory.
        num_frames: frames wanted; a shorter video gives all it has.

    Returns:
        Frames in order.

    Raises:
        ValueError: `num_frames` is not positive.
    """
    _check_positive("num_frames", num_frames)
    if source.num_frames is None:
        return _thinned(source, num_frames)
    total = source.num_frames
    return _read(source, [int((part + 0.5) * total / num_frames) for part in range(num_frames)])


def frames_from(source: Any, start: int, num_frames: int, interval: int) -> list[VideoFrame]:
    """Read up to `num_frames` frames from `start` on, `interval` frames apart.

    Raises:
        ValueError: `num_frames` or `interval` is not positive.
    """
    _check_positive("num_frames", num_frames)
    _check_positive("frame_interval", interval)
    wanted = range(start, start + num_frames * interval, interval)
    return _read(source, list(wanted))


def _read(source: Any, indices: list[int]) -> list[VideoFrame]:
    unique = sorted(set(indices))
    return [VideoFrame(i, source.timestamp(i), image) for i, image in zip(unique, source.read(unique), strict=False)]


def _thinned(source: Any, num_frames: int) -> list[VideoFrame]:
    kept: list[VideoFrame] = []
    stride = 1
    index = 0
    while images := source.read([index]):
        kept.append(VideoFrame(index, source.timestamp(index), images[0]))
        if len(kept) == 2 * num_frames:  # every other frame goes, and from now on only every other one comes
            kept, stride = kept[::2], stride * 2
        index = kept[-1].index + stride
    count = min(num_frames, len(kept))
    return [kept[int((part + 0.5) * len(kept) / count)] for part in range(count)]


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}`={value!r} must be a whole number from 1 on.")
