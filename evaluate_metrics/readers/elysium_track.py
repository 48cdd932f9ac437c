"""ElysiumTrack-1M: the authors' JSON lines, frames beside them.

A line: source, id, vid, metadata, frames (paths), object_class, box ([x1, y1, x2, y2] in 0..1 per frame),
object_description, frame_size [w, h]. The expression is the description, else the class.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from processing_elysium.boxes import unit_to_px, xyxy_to_xywh

from .items import TrackSequence


def read(root: Path, split: str) -> list[TrackSequence]:
    """Read the lines of a file.

    Args:
        root: the `.jsonl` file, or a folder with `SPLIT.jsonl`; frames are relative to its folder.
        split: "test".

    Raises:
        ValueError: no such file, or a line without what it must have.
    """
    path = root if root.is_file() else root / f"{split}.jsonl"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; pass `--data` the file of ElysiumTrack's JSON lines, or its folder.")
    sequences = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    sequences.append(_sequence(json.loads(line), path.parent))
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(f"{path}, line {number}: {error!r}; see docs/evaluate.md for the keys.") from None
    return sequences


def _sequence(data: dict[str, Any], folder: Path) -> TrackSequence:
    frames = [str(folder / name) for name in data["frames"]]
    boxes = np.array([[np.nan] * 4 if box is None else box for box in data["box"]], dtype=np.float64).reshape(-1, 4)
    if len(boxes) != len(frames):
        raise ValueError(f"{len(frames)} frames, but {len(boxes)} boxes")
    width, height = data["frame_size"]
    words = data.get("object_description") or data.get("object_class") or None
    return TrackSequence(
        name=f"{data['id']}",
        frames=frames,
        boxes_xywh_px=xyxy_to_xywh(unit_to_px(boxes, width, height)),
        words=words,
        descriptions=(words,) if words else (),
    )
