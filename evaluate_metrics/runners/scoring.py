"""From results on disk to scores: per tracker, with what is missing or unreadable named and counted.

Whatever is missing stays in the denominator: a sequence without result has no box in any frame, an item without
answer is wrong.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..rec_accuracy.rec import evaluate_rec
from ..tracking_ope.ope import evaluate_ope, is_box
from ..tracking_ope.presence import presence_scores
from ..video_reg.captions import evaluate_captions
from ..videoqa.qa import evaluate_qa
from .judged import read_judged
from .store import Truth, read_lines, read_track

__all__ = ["TrackerScores", "bootstrap_interval", "score_task", "score_tracker"]

RESAMPLES = 1000
CAPTION_SCORES = ("meteor", "meteor_exact", "cider", "bleu_4", "rouge_l", "exact_match")


@dataclass
class TrackerScores:
    """Scores of one tracker on one task.

    Attributes:
        tracker: its name.
        scores: name of the score -> value.
        intervals: name -> (low, high), 95 % by bootstrap over sequences or items, of scores that are their mean.
        per_item: name of the item -> its scores (None: no frame of it counts).
        expected: items of the task whose truth is public.
        missing: names without result.
        problems: what could not be read, and what looks wrong; for people.
        counts: frames (or items) without a box or answer; of the frames whose gap was filled those in which the
            tracker said that the object is absent, and those in which it said nothing readable.
        unanswered: names of the items without a readable answer, and of the sequences with such frames.
        presence: whether the tracker knows when the object is gone; None where no truth says that it ever is.
        judged: verdicts of judges on answers, one dictionary per judge.
        curves: of tracking.
        run: what `run.json` says; environment: where it ran.
        notes: how captions were tokenized and matched.
    """

    tracker: str
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_item: dict[str, dict[str, float] | None]
    expected: int
    missing: list[str]
    problems: list[str]
    counts: dict[str, int]
    unanswered: list[str] = field(default_factory=list)
    presence: dict[str, float | int | None] | None = None
    judged: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    environment: str = ""
    notes: str = ""


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
    counts = {"frames": 0, "without box": 0, "said absent": 0, "unreadable": 0}
    unanswered, gone = [], []
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
            gone.append(np.ones(frames, dtype=bool))
            continue
        boxes = track.boxes_xywh_px
        predictions.append(boxes)
        unboxed = np.isnan(boxes).any(axis=1)
        filled = ~unboxed & (track.scores == 0)
        told = np.zeros(frames, dtype=bool) if track.presence is None else np.isfinite(track.presence)
        gone.append(unboxed | filled)
        counts["frames"] += frames
        counts["without box"] += int(unboxed.sum())
        counts["said absent"] += int((filled & told).sum())
        counts["unreadable"] += int((filled & ~told).sum())
        if (filled & ~told).any():
            unanswered.append(truth.name)
    result = TrackerScores(folder.name, {}, {}, {}, len(truths), missing, problems, counts, unanswered)
    if truths:
        _score_boxes(result, predictions, truths, task)
        result.presence = _presence(predictions, truths, gone)
    return result


def _presence(
    predictions: Sequence[np.ndarray], truths: Sequence[Truth], gone: Sequence[np.ndarray]
) -> dict[str, float | int | None] | None:
    """Presence over the frames of which the truth says whether the object is there.

    A frame without a box in a sequence without flags of absence is one that nobody annotated, and is left out.
    """
    boxes, references, absent, said = [], [], [], []
    for predicted, truth, flags in zip(predictions, truths, gone, strict=True):
        there = is_box(truth.boxes_xywh_px)
        known = there if truth.absent is None else np.ones(len(there), dtype=bool)
        boxes.append(predicted[known])
        references.append(truth.boxes_xywh_px[known])
        absent.append((~there if truth.absent is None else ~there | truth.absent)[known])
        said.append(flags[known])
    if not any(flags.any() for flags in absent):
        return None
    return presence_scores(boxes, references, absent, said)


def _score_boxes(
    result: TrackerScores, predictions: list[np.ndarray], truths: Sequence[Truth], task: dict[str, Any]
) -> None:
    absent = [np.zeros(len(t.boxes_xywh_px)) if t.absent is None else t.absent for t in truths]
    references = [truth.boxes_xywh_px for truth in truths]
    with warnings.catch_warnings(record=True) as warned:  # boxes that look like corners: a line of the report
        warnings.simplefilter("always")
        ope = evaluate_ope(predictions, references, absent, task["convention"], task["absent_as"])
    result.problems += [str(warning.message) for warning in warned]
    names = ["auc", "precision", "normalized_precision"]
    first = ["ao", "sr_50", "sr_75"] if task["convention"] == "got10k" else []
    result.scores = {name: float(ope[name]) for name in (*first, *names)}
    result.per_item = {truth.name: one for truth, one in zip(truths, ope["per_video"], strict=True)}
    counted = [one for one in ope["per_video"] if one is not None]
    result.intervals = {name: bootstrap_interval([one[name] for one in counted]) for name in names}
    result.curves = {key: ope[f"{key}_curve"] for key in ("success", "precision", "normalized_precision")}


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
    texts = [str(row.get("text") or "").strip() for row in given]
    if ask == "rec":
        boxes, true = [row.get("box") for row in given], [truth.boxes_xywh_px[0] for truth in truths]
        found = evaluate_rec(boxes, true, box_format="xywh", return_items=True)
        scores = {"acc_50": found["accuracy"], "mean_iou": found["mean_iou"]}
        items = [{"acc_50": float(item["iou"] > 0.5), "mean_iou": item["iou"]} for item in found["items"]]
        unread = [item["malformed"] is not None for item in found["items"]]
    elif ask == "vqa":
        found = evaluate_qa(texts, [truth.references[0] for truth in truths], return_items=True)
        names = ("normalized_match", "exact_match", "contained_match")
        scores = {name: found[name] for name in names}
        items = [{name: float(item[name]) for name in names} for item in found["items"]]
        unread = [not text for text in texts]
    else:
        found = evaluate_captions(texts, [list(truth.references) for truth in truths], return_items=True)
        scores = {name: found[name] for name in CAPTION_SCORES if found[name] is not None}
        per = [name for name in scores if name in found["items"][0]]
        items = [{name: float(item[name]) for name in per} for item in found["items"]]
        unread = [not text for text in texts]
    counts = {"items": len(truths), "without answer": sum(unread)}
    unanswered = [t.name for t, empty in zip(truths, unread, strict=True) if empty and t.name in rows]
    per_item: dict[str, dict[str, float] | None] = {t.name: item for t, item in zip(truths, items, strict=True)}
    # METEOR of a corpus is no mean of its items' METEOR: their bootstrap says nothing of it, so it has no interval.
    means = {name: [item[name] for item in items] for name in items[0]}
    intervals = {name: bootstrap_interval(v) for name, v in means.items() if np.isclose(np.mean(v), scores[name])}
    result = TrackerScores(folder.name, scores, intervals, per_item, len(truths), missing, [], counts, unanswered)
    if ask == "vqa":
        result.judged, stale = read_judged(folder, [truth.name for truth in truths], texts)
        result.problems += stale
    if "meteor_matcher" in found:
        result.notes = f"{found['meteor_matcher']}; tokens: {found['tokenizer']}"
    return result
