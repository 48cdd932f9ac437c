"""Which frames of a video a question is asked about, for the tasks that do not look at every frame."""

from __future__ import annotations

from typing import Any

from .answering import VideoFrame


def even_indices(num_frames: int, count: int) -> list[int]:
    """`count` frame numbers spread evenly over a video: the middle of each of `count` equal parts (VideoQA: 16).

    The processing package has the same rule for training; a test holds the two equal.
    """
    count = min(count, num_frames)
    return [(2 * part + 1) * num_frames // (2 * count) for part in range(count)]


def evenly_spaced_frames(source: Any, num_frames: int) -> list[VideoFrame]:
    """Read `num_frames` frames evenly spread over the whole video.

    Args:
        source: an opened video. A source of unknown length is read to its end with at most 4 x `num_frames` frames in
            memory, so the spacing is even up to one frame in four.
        num_frames: frames wanted; a shorter video gives all it has.

    Returns:
        Frames in order.

    Raises:
        ValueError: `num_frames` is not positive.
    """
    _check_positive("num_frames", num_frames)
    if source.num_frames is not None:
        return _read(source, even_indices(source.num_frames, num_frames))
    kept = _thinned(source, 4 * num_frames)
    return [kept[place] for place in even_indices(len(kept), num_frames)]


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


def _thinned(source: Any, most: int) -> list[VideoFrame]:
    """Every 1st, 2nd, 4th ... frame of a stream, such that at most `most` are kept."""
    kept: list[VideoFrame] = []
    index, stride = 0, 1
    while images := source.read([index]):
        kept.append(VideoFrame(index, source.timestamp(index), images[0]))
        if len(kept) == most:  # every other frame goes, and from now on only every other one comes
            kept, stride = kept[::2], stride * 2
        index = kept[-1].index + stride
    return kept


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}`={value!r} must be a whole number from 1 on.")
