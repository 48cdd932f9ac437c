"""ElysiumImageProcessor: frames of any kind to the tower's input, without torchvision.

A frame is squashed to the tower's size (no crop, no padding: the box text is relative to the whole frame), bilinear,
scaled to [0, 1] and normalized (paper, section 3.3; the authors' code resizes with Pillow's bilinear filter).
Shapes: F frames, H x W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import ImageInput, PILImageResampling, SizeDict
from transformers.utils import TensorType

from .resampling import resample as resample_tensors

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
EXIF_ORIENTATION = 0x0112  # the tag by which cameras say how a picture is to be turned
_INSTEAD = {  # options of the library that we do not have, and what to do
    "do_center_crop": "boxes refer to the whole frame, so leave it off",
    "do_pad": "boxes refer to the whole frame, so leave it off",
    "data_format": "pixel values are always channels first",
    "device": "pass tensors on that device, or move the result",
}


def to_rgb_array(image: Any, input_data_format: str | None = None, unit_range: bool | None = None) -> np.ndarray:
    """Turn one frame of any usual kind into RGB.

    Args:
        image: PIL image of any mode (RGBA is laid on black; turned as its EXIF orientation says), or array / tensor of
            shape (H, W), (H, W, C) or (C, H, W) with C in {1, 2, 3, 4}; uint8, 16-bit (scaled down to 8), bool, or
            float in [0, 1] or [0, 255].
        input_data_format: "channels_first" or "channels_last". None: the last axis holds the channels if it can.
        unit_range: whether floats are in [0, 1] rather than in [0, 255]. None: they are if none of this frame is above
            1. Frames of one video have one range, so that a dark one is not made bright: see `largest_float`.

    Returns:
        uint8 array of shape (H, W, 3).

    Raises:
        ValueError: the shape is not that of a frame, it has no pixels, values are not real numbers, NaN or outside
            their range.
    """
    if isinstance(image, Image.Image):
        if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        image = _pil_to_array(image)
    elif isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        image = (image.float() if image.dtype == torch.bfloat16 else image).numpy()  # numpy has no bfloat16
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim == 3 and (
        input_data_format == "channels_first" or (input_data_format is None and array.shape[-1] not in (1, 2, 3, 4))
    ):
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[-1] not in (1, 2, 3, 4) or 0 in array.shape:
        raise ValueError(
            f"`images` holds a frame of shape {np.shape(image)}; pass (H, W), (H, W, C) or (C, H, W) with 1 to 4 "
            "channels and at least one pixel."
        )
    array = _to_uint8(array, unit_range)
    if array.shape[-1] in (2, 4):  # an alpha channel: lay the frame on black
        alpha = array[..., -1:].astype(np.uint16)
        array = ((array[..., :-1] * alpha + 127) // 255).astype(np.uint8)
    if array.shape[-1] == 1:
        array = np.repeat(array, 3, axis=-1)
    return array


def largest_float(frame: Any) -> float | None:
    """Return the largest value of a frame of floats; None for other frames, whose type tells their range."""
    if isinstance(frame, torch.Tensor):
        return float(frame.max()) if frame.is_floating_point() and frame.numel() else None
    if isinstance(frame, Image.Image):
        return float(np.max(frame.getextrema())) if frame.mode == "F" else None
    array = np.asarray(frame) if hasattr(frame, "__array__") else np.empty(0, np.uint8)
    return float(array.max()) if np.issubdtype(array.dtype, np.floating) and array.size else None


def _pil_to_array(image: Image.Image) -> np.ndarray:
    """Return pixels of a PIL image as an array, with 16-bit and float modes kept for `_to_uint8`."""
    if image.mode in ("I", "I;16", "I;16B", "I;16L"):
        return np.clip(np.asarray(image, dtype=np.int64), 0, 65535).astype(np.uint16)
    if image.mode == "F":
        return np.asarray(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _to_uint8(array: np.ndarray, unit_range: bool | None) -> np.ndarray:
    """Turn one frame's values into uint8; the dtype tells their range, `unit_range` that of floats."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise ValueError(
            f"`images` holds a frame of {array.dtype} values; pass real numbers: uint8, uint16, or floats in "
            "[0, 1] or [0, 255]."
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 255.0):
        raise _range_error(array.dtype, low, high)
    if array.dtype.kind == "f" and (high <= 1.0 if unit_range is None else unit_range):
        array = array * 255.0
    return np.rint(array).astype(np.uint8)


class ElysiumImageProcessor(PilBackend):
    """Squash, rescale and normalize frames.

    Fields (saved in `preprocessor_config.json` or `processor_config.json`): `size` ({"height", "width"} in pixels),
    `resample` (Pillow filter; 2 = bilinear), `rescale_factor`, `image_mean`, `image_std`, and the switches
    `do_resize`, `do_rescale`, `do_normalize`. Frames that already have the right size are not resampled.

    Two paths give the same numbers: Pillow for PIL images and arrays, and `resampling.py` for tensors, which stay on
    their device.
    """

    resample = PILImageResampling.BILINEAR
    image_mean = CLIP_MEAN
    image_std = CLIP_STD
    size = {"height": 336, "width": 336}
    default_to_square = True
    do_convert_rgb = True
    do_resize = True
    do_rescale = True
    do_normalize = True
    rescale_factor = 1 / 255
    model_input_names = ["pixel_values"]

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Save as the library does; code files of the folder that are links (a clone's own) become real ones.

        Args:
            save_directory: folder to write to.
            push_to_hub: upload it afterwards.
            **kwargs: passed on to the library's `save_pretrained`.
        """
        replace_code_links(save_directory)
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def _preprocess_image_like_inputs(
        self,
        images: ImageInput,
        *args: Any,
        do_resize: bool,
        size: SizeDict,
        resample: int,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | Iterable[float],
        image_std: float | Iterable[float],
        input_data_format: str | None = None,
        return_tensors: str | TensorType | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Run both paths; called by `preprocess` once the arguments are merged with the fields.

        Returns:
            `pixel_values` of shape (F, 3, H, W), float32: a list of arrays, or what `return_tensors` asks for.

        Raises:
            ValueError: an option of the library that would break the relative boxes is switched on, or see
                `to_rgb_array`.
        """
        for name in ("do_center_crop", "do_pad", "data_format", "device"):
            if kwargs.get(name) not in (None, False, "channels_first"):
                raise ValueError(f"`{name}`={kwargs[name]!r} is not supported; {_INSTEAD[name]}.")
        target = None
        if do_resize:
            if not (size and size.height and size.width):
                raise ValueError(f"`size`={size} must name the tower's 'height' and 'width' in pixels.")
            target = (size.height, size.width)
        scale = rescale_factor if do_rescale else 1.0
        mean, std = (image_mean, image_std) if do_normalize else (0.0, 1.0)
        mean, std = (np.broadcast_to(np.asarray(v, dtype=np.float32), (3,)) for v in (mean, std))
        tensors = _as_tensor_batch(images)
        pixels: torch.Tensor | np.ndarray | list[np.ndarray]
        if tensors is not None:
            pixels = _tensor_path(tensors, target, resample, scale, mean, std)
        else:
            frames = self._flat(images)
            if not frames:
                raise ValueError("`images` is empty; pass at least one frame.")
            largest = [value for value in map(largest_float, frames) if value is not None]
            unit_range = not any(value > 1.0 for value in largest) if largest else None  # as in the tensor path
            frames = [to_rgb_array(frame, input_data_format, unit_range) for frame in frames]
            pixels = _array_path(frames, target, resample, scale, mean, std)
        return BatchFeature(data={"pixel_values": pixels}, tensor_type=return_tensors)

    def _flat(self, images: Any) -> list[Any]:
        """Return frames of a nested list, of arrays with a frame axis, or one frame; URLs and paths are loaded."""
        if isinstance(images, (list, tuple)):
            return [frame for item in images for frame in self._flat(item)]
        if isinstance(images, str):
            return [self.fetch_images(images)]
        if not isinstance(images, Image.Image) and np.ndim(images) == 4:
            return list(images)
        return [images]


def _as_tensor_batch(images: Any) -> torch.Tensor | None:
    """Return frames already on a device as one (F, 3, H, W) tensor, or None when the Pillow path has to be taken."""
    if isinstance(images, (list, tuple)):
        items = [item for item in images if not (isinstance(item, (list, tuple)) and not item)]
        parts = [part for part in map(_as_tensor_batch, items) if part is not None]
        if not parts or len(parts) < len(items) or any(part.shape[1:] != parts[0].shape[1:] for part in parts):
            return None
        return torch.cat(parts)
    if not isinstance(images, torch.Tensor) or images.ndim not in (3, 4) or 0 in images.shape:
        return None
    frames = images if images.ndim == 4 else images[None]
    if frames.shape[1] not in (1, 3) and frames.shape[-1] in (1, 3):
        frames = frames.movedim(-1, 1)
    return frames.expand(-1, 3, -1, -1) if frames.shape[1] in (1, 3) else None


def _tensor_path(
    frames: torch.Tensor,
    target: tuple[int, int] | None,
    resample: int,
    scale: float,
    mean: np.ndarray,
    std: np.ndarray,
) -> torch.Tensor:
    """(F, 3, H, W) on any device to normalized float32 on that device; see `to_rgb_array` for the value range."""
    pixels = _to_gray_levels(frames)
    if target is not None and tuple(pixels.shape[-2:]) != target:
        pixels = resample_tensors(pixels, target, resample)
    offset = torch.tensor(mean / std, device=frames.device)[:, None, None]
    factor = torch.tensor(scale / std, device=frames.device)[:, None, None]
    return pixels * factor - offset


def _to_gray_levels(frames: torch.Tensor) -> torch.Tensor:
    """The tensor twin of `_to_uint8`."""
    if frames.dtype == torch.uint8:
        return frames
    if frames.dtype == torch.bool:
        return frames.to(torch.uint8) * 255
    if frames.dtype == torch.uint16:
        return (frames.int() >> 8).to(torch.uint8)
    if frames.is_complex():
        raise ValueError(f"`images` holds {frames.dtype} values; pass real numbers: uint8, or floats in [0, 1].")
    pixels = frames.float()
    low, high = (float(value) for value in torch.aminmax(pixels))
    if not (low >= 0.0 and high <= 255.0):
        raise _range_error(frames.dtype, low, high)
    return (pixels * 255.0 if frames.is_floating_point() and high <= 1.0 else pixels).round().to(torch.uint8)


def _range_error(dtype: Any, low: float, high: float) -> ValueError:
    return ValueError(
        f"`images` holds a {dtype} frame with values in [{low:g}, {high:g}]; pass uint8, uint16, or floats in [0, 1] "
        "or [0, 255] without NaN."
    )


def _array_path(
    frames: list[np.ndarray],
    target: tuple[int, int] | None,
    resample: int,
    scale: float,
    mean: np.ndarray,
    std: np.ndarray,
) -> np.ndarray | list[np.ndarray]:
    """(H, W, 3) uint8 frames to normalized (3, H, W) float32; one array when the sizes agree."""
    if target is not None:
        frames = [frame if frame.shape[:2] == target else _resize(frame, target, resample) for frame in frames]
    if len({frame.shape for frame in frames}) > 1:
        return [_array_path([frame], None, resample, scale, mean, std)[0] for frame in frames]
    pixels = np.empty((len(frames), 3, *frames[0].shape[:2]), dtype=np.float32)
    factor, offset = scale / std, mean / std
    for index, frame in enumerate(frames):
        for channel in range(3):
            np.multiply(frame[:, :, channel], factor[channel], out=pixels[index, channel], dtype=np.float32)
    pixels -= offset[None, :, None, None]
    return pixels


def _resize(frame: np.ndarray, target: tuple[int, int], resample: int) -> np.ndarray:
    """Squash (H, W, 3) uint8 to `target` = (height, width) with a Pillow filter."""
    return np.asarray(Image.fromarray(frame).resize(target[::-1], resample))


def replace_code_links(folder: str | os.PathLike[str]) -> None:
    """Make the code files of a folder that are links real ones: saving through a link would change its source.

    A clone's own checkpoint folder holds such links.

    Args:
        folder: where something is about to be saved; it need not be there.
    """
    for path in Path(folder).glob("*.py"):
        if path.is_symlink():
            code = path.read_bytes() if path.exists() else None  # None: the link leads nowhere
            path.unlink()
            if code is not None:
                path.write_bytes(code)


ElysiumImageProcessor.register_for_auto_class()  # so that `save_pretrained` writes this code too
