"""Groups of sequences that the truth itself gives: size, speed, absence, length; beside the benchmark's attributes."""

from __future__ import annotations

import numpy as np

from ..tracking_ope.ope import is_box
from .store import Truth

__all__ = ["groups_of"]

# Side of a square of the object's area, in pixels, averaged over the sequence.
SIZES = ((24.0, "size: below 24 px"), (64.0, "size: 24 to 64 px"), (np.inf, "size: 64 px and more"))
# Distance of the center from frame to frame over the side of that square, its median.
SPEEDS = (
    (0.02, "speed: below 2 % of the size a frame"),
    (0.1, "speed: 2 to 10 % of the size"),
    (np.inf, "speed: 10 % and more"),
)
LENGTHS = ((33.0, "length: up to 32 frames"), (501.0, "length: 33 to 500"), (np.inf, "length: above 500"))
OCCLUSION = {"FOC": "occlusion: full", "POC": "occlusion: partial", "OCC": "occlusion"}


def groups_of(truth: Truth) -> list[str]:
    """Names of the groups that a sequence belongs to.

    Args:
        truth: of the sequence.

    Returns:
        The benchmark's attributes as "attribute: NAME", then what its boxes say.
    """
    groups = [f"attribute: {name}" for name in truth.attributes]
    groups += [OCCLUSION[name] for name in truth.attributes if name in OCCLUSION]
    boxes = truth.boxes_xywh_px
    seen = is_box(boxes)
    if not seen.any():
        return groups
    side = np.sqrt(boxes[seen, 2:].prod(axis=1)).mean()
    centers = boxes[:, :2] + boxes[:, 2:] / 2
    steps = np.hypot(*np.diff(centers, axis=0).T)
    steps = steps[np.isfinite(steps)]
    groups.append(_bin(side, SIZES))
    if len(steps):
        groups.append(_bin(np.median(steps) / side, SPEEDS))
    absent = bool((~seen).any()) if truth.absent is None else bool(truth.absent.any())
    return [*groups, f"absence: {'some frames' if absent else 'never'}", _bin(len(boxes), LENGTHS)]


def _bin(value: float, bins: tuple[tuple[float, str], ...]) -> str:
    return next(name for limit, name in bins if value < limit)
