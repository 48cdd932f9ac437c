"""What happens to a lost object: the box that is reported for a frame whose answer holds none.

A policy is a function of this file and a line in `_POLICIES`. The option `gap_policy` takes its name; the command line
lists it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Seen = list[tuple[int, np.ndarray]]  # the latest (step, box (4,) in [0, 1]) that the model gave, oldest first


def _hold(seen: Seen, step: int) -> np.ndarray:
    """Repeat the last box."""
    return seen[-1][1].copy()


def _previous_velocity(seen: Seen, step: int) -> np.ndarray:
    """Move the last box on by the velocity of its center between the last two, never past the frame's edge."""
    if len(seen) < 2:
        return _hold(seen, step)
    (first_step, first), (last_step, last) = seen[-2:]
    center, half = (last[:2] + last[2:]) / 2, (last[2:] - last[:2]) / 2
    velocity = (center - (first[:2] + first[2:]) / 2) / (last_step - first_step)
    center = np.clip(center + velocity * (step - last_step), 0.0, 1.0)  # a center in the frame leaves a box with area
    return np.clip(np.concatenate([center - half, center + half]), 0.0, 1.0)


def _none(seen: Seen, step: int) -> None:
    """Report nothing."""


_POLICIES: dict[str, Callable[[Seen, int], np.ndarray | None]] = {
    "hold": _hold,
    "previous_velocity": _previous_velocity,
    "none": _none,
}
GAP_POLICIES = tuple(_POLICIES)


def bridge_gap(policy: str, seen: Seen, step: int) -> np.ndarray | None:
    """Choose the box to report for a frame whose answer holds none.

    Args:
        policy: one of `GAP_POLICIES`.
        seen: the latest (step, box (4,) in [0, 1]) pairs that the model gave, oldest first; a session keeps five.
        step: the step of the gap; a step is one frame in the direction of tracking.

    Returns:
        Box of shape (4,) in [0, 1], or None when the policy reports nothing or nothing was seen yet.
    """
    return _POLICIES[policy](seen, step) if seen else None


__all__ = ["GAP_POLICIES", "bridge_gap"]
