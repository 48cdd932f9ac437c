"""The same picture as another camera would have taken it."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

__all__ = ["restyled"]


def restyled(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Change light, color, sharpness and compression.

    Args:
        image: uint8 (H, W, 3).
        rng: decides what and how much.
        strength: standard deviation of the logarithm of the factors on brightness, contrast and color.

    Returns:
        uint8 (H, W, 3).
    """
    picture = Image.fromarray(image)
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        if rng.random() < 0.7:
            picture = kind(picture).enhance(math.exp(rng.normal(0, strength)))
    draw = rng.random()
    if draw < 0.12:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.6)))
    elif draw < 0.25:  # a smaller picture of the same
        small = max(int(picture.width * rng.uniform(0.35, 0.8)), 8)
        picture = picture.resize((small, small), Image.BILINEAR).resize(picture.size, Image.BILINEAR)
    elif draw < 0.35:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(12, 60)))
        picture = Image.open(buffer).convert("RGB")
    elif draw < 0.42:
        picture = picture.convert("L").convert("RGB")
    return np.asarray(picture)
