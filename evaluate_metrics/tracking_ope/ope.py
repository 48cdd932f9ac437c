"""One-pass evaluation (OPE) of single-object tracking: the numpy core, with the files beside it.

Boxes are `x, y, w, h` in pixels, float64, one row per frame; a row of NaN is "no box". Each public toolkit fills the
gaps of the protocol in its own way, which moves published numbers by points; `CONVENTIONS` names those ways.

Legend of shapes: F frames of one video, V videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .box_rows import as_boxes, as_flags, box_iou, is_box, repeat_previous
from .corner_boxes import warn_if_corners
from .presence import presence_scores

SUCCESS_THRESHOLDS = np.linspace(0.0, 1.0, 21)
LARGEST_ERROR_PX = 50.0  # both precision curves start at 0 and end here
LARGEST_ERROR_NORMALIZED = 0.5
REPORTED_AT = 20  # the point of a 51-point curve that is published: 20 px, and 0.2 of the object's size


@dataclass(frozen=True)
class AbsentRule:
    """Errors of a frame that has no valid ground truth. Its IoU is -1; an error of -1 is a hit, of inf a miss.

    Args:
        flagged_px: Center error in pixels where a flag says that the object is absent.
        flagged_normalized: Normalized center error there.
        unboxed_px: Center error in pixels where no flag does, but the ground truth is no box.
        unboxed_normalized: Normalized center error there.
        in_denominator: These frames stay in the denominator of every curve.
    """

    flagged_px: float
    flagged_normalized: float
    unboxed_px: float
    unboxed_normalized: float
    in_denominator: bool = True


HIT, MISS = -1.0, float("inf")
# What `absent_as` chooses from are the three branches of pytracking's code: for OTB and whatever has no branch of its
# own, for LaSOT, for UAV123. The others belong to conventions below.
ABSENT_AS = ("ignore", "lasot", "uav")
ABSENT_RULES: dict[str, AbsentRule] = {
    "ignore": AbsentRule(MISS, HIT, MISS, HIT, in_denominator=False),
    "lasot": AbsentRule(MISS, MISS, MISS, HIT),
    "uav": AbsentRule(HIT, HIT, HIT, HIT),
    "flagged_miss": AbsentRule(MISS, MISS, HIT, HIT),
    "miss": AbsentRule(MISS, MISS, MISS, MISS),
    "drop": AbsentRule(MISS, MISS, MISS, MISS, in_denominator=False),
}


@dataclass(frozen=True)
class Convention:
    """What a toolkit does where the protocol is silent.

    Args:
        first_frame_given: The first prediction is replaced by the ground truth.
        repeat_invalid: A prediction that is no box (NaN, zero or negative size) repeats the one before it, except
            where the ground truth is NaN.
        absent_as: Name in `ABSENT_RULES`: how frames without a valid ground truth count.
        positive_corner: A valid ground truth has all of x, y, w, h positive, else only w and h.
        center_decides: For the two precisions a ground truth is valid if its center is positive on both axes.
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
    absent_as: str = "lasot"
    positive_corner: bool = True
    center_decides: bool = False
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
    "lasot": Convention(absent_as="flagged_miss"),
    "pytracking_uav123": Convention(absent_as="uav"),
    "pytracking_unclipped": Convention(absent_as="miss", positive_corner=False),
    "pysot": Convention(first_frame_given=False, repeat_invalid=False, absent_as="flagged_miss", center_decides=True),
    "got10k": Convention(repeat_invalid=False, absent_as="drop", positive_corner=False, normalized_score="mean"),
    "trackingnet": Convention(
        repeat_invalid=False,
        absent_as="miss",
        positive_corner=False,
        round_boxes=True,
        inclusive=True,
        num_precision_thresholds=21,
        success_score="trapezoid",
        precision_score="trapezoid",
        normalized_score="trapezoid",
    ),
    "elysium_legacy": Convention(
        first_frame_given=False,
        repeat_invalid=False,
        absent_as="miss",
        clamp_px=(1.0, 100.0),
        skip_videos_without_boxes=True,
    ),
}


@dataclass(frozen=True)
class FrameErrors:
    """Errors of one video over its F frames, and the number of frames that they are shares of.

    Args:
        iou: (F,) intersection over union; -1 where there is no valid ground truth.
        center_px: (F,) distance of the box centers in pixels; -1 or inf where there is no valid ground truth.
        center_normalized: (F,) the same with each axis divided by the ground truth's width and height.
        num_frames: Denominator of every curve.
    """

    iou: np.ndarray
    center_px: np.ndarray
    center_normalized: np.ndarray
    num_frames: int


def frame_errors(
    prediction_xywh_px: np.ndarray,
    reference_xywh_px: np.ndarray,
    absent: np.ndarray | None = None,
    convention: str | Convention = "pytracking",
    absent_as: str | None = None,
) -> FrameErrors:
    """Errors of one video, frame by frame.

    Args:
        prediction_xywh_px: (F, 4); NaN rows where the tracker gave no box.
        reference_xywh_px: (F, 4); NaN rows or zero sizes where the object is absent.
        absent: (F,) of 0 and 1, or bool: 1 where the object is fully occluded or out of view. None: nowhere.
        convention: A name in `CONVENTIONS` or an own `Convention`.
        absent_as: One of `ABSENT_AS`; None: what the convention says.

    Returns:
        The errors of all frames, and the number of them that the convention counts.

    Raises:
        ValueError: Shapes that do not fit, flags that are neither 0 nor 1, or an unknown name.
    """
    rule = get_convention(convention, absent_as)
    pred, ref = as_boxes(prediction_xywh_px, "prediction"), as_boxes(reference_xywh_px, "reference")
    if len(pred) != len(ref):
        raise ValueError(
            f"prediction has {len(pred)} boxes, reference has {len(ref)}: one row per frame, NaN for a missing box."
        )
    flagged = as_flags(absent, len(ref))
    pred, ref = _prepare(pred, ref, rule)
    valid = is_box(ref) & ~flagged
    if rule.positive_corner:
        valid &= (ref[:, :2] > 0).all(axis=1)
    counted = np.ones(len(ref), dtype=bool) if ABSENT_RULES[rule.absent_as].in_denominator else valid
    center, normalized = _center_errors(pred, ref, valid, flagged, rule)
    if rule.absent_as == "drop":  # hits nothing and counts for nothing
        center, normalized, pred, ref, valid = (array[valid] for array in (center, normalized, pred, ref, valid))
    iou = np.where(valid, box_iou(pred, ref), -1.0)
    return FrameErrors(iou, center, normalized, int(counted.sum()))


def _center_errors(
    pred: np.ndarray, ref: np.ndarray, valid: np.ndarray, flagged: np.ndarray, rule: Convention
) -> tuple[np.ndarray, np.ndarray]:
    """Center errors (F,) in pixels and normalized; a prediction that is NaN misses, one without size has a center."""
    absent = ABSENT_RULES[rule.absent_as]
    with np.errstate(invalid="ignore", divide="ignore"):
        centers = ref[:, :2] + (ref[:, 2:] - 1) / 2
        offset = pred[:, :2] + (pred[:, 2:] - 1) / 2 - centers
        center = np.hypot(offset[:, 0], offset[:, 1])
        size = ref[:, 2:] + 1e-16  # pysot's guard; a size of zero gets here under `center_decides` only
        normalized = np.hypot(*(offset / size).T)
        if rule.center_decides:
            valid = (centers > 0).all(axis=1) & ~flagged
    found = np.isfinite(pred).all(axis=1)
    return (
        np.where(valid, np.where(found, center, MISS), np.where(flagged, absent.flagged_px, absent.unboxed_px)),
        np.where(
            valid,
            np.where(found, normalized, MISS),
            np.where(flagged, absent.flagged_normalized, absent.unboxed_normalized),
        ),
    )


def video_curves(errors: FrameErrors, convention: str | Convention = "pytracking") -> dict[str, np.ndarray]:
    """Success, precision and normalized-precision curves of one video.

    Args:
        errors: From `frame_errors`.
        convention: The one used there.

    Returns:
        `success` (21,), `precision` (51,) and `normalized_precision` (51,), shares of frames; (21,) each under
        `trackingnet`.
    """
    rule = get_convention(convention)
    steps = np.arange(rule.num_precision_thresholds)
    center_thresholds, normalized_thresholds = (
        largest * steps / steps[-1] for largest in (LARGEST_ERROR_PX, LARGEST_ERROR_NORMALIZED)
    )

    def share_within(values: np.ndarray, thresholds: np.ndarray, side: str = "right") -> np.ndarray:
        # (F,) -> (thresholds,): how many are <= each threshold, or < it with side "left"; sorting beats comparing all
        return np.searchsorted(np.sort(values), thresholds, side=side) / errors.num_frames

    below = share_within(errors.iou, SUCCESS_THRESHOLDS, "left" if rule.inclusive else "right")
    return {
        "success": len(errors.iou) / errors.num_frames - below,
        "precision": share_within(errors.center_px, center_thresholds),
        "normalized_precision": share_within(errors.center_normalized, normalized_thresholds),
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
    prediction_xywh_px: np.ndarray, reference_xywh_px: np.ndarray, absent: np.ndarray | None = None
) -> np.ndarray:
    """Overlaps that GOT-10k averages: the first frame and frames without the object dropped.

    Args:
        prediction_xywh_px: (F, 4).
        reference_xywh_px: (F, 4).
        absent: (F,) of 0 and 1, or None.

    Returns:
        (F',) IoU of the counted frames, F' < F.
    """
    as_predicted = Convention(first_frame_given=False, repeat_invalid=False, positive_corner=False)
    iou = frame_errors(prediction_xywh_px, reference_xywh_px, absent, as_predicted).iou[1:]
    return iou[iou >= 0]


def evaluate_ope(
    predictions: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    absent: Sequence[np.ndarray] | None = None,
    convention: str | Convention = "pytracking",
    absent_as: str | None = None,
    said_absent: Sequence[np.ndarray] | None = None,
) -> dict:
    """Score V videos: the mean over frames inside a video, then over videos.

    Args:
        predictions: V arrays (F, 4), x, y, w, h in pixels; NaN rows where the tracker gave no box.
        references: V arrays (F, 4); NaN rows or zero sizes where the object is absent.
        absent: V arrays (F,) of 0 and 1: 1 where the object is fully occluded or out of view. None: nowhere.
        convention: A name in `CONVENTIONS` or an own `Convention`.
        absent_as: How frames without a valid ground truth count, one of `ABSENT_AS`; None: as the convention says.
        said_absent: V arrays (F,) of 0 and 1: 1 where the tracker says that the object is absent, for `presence` only.
            None: where it gave no box.

    Returns:
        `auc`, `precision`, `normalized_precision` (floats in [0, 1]; a perfect tracker has auc 20/21 under a strict
        success curve; under "ignore" the last can exceed 1, as in pytracking), `success_curve`, `precision_curve`,
        `normalized_precision_curve` (lists), `ao`, `sr_50`, `sr_75` (GOT-10k's, over all counted frames; NaN when
        there is none), `presence` (see `presence_scores`), `per_video` (V dicts of the three scores, None for a video
        left out), `num_videos`, `num_frames`, `num_missing` (frames of all videos whose prediction is no box),
        `convention` and `absent_as` (None where the convention decided).

    Raises:
        ValueError: Counts or shapes that do not fit, an unknown name, or no video to score.
    """
    rule = get_convention(convention, absent_as)
    if len(predictions) != len(references) or (absent is not None and len(absent) != len(references)):
        counts = (len(predictions), len(references), None if absent is None else len(absent))
        raise ValueError(f"predictions, references, absent hold {counts} videos: give the same number of each.")
    warn_if_corners(predictions, references)
    per_video: list[dict | None] = []
    curves, overlaps, num_frames, num_missing = [], [], 0, 0
    for index, (pred, ref) in enumerate(zip(predictions, references, strict=True)):
        flags = None if absent is None else absent[index]
        errors = frame_errors(pred, ref, flags, rule)
        overlaps.append(average_overlap(pred, ref, flags))
        num_missing += int((~is_box(as_boxes(pred, "prediction"))).sum())
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
        "presence": presence_scores(predictions, references, absent, said_absent),
        "per_video": per_video,
        "num_videos": len(curves),
        "num_frames": num_frames,
        "num_missing": num_missing,
        "convention": convention if isinstance(convention, str) else "custom",
        "absent_as": absent_as,
    }


def get_convention(convention: str | Convention, absent_as: str | None = None) -> Convention:
    """Look a convention up by name, one of your own passes through; `absent_as` replaces its rule for absent frames.

    Raises:
        ValueError: An unknown name.
    """
    if isinstance(convention, str):
        if convention not in CONVENTIONS:
            raise ValueError(f"convention={convention!r} is unknown: choose one of {', '.join(CONVENTIONS)}.")
        convention = CONVENTIONS[convention]
    if absent_as is None:
        return convention
    if absent_as not in ABSENT_AS:
        raise ValueError(f"absent_as={absent_as!r} is unknown: choose one of {', '.join(ABSENT_AS)}, or None.")
    # Ignored frames are hits in normalized precision only where pytracking's own code is repeated.
    plain = absent_as == "ignore" and convention.absent_as not in ABSENT_AS
    return replace(convention, absent_as="drop" if plain else absent_as)


def _prepare(pred: np.ndarray, ref: np.ndarray, rule: Convention) -> tuple[np.ndarray, np.ndarray]:
    """Apply the convention's repairs, in the toolkits' order: invalid ones first, then the given first frame."""
    if rule.repeat_invalid:
        pred = repeat_previous(pred, keep=np.isnan(ref).any(axis=1))
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
