"""Tracks as few keyframes: between two of them an annotation tool draws a straight line.

Tolerance is relative to the object: no side of a drawn box is farther from the tracked one than `tolerance` times the
tracked box's width (left and right side) or height (top and bottom). Their IoU is then at least (1 - 2 * tolerance)^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

__all__ = ["Keyframe", "drawn_boxes", "thin"]


@dataclass(frozen=True)
class Keyframe:
    """A box that a tool keeps.

    Attributes:
        frame: number, from 0.
        box: (4,) float xyxy relative to the frame.
        score: the tracker's confidence.
        carries_on: whether the object is in sight up to the next keyframe; False ends a stretch.
        given: whether an annotator drew it.
    """

    frame: int
    box: np.ndarray
    score: float
    carries_on: bool = True
    given: bool = False


def thin(
    boxes: np.ndarray, scores: np.ndarray, tolerance: float, given: frozenset[int] = frozenset(), first: int = 0
) -> list[Keyframe]:
    """Choose the frames of a track that are keyframes; all boxes of keyframes are the track's own.

    Args:
        boxes: (F, 4) float xyxy, rows of NaN where the object is not in sight.
        scores: (F,).
        tolerance: at least 0; 0 keeps every frame off the straight line.
        given: rows that are always keyframes.
        first: frame number of row 0.

    Returns:
        Keyframes in order. The first and the last frame of every stretch in sight are among them.
    """
    kept: list[Keyframe] = []
    for start, stop in _stretches(~np.isnan(boxes).any(axis=1)):
        rows, row = [start], start
        while row < stop - 1:
            row += _reach(boxes[row:stop], tolerance, [g - row for g in given if row < g < stop])
            rows.append(row)
        kept += [
            Keyframe(first + row, boxes[row].copy(), float(scores[row]), row < stop - 1, row in given) for row in rows
        ]
    return kept


def drawn_boxes(keyframes: list[Keyframe], num_frames: int) -> np.ndarray:
    """Return the boxes (F, 4) that a tool draws from keyframes, NaN where it draws none.

    Args:
        keyframes: ascending by frame.
        num_frames: F.
    """
    boxes = np.full((num_frames, 4), np.nan)
    for key in keyframes:
        boxes[key.frame] = key.box
    for key, following in pairwise(keyframes):
        if key.carries_on:
            share = np.linspace(0, 1, following.frame - key.frame + 1)[:, None]
            boxes[key.frame : following.frame + 1] = key.box + share * (following.box - key.box)
    return boxes


def _stretches(seen: np.ndarray) -> list[tuple[int, int]]:
    """Return [start, stop) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]]).astype(int)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _reach(boxes: np.ndarray, tolerance: float, stops: list[int]) -> int:
    """Return how many frames the farthest straight line from row 0 spans: at least 1, not past the first of `stops`.

    A line through row 0 passes row j within its tolerance if its slope lies in an interval; a line to row n is good if
    its slope lies in the intervals of all rows before n.
    """
    boxes = boxes[: min(stops) + 1] if stops else boxes
    steps = np.arange(1, len(boxes))[:, None]
    sides = (boxes[1:, 2:] - boxes[1:, :2])[:, [0, 1, 0, 1]] * tolerance
    moved = boxes[1:] - boxes[0]
    # slack for the rounding of a line that is straight
    lower, upper = (moved - sides) / steps - 1e-12, (moved + sides) / steps + 1e-12
    lowest, highest = np.maximum.accumulate(lower), np.minimum.accumulate(upper)
    slopes = moved / steps
    good = ((slopes[1:] >= lowest[:-1]) & (slopes[1:] <= highest[:-1])).all(axis=1)
    return int(np.flatnonzero(np.concatenate([[True], good]))[-1]) + 1
