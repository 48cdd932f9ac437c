"""Accuracy of referring expression comprehension (REC): one box per expression, right or wrong; numpy only.

Legend of shapes: N expressions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

BOX_FORMATS = ("xyxy", "xywh")


def evaluate_rec(
    predictions: Sequence[Sequence[float] | np.ndarray | None],
    references: Sequence[Sequence[float] | np.ndarray],
    thresholds: Sequence[float] = (0.5,),
    groups: Mapping[str, Sequence[str]] | None = None,
    box_format: str = "xyxy",
    return_items: bool = False,
) -> dict:
    """Score N answers; an answer that is no box is wrong and stays in the denominator.

    Args:
        predictions: N boxes of four numbers in the unit of the references; None, an empty list, NaNs or a box without
            area: the model gave no box that can be read.
        references: N boxes.
        thresholds: An answer is right at t if its IoU is above t, strictly (RefCOCO's rule at 0.5).
        groups: Name of a grouping, such as `split` or `class`, to N labels; each label is scored by itself.
        box_format: `xyxy` (corners) or `xywh`, of both sides.
        return_items: Return the IoU of every answer too.

    Returns:
        `accuracy` (at the first threshold), `accuracy_at` (threshold as text to accuracy), `mean_iou` (a malformed
        answer has 0), `num_items`, `num_malformed`, and with `groups` the same per grouping and label; with
        `return_items` `items`: N dicts of `iou` and `malformed`.

    Raises:
        ValueError: Counts that differ, a reference that is no box, nothing to score, or an option out of range.
    """
    if box_format not in BOX_FORMATS:
        raise ValueError(f"box_format={box_format!r} is unknown: choose one of {', '.join(BOX_FORMATS)}.")
    if not thresholds or not all(0 <= t < 1 for t in thresholds):
        raise ValueError(f"thresholds={list(thresholds)!r}: give at least one, each from 0 to below 1, such as 0.5.")
    if len(predictions) != len(references) or not len(references):
        counts = f"{len(predictions)} predictions and {len(references)} references"
        raise ValueError(f"got {counts}: give one prediction for each reference (None where there is no answer).")
    truth, said = _rows(references, "references"), _rows(predictions, "predictions")
    if box_format == "xywh":
        truth[:, 2:] += truth[:, :2]
        said[:, 2:] += said[:, :2]
    wrong = np.flatnonzero(~_is_box(truth))
    if len(wrong):
        raise ValueError(
            f"references[{wrong[0]}] = {list(references[wrong[0]])} is no box in {box_format!r}, nor are "
            f"{len(wrong) - 1} others: four finite numbers with a positive width and height. Is box_format right?"
        )
    iou, malformed = corner_iou(said, truth), ~_is_box(said)
    result = _summary(iou, malformed, thresholds)
    if groups:
        result["groups"] = {name: _by_label(name, groups[name], iou, malformed, thresholds) for name in groups}
    if return_items:
        result["items"] = [{"iou": float(i), "malformed": bool(m)} for i, m in zip(iou, malformed, strict=True)]
    return result


def corner_iou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Row-wise IoU of (N, 4) corners in one unit, (N,) in [0, 1]; 0 where either row is no box."""
    both = _is_box(a_xyxy) & _is_box(b_xyxy)
    low, high = np.maximum(a_xyxy[:, :2], b_xyxy[:, :2]), np.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:])
    shared = np.where(both, np.clip(high - low, 0.0, None).prod(axis=1), 0.0)
    areas = [(rows[:, 2:] - rows[:, :2]).prod(axis=1) for rows in (a_xyxy, b_xyxy)]
    return np.divide(shared, areas[0] + areas[1] - shared, out=np.zeros_like(shared), where=both)


def _is_box(rows_xyxy: np.ndarray) -> np.ndarray:
    return np.isfinite(rows_xyxy).all(axis=1) & (rows_xyxy[:, 2:] > rows_xyxy[:, :2]).all(axis=1)


def _rows(boxes: Sequence, name: str) -> np.ndarray:
    """Read N boxes as (N, 4) float64; None and empty lists become NaN."""
    rows = np.full((len(boxes), 4), np.nan)
    for index, box in enumerate(boxes):
        if box is None or len(box) == 0:
            continue
        try:
            rows[index] = np.asarray(box, dtype=np.float64).reshape(4)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}[{index}] = {box!r} must be four numbers, or None for no answer.") from error
    return rows


def _summary(iou: np.ndarray, malformed: np.ndarray, thresholds: Sequence[float]) -> dict:
    accuracy_at = {f"{t:g}": float((iou > t).mean()) for t in thresholds}
    return {
        "accuracy": next(iter(accuracy_at.values())),
        "accuracy_at": accuracy_at,
        "mean_iou": float(iou.mean()),
        "num_items": len(iou),
        "num_malformed": int(malformed.sum()),
    }


def _by_label(
    name: str, labels: Sequence[str], iou: np.ndarray, malformed: np.ndarray, thresholds: Sequence[float]
) -> dict[str, dict]:
    if len(labels) != len(iou):
        raise ValueError(f"groups[{name!r}] has {len(labels)} labels for {len(iou)} items: give one label per item.")
    array = np.asarray([str(label) for label in labels])
    return {
        str(label): _summary(iou[array == label], malformed[array == label], thresholds) for label in np.unique(array)
    }
