"""A word for the color of an object, where most of its pixels agree on one."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .vocabulary import COLORS

__all__ = ["color_name"]

AGREEMENT = 0.6
# Upper ends of the hues (degrees) and their names; red is on both sides of 0.
_HUES = ((14, "red"), (40, "orange"), (68, "yellow"), (165, "green"), (255, "blue"), (292, "purple"), (340, "pink"))
_DARK, _BRIGHT, _PALE = 50, 200, 45  # of 255: value of black, value of white, saturation of gray


def color_name(pixels: np.ndarray) -> str | None:
    """Name the color that most pixels have.

    Args:
        pixels: uint8 (M, 3), RGB.

    Returns:
        One of `COLORS`, or None where fewer than 60 % agree.
    """
    if len(pixels) == 0:
        return None
    hue, saturation, value = np.asarray(Image.fromarray(pixels[None]).convert("HSV"), np.float32)[0].T
    degrees = hue * 360 / 256
    names = np.full(len(pixels), "red", dtype=object)
    for end, name in reversed(_HUES):
        names[degrees < end] = name
    names[degrees >= _HUES[-1][0]] = "red"
    names[(names == "orange") & (value < 150)] = "brown"
    names[(names == "red") & (value < 150) & (saturation < 120)] = "brown"
    names[saturation < _PALE] = "gray"
    names[(saturation < _PALE) & (value > _BRIGHT)] = "white"
    names[value < _DARK] = "black"
    shares = [(names == color).mean() for color in COLORS]
    best = int(np.argmax(shares))
    return COLORS[best] if shares[best] >= AGREEMENT else None
