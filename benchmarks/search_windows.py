"""Speed of several objects at once with search windows, beside the same objects one at a time.

Each object has windows of its own, so the vision tower sees one window per object and frame; only decoding of the
video and the passes are shared. Both ways alternate in one process on the sample video, and boxes are compared.
Seconds are those of the fastest repeat, stages those of that repeat. The report is benchmarks/search_windows.md.

    python -m benchmarks.search_windows [--objects 1 2 4 8] [--threads 1 2] [--dtype float32 bfloat16]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import pipeline

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline
from tracking_elysium.stats import peak_memory_mb

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("decode_s", "vision_s", "prefill_s", "llm_s")
HEAD = (
    "| dtype | threads | objects | together s | frames/s | x one at a time | reading s | vision s | prompts s "
    "| passes s | passes per frame | boxes equal | peak MB |"
)
Box = tuple[float, float, float, float]


@dataclass
class Run:
    """One way of tracking all objects: boxes by (object, frame), seconds, `pipe.stats`."""

    boxes: dict[tuple[int, int], tuple[float, ...]]
    seconds: float
    stats: dict[str, float]


def main() -> None:
    """Measure and print the report; every number of threads and dtype is a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", default=str(ROOT / "examples" / "sample.mp4"))
    parser.add_argument("--model", default=str(ROOT / "elysium"))
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        print(json.dumps(measure(args)))
        return
    print(f"{os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, ")
    print(f"transformers {transformers.__version__}\n\n{HEAD}\n{'|---' * HEAD.count(' | ')}|---|")
    for dtype in args.dtype:
        for threads in args.threads:
            for row in inner(args, dtype, threads):
                print(f"| {dtype} | {threads} | {' | '.join(row)} |", flush=True)


def inner(args: argparse.Namespace, dtype: str, threads: int) -> list[list[str]]:
    """Rows of one process."""
    words = ["--inner", "--dtype", dtype, "--threads", str(threads), "--repeats", str(args.repeats)]
    words += ["--video", args.video, "--model", args.model, "--objects", *map(str, args.objects)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.search_windows", *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rows: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def measure(args: argparse.Namespace) -> list[list[str]]:
    """A row for each number of objects."""
    pipe = pipeline("video-tracking", model=args.model, dtype=args.dtype[0])
    source = pipe.processor.open_video(args.video)
    all_boxes = spread(max(args.objects), source.width, source.height)
    pipe(args.video, box=all_boxes[0])  # warm-up
    rows = []
    for count in args.objects:
        boxes = all_boxes[:count]
        together = [track(pipe, args.video, [boxes])]
        apart = [track(pipe, args.video, [[box] for box in boxes])]
        for _ in range(args.repeats - 1):
            together.append(track(pipe, args.video, [boxes]))
            apart.append(track(pipe, args.video, [[box] for box in boxes]))
        best, alone = (min(runs, key=lambda run: run.seconds) for runs in (together, apart))
        frames = len(best.boxes) // count
        equal = sum(best.boxes[key] == alone.boxes[key] for key in alone.boxes) / len(alone.boxes)
        rows.append(
            [str(count), f"{best.seconds:.2f}", f"{frames / best.seconds:.1f}", f"{alone.seconds / best.seconds:.2f}"]
            + [f"{best.stats[stage]:.2f}" for stage in STAGES]
            + [f"{best.stats['forwards_per_frame']:.2f}", f"{100 * equal:.1f} %", f"{peak_memory_mb() or 0:.0f}"]
        )
    return rows


def track(pipe: Any, video: str, groups: list[list[Box]]) -> Run:
    """Track groups of objects, one group after the other."""
    boxes: dict[tuple[int, int], tuple[float, ...]] = {}
    started = time.perf_counter()
    for first, group in enumerate(groups):
        for frame in pipe(video, box=group):
            for item in frame["objects"]:
                boxes[first + item["id"], frame["frame"]] = tuple(item["box"].values())
    return Run(boxes, time.perf_counter() - started, dict(pipe.stats))


def spread(count: int, width: int, height: int) -> list[Box]:
    """Boxes of a fifth of the frame's sides, on a grid: speed does not depend on what is in them."""
    columns = max(1, round((count * width / height) ** 0.5))
    lines = -(-count // columns)
    found = []
    for number in range(count):
        x, y = (number % columns + 0.5) / columns * width, (number // columns + 0.5) / lines * height
        found.append((x - width / 10, y - height / 10, x + width / 10, y + height / 10))
    return found


if __name__ == "__main__":
    main()
