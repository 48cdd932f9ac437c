"""Beyond the paper, off by default: the phrase must fit one object only in the first frame.

The authors checked this by hand for their 500 evaluation videos. Here a grounder's boxes above the threshold are
merged where they overlap, and one must be left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from processing_elysium.boxes import iou

from .protocols import Detections

__all__ = ["UniqueConfig", "count_objects", "why_ambiguous"]


@dataclass(frozen=True)
class UniqueConfig:
    """When two boxes are two objects.

    Attributes:
        enabled: False asks nothing.
        min_confidence: boxes that score above it count; lower than that of grounding, so that a doubtful second object
            speaks against a phrase.
        same_iou: boxes that overlap more are one object.
    """

    enabled: bool = False
    min_confidence: float = 0.4
    same_iou: float = 0.5

    def __post_init__(self) -> None:
        for name in ("min_confidence", "same_iou"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"unique.{name}={getattr(self, name)} must lie in [0, 1).")


def count_objects(found: Detections, config: UniqueConfig) -> int:
    """Count the boxes that do not overlap a surer one."""
    kept: list[np.ndarray] = []
    for box in found.boxes[found.scores > config.min_confidence]:
        if all(float(iou(box, other)) <= config.same_iou for other in kept):
            kept.append(box)
    return len(kept)


def why_ambiguous(found: Detections, config: UniqueConfig) -> str | None:
    """Return the reason to drop a phrase, or None."""
    return "unique.several" if config.enabled and count_objects(found, config) > 1 else None
