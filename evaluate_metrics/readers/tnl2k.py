"""TNL2K: `SEQUENCE/{imgs/*.jpg or *.png, groundtruth.txt, language.txt, attributes.txt}`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .items import TrackSequence
from .text_files import check_count, found_images, read_attributes, read_boxes, read_words

ATTRIBUTES = (
    "CM", "ROT", "DEF", "FOC", "IV", "OV", "POC", "VC", "SV", "BC", "MB", "ARC", "LR", "FM", "AS", "TC", "MS",
)  # fmt: skip


def read(root: Path, split: str) -> list[TrackSequence]:
    """Read every sequence in the folder of the test split.

    Args:
        root: folder of the sequences (TNL2K_test_subset).
        split: "test".

    Raises:
        ValueError: frames are missing, or counts do not agree.
    """
    return [_sequence(path.parent) for path in sorted(root.glob("*/groundtruth.txt"))]


def _sequence(folder: Path) -> TrackSequence:
    frames, boxes = found_images(folder / "imgs"), read_boxes(folder / "groundtruth.txt")
    check_count(folder.name, frames, groundtruth=boxes)
    unseen = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1))
    return TrackSequence(
        name=folder.name,
        frames=frames,
        boxes_xywh_px=boxes,
        absent=unseen if unseen.any() else None,
        words=read_words(folder / "language.txt"),
        attributes=read_attributes(folder / "attributes.txt", ATTRIBUTES),
    )
