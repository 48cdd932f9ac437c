"""Finding what words name in a frame whose parts are looked at as well, since small objects get lost in the whole.

The vision tower sees every frame at one size, so that an object a tenth as wide as the frame covers a patch or two.
Windows of a half and a third of the frame show it two and three times as large, and so do windows around the box that
was found in the whole frame. Each look gives a box, whether the object is in it or not; boxes of wrong looks lie
anywhere, those of right ones on the object, so the box that the others agree with most is taken (measured in
docs/LOG.md). Small objects are the limit that the paper names (section 5).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .zoom import Window, window_around

# Looks whose boxes overlap by more than this have found the same thing.
SAME = 0.5
# Sides of the windows around the box of the whole frame, in units of the square root of its area.
NEAR = (2.0, 3.0, 4.0)


def windows_near(box: np.ndarray, width: int, height: int) -> list[Window]:
    """Place windows around the box (4,) in [0, 1] that was found in a whole frame of this size in pixels."""
    return [window_around(box, width, height, factor) for factor in NEAR]


def windows_over(width: int, height: int, finest: int) -> dict[Window, float]:
    """Cover a frame with square windows of 1/2, 1/3, ... 1/`finest` of its longer side, which overlap by half.

    Args:
        width: of the frame in pixels.
        height: of the frame in pixels.
        finest: the largest divisor; 1 gives no window.

    Returns:
        Windows, inside the frame as far as its shorter side allows, large ones first, each with the weight of its
        look: the smaller, the more there are and the more often the object is cut or outside.
    """
    found: dict[Window, float] = {}
    for divisor in range(2, finest + 1):
        side = -(-max(width, height) // divisor)
        for top in _starts(height, side, 2 * divisor - 1):
            for left in _starts(width, side, 2 * divisor - 1):
                found.setdefault(Window(left, top, side), 0.5 ** (divisor - 1))
    return found


def _starts(length: int, side: int, count: int) -> list[int]:
    """Spread so many windows over one side of a frame; one in the middle where it is not longer than a window."""
    free = length - side
    if free <= 0:
        return [free // 2]
    steps = max(min(count, 1 + -(-2 * free // side)), 2)
    return [round(free * step / (steps - 1)) for step in range(steps)]


def agreed_on(boxes: Sequence[np.ndarray | None], weights: Sequence[float]) -> int | None:
    """Choose the look whose box the others agree with most.

    Args:
        boxes: box (4,) x1, y1, x2, y2 of each look in one frame of reference, None where it found nothing; the first
            look is that of the whole frame.
        weights: of the looks, such as the model's probability that there is something to box.

    Returns:
        Number of the look with the largest sum of IoU with all of them by weight, the earlier one of equals. None
        where nothing was found, or nothing in the whole frame and no two windows agree.
    """
    found = [number for number, box in enumerate(boxes) if box is not None]
    if not found:
        return None
    overlaps = _pairwise_iou(np.array([boxes[number] for number in found], dtype=np.float64))
    best = int((overlaps @ np.array([weights[number] for number in found])).argmax())
    if boxes[0] is None and (overlaps[best] > SAME).sum() < 2:  # itself, and another one
        return None
    return found[best]


def _pairwise_iou(boxes: np.ndarray) -> np.ndarray:
    """Return the IoU (K, K) of boxes (K, 4); 1 of a box with itself, also where it has no area."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    shared = np.clip(np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - low, 0, None).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    union = areas[:, None] + areas[None] - shared
    overlaps = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    np.fill_diagonal(overlaps, 1.0)
    return overlaps


__all__ = ["NEAR", "SAME", "agreed_on", "windows_near", "windows_over"]
