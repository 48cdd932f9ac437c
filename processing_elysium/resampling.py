"""Pillow's resampling of 8-bit frames on any device, bit for bit.

A frame that was resized on a GPU must be the frame that Pillow gives on a CPU, or boxes would depend on where a video
was read. Pillow works in whole numbers: a pass along each axis, weights with 22 binary digits, and 8 bits between the
passes. Whole numbers are the same everywhere, so this does the same with integer tensors. Which axis comes first
differs between Pillow's versions and sizes; Pillow itself is asked, once per size.
Shapes: F frames of C channels, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from PIL.Image import Resampling

_BITS = 22  # of a weight after the binary point


def _triangle(x: float) -> float:
    return max(1.0 - abs(x), 0.0)


def _cubic(x: float) -> float:
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 if x < 2.0 else 0.0


_FILTERS: dict[int, tuple[Callable[[float], float], float]] = {  # the curve and how far it reaches
    int(Resampling.BILINEAR): (_triangle, 1.0),
    int(Resampling.BICUBIC): (_cubic, 2.0),
}


def resample(frames: torch.Tensor, size: tuple[int, int], kind: int) -> torch.Tensor:
    """Squash frames to a size.

    Args:
        frames: uint8 (F, C, H, W), on any device.
        size: (height, width) of the result.
        kind: Pillow's number of the filter, 2 (bilinear) or 3 (bicubic).

    Returns:
        uint8 (F, C, *size) on the same device: what `PIL.Image.resize` gives for each frame.

    Raises:
        ValueError: another filter.
    """
    kind = int(kind)  # Pillow's own is an enumeration
    if kind not in _FILTERS:
        known = ", ".join(f"{number} ({Resampling(number).name.lower()})" for number in _FILTERS)
        raise ValueError(f"`resample`={kind} has no tensor path; use one of {known}, or pass arrays.")
    axes = _order(tuple(frames.shape[-2:]), tuple(size), kind) if frames.device.type != "cpu" else None
    return by_pillow(frames, size, kind) if axes is None else in_order(frames, size, kind, axes)


def by_pillow(frames: torch.Tensor, size: tuple[int, int], kind: int) -> torch.Tensor:
    """Resample on the CPU, the slow twin: every channel of every frame is an image; see `resample`."""
    planes = [
        np.asarray(Image.fromarray(plane).resize((size[1], size[0]), kind))
        for plane in frames.flatten(0, 1).cpu().contiguous().numpy()
    ]
    return torch.from_numpy(np.stack(planes)).view(*frames.shape[:2], *size).to(frames.device)


def in_order(frames: torch.Tensor, size: tuple[int, int], kind: int, axes: tuple[int, ...]) -> torch.Tensor:
    """Passes along some axes (-2: columns, -1: rows), one after the other; see `resample`."""
    for axis in axes:
        if frames.shape[axis] != size[axis]:
            frames = _along(frames, axis, size[axis], kind)
    return frames


@lru_cache(maxsize=64)
def _order(old: tuple[int, int], new: tuple[int, int], kind: int) -> tuple[int, int] | None:
    """Return the order of Pillow's passes, seen in what it makes of noise; None if it is neither."""
    # On a few pixels both orders often agree by chance: at least 512 pixels of the result, if that is no great work.
    planes = max(min(512 // (new[0] * new[1]), 2**20 // (old[0] * old[1])), 1)
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, planes, *old), dtype=np.uint8))
    wanted = by_pillow(noise, new, kind)
    return next((axes for axes in ((-1, -2), (-2, -1)) if torch.equal(in_order(noise, new, kind, axes), wanted)), None)


def _along(frames: torch.Tensor, axis: int, length: int, kind: int) -> torch.Tensor:
    """Do one pass: every pixel of the result is a weighted sum of its neighbors along the axis, rounded to 8 bits."""
    sources, weights = (torch.from_numpy(table).to(frames.device) for table in _taps(frames.shape[axis], length, kind))
    shape = (-1,) if axis == -1 else (-1, 1)
    taps = zip(sources, weights, strict=True)  # few: twice the factor of shrinking
    parts = (frames.index_select(axis, source).int() * weight.view(shape) for source, weight in taps)
    total = next(parts)
    for part in parts:
        total.add_(part)
    return (total.add_(1 << (_BITS - 1)) >> _BITS).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=64)
def _taps(old: int, new: int, kind: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels of a line of `old` make each of `new`, and how much of each: int32 (taps, new), twice."""
    curve, reach = _FILTERS[kind]
    scale = old / new
    stretch = max(scale, 1.0)  # shrinking widens the filter, so that no pixel is passed over
    count = math.ceil(reach * stretch) * 2 + 1
    sources, weights = np.zeros((count, new), np.int32), np.zeros((count, new), np.int32)
    for pixel in range(new):
        center = (pixel + 0.5) * scale
        first = max(int(center - reach * stretch + 0.5), 0)
        last = min(int(center + reach * stretch + 0.5), old)
        parts = [curve((index - center + 0.5) * (1.0 / stretch)) for index in range(first, last)]
        whole = sum(parts)
        for tap, part in enumerate(parts):
            share = part / whole if whole else part
            sources[tap, pixel] = first + tap
            weights[tap, pixel] = int(share * (1 << _BITS) + math.copysign(0.5, share))
    return sources, weights
