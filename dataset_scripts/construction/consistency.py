"""Stage 5: the tracked box must be where the phrase was found (paper, section 3, step 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from processing_elysium.boxes import iou

__all__ = ["ConsistencyConfig", "overlaps", "why_inconsistent"]


@dataclass(frozen=True)
class ConsistencyConfig:
    """How well tracker and grounder must agree.

    Attributes:
        min_iou: least intersection over union of grounded and tracked box in the middle and in the last frame (paper:
            0.3).
        enabled: False keeps what disagrees.
    """

    min_iou: float = 0.3
    enabled: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.min_iou <= 1:
            raise ValueError(f"consistency.min_iou={self.min_iou} must lie in [0, 1].")


def overlaps(grounded: np.ndarray, tracked: np.ndarray) -> tuple[float, float]:
    """Return the IoU of grounded and tracked boxes, (2, 4) each, in the middle and in the last frame."""
    middle, last = (float(value) for value in iou(np.clip(grounded, 0, 1), np.clip(tracked, 0, 1)))
    return middle, last


def why_inconsistent(overlap: tuple[float, float], config: ConsistencyConfig) -> str | None:
    """Return the reason to drop a trajectory, or None."""
    if not config.enabled:
        return None
    for value, place in zip(overlap, ("middle", "last"), strict=True):
        if not value >= config.min_iou:
            return f"consistency.{place}_frame"
    return None
