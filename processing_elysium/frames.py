"""Open a video of any kind and read frames from it by index.

`open_video` takes a path, a URL, bytes, a list or folder of images, an array, a tensor or an iterator (camera) and
returns a `VideoSource`. Frames come out as uint8 RGB arrays of shape (H, W, 3). The index maths at the top knows
nothing of files; files are decoded in `video_reader.py`, images are loaded in `image_sequence.py`.
"""

from __future__ import annotations

import http.client
import math
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from .image_sequence import (
    FrameList,
    FrameStream,
    images_of_folder,
    is_capture,
    is_sequence,
    open_camera,
    open_capture,
    split_frames,
    still_image,
)
from .prompts import RandomSource
from .pyav_reader import frames_of_address
from .video_reader import VideoFile
from .video_source import VideoSource, check_positive

MAX_DOWNLOAD_BYTES = 512 * 2**20
_DOWNLOAD_TIMEOUT_S = 30.0
LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "tcp")  # pictures as they are taken
CAMERA = "camera:"  # and a number: a camera of this machine
WHOLE_UP_TO = 32  # frames of a video that a prompt shows without sampling
SAMPLED_FRAMES = 16  # frames shown of a longer one


# --------------------------------------------------------------------------------------------------------------
# index maths
# --------------------------------------------------------------------------------------------------------------
def even_indices(num_frames: int, count: int) -> list[int]:
    """Return `count` frames spread evenly over a video: the middle of each of `count` equal parts (VideoQA: 16).

    Args:
        num_frames: length of the video.
        count: how many are wanted; a shorter video gives all its frames once.

    Returns:
        Ascending indices in [0, num_frames), without repeats.

    Raises:
        ValueError: one of the arguments is below 1.
    """
    check_positive(num_frames=num_frames, count=count)
    count = min(count, num_frames)
    return [(2 * part + 1) * num_frames // (2 * count) for part in range(count)]


def interval_indices(num_frames: int, count: int, interval: int = 1, start: int = 0) -> list[int]:
    """Return up to `count` frames, `interval` apart, from `start` on; fewer where the video ends.

    Raises:
        ValueError: an argument is below 1 or `start` lies outside the video.
    """
    check_positive(num_frames=num_frames, count=count, interval=interval)
    if not 0 <= start < num_frames:
        raise ValueError(f"`start`={start} is outside the video; pass a frame from 0 to {num_frames - 1}.")
    return list(range(start, num_frames, interval))[:count]


def random_indices(num_frames: int, count: int, max_interval: int, rng: RandomSource) -> list[int]:
    """Draw a training clip: a random interval that fits into the video, then a uniform start (paper, stage 2a).

    Args:
        num_frames: length of the video.
        count: frames wanted; a shorter video gives all its frames.
        max_interval: largest distance between neighbors, in frames.
        rng: the source of randomness.

    Returns:
        Ascending indices, min(count, num_frames) of them, equally spaced.

    Raises:
        ValueError: an argument is below 1.
    """
    check_positive(num_frames=num_frames, count=count, max_interval=max_interval)
    count = min(count, num_frames)
    gaps = max(count - 1, 1)
    interval = 1 + int(rng.random() * min(max_interval, max((num_frames - 1) // gaps, 1)))
    start = int(rng.random() * (num_frames - (count - 1) * interval))
    return [start + i * interval for i in range(count)]


# --------------------------------------------------------------------------------------------------------------
# opening
# --------------------------------------------------------------------------------------------------------------
def open_video(source: Any, fps: float | None = None, max_bytes: int = MAX_DOWNLOAD_BYTES) -> VideoSource:
    """Open anything that shows frames.

    Args:
        source: path of a video, or of a folder of images; http(s) URL; address of a camera (`rtsp://...`), or
            `camera:0` for one of this machine; bytes of a file, or a binary file object; list
            (or column of a data set) of PIL images, arrays, tensors or image paths; array or tensor of shape
            (T, H, W, 3) or (T, 3, H, W), gray (T, H, W) as well; iterator of frames; `cv2.VideoCapture`. A
            `VideoSource` is returned as it is.
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
        video = _open_file(bytes(source), name=f"<{len(source)} bytes>")
    elif isinstance(source, (np.ndarray, torch.Tensor)):
        video = FrameList(split_frames(source))
    elif isinstance(source, Image.Image):
        raise ValueError("`video` is one image; pass a list of frames, [image] for a single one.")
    elif is_sequence(source):
        video = FrameList(source)
    elif is_capture(source):
        video = open_capture(source)
    elif hasattr(source, "read"):
        video = _open_file(source.read(), name=str(getattr(source, "name", "<file object>")))
    elif isinstance(source, Iterable) and not isinstance(source, Mapping):
        video = FrameStream(iter(source))
    else:
        raise ValueError(
            f"`video` is of type {type(source).__name__}; pass a path, a URL, bytes, a list of images, an array, "
            "a tensor or an iterator of frames."
        )
    if fps is not None:
        video.play_at(float(fps))
    return video


def sample_video(
    video: VideoSource, num_frames: int | None = None, fps: float | None = None, sampled: bool = True
) -> np.ndarray:
    """Read the frames of a video that a prompt shows.

    Args:
        video: an opened video. One of unknown length is read to its end, with twice the wanted frames in memory.
        num_frames: take so many frames, evenly spread.
        fps: take about so many frames per second: those nearest to every 1 / `fps` seconds. With neither, at most 32
            frames are taken whole and of a longer video 16 evenly spread ones (paper, section 4.3: one piece up to 32
            frames; VideoQA: 16).
        sampled: False takes every frame.

    Returns:
        uint8 RGB array of shape (F, H, W, 3).

    Raises:
        ValueError: both `num_frames` and `fps`, or `fps` for a video that does not know its own.
    """
    if num_frames is not None and fps is not None:
        raise ValueError(f"`num_frames`={num_frames} and `fps`={fps} exclude each other; pass one of them.")
    if fps is not None:
        if video.timestamp(0) is None:
            raise ValueError(f"`fps`={fps} needs a video that knows its frame rate, and {video.name} does not.")
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"`fps`={fps} must be a positive number of frames per second.")
        return np.stack(list(_frames_by_time(video, fps)))
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


def _frames_by_time(video: VideoSource, fps: float) -> Iterator[np.ndarray]:
    """Each frame that is nearest to one of the times 0, 1 / fps, 2 / fps ..., once; of two as near the earlier."""
    if video.num_frames is not None:
        seconds = np.asarray(video.timestamps)
        wanted = np.arange(int(seconds[-1] * fps + 1e-6) + 1) / fps
        after = np.searchsorted(seconds, wanted - 1e-9).clip(0, len(seconds) - 1)
        before = (after - 1).clip(0)
        nearest = np.where(wanted - seconds[before] <= seconds[after] - wanted + 1e-9, before, after)
        yield from video.read(np.unique(nearest))
        return
    rate = video.fps or fps  # known, since its frames have times
    for index, frame in enumerate(video):  # of a constant rate
        step = round(index * fps / rate)
        if math.ceil(step * rate / fps - 0.5 - 1e-9) == index:
            yield frame


# --------------------------------------------------------------------------------------------------------------
# paths and addresses
# --------------------------------------------------------------------------------------------------------------
def _open_location(location: str | bytes, max_bytes: int) -> VideoSource:
    """Open a path or URL."""
    location = os.fsdecode(location)
    scheme = location.split("://", 1)[0].lower() if "://" in location else None
    if scheme in ("http", "https"):
        return _open_file(_download(location, max_bytes), location)
    if scheme in LIVE_SCHEMES:
        frames, rate = frames_of_address(location)
        stream = FrameStream(frames, location)
        stream.fps = rate
        return stream
    if location.startswith(CAMERA) and not os.path.exists(location):
        return open_camera(location.removeprefix(CAMERA))
    if scheme is not None and not os.path.exists(location):
        raise ValueError(
            f"`video`={location!r} has the scheme {scheme!r}; use http or https, {' or '.join(LIVE_SCHEMES)} for a "
            "camera, or download it first."
        )
    if not os.path.exists(location):
        raise ValueError(f"`video`={location!r} does not exist; check the path (working folder: {os.getcwd()}).")
    if os.path.isdir(location):
        return FrameList(images_of_folder(location), name=location)
    if not os.access(location, os.R_OK):
        raise ValueError(f"`video`={location!r} cannot be read; check its permissions.")
    return _open_file(location, location)


def _open_file(data: str | bytes, name: str) -> VideoSource:
    """A picture that does not move is read by Pillow, which knows how it is to be turned; anything else is a video."""
    image = still_image(data)
    return VideoFile(data, name=name) if image is None else FrameList([image], name=name)


def _download(url: str, max_bytes: int) -> bytes:
    """Read the body of a URL, at most `max_bytes` of it."""
    try:
        with urllib.request.urlopen(_quoted(url), timeout=_DOWNLOAD_TIMEOUT_S) as response:
            body = response.read(max_bytes + 1)
            announced = int(response.headers.get("Content-Length") or 0)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"`video`={url!r} could not be downloaded ({reason}); check the address.") from None
    if len(body) > max_bytes:
        raise ValueError(
            f"`video`={url!r} is larger than {max_bytes / 2**20:.0f} MiB; download it yourself and pass the path."
        )
    if len(body) < announced:
        raise ValueError(
            f"`video`={url!r} could not be downloaded ({len(body)} of {announced} bytes came before the connection "
            "was closed); try again."
        )
    return body


def _quoted(url: str) -> str:
    """A URL with spaces and other letters than ASCII written as browsers send them; `%` escapes stay."""
    parts = urllib.parse.urlsplit(url.strip())
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode("ascii")
    path, query = (urllib.parse.quote(part, safe="/%:=&?~+!$,;'@()*[]") for part in (parts.path, parts.query))
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))


# --------------------------------------------------------------------------------------------------------------
# frames that a question is asked about, with their positions in the video
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
    return [kept[index] for index in even_indices(len(kept), num_frames)] if kept else []


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
