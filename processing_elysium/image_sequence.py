"""Videos that are single images: lists in memory, image files, folders of them, iterators such as cameras."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from .image_processing_elysium import EXIF_ORIENTATION, largest_float, to_rgb_array
from .video_source import VideoSource

# Files with these endings are single pictures. A gif is left out: it may well move.
IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".tga"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".heic", ".heif"),
)
_CAP_PROP_FPS = 5  # the constant of OpenCV
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_KINDS_OF_FRAMES = "PIL images, image paths, or arrays of shape (H, W, 3) or (3, H, W)"


def is_image_name(item: Any) -> bool:
    """Return whether `item` is a path or address that ends as image files do."""
    if not isinstance(item, (str, os.PathLike)):
        return False
    name = os.fspath(item)
    return isinstance(name, str) and name.lower().endswith(IMAGE_ENDINGS)


def still_image(data: str | bytes) -> Image.Image | None:
    """Return the picture in a file (a path, or its bytes) if it is one that does not move, else None.

    Pillow also opens the first picture of MPEG and Motion JPEG streams: a path has to end as image files do, and the
    bytes of a JPEG are taken for a photograph only where they say how it is to be turned.
    """
    if isinstance(data, str) and not is_image_name(data):
        return None
    try:
        image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    may_be_a_stream = isinstance(data, bytes) and image.format in ("JPEG", "MPO", "MPEG")
    turned = image.getexif().get(EXIF_ORIENTATION, 1) != 1
    if getattr(image, "n_frames", 1) == 1 and (turned or not may_be_a_stream):
        return image
    image.close()
    return None


def is_sequence(value: Any) -> bool:
    """Tell whether `value` is a list or can be counted and indexed like one (a column of a data set), but no array."""
    if isinstance(value, (str, bytes, bytearray, memoryview, Mapping, Image.Image)) or hasattr(value, "__array__"):
        return False
    return isinstance(value, Sequence) or (hasattr(value, "__len__") and hasattr(value, "__getitem__"))


def images_of_folder(folder: str) -> list[str]:
    """Return paths of the images in a folder, in the order of the numbers in their names (frame2 before frame10).

    Raises:
        ValueError: there is none.
    """
    names = [entry.name for entry in os.scandir(folder) if entry.is_file() and is_image_name(entry.name)]
    names = [name for name in names if not name.startswith(".")]
    if not names:
        raise ValueError(
            f"`video`={folder!r} is a folder without images; pass a video file, or a folder or list of the images "
            f"that are the frames ({', '.join(IMAGE_ENDINGS[:5])} ...)."
        )
    return [os.path.join(folder, name) for name in sorted(names, key=_natural_order)]


def _natural_order(name: str) -> tuple[list[tuple[int, int | str]], str]:
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts], name


class FrameList(VideoSource):
    """Frames that are already there, or image files that are opened one by one."""

    def __init__(self, frames: Sequence[Any], name: str = "<list of frames>") -> None:
        """Check that there are frames and that they agree in size; pixels are converted when read.

        Args:
            frames: PIL images, arrays, tensors or image paths.
            name: what to call them in messages.

        Raises:
            ValueError: there is no frame, something else than a frame, or the size changes.
        """
        self.name = name
        self._frames = frames
        self.num_frames = len(frames)
        if not self.num_frames:
            raise ValueError("`video` has zero frames; pass at least one.")
        largest = None
        for index in range(self.num_frames):
            height, width, value = _look_at(frames[index], index)
            if index == 0:
                self.height, self.width = height, width
            elif (height, width) != (self.height, self.width):
                raise ValueError(
                    f"`video` changes size: frame 0 is {self.width} x {self.height} but frame {index} is "
                    f"{width} x {height} pixels; resize the frames to one size."
                )
            if value is not None:
                largest = value if largest is None else max(largest, value)
        # One dark frame says nothing: floats are in [0, 1] only if those of all frames are.
        self._unit_range = None if largest is None else not largest > 1.0

    def _read(self, indices: list[int]) -> list[np.ndarray]:
        return [self._loaded(index) for index in indices]

    def _loaded(self, index: int) -> np.ndarray:
        frame = _load_frame(self._frames[index], self._unit_range)
        if frame.shape[:2] != (self.height, self.width):
            raise ValueError(
                f"frame {index} of {self.name} has {frame.shape[1]} x {frame.shape[0]} pixels when it is loaded, and "
                f"had {self.width} x {self.height} before (a file that changed, or an EXIF orientation behind the "
                "pixels); save it anew."
            )
        return frame


class FrameStream(VideoSource):
    """Frames from an iterator, for example a camera: read once, forwards, with the frames of the last call kept."""

    def __init__(self, frames: Iterator[Any], name: str = "<iterator of frames>") -> None:
        """Take the first frame, to know the size."""
        self.name = name
        self._iterator = frames
        self._kept: dict[int, np.ndarray] = {}
        self._unit_range: bool | None = None  # of floats; decided by the first frame that is not black
        first = self._pull()
        if first is None:
            raise ValueError("`video` is an iterator with zero frames; it may have been used up before.")
        self._kept[0] = first

    def _pull(self) -> np.ndarray | None:
        """Return the next frame; None at the end."""
        item = None if self.num_frames is not None else next(self._iterator, None)
        if item is None:
            self.num_frames = self.num_read
            return None
        self._check_range(item)
        frame = _load_frame(item, self._unit_range)
        if self.num_read == 0:
            self.height, self.width = frame.shape[:2]
        elif frame.shape[:2] != (self.height, self.width):
            reason = f"the frame size changes to {frame.shape[1]} x {frame.shape[0]}"
            self.break_off(self.num_read, reason, "Resize the frames to one size to get the rest.")
            return None
        self.num_read += 1
        return frame

    def _check_range(self, item: Any) -> None:
        """Decide once whether floats are in [0, 1] or [0, 255]."""
        largest = None if isinstance(item, (str, os.PathLike)) else largest_float(item)
        if largest is None or not largest > 0.0:
            return
        if self._unit_range is None:
            self._unit_range = largest <= 1.0
        elif self._unit_range and largest > 1.0:
            raise ValueError(
                f"frame {self.num_read} of {self.name} has floats up to {largest:g}, and those before were in [0, 1], "
                "so they were taken for that range; pass uint8 frames, or divide all by 255."
            )

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


def is_capture(source: Any) -> bool:
    """Return whether `source` is a `cv2.VideoCapture`, or behaves like one."""
    return all(hasattr(source, name) for name in ("isOpened", "read", "retrieve", "get"))


def open_capture(capture: Any) -> FrameStream:
    """Return the frames that a `cv2.VideoCapture` has still to give.

    Raises:
        ValueError: it is not open, or gives no frame.
    """
    if not capture.isOpened():
        raise ValueError("`video` is a cv2.VideoCapture that is not open; check its path or camera number.")

    def frames() -> Iterator[np.ndarray]:
        while True:
            is_read, picture = capture.read()
            if not is_read:
                return
            yield picture[:, :, ::-1] if picture.ndim == 3 else picture  # OpenCV's colors are blue, green, red

    video, fps = FrameStream(frames(), "<cv2.VideoCapture>"), float(capture.get(_CAP_PROP_FPS) or 0.0)
    video.fps = fps if 0.0 < fps < float("inf") else None
    return video


def open_camera(number: str) -> FrameStream:
    """Open a camera of this machine through OpenCV, as `camera:0` names it.

    Raises:
        ValueError: no number, no OpenCV, or no such camera.
    """
    if not number.isdecimal():
        raise ValueError(f"`video`='camera:{number}' names no camera; pass camera:0 for the first of this machine.")
    try:
        import cv2
    except ImportError:
        raise ValueError(
            f"`video`='camera:{number}' needs OpenCV; install it with `pip install opencv-contrib-python-headless`."
        ) from None
    capture = cv2.VideoCapture(int(number))
    if not capture.isOpened():
        raise ValueError(f"`video`='camera:{number}' cannot be opened; check that it is there and not in use.")
    return open_capture(capture)


def split_frames(frames: np.ndarray | torch.Tensor) -> list[Any]:
    """Return the frames of a (T, H, W), (T, H, W, C) or (T, C, H, W) block, as (H, W[, C]) arrays."""
    if isinstance(frames, torch.Tensor):
        frames = frames.detach()
        first = (1, -1)  # a tensor is most likely (T, C, H, W), an array (T, H, W, C)
    else:
        first = (-1, 1)
    if frames.ndim == 4:
        axis = next((axis for axis in first if frames.shape[axis] in (1, 3, 4)), None)
        if axis is not None:
            if isinstance(frames, torch.Tensor):
                return list(torch.movedim(frames, axis, -1))
            return list(np.moveaxis(frames, axis, -1))
    elif frames.ndim == 3:
        return list(frames)
    raise ValueError(
        f"`video` has shape {tuple(frames.shape)}; pass (T, H, W, 3), (T, 3, H, W) or gray (T, H, W). Put a single "
        "frame into a list: [frame]."
    )


def _look_at(frame: Any, index: int) -> tuple[int, int, float | None]:
    """Return height and width of a frame as it is shown, and its largest value if its values are floats."""
    if isinstance(frame, (str, os.PathLike)):
        with _open_image(frame) as image:
            return _look_at(image, index)
    if isinstance(frame, Image.Image):
        # The method of the base class: that of PNG images decodes all pixels first.
        turned = Image.Image.getexif(frame).get(EXIF_ORIENTATION) in _QUARTER_TURNS
        height, width = (frame.width, frame.height) if turned else (frame.height, frame.width)
        return height, width, largest_float(frame)
    shape = tuple(getattr(frame, "shape", ()))
    size = shape
    if len(shape) == 3:
        size = shape[:2] if shape[-1] in (1, 2, 3, 4) else shape[1:]
    if len(size) != 2:
        seen = f"a {type(frame).__name__}" + (f" of shape {shape}" if hasattr(frame, "shape") else "")
        if isinstance(frame, Mapping):
            seen += f" with the keys {', '.join(map(repr, list(frame)[:4]))} (pass one column of a data set)"
        raise ValueError(f"frame {index} of `video` is {seen}; pass {_KINDS_OF_FRAMES}.")
    return int(size[0]), int(size[1]), largest_float(frame)


def _load_frame(frame: Any, unit_range: bool | None) -> np.ndarray:
    """Return one frame of any kind as uint8 RGB of shape (H, W, 3)."""
    if isinstance(frame, (str, os.PathLike)):
        with _open_image(frame) as image:
            try:
                return to_rgb_array(image, unit_range=unit_range)
            except (OSError, SyntaxError) as error:
                raise ValueError(
                    f"`video` names the frame {os.fspath(frame)!r}, which is damaged ({error})."
                ) from None
    return to_rgb_array(frame, unit_range=unit_range)


def _open_image(path: str | os.PathLike[str]) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        name = os.fspath(path)
        raise ValueError(
            f"`video` names the frame {name!r}, which is no image ({error}); pass image files, or a video file by its "
            "path alone (a list of lists is several videos)."
        ) from None
