"""Boxes of one video as arrays: what is a box, how much two of them overlap, how they are read; numpy only.

Boxes are `x, y, w, h` in pixels, float64, one row per frame; a row of NaN is "no box". F: frames of one video.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def is_box(boxes_xywh_px: np.ndarray) -> np.ndarray:
    """Tell which rows are boxes: finite, with positive width and height.

    Args:
        boxes_xywh_px: (F, 4).

    Returns:
        (F,) bool.
    """
    return np.isfinite(boxes_xywh_px).all(axis=1) & (boxes_xywh_px[:, 2:] > 0).all(axis=1)


def box_iou(a_xywh_px: np.ndarray, b_xywh_px: np.ndarray) -> np.ndarray:
    """Row-wise IoU, not clipped to the image; 0 where either row is no box.

    Args:
        a_xywh_px: (F, 4).
        b_xywh_px: (F, 4).

    Returns:
        (F,) float64 in [0, 1].
    """
    low = np.maximum(a_xywh_px[:, :2], b_xywh_px[:, :2])
    high = np.minimum(a_xywh_px[:, :2] + a_xywh_px[:, 2:], b_xywh_px[:, :2] + b_xywh_px[:, 2:])
    both = is_box(a_xywh_px) & is_box(b_xywh_px)
    shared = np.where(both, np.clip(high - low, 0.0, None).prod(axis=1), 0.0)
    union = a_xywh_px[:, 2:].prod(axis=1) + b_xywh_px[:, 2:].prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=both)


def repeat_previous(boxes_xywh_px: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """Replace every row that is no box by the row before it; leading ones stay as they are.

    Args:
        boxes_xywh_px: (F, 4).
        keep: (F,) bool, rows that stay whatever they are. None: no such rows.

    Returns:
        (F, 4), a new array.
    """
    stays = is_box(boxes_xywh_px) if keep is None else is_box(boxes_xywh_px) | keep
    return boxes_xywh_px[np.maximum.accumulate(np.where(stays, np.arange(len(stays)), 0))]


def as_boxes(boxes: np.ndarray | Sequence, name: str) -> np.ndarray:
    """Read boxes as a (F, 4) float64 array; a row of None becomes NaN.

    Raises:
        ValueError: Another shape.
    """
    rows = boxes if isinstance(boxes, np.ndarray) else [[np.nan] * 4 if row is None else row for row in boxes]
    try:
        array = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be rows of four numbers x, y, w, h in pixels: {error}.") from error
    if array.ndim != 2 or array.shape[1] != 4 or len(array) == 0:
        raise ValueError(f"{name} has shape {array.shape}, must be (frames, 4): x, y, w, h in pixels.")
    return array


def as_flags(absent: np.ndarray | Sequence | None, num_frames: int, name: str = "absent") -> np.ndarray:
    """Read absence flags as a (F,) bool array; None flags nothing.

    Raises:
        ValueError: Another shape, or a flag that is neither 0 nor 1.
    """
    if absent is None:
        return np.zeros(num_frames, dtype=bool)
    flags = np.asarray(absent)
    if flags.shape != (num_frames,):
        raise ValueError(f"{name} has shape {flags.shape}, must be ({num_frames},): one flag per frame.")
    if not np.isin(flags, (0, 1)).all():
        wrong = flags[~np.isin(flags, (0, 1))][0]
        raise ValueError(f"{name} holds {wrong!r}; a flag is 1 where the object is absent, else 0.")
    return flags.astype(bool)
