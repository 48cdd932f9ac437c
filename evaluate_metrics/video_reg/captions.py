"""METEOR, CIDEr, BLEU and ROUGE-L of captions, with Java where there is one, and said so where there is none."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Sequence
from typing import Any

from .cider import cider_scores
from .meteor_exact import meteor_exact_scores
from .tokens import java_is_usable, tokenize_plain, tokenize_ptb

BACKENDS = ("auto", "java", "python")
METEOR_15 = "METEOR 1.5 (exact, stem, synonym, paraphrase), pycocoevalcap"
METEOR_EXACT = "exact words only: not METEOR 1.5, do not compare with published METEOR"


def evaluate_captions(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    backend: str = "auto",
    return_items: bool = False,
) -> dict[str, Any]:
    """Score N captions; an empty one scores 0, is counted and stays in the denominator.

    Args:
        predictions: N captions.
        references: N references, each a text or a list of texts.
        backend: `java`: PTB tokenizer and METEOR 1.5 of pycocoevalcap; `python`: neither; `auto`: Java where it can be
            used.
        return_items: Return the scores of every caption too.

    Returns:
        `cider` (0 to 10; tables of papers show it x10 or x100), `meteor` (0 to 1; None without Java), `meteor_exact`
        (0 to 1; METEOR's formula on exact words, always there), `meteor_matcher` and `tokenizer` (what was used),
        `bleu_1` to `bleu_4` and `rouge_l` (None without pycocoevalcap), `exact_match`, `num_items`, `num_empty`; with
        `return_items` `items`: N dicts of `cider`, `meteor`, `meteor_exact`, `rouge_l`, `tokens`.

    Raises:
        ValueError: Counts that differ, an empty reference, nothing to score, an unknown backend.
        RuntimeError: `backend="java"` without Java or pycocoevalcap, or Java failed.
    """
    texts = _checked(predictions, references, backend)
    use_java = java_is_usable() if backend == "auto" else backend == "java"
    if use_java and not java_is_usable():
        raise RuntimeError(
            "backend='java' needs pycocoevalcap (pip install pycocoevalcap) and `java` on the path: install them, or "
            "ask for backend='python'."
        )
    said, true = _tokenized(predictions, texts, use_java)
    cider = cider_scores(said, true)
    exact, exact_items = meteor_exact_scores(said, true)
    meteor, meteor_items = _meteor(said, true) if use_java else (None, [None] * len(said))
    bleu, rouge, rouge_items = _bleu_and_rouge(said, true)
    result: dict[str, Any] = {
        "cider": float(cider.mean()),
        "meteor": meteor,
        "meteor_exact": exact,
        "meteor_matcher": METEOR_15 if use_java else METEOR_EXACT,
        "tokenizer": "Stanford PTB 3.4.1" if use_java else "plain words (no Java)",
        **{f"bleu_{n + 1}": bleu[n] for n in range(4)},
        "rouge_l": rouge,
        "exact_match": sum(a in b for a, b in zip(said, true, strict=True)) / len(said),
        "num_items": len(said),
        "num_empty": sum(not text for text in said),
    }
    if return_items:
        columns = zip(cider.tolist(), meteor_items, exact_items, rouge_items, said, strict=True)
        names = ("cider", "meteor", "meteor_exact", "rouge_l", "tokens")
        result["items"] = [dict(zip(names, row, strict=True)) for row in columns]
    return result


def _checked(predictions: Sequence[str], references: Sequence[str | Sequence[str]], backend: str) -> list[list[str]]:
    """Read the references as lists of texts."""
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is unknown: choose one of {', '.join(BACKENDS)}.")
    if len(predictions) != len(references) or not len(references):
        counts = f"{len(predictions)} predictions and {len(references)} references"
        raise ValueError(f"got {counts}: give one caption for each reference (an empty text where there is none).")
    texts = [[reference] if isinstance(reference, str) else list(reference) for reference in references]
    for index, (said, options) in enumerate(zip(predictions, texts, strict=True)):
        if not isinstance(said, str):
            raise ValueError(f"predictions[{index}] = {said!r} is no text: an empty text stands for no caption.")
        if not options or not all(isinstance(text, str) and text.strip() for text in options):
            raise ValueError(f"references[{index}] = {options!r}: give at least one text, none of them empty.")
    return texts


def _tokenized(
    predictions: Sequence[str], texts: list[list[str]], use_java: bool
) -> tuple[list[str], list[list[str]]]:
    tokenize = tokenize_ptb if use_java else tokenize_plain
    tokens = tokenize([*predictions, *(text for options in texts for text in options)])
    rest = iter(tokens[len(predictions) :])
    return tokens[: len(predictions)], [[next(rest) for _ in options] for options in texts]


def _meteor(said: list[str], true: list[list[str]]) -> tuple[float, list[float]]:
    """METEOR 1.5 of pycocoevalcap; an empty caption scores 0, also where Java would read no line."""
    from pycocoevalcap.meteor.meteor import Meteor

    java = Meteor()
    try:
        score, items = java.compute_score(dict(enumerate(true)), {index: [text] for index, text in enumerate(said)})
    except (OSError, ValueError) as error:  # it ended: a closed pipe, or nothing where a number should be
        java.lock.release()  # still held, and its destructor would wait for it for ever
        java.meteor_p.kill()
        with contextlib.suppress(OSError):  # what was not written any more
            java.meteor_p.stdin.close()
        last = java.meteor_p.stderr.read().decode("utf-8", "replace").strip()[-300:]
        raise RuntimeError(
            f"METEOR (Java) ended before it had scored {len(said)} captions; it asks for 2 GB of memory. It said: "
            f"{last!r}. backend='python' does without."
        ) from error
    finally:
        java.meteor_p.stdout.close()
        java.meteor_p.stderr.close()
    return score, items


def _bleu_and_rouge(
    said: list[str], true: list[list[str]]
) -> tuple[list[float | None], float | None, list[float | None]]:
    """BLEU 1 to 4 and ROUGE-L of pycocoevalcap, which need no Java; None without it."""
    if importlib.util.find_spec("pycocoevalcap") is None:
        return [None] * 4, None, [None] * len(said)
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.rouge.rouge import Rouge

    truth, answers = dict(enumerate(true)), {index: [text] for index, text in enumerate(said)}
    bleu, _ = Bleu(4).compute_score(truth, answers, verbose=0)
    rouge, items = Rouge().compute_score(truth, answers)
    return [float(value) for value in bleu], float(rouge), [float(value) for value in items]
