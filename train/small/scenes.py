"""Whole pictures with named objects: what expressions are grounded in, and their features on disk.

A scene is a photograph, a frame of a clip, a part of either, two or four of them side by side, or a photograph with
cut-outs pasted on it, as the processor shows it to the tower: squeezed to a square. One scene serves many questions,
since words are drawn later (`train.small.wording`).

    python -m train.small.scenes DATA TOWER OUT --sprites SPRITES --examples 20000
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .colors import color_name
from .material import Material
from .paste import OPAQUE, Sprites, background, changed, put, recolored
from .pool import encode_crops, produce, quantized, save_shard
from .restyle import restyled
from .views import PASTED

__all__ = ["MOSAIC", "Scene", "draw_scene"]

SHARD_SCENES, BATCH_SCENES = 512, 16
SIDE = 224
MOSAIC = PASTED + 1  # in place of a row's number
PASTED_SHARE, MOSAIC_SHARE, VIDEO_SHARE, WHOLE_SHARE = 0.2, 0.5, 0.2, 0.45
SMALLEST = 0.03  # of the side, shorter side of an object that can be asked for
VISIBLE = 0.6  # of an object's area, to count
CENTER = 0.2  # of the box on each side is left out where its color is read


@dataclass
class Scene:
    """A picture and what is known to be in it.

    Attributes:
        picture: uint8 (side, side, 3).
        objects: `{"name", "box", "color"}` of each, boxes in [0, 1], color None where none can be named.
        row: where it comes from, see `views.Example`; `MOSAIC` if from several rows.
        open: whether the licenses of all pictures in it allow more than research.
    """

    picture: np.ndarray
    objects: list[dict[str, Any]]
    row: int
    open: bool = False


def draw_scene(material: Material, rng: np.random.Generator, sprites: Sprites | None = None) -> Scene:
    """Draw one scene; a deterministic function of the generator's state."""
    while True:
        before = material.research_reads + (sprites.research_reads if sprites is not None else 0)
        draw = rng.random()
        if sprites is not None and draw < PASTED_SHARE:
            scene = _pasted(material, sprites, rng)
        elif draw > 1 - MOSAIC_SHARE:
            scene = _mosaic(material, rng)
        else:
            scene = _photographed(material, rng)
        if scene.objects:
            after = material.research_reads + (sprites.research_reads if sprites is not None else 0)
            return replace(scene, open=after == before)


def _photographed(material: Material, rng: np.random.Generator) -> Scene:
    if rng.random() < VIDEO_SHARE and material.videos:
        row = material.videos[int(rng.choice(len(material.videos), p=material.video_weights))]
        number = row["number"]
        at = int(rng.choice([i for i, box in enumerate(row["boxes"]) if box is not None]))
        image = material.frame(row, at)
        named = [(str(rng.choice(row["words"] or [row["category"]])), row["boxes"][at])]
    else:
        row = material.images[int(rng.integers(len(material.images)))]
        number = ~row["number"]
        image = material.image(row)
        named = [(item["name"], item["box"]) for item in row["boxes"]]
    boxes = np.array([box for _, box in named], dtype=np.float64)
    part = np.array([0.0, 0.0, 1.0, 1.0])
    if rng.random() > WHOLE_SHARE:
        part = _part_with(boxes[int(rng.integers(len(boxes)))], rng)
    flip = bool(rng.random() < 0.5)
    picture = _squeezed(image, part)
    size = np.tile(part[2:] - part[:2], 2)
    boxes = (boxes - np.tile(part[:2], 2)) / size
    if flip:
        picture, boxes = picture[:, ::-1], boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [1, 0, 1, 0]
    picture = restyled(np.ascontiguousarray(picture), rng, 0.15)
    objects = []
    for (name, _), box in zip(named, boxes, strict=True):
        clipped = np.clip(box, 0, 1)
        if np.prod(clipped[2:] - clipped[:2]) < VISIBLE * np.prod(box[2:] - box[:2]):
            continue
        if (clipped[2:] - clipped[:2]).min() >= SMALLEST:
            objects.append({"name": name.lower(), "box": clipped, "color": _color_in(picture, clipped)})
    return Scene(picture, objects, number)


def _mosaic(material: Material, rng: np.random.Generator) -> Scene:
    """Put two or four pictures side by side.

    Most pictures show one kind of thing, so that a model can find it without reading the words. Of a mosaic they alone
    say which part is meant.
    """
    x, y = rng.uniform(0.35, 0.65, 2)
    parts = [[(0, 0, x, 1), (x, 0, 1, 1)], [(0, 0, 1, y), (0, y, 1, 1)]][int(rng.integers(2))]
    if rng.random() < 0.5:
        parts = [(0, 0, x, y), (x, 0, 1, y), (0, y, x, 1), (x, y, 1, 1)]
    picture = Image.new("RGB", (SIDE, SIDE))
    objects = []
    for part in parts:
        left, top, right, bottom = (round(edge * SIDE) for edge in part)
        scene = _photographed(material, rng)
        picture.paste(Image.fromarray(scene.picture).resize((right - left, bottom - top), Image.BILINEAR), (left, top))
        for item in scene.objects:
            scale, offset = np.array([right - left, bottom - top] * 2), np.array([left, top] * 2)
            box = (item["box"] * scale + offset) / SIDE
            if (box[2:] - box[:2]).min() >= SMALLEST:
                objects.append({**item, "box": box})
    return Scene(np.asarray(picture), objects, MOSAIC)


def _part_with(box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a part of the picture that holds a box, in [0, 1]."""
    low = rng.uniform(0, 1, 2) ** 0.7 * np.clip(box[:2], 0, 0.95)
    high = 1 - rng.uniform(0, 1, 2) ** 0.7 * (1 - np.clip(box[2:], 0, 1))
    return np.concatenate([low, np.maximum(high, low + 0.05)])


def _squeezed(image: np.ndarray, part: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    area = tuple(float(v) for v in part * [width, height, width, height])
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.BILINEAR, box=area))


def _color_in(picture: np.ndarray, box: np.ndarray) -> str | None:
    x1, y1, x2, y2 = box
    shrink = np.array([x2 - x1, y2 - y1] * 2) * [CENTER, CENTER, -CENTER, -CENTER]
    left, top, right, bottom = ((box + shrink) * SIDE).astype(int)
    return color_name(picture[top : bottom + 1, left : right + 1].reshape(-1, 3))


def _pasted(material: Material, sprites: Sprites, rng: np.random.Generator) -> Scene:
    picture = background(material, rng)
    objects: list[dict[str, Any]] = []
    wanted = int(rng.integers(1, 5))
    number = sprites.draw(rng)
    for _ in range(wanted):
        if rng.random() < 0.6:  # else another of the same kind
            number = sprites.draw(rng)
        row = sprites.rows[number]
        sprite = sprites.picture(number)
        if rng.random() < 0.25:
            sprite = recolored(sprite, rng)
        size = float(np.clip(SIDE * np.exp(rng.normal(-1.5, 0.4)), 14, 0.6 * SIDE))
        sprite = changed(sprite, size, rng.normal(0, 10), np.exp(rng.normal(0, 0.1)), bool(rng.random() < 0.5))
        center = rng.uniform(0.1, 0.9, 2)
        half = np.array(sprite.size) / SIDE / 2
        box = np.concatenate([center - half, center + half])
        if any(_overlap(box, other["box"]) > 0.1 for other in objects) or np.any(box < -0.05) or np.any(box > 1.05):
            continue
        box = np.clip(put(picture, sprite, tuple(center * SIDE)), 0, 1)
        pixels = np.asarray(sprite)
        color = color_name(pixels[pixels[..., 3] > OPAQUE][:, :3])
        objects.append({"name": row["name"].lower(), "box": box, "color": color})
    return Scene(restyled(np.asarray(picture), rng, 0.1), objects, PASTED)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection over the smaller area."""
    side = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    return float(side.prod() / max(min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])), 1e-6))


def _write_shard(out: Path, number: int, material: Material, tower: Any, seed: int, sprites: Sprites | None) -> float:
    start = time.perf_counter()
    scenes, tokens, scales = [], [], []
    for first in range(0, SHARD_SCENES, BATCH_SCENES):
        chunk = [
            draw_scene(material, np.random.default_rng([seed, number, first + i]), sprites)
            for i in range(min(BATCH_SCENES, SHARD_SCENES - first))
        ]
        q, s = quantized(encode_crops(tower, [scene.picture for scene in chunk]))
        tokens.append(q), scales.append(s), scenes.extend(chunk)
    objects = [[{**o, "box": [round(float(v), 6) for v in o["box"]]} for o in scene.objects] for scene in scenes]
    columns = {"objects": objects, "open": [s.open for s in scenes], "row": [s.row for s in scenes]}
    save_shard(out / f"{number:05d}", tokens, scales, columns)
    return time.perf_counter() - start


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    description = "Write features of pictures."
    produce("python -m train.small.scenes", description, 20_000, SHARD_SCENES, _write_shard, arguments)


if __name__ == "__main__":
    main()
