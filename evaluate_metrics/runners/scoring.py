"""From results on disk to scores: per tracker, with what is missing or unreadable named and counted.

Whatever is missing stays in the denominator: a sequence without result has no box in any frame, an item without
answer is wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..tracking_ope.ope import box_iou, evaluate_ope
from .captions import caption_scores
from .store import Truth, read_lines, read_track

__all__ = ["TrackerScores", "bootstrap_interval", "score_task", "score_tracker"]

RESAMPLES = 1000
_SWAP_GAIN = 0.2  # mean IoU gained by reading boxes as corners, from which on we say so


@dataclass
class TrackerScores:
    """Scores of one tracker on one task.

    Attributes:
        tracker: its name.
        scores: name of the score -> value.
        intervals: name -> (low, high), 95 % by bootstrap over sequences or items.
        per_item: name of the item -> its scores (None: no frame of it counts).
        expected: items of the task whose truth is public.
        missing: names without result.
        problems: what could not be read, and what looks wrong; for people.
        counts: frames (or items) without a box or answer, and gaps that were filled.
        curves: of tracking.
        run: what `run.json` says; environment: where it ran.
    """

    tracker: str
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_item: dict[str, dict[str, float] | None]
    expected: int
    missing: list[str]
    problems: list[str]
    counts: dict[str, int]
    curves: dict[str, list[float]] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    environment: str = ""


def score_task(folder: Path, truths: Sequence[Truth], task: dict[str, Any]) -> list[TrackerScores]:
    """Score every tracker that has a folder, best first."""
    names = sorted(path.name for path in folder.iterdir() if (path / "run.json").is_file())
    scored = [score_tracker(folder / name, truths, task) for name in names]
    return sorted(scored, key=lambda one: (-next(iter(one.scores.values()), math.nan), one.tracker))


def score_tracker(folder: Path, truths: Sequence[Truth], task: dict[str, Any]) -> TrackerScores:
    """Score one tracker.

    Args:
        folder: of its results.
        truths: of the task.
        task: from `task.json`: ask, convention, absent_as.
    """
    public = [truth for truth in truths if truth.scored]
    if task["ask"] in ("sot", "rsot"):
        result = _tracking(folder, public, task)
    else:
        result = _answers(folder, public, task["ask"])
    result.run = json.loads((folder / "run.json").read_text("utf-8"))
    where = folder / "environment.json"
    result.environment = json.loads(where.read_text("utf-8"))["environment"] if where.is_file() else ""
    if len(public) < len(truths):
        result.problems.append(
            f"{len(truths) - len(public)} sequences have no public truth; send the raw files to the benchmark's server"
        )
    return result


def _tracking(folder: Path, truths: Sequence[Truth], task: dict[str, Any]) -> TrackerScores:
    predictions, missing, problems = [], [], []
    counts = {"frames": 0, "without box": 0, "gap filled": 0}
    for truth in truths:
        frames = len(truth.boxes_xywh_px)
        try:
            track = read_track(folder, truth.name)
            if track is not None and len(track.boxes_xywh_px) != frames:
                raise ValueError(f"{truth.name}: {len(track.boxes_xywh_px)} boxes for {frames} frames")
        except ValueError as error:
            problems.append(f"{error}; counted as missing")
            track = None
        if track is None:
            missing.append(truth.name)
            predictions.append(np.full((frames, 4), np.nan))
            continue
        boxes = track.boxes_xywh_px
        predictions.append(boxes)
        unboxed = np.isnan(boxes).any(axis=1)
        counts["frames"] += frames
        counts["without box"] += int(unboxed.sum())
        counts["gap filled"] += int((~unboxed & (track.scores == 0)).sum())
    problems += _corners_suspected(predictions, truths)
    result = TrackerScores(folder.name, {}, {}, {}, len(truths), missing, problems, counts)
    if truths:
        _score_boxes(result, predictions, truths, task)
    return result


def _score_boxes(
    result: TrackerScores, predictions: list[np.ndarray], truths: Sequence[Truth], task: dict[str, Any]
) -> None:
    absent = [np.zeros(len(t.boxes_xywh_px)) if t.absent is None else t.absent for t in truths]
    references = [truth.boxes_xywh_px for truth in truths]
    ope = evaluate_ope(predictions, references, absent, task["convention"], task["absent_as"])
    names = ["auc", "precision", "normalized_precision"]
    first = ["ao", "sr_50", "sr_75"] if task["convention"] == "got10k" else []
    result.scores = {name: float(ope[name]) for name in (*first, *names)}
    result.per_item = {truth.name: one for truth, one in zip(truths, ope["per_video"], strict=True)}
    counted = [one for one in ope["per_video"] if one is not None]
    result.intervals = {name: bootstrap_interval([one[name] for one in counted]) for name in names}
    result.curves = {key: ope[f"{key}_curve"] for key in ("success", "precision", "normalized_precision")}


def _corners_suspected(predictions: list[np.ndarray], truths: Sequence[Truth]) -> list[str]:
    """A warning where boxes fit much better when read as x1, y1, x2, y2."""
    if not predictions:
        return []
    said, true = np.concatenate(predictions), np.concatenate([truth.boxes_xywh_px for truth in truths])
    both = np.isfinite(said).all(axis=1) & np.isfinite(true).all(axis=1)
    if not both.any():
        return []
    said, true = said[both], true[both]
    corners = np.concatenate([said[:, :2], said[:, 2:] - said[:, :2]], axis=1)
    as_is, as_corners = box_iou(said, true).mean(), box_iou(corners, true).mean()
    if as_corners < as_is + _SWAP_GAIN:
        return []
    return [
        f"boxes look like corners: mean IoU {as_is:.3f} as x, y, w, h and {as_corners:.3f} as x1, y1, x2, y2; "
        "write x, y, w, h"
    ]


def bootstrap_interval(values: Sequence[float], resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean by the percentile bootstrap.

    Args:
        values: one per sequence or item.
        resamples: number of resamples.
        seed: of their draw.

    Returns:
        Low and high; NaN for no value.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    means = [array[rng.integers(0, len(array), len(array))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


# --------------------------------------------------------------------------------------------------------------
# answers that are no tracks
# --------------------------------------------------------------------------------------------------------------
def _answers(folder: Path, truths: Sequence[Truth], ask: str) -> TrackerScores:
    rows = {row["name"]: row for path in sorted(folder.glob("block-*.jsonl")) for row in read_lines(path)}
    missing = [truth.name for truth in truths if truth.name not in rows]
    given = [rows.get(truth.name, {}) for truth in truths]
    if ask == "rec":
        return _rec(folder.name, given, truths, missing)
    texts = [str(row.get("text") or "").strip() for row in given]
    counts = {"items": len(truths), "without answer": sum(not text for text in texts)}
    if ask == "vqa":
        per_item = {truth.name: _compared(text, truth) for text, truth in zip(texts, truths, strict=True)}
    else:
        per_item = {truth.name: _best(text, truth) for text, truth in zip(texts, truths, strict=True)}
    return _mean_of_items(folder.name, per_item, missing, counts)


def _rec(tracker: str, given: Sequence[dict[str, Any]], truths: Sequence[Truth], missing: list[str]) -> TrackerScores:
    boxes = np.array([row.get("box") or [np.nan] * 4 for row in given], dtype=np.float64).reshape(-1, 4)
    iou = box_iou(boxes, np.concatenate([truth.boxes_xywh_px for truth in truths]))
    per_item = {
        truth.name: {"acc_50": float(value > 0.5), "iou": float(value)}
        for truth, value in zip(truths, iou, strict=True)
    }
    counts = {"items": len(truths), "without answer": int(np.isnan(boxes).any(axis=1).sum())}
    return _mean_of_items(tracker, per_item, missing, counts)


def _mean_of_items(
    tracker: str, per_item: dict[str, dict[str, float]], missing: list[str], counts: dict[str, int]
) -> TrackerScores:
    names = list(next(iter(per_item.values())))
    columns = {name: [row[name] for row in per_item.values()] for name in names}
    scores = {name: float(np.mean(values)) for name, values in columns.items()}
    intervals = {name: bootstrap_interval(values) for name, values in columns.items()}
    return TrackerScores(tracker, scores, intervals, dict(per_item), len(per_item), missing, [], counts)


def _compared(text: str, truth: Truth) -> dict[str, float]:
    """Whether the answer is the reference, and whether it holds it as whole words."""
    said, wanted = normalized(text), normalized(truth.references[0])
    return {"exact": float(said == wanted), "contains": float(bool(wanted) and f" {wanted} " in f" {said} ")}


def _best(text: str, truth: Truth) -> dict[str, float]:
    """Exact match and word overlap with the reference that fits best."""
    each = [caption_scores([text], [reference]) for reference in truth.references]
    return {name: max(one[name] for one in each) for name in ("exact_match", "overlap")}


def normalized(text: str) -> str:
    """Lower case, letters and digits only, articles left out: how short answers are compared."""
    plain = "".join(letter if letter.isalnum() else " " for letter in text.lower())
    return " ".join(word for word in plain.split() if word not in ("a", "an", "the"))
