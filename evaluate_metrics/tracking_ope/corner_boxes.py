"""Corner boxes (x1, y1, x2, y2) handed in as x, y, w, h: the mistake that no shape check finds; numpy only.

V: videos, F: frames of one video.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from .box_rows import as_boxes, box_iou, is_box

MIN_FRAMES = 10  # fewer rows of a video look like corners by chance
MIN_CORRELATION = 0.9  # of a box's left and right edge over time; of x and w it is low in real tracks
CLEAR_GAIN = 0.2  # of the mean IoU, when one side is read as corners


def warn_if_corners(predictions: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> list[str]:
    """Warn, once and with the evidence, where boxes look like corners.

    Args:
        predictions: V arrays (F, 4), said to be x, y, w, h in pixels.
        references: V arrays (F, 4), the same.

    Returns:
        The suspicions, empty if there is none. Scores are the same with or without.
    """
    suspicions = [
        text
        for text in (
            _overlap_evidence("predictions", predictions, references),
            _overlap_evidence("references", references, predictions),
        )
        if text
    ] or [
        text
        for text in (_motion_evidence("predictions", predictions), _motion_evidence("references", references))
        if text
    ]
    if suspicions:
        message = (
            f"boxes look like corners x1, y1, x2, y2 but are scored as x, y, w, h: {'; '.join(suspicions)}. If so, "
            "give widths and heights (x2 - x1, y2 - y1), or box_format='xyxy' to the evaluate module."
        )
        warnings.warn(message, UserWarning, stacklevel=3)
    return suspicions


def to_xywh(corners_px: np.ndarray) -> np.ndarray:
    """Turn (F, 4) corners into x, y, w, h, a new array."""
    return np.concatenate([corners_px[:, :2], corners_px[:, 2:] - corners_px[:, :2]], axis=1)


def _overlap_evidence(name: str, suspected: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> str | None:
    """Evidence that one side alone is corners: it overlaps the other far better when it is read so."""
    as_given, as_corners, frames = 0.0, 0.0, 0
    for rows, other in zip(suspected, others, strict=True):
        rows, other = as_boxes(rows, name), as_boxes(other, "boxes")
        if len(rows) != len(other):
            continue
        both = is_box(rows) & is_box(other)
        as_given += box_iou(rows[both], other[both]).sum()
        as_corners += box_iou(to_xywh(rows[both]), other[both]).sum()
        frames += int(both.sum())
    if frames < MIN_FRAMES or as_corners - as_given < CLEAR_GAIN * frames or as_corners < 2 * as_given:
        return None
    return (
        f"with {name} read as corners the mean IoU of {frames} frames is {as_corners / frames:.2f}, "
        f"as given {as_given / frames:.2f}"
    )


def _motion_evidence(name: str, videos: Sequence[np.ndarray]) -> str | None:
    """Evidence in one side by itself: the third number always exceeds the first and moves along."""
    looked_at = suspect = 0
    for video in videos:
        rows = as_boxes(video, name)
        rows = rows[is_box(rows)]
        spread = rows.std(axis=0) if len(rows) >= MIN_FRAMES else np.zeros(4)
        moving = [axis for axis in (0, 1) if spread[axis] > 1.0 and spread[axis + 2] > 0]
        if not moving:
            continue
        looked_at += 1
        beyond = (rows[:, 2:] > rows[:, :2]).all()
        suspect += bool(
            beyond and all(np.corrcoef(rows[:, axis], rows[:, axis + 2])[0, 1] > MIN_CORRELATION for axis in moving)
        )
    if not looked_at or suspect <= looked_at / 2:
        return None
    return (
        f"in {suspect} of the {looked_at} videos of {name} whose boxes move, x + w and y + h behave like sums of two "
        "edges: w > x and h > y in every frame, and w follows x, h follows y (correlation above 0.9)"
    )
