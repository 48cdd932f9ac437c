"""Tables of a report as Markdown and as LaTeX; scores in, text out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from .scoring import TrackerScores
from .splits import groups_of
from .store import Truth

__all__ = [
    "LABELS", "group_rows", "judge_rows", "latex", "main_rows", "markdown", "per_item_rows", "presence_rows",
]  # fmt: skip

LABELS = {
    "auc": "AUC",
    "precision": "P",
    "normalized_precision": "Pnorm",
    "ao": "AO",
    "sr_50": "SR 0.5",
    "sr_75": "SR 0.75",
    "acc_50": "Acc@0.5",
    "mean_iou": "mean IoU",
    "normalized_match": "normalized match",
    "exact_match": "exact match",
    "contained_match": "answer contained",
    "meteor_exact": "METEOR, exact words",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "meteor": "METEOR",
    "cider": "CIDEr",
    "gpt_accuracy": "GPT-assisted accuracy",
}
Row = list[str]


def markdown(rows: Sequence[Row]) -> list[str]:
    """Lines of a Markdown table; the first row is its head."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return lines + [f"| {' | '.join(row)} |" for row in body] + [""]


def latex(rows: Sequence[Row], caption: str) -> list[str]:
    """Lines of a LaTeX table (booktabs)."""
    head, *body = [[_escaped(cell) for cell in row] for row in rows]
    lines = ["\\begin{table}", "\\centering", f"\\caption{{{_escaped(caption)}}}"]
    lines += [f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", "\\toprule", " & ".join(head) + " \\\\", "\\midrule"]
    lines += [" & ".join(row) + " \\\\" for row in body]
    return [*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""]


def _escaped(text: str) -> str:
    for letter in "&%$#_{}":
        text = text.replace(letter, f"\\{letter}")
    return text


def main_rows(scored: Sequence[TrackerScores], published: Sequence[dict[str, Any]]) -> list[Row]:
    """One row per tracker: scores with their interval, results that are there, failures; then published numbers."""
    names = list(dict.fromkeys(name for one in scored for name in one.scores))
    also = [name for name in LABELS if name not in names and any(name in row for row in published)]
    counts = list(dict.fromkeys(name for one in scored for name in one.counts if name not in ("frames", "items")))
    rows = [["tracker", *(LABELS.get(name, name) for name in (*names, *also)), "results", *counts]]
    for one in scored:
        cells = [_with_interval(one.scores.get(name), one.intervals.get(name)) for name in names]
        done = f"{one.expected - len(one.missing)} of {one.expected}"
        total = one.counts.get("frames", one.counts.get("items", 0))
        told = [f"{one.counts.get(name, 0)} of {total}" for name in counts]
        rows.append([one.tracker, *cells, *("" for _ in also), done, *told])
    for row in published:
        cells = [_number(row.get(name)) for name in (*names, *also)]
        rows.append([f"{row['tracker']} [{row['source']}]", *cells, "published", *("" for _ in counts)])
    return rows


def group_rows(scored: Sequence[TrackerScores], truths: Sequence[Truth], score: str) -> list[Row]:
    """One row per group of sequences (attribute, size, speed, ...): mean score of each tracker."""
    members: dict[str, list[str]] = defaultdict(list)
    for truth in truths:
        for group in groups_of(truth):
            members[group].append(truth.name)
    rows = [["group", "sequences", *(one.tracker for one in scored)]]
    for group in sorted(members):
        means = []
        for one in scored:
            found = [one.per_item.get(name) for name in members[group]]
            values = [item[score] for item in found if item is not None]
            means.append(_number(float(np.mean(values)) if values else None))
        rows.append([group, str(len(members[group])), *means])
    return rows


def per_item_rows(scored: Sequence[TrackerScores], score: str) -> list[Row]:
    """One row per sequence or item: the score of each tracker, empty where no frame counts."""
    rows = [["name", *(one.tracker for one in scored)]]
    for name in dict.fromkeys(name for one in scored for name in one.per_item):
        found = [one.per_item.get(name) for one in scored]
        rows.append([name, *(_number(None if item is None else item[score]) for item in found)])
    return rows


def presence_rows(scored: Sequence[TrackerScores]) -> list[Row]:
    """One row per tracker: does it know when the object is gone; the head alone where no truth says that it is."""
    kinds = ("absence", "presence", "long_term")
    measures = ("precision", "recall", "f")
    head = [f"{kind.replace('_', '-')} {'F' if name == 'f' else name}" for kind in kinds for name in measures]
    rows = [["tracker", "frames absent", "said absent", "confused", *head]]
    for one in scored:
        if one.presence is not None:
            counts = [str(one.presence[f"frames_{name}"]) for name in ("absent", "said_absent", "confused")]
            values = [_number(one.presence[f"{kind}_{name}"]) for kind in kinds for name in measures]
            rows.append([one.tracker, *counts, *values])
    return rows


def judge_rows(scored: Sequence[TrackerScores]) -> list[Row]:
    """One row per tracker and judge: accuracy and score over all items, and what has no verdict."""
    rows = [["tracker", "judge", LABELS["gpt_accuracy"], "score of 5", "accuracy of the judged", "judged", "problems"]]
    for one in scored:
        for said in one.judged:
            values = [_number(said[key]) for key in ("gpt_accuracy", "gpt_score", "gpt_accuracy_of_judged")]
            problems = ", ".join(f"{name} {count}" for name, count in said["problems"].items())
            told = f"{said['num_judged']} of {said['num_items']}"
            rows.append([one.tracker, said["judge"], *values, told, problems])
    return rows


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    text = _number(value)
    return f"{text} [{interval[0]:.3f}, {interval[1]:.3f}]" if text and interval else text
