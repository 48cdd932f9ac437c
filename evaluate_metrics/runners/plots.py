"""Success and precision plots; matplotlib is an extra, and without it there are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tracking_elysium.whole_files import written_whole

from .scoring import TrackerScores

__all__ = ["plot_curves"]

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
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return []
    drawn = [one for one in scored if one.curves]
    paths = []
    for curve, (label, largest, score) in AXES.items() if drawn else ():
        figure = Figure(figsize=(6, 4.5), dpi=120)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for one in drawn:
            values = one.curves[curve]
            steps = np.linspace(0, largest, len(values))
            axes.plot(steps, values, label=f"{one.tracker} [{one.scores[score]:.3f}]")
        axes.set(xlabel=label, ylabel="share of frames", xlim=(0, largest), ylim=(0, 1), title=f"{task}: {curve}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        path = folder / f"{task}-{curve}.png"
        with written_whole(path) as part:
            figure.savefig(part, metadata={"Software": None}, format="png")
        paths.append(path)
    return paths
