"""Results as plots: the score of every object over time, and the path of its center over a frame.

Results are the pipeline's dicts, boxes in pixels; matplotlib draws, without a display and without global state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

from .visualize import color_of

_DPI = 100
_INCHES = (8.0, 4.0)
_BACKGROUND = "#808080"  # on which all colors of the objects, white and yellow included, can be told apart
_LONGEST_NAME = 40


def plot_scores(results: Sequence[dict[str, Any]]) -> Image.Image:
    """Plot the score of every object over time; a frame whose box a gap policy put there is marked at 0.

    Args:
        results: dicts of the pipeline, in any order.

    Returns:
        An RGB picture.

    Raises:
        ValueError: no results.
        ImportError: matplotlib is not installed.
    """
    _check(results)
    figure = _figure()
    axes = figure.add_subplot()
    axes.set_facecolor(_BACKGROUND)
    timed = all(result["timestamp"] is not None for result in results)
    for number, name, items in _tracks(results):
        at = [result["timestamp"] if timed else result["frame"] for result, _ in items]
        scores = [item["score"] for _, item in items]
        color = _rgb(number)
        axes.plot(at, scores, color=color, label=name)
        bridged = [(second, score) for second, score in zip(at, scores, strict=True) if score <= 0.0]
        if bridged:
            axes.plot(*zip(*bridged, strict=True), "x", color=color)
    axes.set(xlabel="seconds" if timed else "frame", ylabel="score (x: no box was found)", ylim=(-0.03, 1.03))
    return _picture(figure, axes)


def plot_paths(frame: np.ndarray, results: Sequence[dict[str, Any]]) -> Image.Image:
    """Plot the path of every object's center over a frame, a dot where it begins.

    Args:
        frame: uint8 RGB array (H, W, 3), usually the first one.
        results: dicts of the pipeline, in any order; boxes in pixels of the frame.

    Returns:
        An RGB picture.

    Raises:
        ValueError: no results.
        ImportError: matplotlib is not installed.
    """
    _check(results)
    figure = _figure()
    axes = figure.add_subplot()
    axes.imshow(frame, alpha=0.6)
    for number, name, items in _tracks(results):
        boxes = np.array([[item["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")] for _, item in items])
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        color = _rgb(number)
        axes.plot(*centers.T, color=color, label=name)
        axes.plot(*centers[0], "o", color=color, markeredgecolor="black")
    axes.set(xlabel="x in pixels", ylabel="y in pixels", xlim=(0, frame.shape[1]), ylim=(frame.shape[0], 0))
    return _picture(figure, axes)


def plot_map(share: np.ndarray, title: str) -> Image.Image:
    """Plot numbers in [0, 1] over a grid, a color each, with the scale beside it.

    Args:
        share: (rows, columns).
        title: what the numbers are.

    Returns:
        An RGB picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = _figure()
    axes = figure.add_subplot()
    shown = axes.imshow(share, cmap="viridis", vmin=0.0, vmax=1.0)
    figure.colorbar(shown)
    axes.set(title=title, xlabel="patch column", ylabel="patch row")
    return _picture(figure)


def _tracks(
    results: Iterable[dict[str, Any]],
) -> list[tuple[int, str, list[tuple[dict[str, Any], dict[str, Any]]]]]:
    """Sort results by object: its id, its name, and (result, object) in the order of the frames."""
    found: dict[int, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for result in sorted(results, key=lambda one: one["frame"]):
        for item in result["objects"]:
            found.setdefault(item["id"], []).append((result, item))
    return [(number, _name(items[0][1]["label"]), items) for number, items in sorted(found.items())]


def _name(label: str) -> str:
    """Make a name for a legend: matplotlib reads dollars as mathematics and leaves out what begins with a stroke."""
    text = " ".join(label.split()).replace("$", r"\$")
    text = text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 3] + "..."
    return f" {text}" if text.startswith("_") else text


def _rgb(number: int) -> tuple[float, ...]:
    return tuple(value / 255 for value in color_of(number))


def _check(results: Sequence[dict[str, Any]]) -> None:
    if not len(results):
        raise ValueError("`results` is empty; pass what the pipeline returned for at least one frame.")


def _figure() -> Any:
    try:
        figure = import_module("matplotlib.figure")
    except ImportError as error:
        raise ImportError("a plot needs matplotlib; install it with `pip install matplotlib`.") from error
    return figure.Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")


def _picture(figure: Any, axes: Any = None) -> Image.Image:
    """Draw a figure, with a legend of what has a name in `axes`."""
    if axes is not None and axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best", fontsize="small", facecolor=_BACKGROUND)
    canvas = import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


__all__ = ["plot_map", "plot_paths", "plot_scores"]
