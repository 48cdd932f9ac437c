"""Scores of answers to questions about videos: offline matches always, a judge's verdicts where there is a judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .judge import Judge
from .judging import JudgedItem, judge_all
from .matching import match_answer


def evaluate_qa(
    predictions: Sequence[str],
    references: Sequence[str],
    questions: Sequence[str] | None = None,
    judge: Judge | None = None,
    cache: str | Path | None = None,
    return_items: bool = False,
    **judging: Any,
) -> dict[str, Any]:
    """Score N answers; every answer stays in the denominator, whatever the judge does.

    Args:
        predictions: N answers; an empty one is wrong.
        references: N true answers.
        questions: N questions; needed by a judge.
        judge: None: only offline scores.
        cache: Folder in which verdicts are kept.
        return_items: Return every item's matches, verdict and problem too.
        **judging: `concurrency`, `max_attempts`, `first_wait_s`, `on_item`, `prompt` of `judge_all`; another name
            is a TypeError.

    Returns:
        `exact_match`, `normalized_match`, `contained_match` in [0, 1], `num_items`, `num_empty`. With a judge, `judge`
        (its name), `judge_accuracy` (yes / all items: an item without a verdict counts as no) and `judge_score` (0 to
        5, over all items), both `_of_judged` (Video-ChatGPT's yes / (yes + no); None where nothing was judged),
        `num_judged`, `num_unjudged` and `problems` (name to number of items).

    Raises:
        ValueError: Counts that differ, nothing to score, or a judge without questions.
    """
    if len(predictions) != len(references) or not len(references):
        counts = f"{len(predictions)} predictions and {len(references)} references"
        raise ValueError(f"got {counts}: give one answer for each reference (an empty text where there is none).")
    for name, texts in (("predictions", predictions), ("references", references)):
        wrong = [index for index, text in enumerate(texts) if not isinstance(text, str)]
        if wrong:
            raise ValueError(f"{name}[{wrong[0]}] = {texts[wrong[0]]!r} is no text; an empty text: no answer.")
    items: list[dict[str, Any]] = [
        match_answer(said, true) for said, true in zip(predictions, references, strict=True)
    ]
    names = ("exact_match", "normalized_match", "contained_match")
    result: dict[str, Any] = {name: sum(item[name] for item in items) / len(items) for name in names}
    result |= {"num_items": len(items), "num_empty": sum(not said.strip() for said in predictions)}
    if judge is not None:
        if questions is None:
            raise ValueError("a judge needs questions=: one text per answer.")
        judged = judge_all(judge, questions, predictions, references, cache, **judging)
        result |= {"judge": judge.name, **_judge_scores(judged)}
        for item, outcome in zip(items, judged, strict=True):
            verdict = outcome.verdict
            item |= {
                "correct": None if verdict is None else verdict.correct,
                "score": None if verdict is None else verdict.score,
                "problem": outcome.problem,
                "reply": outcome.reply,
            }
    return result | ({"items": items} if return_items else {})


def _judge_scores(judged: Sequence[JudgedItem]) -> dict[str, Any]:
    verdicts = [item.verdict for item in judged if item.verdict is not None]
    right, score = sum(v.correct for v in verdicts), sum(v.score for v in verdicts)
    return {
        "judge_accuracy": right / len(judged),
        "judge_score": score / len(judged),
        "judge_accuracy_of_judged": right / len(verdicts) if verdicts else None,
        "judge_score_of_judged": score / len(verdicts) if verdicts else None,
        "num_judged": len(verdicts),
        "num_unjudged": len(judged) - len(verdicts),
        "problems": dict(Counter(item.problem for item in judged if item.problem is not None)),
    }
