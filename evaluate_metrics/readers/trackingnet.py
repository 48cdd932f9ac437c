"""TrackingNet: `TEST/{frames/VIDEO/N.jpg from 0, anno/VIDEO.txt}`.

The truth of the test split is not public beyond the first box: its results go to the benchmark's server. A chunk of
the training set (`TRAIN_0` ... `TRAIN_11`) is read in the same way, and scored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .items import TrackSequence
from .text_files import check_count, found_images, read_boxes


def read(root: Path, split: str) -> list[TrackSequence]:
    """Read the videos of a split.

    Args:
        root: folder with `TEST` and the training chunks.
        split: "test", or "train": every chunk there is.

    Raises:
        ValueError: frames are missing, or counts do not agree.
    """
    folders = [root / "TEST"] if split == "test" else sorted(root.glob("TRAIN_*"))
    return [_sequence(folder, path) for folder in folders for path in sorted((folder / "anno").glob("*.txt"))]


def _sequence(folder: Path, annotation: Path) -> TrackSequence:
    frames, boxes = found_images(folder / "frames" / annotation.stem), read_boxes(annotation)
    scored = len(boxes) > 1 or len(frames) == 1
    if not scored:
        boxes = np.concatenate([boxes, np.full((len(frames) - 1, 4), np.nan)])
    check_count(annotation.stem, frames, anno=boxes)
    return TrackSequence(name=annotation.stem, frames=frames, boxes_xywh_px=boxes, scored=scored)
