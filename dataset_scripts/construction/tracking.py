"""Stage 3: a tracker follows each object from its box in the first frame (paper, section 3, step 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from .items import PoisonedVideoError
from .protocols import ClipTracker, StepTracker, StepTrackers

__all__ = ["Tracked", "TrackingConfig", "follow_frames", "follow_objects"]


@dataclass(frozen=True)
class TrackingConfig:
    """When a trajectory counts as followed.

    Attributes:
        min_confidence: the tracker's confidence must lie above it in every frame after the first (paper: 0.8). What a
            confidence means differs from tracker to tracker; None switches the filter off.
    """

    min_confidence: float | None = 0.8

    def __post_init__(self) -> None:
        if self.min_confidence is not None and not 0 <= self.min_confidence < 1:
            raise ValueError(f"tracking.min_confidence={self.min_confidence} must lie in [0, 1), or be null.")


@dataclass
class Tracked:
    """An object followed through a video.

    Attributes:
        boxes: a box (4,) per frame; ends where the object was dropped.
        scores: the tracker's confidence per frame, 1 for the given box.
        reason: why it was dropped, None where it was followed to the end.
    """

    boxes: list[np.ndarray] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    reason: str | None = None


def follow_objects(
    tracker: StepTrackers | ClipTracker, frames: Iterable[np.ndarray], boxes: np.ndarray, config: TrackingConfig
) -> list[Tracked]:
    """Follow O objects through one pass over the frames.

    An object that falls short in one frame is dropped there and costs nothing more; when all are dropped, no further
    frame is read.

    Args:
        tracker: who follows.
        frames: uint8 RGB (H, W, 3), the first one is that of `boxes`.
        boxes: (O, 4).
        config: when an object is dropped.

    Returns:
        One `Tracked` per object.

    Raises:
        PoisonedVideoError: the tracker raised, or its answers have another length than the objects.
    """
    tracks = [Tracked() for _ in boxes]
    alive = np.ones(len(boxes), dtype=bool)
    steps = follow_frames(tracker, frames, boxes, alive)
    try:
        for number, (now, scores) in enumerate(steps):
            for position in np.flatnonzero(alive):
                track, score = tracks[position], 1.0 if number == 0 else float(scores[position])
                track.reason = None if number == 0 else _problem(now[position], score, config)
                if track.reason is None:
                    track.boxes.append(np.array(now[position], dtype=np.float64))
                    track.scores.append(score)
                else:
                    alive[position] = False
            if not alive.any():
                break
    except PoisonedVideoError:
        raise
    except Exception as error:  # whatever a foreign tracker raises, the run goes on
        raise PoisonedVideoError("tracker_error", f"{type(error).__name__}: {error}") from error
    return tracks


def follow_frames(
    tracker: StepTrackers | ClipTracker, frames: Iterable[np.ndarray], boxes: np.ndarray, alive: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Follow O objects with a tracker of either kind.

    Args:
        tracker: who follows.
        frames: uint8 RGB (H, W, 3), the first one is that of `boxes`.
        boxes: (O, 4).
        alive: (O,) bool, the caller's to change: a tracker of single objects is not asked about the others any more.

    Yields:
        For every frame, the first one included, boxes (O, 4), NaN where lost, and confidences (O,).

    Raises:
        PoisonedVideoError: answers have another length than the objects.
    """
    if isinstance(tracker, ClipTracker):
        return _clips(tracker, frames, boxes)
    return _steps(tracker, frames, boxes, alive)


def _problem(box: np.ndarray, score: float, config: TrackingConfig) -> str | None:
    if np.isnan(box).any():
        return "tracking.lost"
    if not np.isfinite(box).all() or not np.isfinite(score):
        return "tracking.not_finite"
    if config.min_confidence is not None and not score > config.min_confidence:
        return "tracking.confidence"
    if box[2] <= box[0] or box[3] <= box[1]:
        return "tracking.empty_box"
    return None


def _clips(
    tracker: ClipTracker, frames: Iterable[np.ndarray], boxes: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for now, scores in tracker.follow(frames, boxes):
        if np.shape(now) != boxes.shape or np.shape(scores) != (len(boxes),):
            raise PoisonedVideoError("tracker_error", f"boxes {np.shape(now)} and scores {np.shape(scores)}")
        yield now, scores


def _steps(
    trackers: StepTrackers, frames: Iterable[np.ndarray], boxes: np.ndarray, alive: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Run a tracker per object side by side; `alive` is the caller's, and says who is still followed."""
    running: list[StepTracker] = []
    for number, frame in enumerate(frames):
        now, scores = np.full((len(boxes), 4), np.nan), np.zeros(len(boxes))
        if number == 0:
            for box in boxes:
                running.append(trackers.new())
                running[-1].init(frame, box)
            yield np.asarray(boxes, dtype=np.float64), np.ones(len(boxes))
            continue
        for position in np.flatnonzero(alive):
            now[position], scores[position] = running[position].update(frame)
        yield now, scores
