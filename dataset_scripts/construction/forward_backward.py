"""Beyond the paper, off by default: tracked back from the last frame, the object must come home.

A tracker that went over to something else on the way seldom finds the way back (forward-backward error; Kalal et al.,
"Forward-backward error: automatic detection of tracking failures", ICPR 2010).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from processing_elysium.boxes import iou

from .protocols import ClipTracker, StepTrackers
from .tracking import TrackingConfig, follow_objects

__all__ = ["ForwardBackwardConfig", "return_overlaps", "why_lost_on_the_way_back"]


@dataclass(frozen=True)
class ForwardBackwardConfig:
    """How near to its start the object must come back.

    Attributes:
        enabled: False does not track back, which costs as much as tracking forth.
        min_iou: least overlap of the first box with the box that tracking back ends at.
    """

    enabled: bool = False
    min_iou: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.min_iou <= 1:
            raise ValueError(f"forward_backward.min_iou={self.min_iou} must lie in [0, 1].")


def return_overlaps(
    tracker: StepTrackers | ClipTracker, backward: Iterable[np.ndarray], first: np.ndarray, last: np.ndarray
) -> np.ndarray:
    """Track O objects from the last frame to the first.

    Args:
        tracker: who follows.
        backward: the frames, the last one first.
        first: (O, 4) boxes in the first frame.
        last: (O, 4) boxes in the last.

    Returns:
        (O,) IoU of `first` with where the way back ended, 0 where the object was lost.

    Raises:
        PoisonedVideoError: see `follow_objects`.
    """
    back = follow_objects(tracker, backward, last, TrackingConfig(min_confidence=None))
    pairs = zip(back, first, strict=True)
    return np.array([0.0 if track.reason else float(iou(track.boxes[-1], box)) for track, box in pairs])


def why_lost_on_the_way_back(overlap: float, config: ForwardBackwardConfig) -> str | None:
    """Return the reason to drop a trajectory, or None."""
    return None if overlap >= config.min_iou else "forward_backward.not_home"
