"""`evaluate` module for questions about videos; the arithmetic and the judges are in the files beside it."""

import datasets
import evaluate

from .judge import Judge, OpenAICompatibleJudge, TransformersJudge
from .judging import estimate
from .matching import match_answer
from .qa import evaluate_qa
from .verdicts import PROMPT

# `evaluate.load` copies only those files that this script itself imports, so all of them are named above.
__all__ = ["OpenAICompatibleJudge", "TransformersJudge", "VideoQA", "match_answer"]

_DESCRIPTION = """
Accuracy of short answers to questions about videos: exact and normalized match offline, and the GPT-assisted protocol
of Video-ChatGPT with any OpenAI-compatible endpoint or a local transformers model as judge. No item is ever dropped.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: one answer per question; an empty text where there is none.
    references: one true answer per question.
    questions: the questions, for a judge.
    judge: an object such as `OpenAICompatibleJudge`; None: offline scores only.
    cache: folder in which verdicts are kept.
    concurrency, max_attempts: questions under way at a time, questions per item at most.
    prompt: the question to the judge, with {question}, {reference} and {prediction}.
    return_items: add every item's matches, verdict and problem.
Returns:
    exact_match, normalized_match, contained_match, num_items, num_empty; with a judge judge_accuracy, judge_score, the
    same of judged items, num_judged, num_unjudged, problems.
Examples:
    >>> qa = evaluate.load("evaluate_metrics/videoqa")
    >>> qa.compute(predictions=["The dog."], references=["dog"])["normalized_match"]
    1.0
"""

_CITATION = """
@inproceedings{maaz2024video, title={Video-ChatGPT: Towards Detailed Video Understanding via Large Vision and Language
Models}, author={Maaz, Muhammad and Rasheed, Hanoona and Khan, Salman and Khan, Fahad}, booktitle={ACL}, year={2024}}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class VideoQA(evaluate.Metric):
    """Answers as a metric that adds up batches; see `evaluate_qa`."""

    # What is said to the judge, and what it will cost, from the loaded module as well.
    estimate = staticmethod(estimate)
    OpenAICompatibleJudge = OpenAICompatibleJudge
    TransformersJudge = TransformersJudge

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        questions: list[str] | None = None,
        judge: Judge | None = None,
        cache: str | None = None,
        concurrency: int = 4,
        max_attempts: int = 4,
        return_items: bool = False,
        prompt: str = PROMPT,
    ) -> dict:
        return evaluate_qa(
            predictions,
            references,
            questions,
            judge,
            cache,
            return_items,
            concurrency=concurrency,
            max_attempts=max_attempts,
            prompt=prompt,
        )
