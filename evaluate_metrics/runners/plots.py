"""Success and precision plots, and IoU by size; matplotlib is an extra, and without it there are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tracking_elysium.whole_files import written_whole

from .by_size import iou_by_size
from .scoring import TrackerScores
from .store import Truth

__all__ = ["plot_curves", "plot_overview"]

AXES = {
    "success": ("overlap threshold", 1.0, "auc"),
    "precision": ("center error threshold in pixels", 50.0, "precision"),
    "normalized_precision": ("normalized center error threshold", 0.5, "normalized_precision"),
}


def plot_curves(scored: Sequence[TrackerScores], folder: Path, task: str) -> list[Path]:
    """Draw one plot per curve with all trackers.

    Args:
        scored: those with curves are drawn.
        folder: to write to.
        task: names the files.

    Returns:
        Files written; none without matplotlib or curves.
    """
    drawn = [one for one in scored if one.curves]
    paths: list[Path] = []
    for curve in AXES if drawn else ():
        figure = _figure(6, 4.5, 120)
        if figure is None:
            return []
        axes = figure.add_subplot()
        _draw_curve(axes, drawn, curve)
        axes.set_title(f"{task}: {curve}")
        paths.append(_saved(figure, folder / f"{task}-{curve}.png"))
    return paths


def plot_overview(scored: Sequence[TrackerScores], truths: Sequence[Truth], folder: Path, path: Path) -> list[Path]:
    """Draw success, precision and IoU by size of all trackers side by side, in one small picture.

    Args:
        scored: those with curves are drawn.
        truths: of the task.
        folder: of the task's results.
        path: PNG file to write.

    Returns:
        Files written; none without matplotlib or curves.
    """
    drawn = [one for one in scored if one.curves]
    figure = _figure(12, 3.6, 80) if drawn else None
    if figure is None:
        return []
    left, middle, right = figure.subplots(1, 3)
    _draw_curve(left, drawn, "success")
    _draw_curve(middle, drawn, "precision")
    for one in drawn:
        bins = iou_by_size(folder / one.tracker, truths)
        right.plot([b.side_px for b in bins], [b.mean_iou for b in bins], marker="o", markersize=3)
    # No legend: the colors are those of the other two, and it would cover the lowest curves.
    right.set(xlabel="side of the object in pixels", ylabel="mean IoU of frames", ylim=(0, 1))
    right.grid(alpha=0.3)
    figure.tight_layout()
    return [_saved(figure, path)]


def _figure(width: float, height: float, dpi: int) -> Any:
    """An empty figure (inches, dots per inch); None without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def _draw_curve(axes: Any, drawn: Sequence[TrackerScores], curve: str) -> None:
    label, largest, score = AXES[curve]
    for one in drawn:
        values = one.curves[curve]
        axes.plot(np.linspace(0, largest, len(values)), values, label=f"{one.tracker} [{one.scores[score]:.3f}]")
    axes.set(xlabel=label, ylabel="share of frames", xlim=(0, largest), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small" if axes.get_figure().axes[1:] else "small")


def _saved(figure: Any, path: Path) -> Path:
    with written_whole(path) as part:
        figure.savefig(part, metadata={"Software": None}, format="png")
    return path
