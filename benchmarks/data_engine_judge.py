"""Rows of a build against the truth of its videos, and what every set of filters makes of them.

A trajectory is good where its object can be seen in every frame and its box overlaps the true one by half or more in
nine frames of ten. All else that came out of the tracker is a fault.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data_engine_set import read_truth, tracks_of
from dataset_scripts.construction.builds import build_files
from dataset_scripts.construction.rows import Trajectory, read_trajectories
from processing_elysium.boxes import iou

__all__ = ["DEFAULT", "Filters", "choose_gate", "filter_table", "judge", "tally"]

HALF, SHARE = 0.5, 0.9
GATES = (9.5, 12, 15, 20, 25, 30, 40, 50, 70, 100, 150)
JUMPS = ("jump", "switch", "excursion")  # planned faults that begin with a leap of the box, which a gate may see


@dataclass(frozen=True)
class Filters:
    """The thresholds of a build; None switches a filter off."""

    grounding: float | None = 0.6
    tracking: float | None = 0.8
    drift: float | None = 30.0
    consistency: float | None = 0.3

    def keep(self, row: dict[str, Any]) -> bool:
        """Whether a judged row passes."""
        return (
            (self.grounding is None or row["grounding"] > self.grounding)
            and (self.tracking is None or row["tracking"] > self.tracking)
            and (self.drift is None or row["innovation"] <= self.drift)
            and (self.consistency is None or row["overlap"] >= self.consistency)
        )


DEFAULT = Filters()


def judge(truth: Path, build: Path) -> list[dict[str, Any]]:
    """Return a plain row per trajectory: whether it is good, what was planned, what the filters measured."""
    rows = {row["id"]: row for row in read_truth(truth)}
    return [_judged(t, rows[t.video_id]) for file in build_files(build) for t in read_trajectories(file)]


def _judged(found: Trajectory, truth: dict[str, Any]) -> dict[str, Any]:
    measured = found.provenance["measured"]
    row = {
        "video": found.video_id, "phrase": found.phrase, "good": False, "kind": "not named",
        "grounding": min(measured["grounding_scores"]), "tracking": measured["min_tracking_score"],
        "innovation": measured["max_innovation"], "overlap": min(measured["iou_middle"], measured["iou_last"]),
    }  # fmt: skip
    shares = {}
    for which in tracks_of(truth, found.phrase):
        true = np.array([[np.nan] * 4 if box is None else box for box in truth["tracks"][which]])[found.frame_indices]
        overlaps = np.where(np.isnan(true[:, 0]), 0.0, iou(np.clip(found.boxes, 0, 1), np.nan_to_num(true)))
        shares[which] = (not np.isnan(true).any(), float((overlaps >= HALF).mean()))
    if shares:
        which = max(shares, key=lambda number: shares[number][1])
        seen, share = shares[which]
        kind = truth["faults"][which]["kind"]
        row |= {"good": seen and share >= SHARE, "kind": kind if seen else "leaves"}
    return row


def tally(rows: Iterable[dict[str, Any]], filters: Filters) -> dict[str, Any]:
    """Count what a set of filters keeps and drops, of good rows and of faults."""
    count: Counter[tuple[bool, bool]] = Counter((row["good"], filters.keep(row)) for row in rows)
    good, faults = count[True, True] + count[True, False], count[False, True] + count[False, False]
    kept = count[True, True] + count[False, True]
    return {
        "kept": kept, "good": good, "faults": faults,
        "precision": count[True, True] / kept if kept else None,
        "good kept": count[True, True] / good if good else None,
        "faults dropped": count[False, False] / faults if faults else None,
    }  # fmt: skip


def filter_table(rows: list[dict[str, Any]], filters: Filters) -> dict[str, dict[str, Any]]:
    """Return the tally with all filters, without each one, with each one alone, and with none."""
    names = ("grounding", "tracking", "drift", "consistency")
    none = replace(filters, **dict.fromkeys(names))
    table = {"all filters": tally(rows, filters)}
    table |= {f"without {name}": tally(rows, replace(filters, **{name: None})) for name in names}
    table |= {f"{name} alone": tally(rows, replace(none, **{name: getattr(filters, name)})) for name in names}
    return {**table, "no filter": tally(rows, none)}


def choose_gate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Choose the gate with the largest sum of leaps dropped and good rows kept on one half of the videos.

    The halves are by a digest of the video's name. Of gates with the same sum the largest is taken, since what a gate
    drops for nothing is lost and the other filters see leaps too.
    """
    useful = [row for row in rows if row["good"] or row["kind"] in JUMPS]
    halves = [[row for row in useful if _half(row["video"]) == half] for half in (0, 1)]

    def score(rows: list[dict[str, Any]], gate: float) -> dict[str, Any]:
        return tally(rows, Filters(None, None, gate, None))

    chosen = max(GATES, key=lambda gate: (_sum(score(halves[0], gate)), gate))
    return {
        "chosen": chosen,
        "choosing half": {gate: score(halves[0], gate) for gate in GATES},
        "reporting half": {gate: score(halves[1], gate) for gate in GATES},
    }


def _sum(counts: dict[str, Any]) -> float:
    return round((counts["good kept"] or 0.0) + (counts["faults dropped"] or 0.0), 9)


def _half(video: str) -> int:
    return hashlib.sha256(video.encode()).digest()[0] % 2
