"""Accuracy of referring expression comprehension (REC): one box per expression, right or wrong; numpy only.

Legend of shapes: N expressions.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

BOX_FORMATS = ("xyxy", "xywh")
MIN_BOXES = 10  # fewer boxes look like another form by chance
CLEAR_GAIN = 0.2  # of the mean IoU, when one side is read in the other form


def evaluate_rec(
    predictions: Sequence[Any],
    references: Sequence[Sequence[float] | np.ndarray],
    thresholds: Sequence[float] = (0.5,),
    groups: Mapping[str, Sequence[str]] | None = None,
    box_format: str = "xyxy",
    return_items: bool = False,
) -> dict:
    """Score N answers; an answer that is no box is wrong and stays in the denominator.

    Args:
        predictions: N boxes of four numbers in the unit of the references. Anything else is malformed: None or an
            empty list (`missing`), `not_four_numbers`, `not_finite`, a box without area (`no_area`).
        references: N boxes.
        thresholds: An answer is right at t if its IoU is above t, strictly (RefCOCO's rule at 0.5).
        groups: Name of a grouping, such as `split` or `class`, to N labels; each label is scored by itself.
        box_format: `xyxy` (corners) or `xywh`, of both sides.
        return_items: Return the IoU of every answer too.

    Returns:
        `accuracy` (at the first threshold), `accuracy_at` (threshold as text to accuracy), `mean_iou` (a malformed
        answer has 0), `num_items`, `num_malformed`, `malformed` (reason to count), and with `groups` the same per
        grouping and label; with `return_items` `items`: N dicts of `iou` and `malformed` (the reason, or None).

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
    truth, reasons = read_boxes(references, box_format)
    wrong = [index for index, reason in enumerate(reasons) if reason is not None]
    if wrong:
        raise ValueError(
            f"references[{wrong[0]}] = {references[wrong[0]]!r} is no box in {box_format!r}, nor are "
            f"{len(wrong) - 1} others: four finite numbers with a positive width and height. Is box_format right?"
        )
    said, malformed = read_boxes(predictions, box_format)
    _warn_of_another_form(said, truth, box_format)
    iou = corner_iou(said, truth)
    result = _summary(iou, malformed, thresholds)
    if groups:
        result["groups"] = {name: _by_label(name, groups[name], iou, malformed, thresholds) for name in groups}
    if return_items:
        result["items"] = [{"iou": float(i), "malformed": m} for i, m in zip(iou, malformed, strict=True)]
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


def read_boxes(answers: Sequence[Any], box_format: str = "xyxy") -> tuple[np.ndarray, list[str | None]]:
    """Read N answers as corners; never raises.

    Args:
        answers: N answers of any kind.
        box_format: Form in which they were written.

    Returns:
        (N, 4) float64 corners, NaN rows where there are no four finite numbers, and N reasons: None for a box, else
        `missing`, `not_four_numbers`, `not_finite` or `no_area` (such a row keeps its numbers, and overlaps nothing).
    """
    rows = np.full((len(answers), 4), np.nan)
    reasons: list[str | None] = []
    for index, answer in enumerate(answers):
        try:
            row = np.empty(0) if answer is None else np.asarray(answer, dtype=np.float64)
        except (TypeError, ValueError):
            row = np.empty(1)
        reason = "missing" if row.size == 0 else "not_four_numbers" if row.shape != (4,) else None
        if reason is None and not np.isfinite(row).all():
            reason = "not_finite"
        if reason is None:
            rows[index] = np.concatenate([row[:2], row[:2] + row[2:]]) if box_format == "xywh" else row
            reason = None if _is_box(rows[index : index + 1])[0] else "no_area"
        reasons.append(reason)
    return rows, reasons


def _warn_of_another_form(said: np.ndarray, truth: np.ndarray, box_format: str) -> None:
    """Warn, with the evidence, where predictions look as if they were in another form or unit than the references."""
    there = np.isfinite(said).all(axis=1)
    if there.sum() < MIN_BOXES:
        return
    said, truth = said[there], truth[there]
    other = BOX_FORMATS[1 - BOX_FORMATS.index(box_format)]
    sign = 1 if other == "xywh" else -1  # to read corners as x, y, w, h, or what was turned into corners as corners
    turned = np.concatenate([said[:, :2], said[:, 2:] + sign * said[:, :2]], axis=1)
    as_given, as_other = corner_iou(said, truth).mean(), corner_iou(turned, truth).mean()
    if as_other - as_given >= CLEAR_GAIN and as_other >= 2 * as_given:
        warnings.warn(
            f"predictions look like {other} but are scored as {box_format}: the mean IoU of {len(said)} boxes is "
            f"{as_given:.2f} as given and {as_other:.2f} if read as {other}. Give both sides in one form.",
            UserWarning,
            stacklevel=3,
        )
    elif said.max() <= 1.5 < 10 < truth.max() or truth.max() <= 1.5 < 10 < said.max():
        warnings.warn(
            f"units differ: predictions reach {said.max():.4g}, references {truth.max():.4g}. Give both in pixels, or "
            "both as shares of the image.",
            UserWarning,
            stacklevel=3,
        )


def _summary(iou: np.ndarray, malformed: Sequence[str | None], thresholds: Sequence[float]) -> dict:
    reasons = Counter(reason for reason in malformed if reason is not None)
    accuracy_at = {f"{t:g}": float((iou > t).mean()) for t in thresholds}
    return {
        "accuracy": next(iter(accuracy_at.values())),
        "accuracy_at": accuracy_at,
        "mean_iou": float(iou.mean()),
        "num_items": len(iou),
        "num_malformed": sum(reasons.values()),
        "malformed": dict(sorted(reasons.items())),
    }


def _by_label(
    name: str, labels: Sequence[str], iou: np.ndarray, malformed: Sequence[str | None], thresholds: Sequence[float]
) -> dict[str, dict]:
    if len(labels) != len(iou):
        raise ValueError(f"groups[{name!r}] has {len(labels)} labels for {len(iou)} items: give one label per item.")
    array = np.asarray([str(label) for label in labels])
    rows = {str(label): np.flatnonzero(array == label) for label in np.unique(array)}
    return {
        label: _summary(iou[here], [malformed[index] for index in here.tolist()], thresholds)
        for label, here in rows.items()
    }
