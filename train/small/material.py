"""Real sequences and images with boxes, read from tar shards and one JSON-lines file, and drawn for training.

The layout (`records.jsonl`, `videos/*.tar`, `images/*.tar`) is described in docs/small_model.md. Every row names its
source and license, so that what a checkpoint was trained on can be said row by row.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["Material", "Shot", "is_open"]

# Rows whose text allows use beyond research: the weights of a default checkpoint may be trained on them.
_OPEN_WORDS = ("cc by 4.0", "mit", "apache", "public domain", "free to download, use and edit", "bsd")
_CLOSED_WORDS = ("nc", "research", "gpl", "gnu", "none stated")
# Copies of Pascal VOC, whose pictures are Flickr users': the repository's own license is not theirs.
_CLOSED_SOURCES = ("choiwb/Tensorflow_object_detection_API",)
# Sources with many clips of one kind would otherwise be most of what is drawn: 77 of 190 sequences show a flying
# object on sky, 39 a small object on concrete.
_SEQUENCE_WEIGHTS = {"drone": 0.25, "foda": 0.25, "trk_serkan": 0.6}


def is_open(row: Mapping[str, Any]) -> bool:
    """Return whether a row's `licence` allows more than research, for pictures of its `source`."""
    if row["source"].startswith(_CLOSED_SOURCES):
        return False
    text = row["licence"].lower()
    words = text.replace("-", " ").replace(",", " ").split()
    if any(word in (words if len(word) <= 3 else text) for word in _CLOSED_WORDS):
        return False
    return any(word in text for word in _OPEN_WORDS)


@dataclass(frozen=True)
class Shot:
    """One object in one picture.

    Attributes:
        image: uint8 RGB array of shape (H, W, 3).
        box: (4,) in [0, 1], or None where the object is absent.
    """

    image: np.ndarray
    box: np.ndarray | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1], self.image.shape[0]


class Material:
    """The rows of one split.

    Args:
        root: folder with `records.jsonl`.
        split: `"train"`, `"val"`, `"test"` or `"unseen"`.
        open_only: leave out rows that allow research only.

    Attributes:
        videos, images: rows of either kind; the `number` of a row is its place among all rows of its kind and split,
            whatever their licenses.
        research_reads: pictures read so far from rows that allow research only. What was drawn between two looks at it
            is open if it has not grown.
    """

    def __init__(self, root: str | Path, split: str, open_only: bool = False) -> None:
        self.root = Path(root)
        self.research_reads = 0
        with open(self.root / "records.jsonl", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        rows = [row for row in rows if row["split"] == split]
        videos = [row for row in rows if row["kind"] == "video" and sum(b is not None for b in row["boxes"]) > 1]
        images = [row for row in rows if row["kind"] == "image" and row["boxes"]]
        for kind in (videos, images):
            for number, row in enumerate(kind):
                row["number"] = number
        self.videos, self.images = ([row for row in k if not open_only or is_open(row)] for k in (videos, images))
        self._shards: dict[str, dict[str, tuple[int, int]]] = {}

    @cached_property
    def video_weights(self) -> np.ndarray:
        """Chance of each video row to be drawn, (videos,)."""
        # Several targets of one clip share its weight by half, so that crowded clips do not dominate.
        clips: dict[str, int] = {}
        for row in self.videos:
            clips[row["clip"]] = clips.get(row["clip"], 0) + 1
        weights = np.array([self._sequence_weight(row["sequence"]) / clips[row["clip"]] ** 0.5 for row in self.videos])
        return weights / weights.sum()

    @staticmethod
    def _sequence_weight(sequence: str) -> float:
        return next((weight for start, weight in _SEQUENCE_WEIGHTS.items() if sequence.startswith(start)), 1.0)

    def frame(self, row: dict[str, Any], number: int) -> np.ndarray:
        """Read frame `number` of a video row, uint8 (H, W, 3)."""
        return self._read(row, row["frames"] % number)

    def image(self, row: dict[str, Any]) -> np.ndarray:
        """Read the picture of an image row, uint8 (H, W, 3)."""
        return self._read(row, row["file"])

    def shot(self, row: dict[str, Any], number: int) -> Shot:
        """Read frame and box of a video row."""
        box = row["boxes"][number]
        return Shot(self.frame(row, number), None if box is None else np.asarray(box, dtype=np.float64))

    def _read(self, row: dict[str, Any], name: str) -> np.ndarray:
        self.research_reads += not is_open(row)
        shard = row["shard"]
        if shard not in self._shards:
            with tarfile.open(self.root / shard) as tar:
                self._shards[shard] = {m.name: (m.offset_data, m.size) for m in tar.getmembers() if m.isfile()}
        offset, size = self._shards[shard][name]
        with open(self.root / shard, "rb") as file:
            file.seek(offset)
            return np.asarray(Image.open(io.BytesIO(file.read(size))).convert("RGB"))
