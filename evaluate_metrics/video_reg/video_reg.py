"""`evaluate` module for descriptions of objects (Video-REG, REG); the arithmetic is in the files beside it."""

import datasets
import evaluate

from .captions import evaluate_captions
from .cider import cider_scores
from .meteor_exact import meteor_exact_scores
from .tokens import tokenize_plain

# `evaluate.load` copies only those files that this script itself imports, so all of them are named above.
__all__ = ["VideoREG", "cider_scores", "meteor_exact_scores", "tokenize_plain"]

_DESCRIPTION = """
METEOR, CIDEr, BLEU and ROUGE-L of object descriptions. METEOR 1.5 and the PTB tokenizer need Java; without it CIDEr is
computed on plain words, and `meteor_exact`, which is not METEOR 1.5, stands beside an empty `meteor`.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: one caption per item; an empty text where there is none.
    references: one list of captions per item.
    backend: "auto" (default), "java" or "python".
    return_items: add the scores of every caption.
Returns:
    cider, meteor (None without Java), meteor_exact, meteor_matcher, tokenizer, bleu_1 to bleu_4, rouge_l, exact_match,
    num_items, num_empty.
Examples:
    >>> reg = evaluate.load("evaluate_metrics/video_reg")
    >>> reg.compute(predictions=["a cat"], references=[["a cat"]], backend="python")["exact_match"]
    1.0
"""

_CITATION = """
@article{chen2015microsoft, title={Microsoft COCO Captions: Data Collection and Evaluation Server}, author={Chen,
Xinlei and others}, journal={arXiv:1504.00325}, year={2015}}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class VideoREG(evaluate.Metric):
    """Caption scores as a metric that adds up batches; see `evaluate_captions`."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
        )

    def _compute(
        self, predictions: list[str], references: list[list[str]], backend: str = "auto", return_items: bool = False
    ) -> dict:
        return evaluate_captions(predictions, references, backend, return_items)
