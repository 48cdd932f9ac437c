"""Open a video of any kind and read frames from it by index.

`open_video` takes a path, a URL, bytes, a list of images, an array, a tensor or an iterator (camera) and returns a
`VideoSource`. Frames come out as uint8 RGB arrays of shape (H, W, 3). The index maths at the top knows nothing of
files; the decoding of files is in `video_reader.py`.
"""

from __future__ import annotations

import math
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from .image_processing_elysium import to_rgb_array
from .prompts import RandomSource
from .video_reader import VideoFile, VideoSource

MAX_DOWNLOAD_BYTES = 512 * 2**20
_DOWNLOAD_TIMEOUT_S = 30.0
WHOLE_UP_TO = 32  # frames of a video that a prompt shows without sampling
SAMPLED_FRAMES = 16  # frames shown of a longer one


# --------------------------------------------------------------------------------------------------------------
# index maths
# --------------------------------------------------------------------------------------------------------------
def even_indices(num_frames: int, count: int) -> list[int]:
    """`count` frames spread evenly over a video: the middle of each of `count` equal parts (VideoQA: 16).

    Args:
        num_frames: length of the video.
        count: how many are wanted; a shorter video gives all its frames once.

    Returns:
        Ascending indices in [0, num_frames), without repeats.

    Raises:
        ValueError: one of the arguments is below 1.
    """
    _check_positive(num_frames=num_frames, count=count)
    count = min(count, num_frames)
    return [(2 * part + 1) * num_frames // (2 * count) for part in range(count)]


def interval_indices(num_frames: int, count: int, interval: int = 1, start: int = 0) -> list[int]:
    """Up to `count` frames, `interval` apart, from `start` on; fewer where the video ends.

    Raises:
        ValueError: an argument is below 1 or `start` lies outside the video.
    """
    _check_positive(num_frames=num_frames, count=count, interval=interval)
    if not 0 <= start < num_frames:
        raise ValueError(f"`start`={start} is outside the video; pass a frame from 0 to {num_frames - 1}.")
    return list(range(start, num_frames, interval))[:count]


def random_indices(num_frames: int, count: int, max_interval: int, rng: RandomSource) -> list[int]:
    """A training clip: a random interval that the video is long enough for, then a uniform start (paper, stage 2a).

    Args:
        num_frames: length of the video.
        count: frames wanted; a shorter video gives all its frames.
        max_interval: largest distance between neighbours, in frames.
        rng: the source of randomness.

    Returns:
        Ascending indices, min(count, num_frames) of them, equally spaced.

    Raises:
        ValueError: an argument is below 1.
    """
    _check_positive(num_frames=num_frames, count=count, max_interval=max_interval)
    count = min(count, num_frames)
    gaps = max(count - 1, 1)
    interval = 1 + int(rng.random() * min(max_interval, max((num_frames - 1) // gaps, 1)))
    start = int(rng.random() * (num_frames - (count - 1) * interval))
    return [start + i * interval for i in range(count)]


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"`{name}`={value} must be at least 1.")


# --------------------------------------------------------------------------------------------------------------
# opening
# --------------------------------------------------------------------------------------------------------------
def open_video(source: Any, fps: float | None = None, max_bytes: int = MAX_DOWNLOAD_BYTES) -> VideoSource:
    """Open anything that shows frames.

    Args:
        source: path; http(s) URL; bytes of a file, or a binary file object; list of PIL images, arrays, tensors or
            image paths; array or tensor of shape (T, H, W, 3) or (T, 3, H, W), grey (T, H, W) as well; iterator of
            frames. A `VideoSource` is returned as it is.
        fps: frames per second of a source that does not say; overrides one that does.
        max_bytes: a longer download is refused.

    Returns:
        The opened `VideoSource`.

    Raises:
        ValueError: the source is missing, no video, empty, without pictures (audio only), too big, of an unknown
            kind, or its frames differ in size.
    """
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"`fps`={fps} must be a positive number of frames per second.")
    if hasattr(source, "timestamp") and hasattr(source, "chunks"):
        video = source
    elif isinstance(source, (str, os.PathLike)):
        video = _open_location(os.fspath(source), max_bytes)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        video = VideoFile(bytes(source), name=f"<{len(source)} bytes>")
    elif isinstance(source, (np.ndarray, torch.Tensor)):
        video = FrameList(_split_frames(source))
    elif isinstance(source, Image.Image):
        raise ValueError("`video` is one image; pass a list of frames, [image] for a single one.")
    elif isinstance(source, (list, tuple)):
        video = FrameList(source)
    elif hasattr(source, "read"):
        video = VideoFile(source.read(), name=str(getattr(source, "name", "<file object>")))
    elif isinstance(source, Iterable):
        video = FrameStream(iter(source))
    else:
        raise ValueError(
            f"`video` is of type {type(source).__name__}; pass a path, a URL, bytes, a list of images, an array, "
            "a tensor or an iterator of frames."
        )
    if fps is not None:
        video.fps = float(fps)
    return video


def sample_video(
    video: VideoSource, num_frames: int | None = None, fps: float | None = None, sampled: bool = True
) -> np.ndarray:
    """Read the frames of a video that a prompt shows.

    Args:
        video: an opened video. One of unknown length is read to its end, with twice the wanted frames in memory.
        num_frames: take so many frames, evenly spread.
        fps: take about so many frames per second. With neither, at most 32 frames are taken whole and of a longer
            video 16 evenly spread ones (paper, section 4.3: one piece up to 32 frames; VideoQA: 16).
        sampled: False takes every frame.

    Returns:
        uint8 RGB array of shape (F, H, W, 3).

    Raises:
        ValueError: both `num_frames` and `fps`, or `fps` for a video that does not know its own.
    """
    if num_frames is not None and fps is not None:
        raise ValueError(f"`num_frames`={num_frames} and `fps`={fps} exclude each other; pass one of them.")
    if fps is not None:
        if not video.fps:
            raise ValueError(f"`fps`={fps} needs a video that knows its frame rate, and {video.name} does not.")
        step = max(round(video.fps / fps), 1)
        return np.stack([frame for index, frame in enumerate(video) if index % step == 0])
    if not sampled:
        return np.stack(list(video))
    limit = num_frames or WHOLE_UP_TO
    if video.num_frames is not None:
        length = video.num_frames
        count = num_frames or (length if length <= WHOLE_UP_TO else SAMPLED_FRAMES)
        return np.stack(video.read(even_indices(length, count)))
    kept, stride = [], 1
    for index, frame in enumerate(video):
        if index % stride == 0:
            kept.append(frame)
        if len(kept) > 2 * limit:  # every other frame goes, and from now on only every other one is kept
            kept, stride = kept[::2], stride * 2
    whole = num_frames is None and stride == 1 and len(kept) <= WHOLE_UP_TO
    count = len(kept) if whole else (num_frames or SAMPLED_FRAMES)
    return np.stack([kept[index] for index in even_indices(len(kept), count)])


def _open_location(location: str, max_bytes: int) -> VideoSource:
    """Open a path or URL."""
    scheme = location.split("://", 1)[0].lower() if "://" in location else None
    if scheme in ("http", "https"):
        return VideoFile(_download(location, max_bytes), name=location)
    if scheme is not None:
        raise ValueError(f"`video`={location!r} has the scheme {scheme!r}; use http or https, or download it first.")
    if not os.path.exists(location):
        raise ValueError(f"`video`={location!r} does not exist; check the path (working folder: {os.getcwd()}).")
    if os.path.isdir(location):
        raise ValueError(f"`video`={location!r} is a folder; pass a video file, or a list of its image paths.")
    if not os.access(location, os.R_OK):
        raise ValueError(f"`video`={location!r} cannot be read; check its permissions.")
    return VideoFile(location, name=location)


def _download(url: str, max_bytes: int) -> bytes:
    """The body behind a URL, at most `max_bytes` of it."""
    try:
        with urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT_S) as response:
            body = response.read(max_bytes + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise ValueError(f"`video`={url!r} could not be downloaded ({error}); check the address.") from None
    if len(body) > max_bytes:
        raise ValueError(
            f"`video`={url!r} is larger than {max_bytes / 2**20:.0f} MiB; download it yourself and pass the path."
        )
    return body


# --------------------------------------------------------------------------------------------------------------
# frames in memory
# --------------------------------------------------------------------------------------------------------------
class FrameList(VideoSource):
    """Frames that are already there, or image files that are opened one by one."""

    def __init__(self, frames: Sequence[Any], name: str = "<list of frames>") -> None:
        """Check that there are frames and that they agree in size; pixels are converted when read."""
        self.name = name
        self._frames = frames
        self.num_frames = len(frames)
        if not self.num_frames:
            raise ValueError("`video` has zero frames; pass at least one.")
        sizes = [_frame_size(frame, index) for index, frame in enumerate(frames)]
        self.height, self.width = sizes[0]
        for index, size in enumerate(sizes):
            if size != sizes[0]:
                raise ValueError(
                    f"`video` changes size: frame 0 is {self.width} x {self.height} but frame {index} is "
                    f"{size[1]} x {size[0]} pixels; resize the frames to one size."
                )

    def _read(self, indices: list[int]) -> list[np.ndarray]:
        return [_load_frame(self._frames[index]) for index in indices]


class FrameStream(VideoSource):
    """Frames from an iterator, for example a camera: read once, forwards, with the frames of the last call kept."""

    def __init__(self, frames: Iterator[Any], name: str = "<iterator of frames>") -> None:
        """Take the first frame, to know the size."""
        self.name = name
        self._iterator = frames
        self._kept: dict[int, np.ndarray] = {}
        first = self._pull()
        if first is None:
            raise ValueError("`video` is an iterator with zero frames; it may have been used up before.")
        self._kept[0] = first

    def _pull(self) -> np.ndarray | None:
        """The next frame; None at the end."""
        item = None if self.num_frames is not None else next(self._iterator, None)
        if item is None:
            self.num_frames = self.num_read
            return None
        frame = _load_frame(item)
        if self.num_read == 0:
            self.height, self.width = frame.shape[:2]
        elif frame.shape[:2] != (self.height, self.width):
            reason = f"the frame size changes to {frame.shape[1]} x {frame.shape[0]}"
            self.break_off(self.num_read, reason, "Resize the frames to one size to get the rest.")
            return None
        self.num_read += 1
        return frame

    def _read(self, indices: list[int]) -> list[np.ndarray]:
        found: dict[int, np.ndarray] = {}
        for index in indices:
            if index < self.num_read and index not in self._kept:
                raise ValueError(
                    f"frame {index} of {self.name} has passed and is not kept; read forwards or pass a file."
                )
            frame = self._kept.get(index)
            while frame is None or self.num_read <= index:
                frame = self._pull()
                if frame is None:
                    break
            if frame is None:
                break
            found[index] = frame
        self._kept = found or self._kept
        return list(found.values())


def _split_frames(frames: np.ndarray | torch.Tensor) -> list[Any]:
    """The frames of a (T, H, W), (T, H, W, C) or (T, C, H, W) block, as (H, W[, C]) arrays."""
    if isinstance(frames, torch.Tensor):
        frames = frames.detach()
        first = (1, -1)  # a tensor is most likely (T, C, H, W), an array (T, H, W, C)
    else:
        first = (-1, 1)
    if frames.ndim == 4:
        axis = next((axis for axis in first if frames.shape[axis] in (1, 3, 4)), None)
        if axis is not None:
            move = torch.movedim if isinstance(frames, torch.Tensor) else np.moveaxis
            return list(move(frames, axis, -1))
    elif frames.ndim == 3:
        return list(frames)
    raise ValueError(
        f"`video` has shape {tuple(frames.shape)}; pass (T, H, W, 3), (T, 3, H, W) or grey (T, H, W). Put a single "
        "frame into a list: [frame]."
    )


def _frame_size(frame: Any, index: int) -> tuple[int, int]:
    """(height, width) of a frame in memory or of an image file."""
    if isinstance(frame, (str, os.PathLike)):
        with _open_image(frame) as image:
            return image.height, image.width
    if isinstance(frame, Image.Image):
        return frame.height, frame.width
    shape = tuple(getattr(frame, "shape", ()))
    if len(shape) == 3:
        shape = shape[:2] if shape[-1] in (1, 2, 3, 4) else shape[1:]
    if len(shape) != 2:
        raise ValueError(
            f"frame {index} of `video` is a {type(frame).__name__} of shape {tuple(getattr(frame, 'shape', ()))}; "
            "pass PIL images, image paths, or arrays of shape (H, W, 3) or (3, H, W)."
        )
    return int(shape[0]), int(shape[1])


def _load_frame(frame: Any) -> np.ndarray:
    """One frame of any kind as uint8 RGB of shape (H, W, 3)."""
    if isinstance(frame, (str, os.PathLike)):
        with _open_image(frame) as image:
            return to_rgb_array(image)
    return to_rgb_array(frame)


def _open_image(path: str | os.PathLike[str]) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"`video` names the frame {os.fspath(path)!r}, which is no image ({error}).") from None


# --------------------------------------------------------------------------------------------------------------
# frames that a question is asked about, with their places in the video
# --------------------------------------------------------------------------------------------------------------
SampledFrame = tuple[int, float | None, np.ndarray]  # index, seconds, uint8 RGB array (H, W, 3)


def evenly_spaced_frames(source: VideoSource, num_frames: int) -> list[SampledFrame]:
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
    _check_whole("num_frames", num_frames)
    if source.num_frames is not None:
        return _read_sampled(source, even_indices(source.num_frames, num_frames))
    kept = _thinned(source, 4 * num_frames)
    return [kept[place] for place in even_indices(len(kept), num_frames)] if kept else []


def frames_from(source: VideoSource, start: int, num_frames: int, interval: int) -> list[SampledFrame]:
    """Read up to `num_frames` frames from `start` on, `interval` frames apart.

    Raises:
        ValueError: `num_frames` or `interval` is not positive.
    """
    _check_whole("num_frames", num_frames)
    _check_whole("frame_interval", interval)
    return _read_sampled(source, list(range(start, start + num_frames * interval, interval)))


def _read_sampled(source: VideoSource, indices: list[int]) -> list[SampledFrame]:
    return [(i, source.timestamp(i), image) for i, image in zip(indices, source.read(indices), strict=False)]


def _thinned(source: VideoSource, most: int) -> list[SampledFrame]:
    """Every 1st, 2nd, 4th ... frame of a stream, such that at most `most` are kept."""
    kept: list[SampledFrame] = []
    index, stride = 0, 1
    while images := source.read([index]):
        kept.append((index, source.timestamp(index), images[0]))
        if len(kept) == most:  # every other frame goes, and from now on only every other one comes
            kept, stride = kept[::2], stride * 2
        index = kept[-1][0] + stride
    return kept


def _check_whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}`={value!r} must be a whole number from 1 on.")
