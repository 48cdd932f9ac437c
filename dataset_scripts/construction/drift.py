"""Stage 4: a Kalman filter discards trajectories that jump (paper, section 3, step 4).

The state is center, logarithm of area, logarithm of aspect ratio, and their rates: constant velocity, driven by white
acceleration. Distances are in sides of the box (the square root of its area), so that the filter does to a small far
object what it does to a large near one; logarithms make growth and shrinking alike. In every frame the innovation (box
seen minus box predicted) is weighed by its covariance; its square, d2 = y' S^-1 y, follows a chi-square law with four
degrees of freedom while the model holds. A trajectory with d2 above the gate in any frame is discarded.

The gate: where the model is right, one frame in 20 lies above 9.5 and one in 200 000 above 30. Objects that turn at a
wall, shaken cameras and boxes drawn by hand are no Gaussians and reach 30 now and then; a jump by the object's side
does nearly always. Chosen from eleven gates on one half of some hundred drawn and real videos with planned leaps, 30
dropped 97.6 % of the leaps and kept 99.1 % of the good trajectories of the other half (`benchmarks/data_engine.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["DriftConfig", "innovations", "why_drifted"]


@dataclass(frozen=True)
class DriftConfig:
    """What the filter believes of boxes and their motion.

    Attributes:
        gate: largest squared innovation, in units of its covariance (chi-square, four degrees of freedom).
        box_noise: standard deviation of a tracker's box around the object: of the center in sides, of the logarithms.
        acceleration: standard deviation of the change of velocity per frame: of the center in sides per frame, of the
            logarithms per frame.
        enabled: False keeps what jumps.
    """

    gate: float = 30.0
    box_noise: float = 0.1
    acceleration: float = 0.05
    enabled: bool = True

    def __post_init__(self) -> None:
        for name in ("gate", "box_noise", "acceleration"):
            if not getattr(self, name) > 0:
                raise ValueError(f"drift.{name}={getattr(self, name)} must be above 0.")


def why_drifted(squared_innovations: np.ndarray, config: DriftConfig) -> str | None:
    """Return the reason to drop a trajectory, or None."""
    if config.enabled and len(squared_innovations) and squared_innovations.max() > config.gate:
        return "drift.innovation"
    return None


def innovations(
    boxes: np.ndarray, size_px: tuple[int, int], times: Sequence[float], config: DriftConfig
) -> np.ndarray:
    """Return the squared innovation of every frame but the first.

    Args:
        boxes: (F, 4) xyxy relative to the frame, with width and height above 0.
        size_px: width and height of the frame: aspect and distance are those of pixels.
        times: F seconds; their median step counts as one frame, so that a variable frame rate is no jump.
        config: noise of boxes and motion.

    Returns:
        (F - 1,) d2, see the module's text.
    """
    seen = _measurements(np.asarray(boxes, dtype=np.float64), size_px)  # (F, 4)
    if len(seen) < 2:
        return np.zeros(0)
    steps = np.diff(np.asarray(times, dtype=np.float64))
    usual = float(np.median(steps))
    lengths = steps / usual if usual > 0 else np.ones(len(steps))
    kalman = _filter(seen[0], config)
    out = np.zeros(len(seen) - 1)
    for number, (measured, length) in enumerate(zip(seen[1:], np.maximum(lengths, 1e-3), strict=True)):
        scale = _scale(kalman.x[2, 0])
        kalman.predict(F=_transition(length), Q=_process_noise(length, scale * config.acceleration))
        kalman.update(measured.reshape(4, 1), R=np.diag((scale * config.box_noise) ** 2))
        out[number] = float((kalman.y.T @ kalman.SI @ kalman.y)[0, 0])
    return out


def _measurements(boxes: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    corners = boxes * np.array([*size_px, *size_px], dtype=np.float64)
    wide, high = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    centers = (corners[:, :2] + corners[:, 2:]) / 2
    return np.column_stack([centers, np.log(wide * high), np.log(wide / high)])


def _scale(log_area: float) -> np.ndarray:
    """Units of the four measurements: the box's side for the center, 1 for the logarithms."""
    side = float(np.exp(log_area / 2))
    return np.array([side, side, 1.0, 1.0])


def _filter(first: np.ndarray, config: DriftConfig) -> Any:
    """A filter that knows the first box and nothing of its motion: velocities are 0 +- 0.5 sides per frame."""
    from filterpy.kalman import KalmanFilter

    kalman = KalmanFilter(dim_x=8, dim_z=4)
    kalman.x[:4, 0] = first
    kalman.H = np.eye(4, 8)
    scale = _scale(first[2])
    kalman.P = np.diag(np.concatenate([(scale * config.box_noise) ** 2, (scale * [0.5, 0.5, 0.1, 0.1]) ** 2]))
    return kalman


def _transition(length: float) -> np.ndarray:
    matrix = np.eye(8)
    matrix[:4, 4:] = length * np.eye(4)
    return matrix


def _process_noise(length: float, deviations: np.ndarray) -> np.ndarray:
    """Covariance (8, 8) of a piecewise constant acceleration over `length` frames."""
    block = np.array([[length**4 / 4, length**3 / 2], [length**3 / 2, length**2]])
    return np.kron(block, np.diag(deviations**2))
