"""Synthetic videos with exact boxes: a deterministic function of (seed, index)."""

from .dataset import SPLITS, SyntheticClip, SyntheticConfig, make_clip, make_video
from .scene import COLORS, MOTIONS, SHAPES, SIZES, TEXTURES

__all__ = [
    "COLORS",
    "MOTIONS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "TEXTURES",
    "SyntheticClip",
    "SyntheticConfig",
    "make_clip",
    "make_video",
]
