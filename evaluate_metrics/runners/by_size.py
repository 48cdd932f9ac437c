"""IoU by the size of the object in the frame: small objects are where trackers differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..tracking_ope.ope import box_iou, is_box
from .store import Truth, read_track

__all__ = ["FEWEST", "SizeBin", "iou_by_size"]

EDGES_PX = (0.0, 8.0, 11.3, 16.0, 22.6, 32.0, 45.3, 64.0, 90.5, 128.0, np.inf)  # a factor of sqrt(2) apart
FEWEST = 20  # frames that a mean is worth stating for


@dataclass(frozen=True)
class SizeBin:
    """Frames in which the object has about one size.

    Attributes:
        side_px: geometric mean of the side of a square of its area.
        frames: number of frames.
        mean_iou: over them; a frame without a box counts 0.
    """

    side_px: float
    frames: int
    mean_iou: float


def iou_by_size(folder: Path, truths: Sequence[Truth]) -> list[SizeBin]:
    """Mean IoU by size over the frames of all sequences in which the object is there, but each one's first.

    Args:
        folder: of a tracker's results; a sequence without result counts 0.
        truths: of the task.

    Returns:
        One entry per size that has at least `FEWEST` frames, the smallest first.
    """
    sides, overlaps = [], []
    for truth in truths:
        if not truth.scored:
            continue
        boxes = truth.boxes_xywh_px
        there = is_box(boxes) & (True if truth.absent is None else ~truth.absent)
        there[0] = False
        try:
            track = read_track(folder, truth.name)
        except ValueError:  # the report names it
            track = None
        fits = track is not None and len(track.boxes_xywh_px) == len(boxes)
        iou = box_iou(track.boxes_xywh_px, boxes) if track is not None and fits else np.zeros(len(boxes))
        sides.append(np.sqrt(boxes[there, 2:].prod(axis=1)))
        overlaps.append(np.nan_to_num(iou[there]))
    side, overlap = (np.concatenate([np.zeros(0), *parts]) for parts in (sides, overlaps))
    found = []
    for low, high in zip(EDGES_PX, EDGES_PX[1:], strict=False):
        here = (side >= low) & (side < high)
        if here.sum() >= FEWEST:
            mean_side = float(np.exp(np.log(side[here]).mean()))
            found.append(SizeBin(mean_side, int(here.sum()), float(overlap[here].mean())))
    return found
