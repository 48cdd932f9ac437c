"""`evaluate` module for referring expression comprehension (REC); the arithmetic is in rec.py beside it."""

import datasets
import evaluate

from .rec import evaluate_rec

_DESCRIPTION = """
Accuracy of referring expression comprehension: the share of expressions whose predicted box overlaps the true one with
an IoU above 0.5 (strictly). An answer without a readable box is wrong, counted, and stays in the denominator.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: one box [x1, y1, x2, y2] per expression; an empty list where the answer has no readable box.
    references: one box per expression, in the same unit.
    thresholds: IoU thresholds. Default: (0.5,).
    groups: name of a grouping ("split", "class") to one label per expression; scored label by label.
    box_format: "xyxy" (default) or "xywh".
    return_items: add the IoU of every expression.
Returns:
    accuracy, accuracy_at, mean_iou, num_items, num_malformed; groups and items where asked for.
Examples:
    >>> rec = evaluate.load("evaluate_metrics/rec_accuracy")
    >>> rec.compute(predictions=[[0, 0, 10, 10], []], references=[[0, 0, 10, 9], [5, 5, 9, 9]])["accuracy"]
    0.5
"""

_CITATION = """
@inproceedings{yu2016modeling, title={Modeling Context in Referring Expressions}, author={Yu, Licheng and Poirson,
Patrick and Yang, Shan and Berg, Alexander C. and Berg, Tamara L.}, booktitle={ECCV}, year={2016}}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class RECAccuracy(evaluate.Metric):
    """REC as a metric that adds up batches of answers; see `evaluate_rec` for the arithmetic."""

    def _info(self) -> evaluate.MetricInfo:
        box = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": box, "references": box}),
        )

    def _compute(
        self,
        predictions: list,
        references: list,
        thresholds: tuple[float, ...] = (0.5,),
        groups: dict[str, list[str]] | None = None,
        box_format: str = "xyxy",
        return_items: bool = False,
    ) -> dict:
        return evaluate_rec(predictions, references, thresholds, groups, box_format, return_items)
