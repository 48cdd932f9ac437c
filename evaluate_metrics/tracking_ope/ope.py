"""One-pass evaluation (OPE) of single-object tracking: the numpy core, free of every other import.

Boxes are `x, y, w, h` in pixels, float64, one row per frame; a row of NaN is "no box". Each public toolkit fills the
gaps of the protocol in its own way, which moves published numbers by points; `CONVENTIONS` names those ways.

Legend of shapes: F frames of one video, V videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SUCCESS_THRESHOLDS = np.linspace(0.0, 1.0, 21)
LARGEST_ERROR_PX = 50.0  # both precision curves start at 0 and end here
LARGEST_ERROR_NORMALIZED = 0.5
REPORTED_AT = 20  # the point of a 51-point curve that is published: 20 px, and 0.2 of the object's size


@dataclass(frozen=True)
class Convention:
    """What a toolkit does where the protocol is silent.

    Args:
        first_frame_given: The first prediction is replaced by the ground truth.
        repeat_invalid: A prediction that is no box (NaN, zero or negative size) repeats the one before it.
        unboxed_is_hit: A frame whose ground truth is no box, and which no flag calls absent, has center error -1: a
            hit in both precisions, a miss in success. Otherwise the error is infinite, a miss everywhere.
        drop_absent: Frames without the object leave the denominator too.
        round_boxes: Boxes of both sides are rounded to whole pixels first.
        inclusive: Success counts IoU >= t instead of IoU > t.
        num_precision_thresholds: Points on both precision curves.
        success_score: `mean` of the curve or its `trapezoid` area.
        precision_score: Value `at` 20 px, or the `trapezoid` area of the curve.
        normalized_score: Value `at` 0.2, the `mean` of the curve or its `trapezoid` area.
        clamp_px: All four numbers of every box are clamped into this range, in pixels.
        skip_videos_without_boxes: A video with no predicted box at all is left out of the mean.
    """

    first_frame_given: bool = True
    repeat_invalid: bool = True
    unboxed_is_hit: bool = False
    drop_absent: bool = False
    round_boxes: bool = False
    inclusive: bool = False
    num_precision_thresholds: int = 51
    success_score: str = "mean"
    precision_score: str = "at"
    normalized_score: str = "at"
    clamp_px: tuple[float, float] | None = None
    skip_videos_without_boxes: bool = False


CONVENTIONS: dict[str, Convention] = {
    "pytracking": Convention(),
    "pytracking_uav123": Convention(unboxed_is_hit=True),
    "pysot": Convention(first_frame_given=False, repeat_invalid=False, unboxed_is_hit=True),
    "got10k": Convention(repeat_invalid=False, drop_absent=True, normalized_score="mean"),
    "trackingnet": Convention(
        repeat_invalid=False,
        round_boxes=True,
        inclusive=True,
        num_precision_thresholds=21,
        success_score="trapezoid",
        precision_score="trapezoid",
        normalized_score="trapezoid",
    ),
    "elysium_legacy": Convention(
        first_frame_given=False, repeat_invalid=False, clamp_px=(1.0, 100.0), skip_videos_without_boxes=True
    ),
}


@dataclass(frozen=True)
class FrameErrors:
    """Errors of one video over its F counted frames, and the number of frames they are shares of.

    Args:
        iou: (F,) intersection over union; -1 where the object is absent.
        center_px: (F,) distance of the box centers in pixels; -1 or inf where there is no ground truth.
        center_normalized: (F,) the same with each axis divided by the ground truth's width and height.
        num_frames: Denominator of every curve.
    """

    iou: np.ndarray
    center_px: np.ndarray
    center_normalized: np.ndarray
    num_frames: int


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


def repeat_previous(boxes_xywh_px: np.ndarray) -> np.ndarray:
    """Replace every row that is no box by the row before it; leading ones stay as they are.

    Args:
        boxes_xywh_px: (F, 4).

    Returns:
        (F, 4), a new array.
    """
    last_good = np.maximum.accumulate(np.where(is_box(boxes_xywh_px), np.arange(len(boxes_xywh_px)), 0))
    return boxes_xywh_px[last_good]


def frame_errors(
    prediction_xywh_px: np.ndarray,
    reference_xywh_px: np.ndarray,
    visible: np.ndarray | None = None,
    convention: str | Convention = "pytracking",
) -> FrameErrors:
    """Errors of one video, frame by frame.

    Args:
        prediction_xywh_px: (F, 4); NaN rows where the tracker gave no box.
        reference_xywh_px: (F, 4); NaN rows or zero sizes where the object is absent.
        visible: (F,) bool, False where the object is fully occluded or out of view. None: visible wherever the
            reference is a box.
        convention: A name in `CONVENTIONS` or an own `Convention`.

    Returns:
        The errors over the frames which the convention counts.

    Raises:
        ValueError: Shapes that do not fit, or an unknown convention.
    """
    rule = get_convention(convention)
    pred, ref = as_boxes(prediction_xywh_px, "prediction"), as_boxes(reference_xywh_px, "reference")
    if len(pred) != len(ref):
        raise ValueError(
            f"prediction has {len(pred)} boxes, reference has {len(ref)}: one row per frame, NaN for a missing box."
        )
    seen = np.ones(len(ref), dtype=bool) if visible is None else np.asarray(visible, dtype=bool)
    if seen.shape != (len(ref),):
        raise ValueError(f"visible has shape {seen.shape}, must be ({len(ref)},): one flag per frame.")
    pred, ref = _prepare(pred, ref, rule)
    valid = is_box(ref) & seen

    with np.errstate(invalid="ignore", divide="ignore"):
        iou = np.where(valid, box_iou(pred, ref), -1.0)
        offset = (pred[:, :2] + (pred[:, 2:] - 1) / 2) - (ref[:, :2] + (ref[:, 2:] - 1) / 2)
        center = np.hypot(offset[:, 0], offset[:, 1])
        normalized = np.hypot(offset[:, 0] / ref[:, 2], offset[:, 1] / ref[:, 3])
    absent_error = np.where(seen & rule.unboxed_is_hit, -1.0, np.inf)
    found = is_box(pred)
    center, normalized = (
        np.where(valid, np.where(found, error, np.inf), absent_error) for error in (center, normalized)
    )
    keep = valid if rule.drop_absent else np.ones(len(ref), dtype=bool)
    return FrameErrors(iou[keep], center[keep], normalized[keep], int(keep.sum()))


def video_curves(errors: FrameErrors, convention: str | Convention = "pytracking") -> dict[str, np.ndarray]:
    """Success, precision and normalised-precision curves of one video.

    Args:
        errors: From `frame_errors`.
        convention: The one used there.

    Returns:
        `success` (21,), `precision` (51,) and `normalized_precision` (51,), shares of frames; (21,) each under
        `trackingnet`.
    """
    rule = get_convention(convention)
    above = np.greater_equal if rule.inclusive else np.greater
    steps = np.arange(rule.num_precision_thresholds)
    center_thresholds, normalized_thresholds = (
        largest * steps / steps[-1] for largest in (LARGEST_ERROR_PX, LARGEST_ERROR_NORMALIZED)
    )

    def share(hits: np.ndarray) -> np.ndarray:  # (F, thresholds) -> (thresholds,)
        return hits.sum(axis=0) / errors.num_frames

    return {
        "success": share(above(errors.iou[:, None], SUCCESS_THRESHOLDS)),
        "precision": share(errors.center_px[:, None] <= center_thresholds),
        "normalized_precision": share(errors.center_normalized[:, None] <= normalized_thresholds),
    }


def scores_of(curves: dict[str, np.ndarray], convention: str | Convention = "pytracking") -> dict[str, float]:
    """Reduce three curves to the three published numbers.

    Args:
        curves: From `video_curves`, or their mean over videos.
        convention: The one used there.

    Returns:
        `auc`, `precision`, `normalized_precision`, each in [0, 1].
    """
    rule = get_convention(convention)
    return {
        "auc": _reduce(curves["success"], rule.success_score),
        "precision": _reduce(curves["precision"], rule.precision_score),
        "normalized_precision": _reduce(curves["normalized_precision"], rule.normalized_score),
    }


def average_overlap(
    prediction_xywh_px: np.ndarray, reference_xywh_px: np.ndarray, visible: np.ndarray | None = None
) -> np.ndarray:
    """Overlaps that GOT-10k averages: the first frame and frames without the object dropped.

    Args:
        prediction_xywh_px: (F, 4).
        reference_xywh_px: (F, 4).
        visible: (F,) bool or None.

    Returns:
        (F',) IoU of the counted frames, F' < F.
    """
    as_predicted = Convention(first_frame_given=False, repeat_invalid=False)
    iou = frame_errors(prediction_xywh_px, reference_xywh_px, visible, as_predicted).iou[1:]
    return iou[iou >= 0]


def evaluate_ope(
    predictions: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    visible: Sequence[np.ndarray] | None = None,
    convention: str = "pytracking",
) -> dict:
    """Score V videos: the mean over frames inside a video, then over videos.

    Args:
        predictions: V arrays (F, 4), x, y, w, h in pixels; NaN rows where the tracker gave no box.
        references: V arrays (F, 4); NaN rows or zero sizes where the object is absent.
        visible: V arrays (F,) of bool, or None.
        convention: A name in `CONVENTIONS`.

    Returns:
        `auc`, `precision`, `normalized_precision` (floats in [0, 1]; a perfect tracker has auc 20/21 under a strict
        success curve), `success_curve`, `precision_curve`, `normalized_precision_curve` (lists), `ao`, `sr_50`,
        `sr_75` (GOT-10k's, over all counted frames; NaN when there is none), `per_video` (V dicts of the three
        scores, None for a video left out), `num_videos`, `num_frames` and `convention`.

    Raises:
        ValueError: Counts or shapes that do not fit, an unknown convention, or no video to score.
    """
    rule = get_convention(convention)
    if len(predictions) != len(references) or (visible is not None and len(visible) != len(references)):
        counts = (len(predictions), len(references), None if visible is None else len(visible))
        raise ValueError(f"predictions, references, visible hold {counts} videos: give the same number of each.")
    per_video: list[dict | None] = []
    curves, overlaps, num_frames = [], [], 0
    for index, (pred, ref) in enumerate(zip(predictions, references, strict=True)):
        flags = None if visible is None else visible[index]
        errors = frame_errors(pred, ref, flags, rule)
        overlaps.append(average_overlap(pred, ref, flags))
        nothing = rule.skip_videos_without_boxes and not np.isfinite(as_boxes(pred, "prediction")).all(axis=1).any()
        if errors.num_frames == 0 or nothing:
            per_video.append(None)
            continue
        curves.append(video_curves(errors, rule))
        per_video.append(scores_of(curves[-1], rule))
        num_frames += errors.num_frames
    if not curves:
        raise ValueError(f"no video to score: {len(references)} given, none has a frame that {convention!r} counts.")
    mean = {name: np.mean([c[name] for c in curves], axis=0) for name in curves[0]}
    return {
        **scores_of(mean, rule),
        **_got10k_scores(np.concatenate(overlaps)),
        **{f"{name}_curve": curve.tolist() for name, curve in mean.items()},
        "per_video": per_video,
        "num_videos": len(curves),
        "num_frames": num_frames,
        "convention": convention if isinstance(convention, str) else "custom",
    }


def get_convention(convention: str | Convention) -> Convention:
    """Look a convention up by name; one of your own passes through.

    Raises:
        ValueError: An unknown name.
    """
    if isinstance(convention, str):
        if convention not in CONVENTIONS:
            raise ValueError(f"convention={convention!r} is unknown: choose one of {', '.join(CONVENTIONS)}.")
        return CONVENTIONS[convention]
    return convention


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


def _prepare(pred: np.ndarray, ref: np.ndarray, rule: Convention) -> tuple[np.ndarray, np.ndarray]:
    """Apply the convention's repairs, in the toolkits' order: invalid ones first, then the given first frame."""
    if rule.repeat_invalid:
        pred = repeat_previous(pred)
    if rule.round_boxes:
        pred, ref = np.round(pred), np.round(ref)
    if rule.clamp_px is not None:
        pred, ref = (np.clip(np.nan_to_num(boxes, nan=0.0), *rule.clamp_px) for boxes in (pred, ref))
    if rule.first_frame_given:
        pred = np.concatenate([ref[:1], pred[1:]])
    return pred, ref


def _reduce(curve: np.ndarray, how: str) -> float:
    if how == "trapezoid":
        return float(((curve[1:] + curve[:-1]) / 2).mean())
    return float(curve.mean() if how == "mean" else curve[REPORTED_AT])


def _got10k_scores(iou: np.ndarray) -> dict[str, float]:
    if len(iou) == 0:
        return {"ao": float("nan"), "sr_50": float("nan"), "sr_75": float("nan")}
    return {"ao": float(iou.mean()), "sr_50": float((iou > 0.5).mean()), "sr_75": float((iou > 0.75).mean())}
