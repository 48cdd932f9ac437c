"""A picture of several tracked clips, a row each: what one looks at before a checkpoint is published.

    python -m train.small.sheet elysium clips.yaml --out clips.jpg

`clips.yaml` lists the clips; `box` is the object in frame `start`, in pixels:

    - {title: the bottle, video: cup.mp4, box: [158, 58, 216, 199], start: 30, frames: 120, step: 2}

A clip of the real material is given as `{title, row: ID, data: FOLDER}`; the box is then its first one, and the true
boxes are drawn in white.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw
from transformers import pipeline

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline
from processing_elysium.frames import open_video

from .material import Material

__all__ = ["Clip", "read_clips", "sheet_of"]

COLUMNS, CELL_WIDTH, CELL_HEIGHT, MARGIN, TITLE = 6, 240, 160, 4, 16
FOUND, TRUE = (255, 80, 0), (255, 255, 255)


@dataclass
class Clip:
    """Frames with the box that tracking begins with.

    Attributes:
        title: what is written above the row.
        frames: uint8 (H, W, 3) each.
        box: (4,) pixels of the first frame.
        truth: box of each frame in pixels, None where none is known; empty without truth.
    """

    title: str
    frames: list[np.ndarray]
    box: list[float]
    truth: Sequence[Sequence[float] | None] = ()


def read_clips(path: str | Path) -> list[Clip]:
    """Read the clips that a YAML file lists; videos are relative to it.

    Raises:
        ValueError: an entry has neither a video with a box nor a row with a folder, or the row is not there.
    """
    path = Path(path)
    clips = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        if {"video", "box"} <= set(entry):
            clips.append(_of_video(path.parent / entry["video"], entry))
        elif {"row", "data"} <= set(entry):
            clips.append(_of_row(path.parent / entry["data"], entry))
        else:
            raise ValueError(f"{path}: {entry} needs `video` and `box`, or `row` and `data`.")
    return clips


def _of_video(path: Path, entry: dict[str, Any]) -> Clip:
    start, count, step = entry.get("start", 0), entry.get("frames", 120), entry.get("step", 1)
    with open_video(path) as video:
        frames = list(itertools.islice(video, start, start + count * step, step))
    return Clip(entry.get("title", path.stem), frames, entry["box"])


def _of_row(folder: Path, entry: dict[str, Any]) -> Clip:
    for split in ("val", "test", "train"):
        material = Material(folder, split)
        row = next((row for row in material.videos if row["id"] == entry["row"]), None)
        if row is not None:
            break
    else:
        raise ValueError(f"{folder}/records.jsonl has no video row {entry['row']!r}.")
    first = next(i for i, box in enumerate(row["boxes"]) if box is not None)
    frames = [material.frame(row, i) for i in range(first, row["n_frames"])]
    size = np.tile(frames[0].shape[1::-1], 2)
    truth = [None if box is None else (np.array(box) * size).tolist() for box in row["boxes"][first:]]
    return Clip(entry.get("title", entry["row"]), frames, truth[0] or [], truth)


def sheet_of(clips: Sequence[Clip], tracks: Sequence[Sequence[dict[str, Any]]]) -> Image.Image:
    """Draw `COLUMNS` frames of each clip with the box that was found.

    Args:
        clips: what was tracked.
        tracks: the pipeline's results of each.
    """
    height = TITLE + CELL_HEIGHT + MARGIN
    sheet = Image.new("RGB", (COLUMNS * (CELL_WIDTH + MARGIN), len(clips) * height), (24, 24, 24))
    draw = ImageDraw.Draw(sheet)
    for number, (clip, results) in enumerate(zip(clips, tracks, strict=True)):
        draw.text((MARGIN, number * height + 2), f"{clip.title}, {len(clip.frames)} frames", fill=(255, 255, 255))
        for column, at in enumerate(np.linspace(0, len(clip.frames) - 1, COLUMNS).round().astype(int)):
            cell = _cell(clip, results[at], int(at))
            left = column * (CELL_WIDTH + MARGIN) + (CELL_WIDTH - cell.width) // 2
            sheet.paste(cell, (left, number * height + TITLE))
    return sheet


def _cell(clip: Clip, result: dict[str, Any], at: int) -> Image.Image:
    picture = Image.fromarray(clip.frames[at])
    scale = min(CELL_WIDTH / picture.width, CELL_HEIGHT / picture.height)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.LANCZOS)
    draw = ImageDraw.Draw(picture)
    if clip.truth and clip.truth[at] is not None:
        draw.rectangle([v * scale for v in clip.truth[at] or []], outline=TRUE)
    for item in result["objects"]:
        box = [item["box"][side] * scale for side in ("xmin", "ymin", "xmax", "ymax")]
        draw.rectangle(box, outline=FOUND, width=2)
        if item.get("present") is False:
            draw.text((box[0], max(box[1] - 11, 0)), "absent", fill=FOUND)
    draw.text((3, picture.height - 12), f"{at}", fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
    return picture


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.small.sheet", description="Draw tracked clips, a row each.")
    parser.add_argument("model")
    parser.add_argument("clips", type=Path, help="YAML list, see the head of the file")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    options = parser.parse_args(arguments)
    clips = read_clips(options.clips)
    pipe = pipeline("video-tracking", model=options.model)
    tracks = []
    for clip in clips:
        results = pipe(clip.frames, box=tuple(clip.box))
        tracks.append(results)
        lost = sum(item.get("present") is False for result in results for item in result["objects"])
        print(json.dumps({"clip": clip.title, "frames": len(clip.frames), "told absent": lost}), flush=True)
    sheet_of(clips, tracks).save(options.out, quality=85)


if __name__ == "__main__":
    main()
