"""Training clips from few pictures: every frame gives many windows, with the object somewhere in them.

One example is what the tracker shows the model: a window of two object sizes in the frame where the box is known, then
windows of four sizes around where the object was believed to be. Positions and sizes are off by what a tracker is off
by; colors, sharpness and compression change between the windows, so that pixels alone can not be matched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracking_elysium.zoom import SEARCH_FACTOR, TEMPLATE_FACTOR, Window, window_around

from .material import Material, Shot
from .paste import Sprites, draw_pasted
from .restyle import restyled

__all__ = ["Example", "draw_example"]

NUM_SEARCHED = 2
SMALLEST_OBJECT_PX = 5
PASTED = 10**9  # in place of a row's number
# Share of examples from video, and of searched windows that do not show the object.
VIDEO_SHARE, ABSENT_SHARE = 0.6, 0.07
# Share of examples that are cut-outs on other backgrounds, where there are cut-outs.
PASTED_SHARE = 0.3
# A large object in a still picture leaves nothing to search.
LARGEST_SHARE = 0.5


@dataclass
class Example:
    """Windows of one object, the first with its known box.

    Attributes:
        crops: 1 + NUM_SEARCHED uint8 arrays of shape (side, side, 3).
        boxes: (1 + NUM_SEARCHED, 4) in [0, 1] of each window, NaN where the object is absent.
        row: the row's number, `~number` for a row of images, or `PASTED`.
        label: class name of the object.
        open: whether the licenses of all pictures in it, backgrounds included, allow more than research.
    """

    crops: list[np.ndarray]
    boxes: np.ndarray
    row: int
    label: str
    open: bool


def _size_px(shot: Shot) -> tuple[float, float]:
    width, height = shot.size
    return (shot.box[2] - shot.box[0]) * width, (shot.box[3] - shot.box[1]) * height


def _shifted(box: np.ndarray, shot: Shot, rng: np.random.Generator, spread: float) -> np.ndarray:
    """Return where a tracker may believe `box` to be: moved by a share of its size, and scaled."""
    width, height = shot.size
    box_px = box * [width, height, width, height]
    side = math.sqrt(max((box_px[2] - box_px[0]) * (box_px[3] - box_px[1]), 1.0))
    if rng.random() < 0.25:
        move = rng.uniform(-1.35, 1.35, 2)
    else:
        move = np.clip(rng.laplace(0.0, spread, 2), -1.35, 1.35)
    size = (box_px[2:] - box_px[:2]) * math.exp(rng.normal(0, 0.2)) * np.exp(rng.normal(0, 0.08, 2))
    center = (box_px[:2] + box_px[2:]) / 2 + move * side
    moved = np.concatenate([center - size / 2, center + size / 2])
    return moved / [width, height, width, height]


def _searched(
    shot: Shot, around: np.ndarray, rng: np.random.Generator, spread: float, flip: bool, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return a window near `around`, and the object's box in it."""
    width, height = shot.size
    window = window_around(_shifted(around, shot, rng, spread), width, height, SEARCH_FACTOR * rng.uniform(0.9, 1.15))
    return _finish(shot, window, rng, flip, strength)


def _finish(shot: Shot, window: Window, rng: np.random.Generator, flip: bool, strength: float) -> tuple:
    crop = restyled(window.crop(shot.image), rng, strength)
    box = np.full(4, np.nan) if shot.box is None else window.from_frame(shot.box, *shot.size)
    if flip:
        crop, box = crop[:, ::-1], box[[2, 1, 0, 3]] * [-1, 1, -1, 1] + [1, 0, 1, 0]
    return np.ascontiguousarray(crop), _visible(box)


def _visible(box: np.ndarray) -> np.ndarray:
    """Return `box` clipped to the window; NaN where too little of it is inside to be found."""
    if np.isnan(box).any():
        return box
    clipped = np.clip(box, 0, 1)
    area = np.prod(box[2:] - box[:2])
    if np.prod(clipped[2:] - clipped[:2]) < 0.25 * area:
        return np.full(4, np.nan)
    return clipped


def _video_shots(material: Material, rng: np.random.Generator) -> tuple[dict[str, Any], list[Shot]]:
    row = material.videos[int(rng.choice(len(material.videos), p=material.video_weights))]
    known = [i for i, box in enumerate(row["boxes"]) if box is not None]
    first = int(rng.choice(known))
    start = int(rng.choice(known))
    gap = int(rng.choice([1, 1, 1, 2, 3, 5, 8]))
    later = start + gap if start + gap < row["n_frames"] else start - gap
    if later < 0:
        later = start
    if row["boxes"][later] is None and row["absent_meaning"] != "absent":
        later = start
    return row, [material.shot(row, i) for i in (first, start, later)]


def _image_shots(material: Material, rng: np.random.Generator) -> tuple[dict[str, Any], str, list[Shot]] | None:
    row = material.images[int(rng.integers(len(material.images)))]
    item = row["boxes"][int(rng.integers(len(row["boxes"])))]
    shot = Shot(material.image(row), np.asarray(item["box"], dtype=np.float64))
    share = np.prod(shot.box[2:] - shot.box[:2])
    if share > LARGEST_SHARE and rng.random() < 0.7:
        return None
    return row, item["name"], [shot] * 3


def draw_example(material: Material, rng: np.random.Generator, sprites: Sprites | None = None) -> Example:
    """Draw one example; a deterministic function of the generator's state."""
    if sprites is not None and rng.random() < PASTED_SHARE:
        before = material.research_reads + sprites.research_reads
        crops, boxes, label = draw_pasted(material, sprites, rng, 1 + NUM_SEARCHED)
        is_free = material.research_reads + sprites.research_reads == before
        return Example(crops, np.stack([_visible(box) for box in boxes]), PASTED, label, is_free)
    while True:
        before = material.research_reads
        from_video = rng.random() < VIDEO_SHARE
        if from_video:
            row, shots = _video_shots(material, rng)
            label = row["category"]
        else:
            drawn = _image_shots(material, rng)
            if drawn is None:
                continue
            row, label, shots = drawn
        if any(shot.box is not None and min(_size_px(shot)) < SMALLEST_OBJECT_PX for shot in shots):
            continue
        flip = bool(rng.random() < 0.5)
        strength = 0.15 if from_video else 0.3
        first = shots[0]
        window = window_around(first.box, *first.size, TEMPLATE_FACTOR)
        crops, boxes = [], []
        crop, box = _finish(first, window, rng, flip, 0.1)
        crops.append(crop), boxes.append(box)
        believed = shots[1].box
        for shot in shots[1:]:
            mirrored = flip ^ bool(not from_video and rng.random() < 0.12)
            if rng.random() < ABSENT_SHARE:
                crop, box = _without_object(material, shot, believed, rng, mirrored)
            else:
                spread = 0.12 if from_video and shot is shots[2] else 0.3
                crop, box = _searched(shot, believed, rng, spread, mirrored, strength)
            crops.append(crop), boxes.append(box)
        is_free = material.research_reads == before
        number = row["number"] if from_video else ~row["number"]
        return Example(crops, np.stack(boxes), number, label, is_free)


def _without_object(
    material: Material, shot: Shot, around: np.ndarray, rng: np.random.Generator, flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return a window of the same frame beside the object, or of another picture."""
    if rng.random() < 0.5:
        for _ in range(8):
            width, height = shot.size
            moved = around + np.tile(rng.uniform(-0.8, 0.8, 2), 2)
            center = (moved[:2] + moved[2:]) / 2
            window = window_around(moved, width, height, SEARCH_FACTOR * rng.uniform(0.7, 1.1))
            crop, box = _finish(shot, window, rng, flip, 0.2)
            if np.isnan(box).any() and (center > 0).all() and (center < 1).all():
                return crop, np.full(4, np.nan)
    row = material.images[int(rng.integers(len(material.images)))]
    other = Shot(material.image(row), None)
    size = rng.uniform(0.08, 0.3)
    center = rng.uniform(0.1, 0.9, 2)
    window = window_around(np.concatenate([center - size / 2, center + size / 2]), *other.size, SEARCH_FACTOR)
    return _finish(other, window, rng, flip, 0.2)
