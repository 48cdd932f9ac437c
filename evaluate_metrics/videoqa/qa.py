"""Scores of answers to questions about videos: offline matches always, a judge's verdicts where there is a judge."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .judge import Judge
from .judging import JudgedItem, estimate, judge_all
from .matching import match_answer
from .verdicts import PROMPT

logger = logging.getLogger(__name__)
MATCHES = ("exact_match", "normalized_match", "contained_match")


def evaluate_qa(
    predictions: Sequence[str],
    references: Sequence[str],
    questions: Sequence[str] | None = None,
    judge: Judge | None = None,
    cache: str | Path | None = None,
    return_items: bool = False,
    groups: Mapping[str, Sequence[str]] | None = None,
    usd_per_million_input: float | None = None,
    usd_per_million_output: float | None = None,
    max_usd: float | None = None,
    prompt: str = PROMPT,
    **judging: Any,
) -> dict[str, Any]:
    """Score N answers; every answer stays in the denominator, whatever the judge does.

    What judging will take is logged before the first item is sent. Items without a verdict give one warning.

    Args:
        predictions: N answers; an empty one is wrong.
        references: N true answers.
        questions: N questions; needed by a judge.
        judge: None: only offline scores.
        cache: Folder in which verdicts are kept.
        return_items: Return every item's matches, verdict and problem too.
        groups: Name of a grouping, such as `type`, to N labels; each label is scored by itself.
        usd_per_million_input: Price of tokens sent.
        usd_per_million_output: Price of tokens received.
        max_usd: Nothing is sent if the estimate is above; needs both prices.
        prompt: The question to the judge, see `make_messages`.
        **judging: `concurrency`, `max_attempts`, `first_wait_s`, `on_item`, `give_up_after` of `judge_all`; another
            name is a TypeError.

    Returns:
        `exact_match`, `normalized_match`, `contained_match` in [0, 1], `num_items`, `num_empty`. With a judge, `judge`
        (its name), `judge_accuracy` (yes / all items: an item without a verdict counts as no) and `judge_score` (0 to
        5, over all items), both `_of_judged` (Video-ChatGPT's yes / (yes + no); None where nothing was judged),
        `num_judged`, `num_unjudged`, `problems` (name to number of items) and `estimate`. With `groups` the scores per
        grouping and label.

    Raises:
        ValueError: Counts that differ, nothing to score, a judge without questions, or an estimate above `max_usd`.
    """
    _check(predictions, references, questions, judge, groups)
    items: list[dict[str, Any]] = [
        match_answer(said, true) for said, true in zip(predictions, references, strict=True)
    ]
    judged: list[JudgedItem] | None = None
    extra: dict[str, Any] = {}
    if judge is not None:
        assert questions is not None
        prices = (usd_per_million_input, usd_per_million_output)
        expected = estimate(questions, predictions, references, judge, cache, *prices, prompt)
        _announce(judge.name, expected, max_usd)
        judged = judge_all(judge, questions, predictions, references, cache, prompt=prompt, **judging)
        extra = {"judge": judge.name, "estimate": expected}
        _warn_of_unjudged(judged)
        items = [item | _judged_part(outcome) for item, outcome in zip(items, judged, strict=True)]
    result = _summary(predictions, items, judged) | extra
    if groups:
        result["groups"] = {name: _by_label(labels, predictions, items, judged) for name, labels in groups.items()}
    return result | ({"items": items} if return_items else {})


def _check(
    predictions: Sequence[str],
    references: Sequence[str],
    questions: Sequence[str] | None,
    judge: Judge | None,
    groups: Mapping[str, Sequence[str]] | None,
) -> None:
    if len(predictions) != len(references) or not len(references):
        counts = f"{len(predictions)} predictions and {len(references)} references"
        raise ValueError(f"got {counts}: give one answer for each reference (an empty text where there is none).")
    if judge is not None and questions is None:
        raise ValueError("a judge needs questions=: one text per answer.")
    if questions is not None and len(questions) != len(predictions):
        raise ValueError(f"got {len(questions)} questions, {len(predictions)} predictions: give one of each per item.")
    for name, texts in (("predictions", predictions), ("references", references)):
        wrong = [index for index, text in enumerate(texts) if not isinstance(text, str)]
        if wrong:
            raise ValueError(f"{name}[{wrong[0]}] = {texts[wrong[0]]!r} is no text; an empty text: no answer.")
    for name, labels in (groups or {}).items():
        if len(labels) != len(predictions):
            raise ValueError(f"groups[{name!r}] has {len(labels)} labels for {len(predictions)} items: one per item.")


def _announce(name: str, expected: Mapping[str, Any], max_usd: float | None) -> None:
    """Say what is about to be sent, and stop where it costs more than allowed."""
    usd = expected["usd"]
    if max_usd is not None and usd is None:
        raise ValueError(f"max_usd={max_usd} needs usd_per_million_input and usd_per_million_output.")
    if max_usd is not None and usd > max_usd:
        raise ValueError(
            f"judging would cost about {usd:.2f} dollars ({expected['num_calls']} calls), above max_usd={max_usd}: "
            "raise it, score fewer answers, or choose another judge."
        )
    if expected["num_calls"]:
        price = "no prices given" if usd is None else f"about {usd:.2f} dollars"
        logger.warning(
            "asking the judge %s: %d calls (%d items cached), about %d tokens sent and %d received, %s",
            *(name, expected["num_calls"], expected["num_cached"]),
            *(expected["input_tokens"], expected["output_tokens"], price),
        )


def _warn_of_unjudged(judged: Sequence[JudgedItem]) -> None:
    open_items = [item for item in judged if item.verdict is None]
    if open_items:
        named = ", ".join(f"{problem} {count}" for problem, count in _problems(judged).items())
        warnings.warn(
            f"{len(open_items)} of {len(judged)} answers have no verdict ({named}) and count as wrong. The first: "
            f"{open_items[0].reply[:200]!r}. With a cache, running again asks for these only.",
            UserWarning,
            stacklevel=3,
        )


def _judged_part(outcome: JudgedItem) -> dict[str, Any]:
    verdict = outcome.verdict
    return {
        "correct": None if verdict is None else verdict.correct,
        "score": None if verdict is None else verdict.score,
        "problem": outcome.problem,
        "reply": outcome.reply,
    }


def _by_label(
    labels: Sequence[str], predictions: Sequence[str], items: list[dict[str, Any]], judged: list[JudgedItem] | None
) -> dict[str, dict[str, Any]]:
    names = [str(label) for label in labels]
    result = {}
    for label in sorted(set(names)):
        rows = [index for index, name in enumerate(names) if name == label]
        part = None if judged is None else [judged[index] for index in rows]
        result[label] = _summary([predictions[index] for index in rows], [items[index] for index in rows], part)
    return result


def _summary(
    predictions: Sequence[str], items: Sequence[Mapping[str, Any]], judged: Sequence[JudgedItem] | None
) -> dict[str, Any]:
    result: dict[str, Any] = {name: sum(item[name] for item in items) / len(items) for name in MATCHES}
    result |= {"num_items": len(items), "num_empty": sum(not said.strip() for said in predictions)}
    return result if judged is None else result | _judge_scores(judged)


def _problems(judged: Sequence[JudgedItem]) -> dict[str, int]:
    return dict(Counter(item.problem for item in judged if item.problem is not None))


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
        "problems": _problems(judged),
    }
