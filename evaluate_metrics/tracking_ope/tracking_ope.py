"""`evaluate` module for one-pass evaluation (OPE) of single-object tracking; the arithmetic is in ope.py beside it."""

import datasets
import evaluate
import numpy as np

from .box_rows import as_boxes
from .corner_boxes import to_xywh
from .ope import ABSENT_AS, CONVENTIONS, evaluate_ope
from .presence import presence_scores

# `evaluate.load` copies only those files that this script itself imports, so all of them are named above.
__all__ = ["TrackingOPE", "presence_scores"]

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
    said_absent: one list of flags per video, 1 where the tracker says that the object is absent, for `presence`.
        Default: where it gave no box.
    box_format: "xywh" (default) or "xyxy" (corners), both in pixels.
Returns:
    auc, precision, normalized_precision: floats in [0, 1].
    ao, sr_50, sr_75: GOT-10k's scores.
    success_curve, precision_curve, normalized_precision_curve: lists of shares of frames.
    presence: precision, recall and F of where the tracker says that the object is there, and of where not; VOT's
        long-term precision, recall and F.
    per_video: the three scores of every video.
    num_videos, num_frames, num_missing, convention, absent_as: what was scored, and how.
Examples:
    >>> ope = evaluate.load("evaluate_metrics/tracking_ope")
    >>> a, b = [10, 10, 10, 10], [15, 10, 10, 10]
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

    def compute(self, *, predictions: list | None = None, references: list | None = None, **kwargs) -> dict | None:
        """Score boxes handed in at once without Arrow, whose detour takes several times as long as scoring them."""
        if predictions is None or references is None or self.writer is not None or self.num_process > 1:
            return super().compute(predictions=predictions, references=references, **kwargs)
        return self._compute(predictions, references, **kwargs)

    def _compute(
        self,
        predictions: list,
        references: list,
        absent: list | None = None,
        convention: str = "pytracking",
        absent_as: str | None = None,
        box_format: str = "xywh",
        said_absent: list | None = None,
    ) -> dict:
        if box_format not in ("xywh", "xyxy"):
            raise ValueError(f"box_format={box_format!r} is unknown: choose xywh or xyxy, in pixels.")
        predictions = [_as_xywh(video, box_format, "predictions") for video in predictions]
        references = [_as_xywh(video, box_format, "references") for video in references]
        return evaluate_ope(predictions, references, absent, convention, absent_as, said_absent)


def _as_xywh(video: list, box_format: str, name: str) -> np.ndarray:
    boxes = as_boxes(video, name)
    return to_xywh(boxes) if box_format == "xyxy" else boxes
