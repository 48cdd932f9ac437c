"""What the pipeline needs of a grounder and of a tracker.

Boxes are float xyxy relative to the frame, frames are uint8 RGB arrays (H, W, 3). A backend is built once in every
worker process (`backends/make.py`) and sees the videos one after another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

__all__ = ["ClipTracker", "Describer", "Detections", "Grounder", "StepTracker", "StepTrackers"]


@dataclass(frozen=True)
class Detections:
    """What was found for one phrase in one frame, the surest first.

    Attributes:
        boxes: (N, 4), N may be 0.
        scores: (N,) in [0, 1], descending.
    """

    boxes: np.ndarray
    scores: np.ndarray

    @classmethod
    def sorted(cls, boxes: object, scores: object) -> Detections:
        """Build from boxes (N, 4) and scores (N,) in any order; ties keep theirs."""
        box_rows = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        score_row = np.asarray(scores, dtype=np.float64).reshape(-1)
        order = np.argsort(-score_row, kind="stable")
        return cls(box_rows[order], score_row[order])


class Grounder(Protocol):
    """Finds what a phrase names."""

    def ground(self, frames: Sequence[np.ndarray], phrases: Sequence[str]) -> list[Detections]:
        """Look for `phrases[i]` in `frames[i]`; one `Detections` per pair, all pairs in one batch."""
        ...


class Describer(Protocol):
    """Says what frames show."""

    def describe(self, frames: Sequence[np.ndarray], prompt: str) -> list[str]:
        """Answer the prompt about each frame by itself; one text per frame."""
        ...


class StepTracker(Protocol):
    """Follows one object, a frame at a time."""

    def init(self, frame: np.ndarray, box: np.ndarray) -> None:
        """Begin with the box (4,) in the first frame."""
        ...

    def update(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the box (4,) in the next frame (NaN where lost) and the confidence in [0, 1]."""
        ...


@runtime_checkable
class StepTrackers(Protocol):
    """A backend that makes a `StepTracker` per object."""

    def new(self) -> StepTracker:
        """Return a tracker of one object."""
        ...


@runtime_checkable
class ClipTracker(Protocol):
    """A backend that looks at several frames and objects at a time."""

    def follow(self, frames: Iterable[np.ndarray], boxes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Follow O objects from their boxes (O, 4) in the first frame.

        Yields for every frame, the first one included, boxes (O, 4), NaN where lost, and confidences (O,). Frames are
        taken from `frames` as they are needed; the consumer may stop early.
        """
        ...
