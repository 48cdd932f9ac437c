"""Evaluate a checkpoint on the synthetic test split and write the table.

    python -m evaluate_metrics.runners.synthetic --model tests/fixtures/drawn_shapes --report docs/results.md

200 clips of 8 frames and 50 videos of 64 frames; one object each. Beside the model stand the floor (the first box,
kept) and the ceiling (the true boxes, written as text and read back).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import torch
from tqdm import tqdm
from transformers import pipeline

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline
from dataset_scripts.records import ObjectTrack
from dataset_scripts.synthetic import COLORS, SHAPES, SyntheticClip, SyntheticConfig, make_clip, make_video
from processing_elysium.boxes import format_boxes, parse_boxes

from .captions import caption_scores
from .machine import provenance

__all__ = ["SUITES", "Suite", "evaluate_suite", "main", "write_report"]

METRIC = str(Path(__file__).resolve().parents[1] / "tracking_ope")


@dataclass(frozen=True)
class Suite:
    """One part of the test split.

    Attributes:
        name: in the report.
        count: clips.
        num_frames: frames of each.
        interval: distance between frames in native frames, drawn per clip.
        chunk: clips that are rendered and tracked together.
    """

    name: str
    count: int
    num_frames: int
    interval: tuple[int, int]
    chunk: int = 50


SUITES = (Suite("clips of 8 frames", 200, 8, (3, 6)), Suite("videos of 64 frames", 50, 64, (1, 1), 16))


def sample(suite: Suite, index: int, split: str = "test", size: int = 140) -> tuple[SyntheticClip, ObjectTrack]:
    """Clip `index` of a suite and the one object that is asked about: the index cycles through its objects."""
    config = SyntheticConfig(size=size)
    if suite.interval == (1, 1):
        clip = make_video(config, split, index, suite.num_frames)
    else:
        clip = make_clip(config, split, index, suite.num_frames, suite.interval)
    return clip, clip.record.objects[index % len(clip.record.objects)]


def evaluate_suite(pipe: Any, suite: Suite, split: str = "test", batch_size: int = 32) -> dict[str, Any]:
    """Track and describe every clip of a suite.

    Args:
        pipe: a video-tracking pipeline.
        suite: what to evaluate.
        split: of the synthetic dataset.
        batch_size: clips in flight.

    Returns:
        `{"sot" | "rsot" | "static" | "ceiling": {"auc", "precision", "normalized_precision"}, "video_reg": {...},
        "fps": frames tracked per second}`.
    """
    tracks: list[ObjectTrack] = []
    predictions: dict[str, list[np.ndarray]] = {"sot": [], "rsot": [], "static": [], "ceiling": []}
    captions: list[str] = []
    seconds, frames_tracked, size = 0.0, 0, 140
    for first in tqdm(range(0, suite.count, suite.chunk), desc=suite.name):
        chunk = [sample(suite, i, split) for i in range(first, min(first + suite.chunk, suite.count))]
        size = chunk[0][0].record.width
        videos = [list(clip.frames) for clip, _ in chunk]
        starts = [tuple(float(v) for v in track.clipped_boxes[0] * size) for _, track in chunk]
        begin = time.perf_counter()
        by_box = pipe(videos, box=starts, batch_size=batch_size)
        by_words = pipe(videos, expression=[track.expression for _, track in chunk], batch_size=batch_size)
        seconds += time.perf_counter() - begin
        frames_tracked += 2 * suite.num_frames * len(chunk)
        predictions["sot"] += [boxes_of(frames, suite.num_frames) for frames in by_box]
        predictions["rsot"] += [boxes_of(frames, suite.num_frames) for frames in by_words]
        described = pipe(
            videos, box=starts, task="describe", num_frames=min(8, suite.num_frames), batch_size=batch_size
        )
        captions += [item[0]["description"] for item in described]
        for _, track in chunk:
            tracks.append(track)
            predictions["static"].append(np.repeat(track.clipped_boxes[:1], suite.num_frames, axis=0) * size)
            predictions["ceiling"].append(
                parse_boxes(format_boxes(track.clipped_boxes), suite.num_frames).boxes * size
            )
    metric = evaluate.load(METRIC)
    truth = [track.clipped_boxes * size for track in tracks]
    absent = [track.absent.astype(int).tolist() for track in tracks]
    # A box that touches the left or upper edge of the frame has x or y = 0, and counts.
    how = {"absent": absent, "convention": "pytracking_unclipped", "box_format": "xyxy"}
    report: dict[str, Any] = {"fps": frames_tracked / seconds}
    for name, boxes in predictions.items():
        scores = metric.compute(predictions=boxes, references=truth, **how)
        report[name] = {key: scores[key] for key in ("auc", "precision", "normalized_precision")}
    report["video_reg"] = describe_scores(captions, tracks)
    return report


def boxes_of(frames: list[dict[str, Any]], num_frames: int) -> np.ndarray:
    """Pipeline output of one object to boxes `(F, 4)` xyxy in pixels, NaN where there is none."""
    boxes = np.full((num_frames, 4), np.nan)
    for frame in frames:
        for item in frame["objects"]:
            boxes[frame["frame"]] = [item["box"][key] for key in ("xmin", "ymin", "xmax", "ymax")]
    return boxes


def describe_scores(captions: list[str], tracks: list[ObjectTrack]) -> dict[str, float]:
    """Shares of descriptions with the right color, shape, both; exact matches; word overlap."""
    words = [caption.lower().replace(",", " ").replace(".", " ").split() for caption in captions]
    right_color = [_only(said, COLORS) == t.attributes["colour"] for said, t in zip(words, tracks, strict=True)]
    right_shape = [_only(said, SHAPES) == t.attributes["shape"] for said, t in zip(words, tracks, strict=True)]
    overlap = caption_scores(captions, [track.caption for track in tracks])
    return {
        "colour": float(np.mean(right_color)),
        "shape": float(np.mean(right_shape)),
        "colour_and_shape": float(np.mean([a and b for a, b in zip(right_color, right_shape, strict=True)])),
        **overlap,
    }


def _only(said: list[str], allowed: Any) -> str | None:
    """The one word of `allowed` that was said; None if none or several were."""
    found = {word for word in said if word in allowed}
    return found.pop() if len(found) == 1 else None


def write_report(path: str | os.PathLike[str], model: str, results: dict[str, dict[str, Any]]) -> None:
    """Write the results as a Markdown page, with what is needed to repeat them."""
    lines = [
        "# Results of the checkpoint of drawn shapes",
        "",
        "Written by `python -m evaluate_metrics.runners.synthetic`; do not edit. Synthetic *test* split, one object",
        "per video, greedy decoding in the answer's format (the pipeline's default). OPE by the convention",
        "`pytracking_unclipped` of `evaluate_metrics/tracking_ope`.",
        "`static` keeps the first box (the floor); `ceiling` is the truth written as text and read back.",
        "",
        f"Model `{model}`; {provenance('cuda' if torch.cuda.is_available() else 'cpu')}.",
        "",
        "| suite | task | AUC | precision at 20 px | normalized precision |",
        "|---|---|---|---|---|",
    ]
    for suite, report in results.items():
        for name in ("static", "sot", "rsot", "ceiling"):
            auc, precision, normalized = (report[name][k] for k in ("auc", "precision", "normalized_precision"))
            label = name if name in ("static", "ceiling") else name.upper()
            lines.append(f"| {suite} | {label} | {auc:.3f} | {precision:.3f} | {normalized:.3f} |")
    lines += [
        "",
        "| suite | Video-REG: color | shape | both | exact match | METEOR-style overlap | frames per second |",
        "|---|---|---|---|---|---|---|",
    ]
    for suite, report in results.items():
        row = report["video_reg"]
        lines.append(
            f"| {suite} | {row['colour']:.1%} | {row['shape']:.1%} | {row['colour_and_shape']:.1%} | "
            f"{row['exact_match']:.1%} | {row['overlap']:.3f} | {report['fps']:.1f} |"
        )
    temporary = Path(f"{path}.part")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluate_metrics.runners.synthetic",
        description="Evaluate a checkpoint on the synthetic test split: tracking by box and by words, description.",
    )
    parser.add_argument(
        "--model", default="tests/fixtures/drawn_shapes", help="checkpoint folder or Hub id (default: %(default)s)"
    )
    parser.add_argument("--split", default="test", choices=("val", "test"))
    parser.add_argument("--limit", type=int, help="only the first LIMIT clips of each suite, for a quick look")
    parser.add_argument("--batch-size", type=int, default=32, help="clips in flight (default: %(default)s)")
    parser.add_argument("--report", help="Markdown file to write, e.g. docs/results.md")
    options = parser.parse_args(arguments)
    pipe = pipeline("video-tracking", model=options.model)
    results = {}
    for suite in SUITES:
        if options.limit:
            suite = Suite(suite.name, min(options.limit, suite.count), suite.num_frames, suite.interval, suite.chunk)
        results[suite.name] = evaluate_suite(pipe, suite, options.split, options.batch_size)
        print(json.dumps({suite.name: results[suite.name]}, indent=1), flush=True)
    if options.report:
        write_report(options.report, options.model, results)
        print(f"wrote {options.report}", file=sys.stderr)


if __name__ == "__main__":
    main()
