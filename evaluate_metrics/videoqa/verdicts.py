"""What a judge is asked, and how its reply is read; plain Python.

The protocol is that of Video-ChatGPT (Maaz et al., 2023): for one question, the true answer and the model's answer,
the judge says yes or no and gives an integer score from 0 to 5, as a Python dictionary. The wording here is our own.
Numbers depend on it, so quote it, or give the wording of the table that you compare with as `prompt=`.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

SYSTEM = (
    "You grade answers to questions about videos. Compare the model's answer with the correct answer: it counts if it "
    "means the same, also in other words or with harmless additions."
)
PROMPT = """Question: {question}
Correct answer: {reference}
Model's answer: {prediction}

Does the model's answer mean the same as the correct answer? Reply with one Python dictionary and nothing else:
{{'pred': 'yes' or 'no', 'score': an integer from 0 (unrelated) to 5 (the same meaning)}}"""
FIELDS = ("question", "reference", "prediction")


@dataclass(frozen=True)
class Verdict:
    """A judge's opinion of one answer.

    Args:
        correct: The judge said yes.
        score: 0 to 5.
    """

    correct: bool
    score: int


class UnreadableReplyError(ValueError):
    """A reply from which no verdict can be read. `kind` is `unparseable` or `contradictory`."""

    def __init__(self, kind: str, reply: str):
        super().__init__(f"{kind} reply of the judge: {reply[:200]!r}")
        self.kind = kind


def make_messages(question: str, reference: str, prediction: str, prompt: str = PROMPT) -> list[dict[str, str]]:
    """Build the chat that asks about one answer.

    Args:
        question: As asked of the model.
        reference: The true answer.
        prediction: The model's answer.
        prompt: Text with `{question}`, `{reference}` and `{prediction}`; braces of its own are doubled.

    Returns:
        A system and a user message.
    """
    user = prompt.format(question=question, reference=reference, prediction=prediction)
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def check_prompt(prompt: str) -> None:
    """Try a wording before anything is sent.

    Raises:
        ValueError: A field is missing or unknown, or a brace is not doubled.
    """
    marks = {field: f"<{index}>" for index, field in enumerate(FIELDS)}
    try:
        text = prompt.format(**marks)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"prompt cannot be filled in ({error!r}): use {{question}}, {{reference}}, {{prediction}}, and double "
            "every other brace."
        ) from error
    missing = [field for field, mark in marks.items() if mark not in text]
    if missing:
        raise ValueError(
            f"prompt lacks {', '.join('{' + field + '}' for field in missing)}: the judge must see all three."
        )


def read_verdict(reply: str) -> Verdict:
    """Read the one verdict of a reply.

    A reply may wrap the dictionary in prose or a code fence. Several dictionaries that agree are one verdict.

    Args:
        reply: The judge's text.

    Returns:
        The verdict.

    Raises:
        UnreadableReplyError: No dictionary with `pred` yes/no and an integer `score` from 0 to 5, or several that
            disagree.
    """
    found = [verdict for verdict in map(_verdict_of, re.findall(r"\{[^{}]*\}", reply)) if verdict is not None]
    if not found:
        raise UnreadableReplyError("unparseable", reply)
    if len(set(found)) > 1:
        raise UnreadableReplyError("contradictory", reply)
    return found[0]


def _verdict_of(text: str) -> Verdict | None:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    said, score = value.get("pred"), value.get("score")
    if isinstance(score, str) and score.strip().isascii() and score.strip().isdigit():
        score = int(score)
    if not isinstance(said, str) or said.strip().lower() not in ("yes", "no") or isinstance(score, bool):
        return None
    if not isinstance(score, int | float) or score not in range(6):
        return None
    return Verdict(said.strip().lower() == "yes", int(score))
