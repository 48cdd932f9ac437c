"""What every tracker gives, and the two that need no picture: the floor and the ceiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from processing_elysium.boxes import format_boxes, parse_boxes, px_to_unit, unit_to_px, xywh_to_xyxy, xyxy_to_xywh

from ..readers.items import TrackSequence

__all__ = ["KeepFirst", "RoundingOracle", "Track", "Tracker"]


@dataclass(frozen=True)
class Track:
    """Result of one sequence.

    Attributes:
        boxes_xywh_px: (F, 4); NaN where the tracker gave no box.
        scores: (F,) confidence, NaN where the tracker says none; 0 marks a box that no answer gave (a gap that was
            filled).
        presence: (F,) how probable the tracker finds it that the object is there, NaN where it does not say; None for
            one that never says.
    """

    boxes_xywh_px: np.ndarray
    scores: np.ndarray
    presence: np.ndarray | None = None


class Tracker(Protocol):
    """Follows the object of a sequence.

    Attributes:
        name: names the folder of results.
    """

    name: str

    def track(self, sequence: TrackSequence, ask: str) -> Track:
        """Follow the object from the first frame on.

        Args:
            sequence: of its truth only the first box may be read.
            ask: "sot" or "rsot".
        """


class KeepFirst:
    """Keeps the first box: the floor."""

    name = "keep_first"

    def track(self, sequence: TrackSequence, ask: str) -> Track:
        """See `Tracker`."""
        boxes = np.repeat(sequence.boxes_xywh_px[:1], len(sequence), axis=0)
        return Track(boxes, np.full(len(boxes), np.nan))


class RoundingOracle:
    """The truth, written as text and read back: the ceiling of any model that writes boxes on the grid."""

    name = "rounding_oracle"

    def track(self, sequence: TrackSequence, ask: str) -> Track:
        """See `Tracker`; it alone reads the whole truth."""
        with sequence.open() as video:
            size = (video.width, video.height)
        truth = np.clip(px_to_unit(xywh_to_xyxy(sequence.boxes_xywh_px), *size), 0.0, 1.0)
        known = np.isfinite(truth).all(axis=1)
        parsed = parse_boxes(format_boxes(truth, known), len(truth))
        boxes = xyxy_to_xywh(unit_to_px(parsed.boxes, *size))
        return Track(boxes, np.full(len(boxes), np.nan))
