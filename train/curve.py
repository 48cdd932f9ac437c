"""Curves of a run as a picture (SVG), from what the trainer logged.

python -m train.curve runs/grpo --keys rewards/iou/mean rewards/format/mean --output docs/grpo.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from .checkpoints import newest_checkpoint

__all__ = ["curves", "draw", "main"]

WIDTH, HEIGHT, MARGIN = 640, 320, 48
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e")


def curves(run: Path, keys: list[str]) -> dict[str, np.ndarray]:
    """Logged values by key, each `(L, 2)`: step and value.

    Args:
        run: folder with checkpoints, or a `trainer_state.json`.
        keys: of the log.

    Raises:
        ValueError: there is no log, or a key was never logged.
    """
    newest = newest_checkpoint(run) if run.is_dir() else None
    path = Path(newest) / "trainer_state.json" if newest else run
    if not path.is_file():
        raise ValueError(f"{run} holds no checkpoint; pass the folder of a trained stage, or a trainer_state.json.")
    history = json.loads(path.read_text(encoding="utf-8"))["log_history"]
    found = {key: np.array([(entry["step"], entry[key]) for entry in history if key in entry]) for key in keys}
    if missing := [key for key, values in found.items() if not len(values)]:
        logged = sorted({key for entry in history for key in entry} - {"step", "epoch"})
        raise ValueError(f"{path} has no {missing}; it logged {logged}.")
    return found


def draw(lines: dict[str, np.ndarray], window: int = 1) -> str:
    """Draw curves over steps: values faintly, their running mean strongly.

    Args:
        lines: see `curves`.
        window: values that the running mean looks back on.

    Returns:
        An SVG.
    """
    every = np.concatenate(list(lines.values()))
    (left, low), (right, high) = every.min(axis=0), every.max(axis=0)
    right, high = max(right, left + 1), high if high > low else low + 1

    def points(values: np.ndarray) -> str:
        x = MARGIN + (values[:, 0] - left) / (right - left) * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN - (values[:, 1] - low) / (high - low) * (HEIGHT - 2 * MARGIN)
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    ]
    bottom, side = HEIGHT - MARGIN, WIDTH - MARGIN
    parts.append(f'<path d="M{MARGIN},{MARGIN}V{bottom}H{side}" fill="none" stroke="#888"/>')
    for value in np.linspace(low, high, 5):
        y = bottom - (value - low) / (high - low) * (HEIGHT - 2 * MARGIN)
        parts.append(f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        parts.append(f'<path d="M{MARGIN},{y:.1f}H{side}" stroke="#eee"/>')
    for step in np.linspace(left, right, 5):
        x = MARGIN + (step - left) / (right - left) * (WIDTH - 2 * MARGIN)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{step:.0f}</text>')
    for number, (name, values) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        parts.append(f'<polyline points="{points(values)}" fill="none" stroke="{color}" stroke-opacity="0.3"/>')
        mean = values.astype(float).copy()
        mean[:, 1] = [values[max(0, i + 1 - window) : i + 1, 1].mean() for i in range(len(values))]
        parts.append(f'<polyline points="{points(mean)}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<text x="{MARGIN + 8 + 190 * number}" y="24" fill="{color}">{escape(name)}</text>')
    parts.append(f'<text x="{side}" y="{HEIGHT - 8}" text-anchor="end">step</text></svg>')
    return "\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.curve",
        description="Draw what a training run logged.",
        epilog="Example: python -m train.curve runs/tiny/2a --keys loss --output loss.svg",
    )
    parser.add_argument("run", type=Path, help="folder of a stage with checkpoints, or a trainer_state.json")
    parser.add_argument("--keys", nargs="+", default=["loss"], metavar="KEY", help="what to draw (loss)")
    parser.add_argument("--output", type=Path, required=True, help="SVG to write")
    parser.add_argument("--window", type=int, default=10, help="logs that the strong line is the mean of (10)")
    options = parser.parse_args(arguments)
    try:
        text = draw(curves(options.run, options.keys), max(1, options.window))
    except ValueError as error:
        raise SystemExit(str(error)) from error
    options.output.write_text(text, encoding="utf-8")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
