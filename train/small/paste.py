"""Examples with exact truth: a cut-out on photographs, moved and changed from window to window.

The idea is that of "Crop-Transform-Paste" (arXiv 2106.10900): any cut-out on any background gives a pair whose box is
known to the pixel. Beside it stand look-alikes: the same cut-out in other colors, or another of its kind.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from tracking_elysium.zoom import LONGEST_SIDE_FACTOR, SEARCH_FACTOR, TEMPLATE_FACTOR

from .material import Material
from .restyle import restyled

__all__ = ["OPAQUE", "Sprites", "background", "changed", "draw_pasted", "put", "recolored"]

SIDE = 224
OPAQUE = 96
FAR_TURN_SHARE = 0.25


class Sprites:
    """Cut-outs of one folder, grouped by name.

    Args:
        folder: written by `train.small.sprites`.
        open_only: leave out those cut from pictures that allow research only.

    Attributes:
        research_reads: cut-outs read so far that allow research only, see `Material`.
    """

    def __init__(self, folder: str | Path, open_only: bool = False) -> None:
        self.folder = Path(folder)
        self.research_reads = 0
        with open(self.folder / "sprites.jsonl", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        self.rows = [row for row in rows if row["open"] or not open_only]
        self.of_name: dict[str, list[int]] = {}
        for number, row in enumerate(self.rows):
            self.of_name.setdefault(row["name"], []).append(number)
        photographs = [i for i, row in enumerate(self.rows) if row["source"] != "Noto Color Emoji"]
        self.photographs = np.array(photographs or range(len(self.rows)))

    def draw(self, rng: np.random.Generator) -> int:
        """Draw the number of a sprite; two of three times one cut from a photograph."""
        if rng.random() < 0.67:
            return int(rng.choice(self.photographs))
        return int(rng.integers(len(self.rows)))

    def picture(self, number: int) -> Image.Image:
        """Read the RGBA picture of a sprite."""
        self.research_reads += not self.rows[number]["open"]
        return Image.open(self.folder / self.rows[number]["file"]).convert("RGBA")


def background(material: Material, rng: np.random.Generator) -> Image.Image:
    """Cut a square of a photograph or a frame, `SIDE` pixels wide."""
    if rng.random() < 0.6:
        image = material.image(material.images[int(rng.integers(len(material.images)))])
    else:
        row = material.videos[int(rng.choice(len(material.videos), p=material.video_weights))]
        image = material.frame(row, int(rng.integers(row["n_frames"])))
    side = max(int(min(image.shape[:2]) * rng.uniform(0.4, 1.0)), 8)
    top, left = (int(rng.integers(size - side + 1)) for size in image.shape[:2])
    return Image.fromarray(image[top : top + side, left : left + side]).resize((SIDE, SIDE), Image.BILINEAR)


def changed(sprite: Image.Image, size: float, turn: float, stretch: float, flip: bool) -> Image.Image:
    """Draw the sprite with `size` pixels as the square root of its box's area, turned by degrees and stretched."""
    if flip:
        sprite = sprite.transpose(Image.FLIP_LEFT_RIGHT)
    sprite = sprite.rotate(turn, Image.BICUBIC, expand=True)
    sprite = sprite.crop(sprite.getchannel("A").point(lambda v: 255 * (v > OPAQUE)).getbbox() or (0, 0, 1, 1))
    scale = size / math.sqrt(sprite.width * sprite.height)
    wanted = (max(round(sprite.width * scale * stretch), 3), max(round(sprite.height * scale / stretch), 3))
    return sprite.resize(wanted, Image.BILINEAR)


def recolored(sprite: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Give the same shape in other colors."""
    hsv = np.array(sprite.convert("RGB").convert("HSV"))
    hsv[..., 0] = (hsv[..., 0].astype(int) + int(rng.integers(40, 216))) % 256
    out = Image.fromarray(hsv, "HSV").convert("RGB")
    out = ImageEnhance.Brightness(out).enhance(rng.uniform(0.5, 1.5))
    out.putalpha(sprite.getchannel("A"))
    return out


def put(picture: Image.Image, sprite: Image.Image, center: tuple[float, float]) -> np.ndarray:
    """Paste and return the box in [0, 1], unclipped."""
    left, top = round(center[0] - sprite.width / 2), round(center[1] - sprite.height / 2)
    picture.paste(sprite, (left, top), sprite)
    box = sprite.getchannel("A").point(lambda v: 255 * (v > OPAQUE)).getbbox() or (0, 0, *sprite.size)
    return (np.array(box) + [left, top] * 2) / SIDE


def draw_pasted(
    material: Material, sprites: Sprites, rng: np.random.Generator, windows: int
) -> tuple[list[np.ndarray], np.ndarray, str]:
    """Draw one example: windows, boxes (windows, 4) and name.

    Args:
        material: backgrounds.
        sprites: objects.
        rng: decides everything.
        windows: the first shows the object at the template's size, the rest at the search size.
    """
    number = sprites.draw(rng)
    sprite = sprites.picture(number)
    flip = bool(rng.random() < 0.5)
    turn, same_place = rng.normal(0, 12), bool(rng.random() < 0.5)
    scene = background(material, rng)
    crops, boxes = [], []
    for window in range(windows):
        picture = scene.copy() if same_place else background(material, rng)
        if window == 0:
            size, center = SIDE / TEMPLATE_FACTOR, np.full(2, SIDE / 2)
        else:
            # Mostly as a video goes on; sometimes far, so that the box of a long object is learned at every tilt.
            turn += rng.uniform(-80, 80) if rng.random() < FAR_TURN_SHARE else rng.normal(0, 10)
            size = SIDE / SEARCH_FACTOR * math.exp(rng.normal(0, 0.22))
            move = rng.uniform(-1.3, 1.3, 2) if rng.random() < 0.3 else np.clip(rng.laplace(0, 0.3, 2), -1.3, 1.3)
            center = SIDE / 2 + move * SIDE / SEARCH_FACTOR
            for _ in range(int(rng.integers(0, 4))):
                _put_other(picture, sprites, number, size, rng)
        now = changed(sprite, size, turn, math.exp(rng.normal(0, 0.08)), flip)
        if max(now.size) > SIDE / LONGEST_SIDE_FACTOR:  # the window of a long object is wider
            now.thumbnail([round(SIDE / LONGEST_SIDE_FACTOR)] * 2, Image.BILINEAR)
        box = put(picture, now, tuple(center))
        if window > 0 and rng.random() < 0.15:  # something passes in front
            other = changed(sprites.picture(sprites.draw(rng)), size * rng.uniform(0.4, 0.8), 0, 1.0, False)
            put(picture, other, tuple(center + rng.uniform(-0.6, 0.6, 2) * size))
        crops.append(restyled(np.asarray(picture), rng, 0.2))
        boxes.append(box)
    return crops, np.stack(boxes), sprites.rows[number]["name"]


def _put_other(picture: Image.Image, sprites: Sprites, number: int, size: float, rng: np.random.Generator) -> None:
    """Paste a look-alike, or anything else, somewhere."""
    draw, alike = rng.random(), sprites.of_name[sprites.rows[number]["name"]]
    if draw < 0.3:
        other = recolored(sprites.picture(number), rng)
    elif draw < 0.6 and len(alike) > 1:
        other = sprites.picture(int(rng.choice([i for i in alike if i != number])))
    else:
        other = sprites.picture(sprites.draw(rng))
    other = changed(other, size * math.exp(rng.normal(0, 0.3)), rng.normal(0, 15), 1.0, bool(rng.random() < 0.5))
    put(picture, other, tuple(rng.uniform(0, SIDE, 2)))
