"""The command line of `python -m evaluate_metrics.inspect`: where a tracker fails, drawn and counted."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from processing_elysium.frames import even_indices
from tracking_elysium.whole_files import written_whole

from ..readers.items import TrackSequence, file_name
from ..readers.tasks import load_items
from ..tracking_ope.ope import box_iou, is_box
from .scoring import TrackerScores, score_task
from .store import Truth, read_track, read_truth
from .tables import group_rows, markdown

__all__ = ["draw_sequence", "main", "option_rows", "worst_sequences"]

TRUE, SAID = (0, 200, 0), (230, 0, 0)  # colors of truth and prediction
TILE, STRIP = 240, 90  # width of a drawn frame, height of the plot of IoU over time


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluate_metrics.inspect",
        description="Draw the worst sequences of a tracker (truth green, prediction red, IoU over time below), and "
        "write tables: by size, speed, occlusion, absence and length, and the effect of the options of tracking.",
    )
    parser.add_argument("results", type=Path, help="folder that `run` wrote (its --out)")
    parser.add_argument("--task", required=True, help="folder of a task below it, e.g. lasot-test-sot")
    parser.add_argument("--tracker", help="folder of a tracker below that (default: the best one)")
    parser.add_argument("--worst", type=int, default=10, metavar="N", help="sequences to draw (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="folder of the benchmark, if it moved since the run")
    parser.add_argument("--out", type=Path, help="folder to write to (default: RESULTS/inspect/TASK)")
    options = parser.parse_args(arguments)
    try:
        out = inspect(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {out}", file=sys.stderr)


def inspect(options: argparse.Namespace) -> Path:
    """Write pictures and `inspect.md`; return the folder.

    Raises:
        ValueError: no such task or tracker, or a task that is no tracking.
    """
    folder = options.results / options.task
    if not (folder / "task.json").is_file():
        raise ValueError(f"`--task`={options.task!r}: {folder} has no task.json; `evaluate_metrics.run` writes it.")
    task = json.loads((folder / "task.json").read_text("utf-8"))
    if task["ask"] not in ("sot", "rsot"):
        raise ValueError(f"`--task`={options.task!r} is no tracking, there are no boxes over time to draw.")
    truths = read_truth(folder)
    scored = score_task(folder, truths, task)
    names = [one.tracker for one in scored]
    if not names or (options.tracker and options.tracker not in names):
        raise ValueError(f"`--tracker`={options.tracker!r} has no results in {folder}; it has {names}.")
    chosen = scored[names.index(options.tracker)] if options.tracker else scored[0]
    out = options.out or options.results / "inspect" / options.task
    data = options.data or task["data"]
    sequences = {
        item.name: item
        for item in load_items(task["task"], task["ask"], task["split"], data)
        if isinstance(item, TrackSequence)
    }
    page = [f"# {options.task}: {chosen.tracker}", "", "Truth green, prediction red; below: IoU over time.", ""]
    for name in worst_sequences(chosen, options.worst):
        sequence, track = sequences[name], read_track(folder / chosen.tracker, name)
        boxes = np.full((len(sequence), 4), np.nan) if track is None else track.boxes_xywh_px
        path = out / f"{file_name(name)}.png"
        with written_whole(path) as part:
            draw_sequence(sequence, boxes).save(part, format="PNG")
        said = (chosen.per_item[name] or {}).get("auc")
        page += [f"## {name}: {'no result' if track is None else f'AUC {said:.3f}'}", "", f"![]({path.name})", ""]
    page += ["## By group", "", *markdown(group_rows(scored, truths, "auc"))]
    page += ["## Effect of options", "", *_options_section(scored, truths)]
    with written_whole(out / "inspect.md") as part:
        part.write_text("\n".join(page), encoding="utf-8")
    return out


def worst_sequences(scores: TrackerScores, count: int) -> list[str]:
    """Names of the sequences with the lowest AUC, the worst first; ties by name."""
    counted = [(item["auc"], name) for name, item in scores.per_item.items() if item is not None]
    return [name for _, name in sorted(counted)[:count]]


def option_rows(scored: Sequence[TrackerScores]) -> list[list[str]]:
    """One row per run of a model: the options that differ between the runs, and the scores."""
    runs = [one for one in scored if "options" in one.run]
    varied = sorted({key for one in runs for key in one.run["options"]})
    rows = [["run", "model", *varied, "AUC", "precision"]]
    for one in runs:
        given = [str(one.run["options"].get(key, "default")) for key in varied]
        values = [f"{one.scores[key]:.3f}" for key in ("auc", "precision")]
        rows.append([one.tracker, str(one.run.get("model")), *given, *values])
    return rows


def _options_section(scored: Sequence[TrackerScores], truths: Sequence[Truth]) -> list[str]:
    rows = option_rows(scored)
    if len(rows) < 3:
        return [
            "Only one run of a model is here; run it again with other options and another `--name` to compare.",
            "",
        ]
    runs = [one for one in scored if "options" in one.run]
    return [*markdown(rows), "By group:", "", *markdown(group_rows(runs, truths, "auc"))]


def draw_sequence(sequence: TrackSequence, boxes_xywh_px: np.ndarray, count: int = 8) -> Image.Image:
    """Evenly spaced frames with truth and prediction, IoU over time below.

    Args:
        sequence: with frames that can be opened.
        boxes_xywh_px: (F, 4) prediction, NaN where there is no box.
        count: frames shown, in rows of four.
    """
    shown = even_indices(len(sequence), min(count, len(sequence)))
    with sequence.open() as video:
        frames = video.read(shown)
        scale = TILE / video.width
        height = max(1, round(video.height * scale))
    columns, rows = min(4, len(shown)), -(-len(shown) // 4)
    sheet = Image.new("RGB", (columns * TILE, rows * height + STRIP), "white")
    for place, (index, frame) in enumerate(zip(shown, frames, strict=True)):
        tile = Image.fromarray(frame).resize((TILE, height))
        draw = ImageDraw.Draw(tile)
        for box, color in ((sequence.boxes_xywh_px[index], TRUE), (boxes_xywh_px[index], SAID)):
            if is_box(box[None])[0]:
                x, y, w, h = box * scale
                draw.rectangle((x, y, x + w, y + h), outline=color, width=2)
        draw.text((3, 3), str(index), fill="white", stroke_width=1, stroke_fill="black")
        sheet.paste(tile, (place % 4 * TILE, place // 4 * height))
    iou = box_iou(boxes_xywh_px, sequence.boxes_xywh_px)
    known = is_box(sequence.boxes_xywh_px)
    sheet.paste(_strip(iou, known, shown, columns * TILE), (0, rows * height))
    return sheet


def _strip(iou: np.ndarray, known: np.ndarray, shown: Sequence[int], width: int) -> Image.Image:
    """IoU over time as a plot: grey where there is no truth, ticks at the frames that are shown."""
    strip = Image.new("RGB", (width, STRIP), "white")
    draw = ImageDraw.Draw(strip)
    bottom, top = STRIP - 8, 8
    places = [round(i * (width - 1) / max(1, len(iou) - 1)) for i in range(len(iou))]
    for index in np.flatnonzero(~known):
        draw.line((places[index], top, places[index], bottom), fill=(210, 210, 210))
    for level in (0.0, 0.5, 1.0):
        y = bottom - level * (bottom - top)
        draw.line((0, y, width, y), fill=(225, 225, 225))
    for tick in shown:
        draw.line((places[tick], bottom, places[tick], STRIP), fill="black")
    points: list[tuple[float, float]] = [
        (x, bottom - value * (bottom - top)) for x, value in zip(places, iou, strict=True)
    ]
    if len(points) > 1:
        draw.line(points, fill=(0, 0, 200), width=2)
    return strip
