"""Numbers of trajectories: those of the paper's Table 1, and distributions of length, size, motion and words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .rows import Trajectory

__all__ = ["MEASURES", "Measured", "measure", "table_lines"]

# Name of a measure -> what it is; one number per trajectory.
MEASURES = {
    "frames": "annotated frames",
    "seconds": "length in seconds",
    "box_side": "side of the box, relative to the frame (square root of its mean area)",
    "speed": "way of the box's center per second, in frame diagonals",
    "words": "words of the expression",
    "absent": "share of frames in which the object is not to be seen",
}
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass
class Measured:
    """What was measured of many trajectories.

    Attributes:
        values: measure -> one number per trajectory, NaN where it cannot be told.
        trajectories, boxes: how many there are; boxes count frames in which the object is there.
        seconds: of all trajectories together.
        videos: trajectory count by video.
        phrases: how often each expression occurs, case folded.
        splits, sources: trajectory count by split and by source.
        vocabulary: distinct words of the expressions.
    """

    values: dict[str, np.ndarray] = field(default_factory=dict)
    trajectories: int = 0
    boxes: int = 0
    seconds: float = 0.0
    videos: Counter[str] = field(default_factory=Counter)
    phrases: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    vocabulary: set[str] = field(default_factory=set)

    def table(self) -> dict[str, float | int]:
        """Return the numbers by which the paper compares data sets (Table 1)."""
        frames = self.values["frames"]
        return {
            "trajectories": self.trajectories,
            "videos": len(self.videos),
            "expressions": sum(self.phrases.values()),
            "distinct expressions": len(self.phrases),
            "distinct words": len(self.vocabulary),
            "boxes": self.boxes,
            "hours": round(self.seconds / 3600, 4),
            "mean frames": round(float(frames.mean()), 1),
            "shortest, frames": int(frames.min()),
            "longest, frames": int(frames.max()),
            "mean seconds": round(self.seconds / self.trajectories, 2),
            "mean words": round(float(self.values["words"].mean()), 2),
        }

    def quantiles(self) -> dict[str, dict[str, float]]:
        """Return quantiles of every measure; of none where it could be told of no trajectory."""
        found = {}
        for name, numbers in self.values.items():
            known = numbers[~np.isnan(numbers)]
            if len(known):
                marks = np.quantile(known, _QUANTILES)
                found[name] = {f"{q:g}": float(np.round(v, 5)) for q, v in zip(_QUANTILES, marks, strict=True)}
        return found

    def as_json(self) -> dict[str, Any]:
        """Return all of it but the single values, as JSON."""
        return {
            "table": self.table(),
            "splits": dict(sorted(self.splits.items())),
            "sources": dict(sorted(self.sources.items())),
            "quantiles": self.quantiles(),
            "most frequent expressions": dict(self.phrases.most_common(20)),
        }


def measure(rows: Iterable[Trajectory]) -> Measured:
    """Measure trajectories one by one; memory holds six numbers of each, and the distinct videos and expressions.

    Raises:
        ValueError: there is none.
    """
    found = Measured()
    values: dict[str, list[float]] = {name: [] for name in MEASURES}
    for row in rows:
        for name, number in _measures(row).items():
            values[name].append(number)
        found.trajectories += 1
        found.boxes += int(row.presence.sum())
        found.seconds += values["seconds"][-1]
        found.videos[row.video_id] += 1
        found.phrases[row.phrase.casefold()] += 1
        found.splits[row.split or "train"] += 1
        found.sources[row.source] += 1
        found.vocabulary.update(row.phrase.casefold().split())
    if not found.trajectories:
        raise ValueError("there is no trajectory to measure; see which phrases the pipeline dropped, and why.")
    found.values = {name: np.array(numbers, dtype=np.float64) for name, numbers in values.items()}
    return found


def _measures(row: Trajectory) -> dict[str, float]:
    there = row.presence
    boxes = np.clip(row.boxes[there], 0, 1).astype(np.float64)
    times = np.asarray(row.timestamps, dtype=np.float64)
    lasts = float(times[-1] - times[0]) if len(times) else 0.0
    if len(times) > 1:  # the last frame is shown, too
        lasts += lasts / (len(times) - 1)
    elif row.fps:
        lasts = 1 / row.fps
    side = float(np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).mean())) if len(boxes) else np.nan
    return {
        "frames": len(row.frame_indices),
        "seconds": lasts,
        "box_side": side,
        "speed": _speed(boxes, times[there] if len(times) else times, row.width, row.height),
        "words": len(row.phrase.split()),
        "absent": float(1 - there.mean()) if len(there) else np.nan,
    }


def _speed(boxes: np.ndarray, times: np.ndarray, width: int, height: int) -> float:
    """Return the way of the center per second in frame diagonals; NaN for fewer than two boxes."""
    if len(boxes) < 2 or len(times) != len(boxes) or times[-1] <= times[0]:
        return float("nan")
    centers_px = (boxes[:, :2] + boxes[:, 2:]) / 2 * (width, height)
    way = np.linalg.norm(np.diff(centers_px, axis=0), axis=1).sum()
    return float(way / np.hypot(width, height) / (times[-1] - times[0]))


def table_lines(found: Measured) -> list[str]:
    """Return table and quantiles as Markdown."""
    lines = ["| | |", "|---|---:|"]
    lines += [f"| {name} | {number:,} |" for name, number in found.table().items()]
    lines += [f"| trajectories, {name} | {count:,} |" for name, count in sorted(found.splits.items())]
    lines += ["", "| per trajectory | min | 5 % | 25 % | median | 75 % | 95 % | max |", "|---|" + "---:|" * 7]
    for name, marks in found.quantiles().items():
        lines.append(f"| {MEASURES[name]} | " + " | ".join(f"{value:.3g}" for value in marks.values()) + " |")
    return lines
