"""`evaluate` module for one-pass evaluation (OPE) of single-object tracking; the arithmetic is in ope.py beside it."""

import datasets
import evaluate
import numpy as np

from .ope import ABSENT_AS, CONVENTIONS, as_boxes, evaluate_ope

_DESCRIPTION = """
One-pass evaluation of single-object tracking: success (AUC), precision at 20 px, normalized precision at 0.2, by the
convention of a named toolkit (pytracking, pysot, got10k, trackingnet, ...), with the curves and GOT-10k's AO and SR.
"""

_KWARGS_DESCRIPTION = f"""
Args:
    predictions: one list of boxes per video, one box per frame: [x, y, w, h] in pixels, NaNs where there is none.
    references: the same for the ground truth; NaNs or a zero size where the object is absent.
    absent: one list of flags per video, 1 where the object is fully occluded or out of view, else 0. Default: all 0.
    convention: one of {", ".join(CONVENTIONS)}. Default: pytracking.
    absent_as: how frames without a valid ground truth count, one of {", ".join(ABSENT_AS)}. Default: as the convention
        says.
    box_format: "xywh" (default) or "xyxy" (corners), both in pixels.
Returns:
    auc, precision, normalized_precision: floats in [0, 1].
    ao, sr_50, sr_75: GOT-10k's scores.
    success_curve, precision_curve, normalized_precision_curve: lists of shares of frames.
    per_video: the three scores of every video. num_videos, num_frames, convention, absent_as.
Examples:
    >>> ope = evaluate.load("evaluate_metrics/tracking_ope")
    >>> a, b = [0, 0, 10, 10], [5, 0, 10, 10]
    >>> ope.compute(predictions=[[a, a]], references=[[a, b]])["auc"]
    0.6428571428571429
"""

_CITATION = """
@inproceedings{wu2013online, title={Online Object Tracking: A Benchmark}, author={Wu, Yi and Lim, Jongwoo and Yang,
Ming-Hsuan}, booktitle={CVPR}, year={2013}}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class TrackingOPE(evaluate.Metric):
    """OPE as a metric that adds up batches of videos; see `evaluate_ope` for the arithmetic."""

    def _info(self) -> evaluate.MetricInfo:
        boxes = datasets.Sequence(datasets.Sequence(datasets.Value("float64")))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": boxes, "references": boxes}),
        )

    def _compute(
        self,
        predictions: list,
        references: list,
        absent: list | None = None,
        convention: str = "pytracking",
        absent_as: str | None = None,
        box_format: str = "xywh",
    ) -> dict:
        if box_format not in ("xywh", "xyxy"):
            raise ValueError(f"box_format={box_format!r} is unknown: choose xywh or xyxy, in pixels.")
        predictions = [_as_xywh(video, box_format, "predictions") for video in predictions]
        references = [_as_xywh(video, box_format, "references") for video in references]
        return evaluate_ope(predictions, references, absent, convention, absent_as)


def _as_xywh(video: list, box_format: str, name: str) -> np.ndarray:
    boxes = as_boxes(video, name)
    if box_format == "xyxy":
        boxes[:, 2:] -= boxes[:, :2]
    return boxes
