"""Time of scoring: 280 videos of 2 500 frames, the size of LaSOT's test set, from arrays in memory.

Both ways in are timed: the numpy function and the `evaluate` module. Prints the rows of benchmarks/scoring.md; CPU
time is what the process itself used, so other programs on the machine do not count.

    OMP_NUM_THREADS=1 python -m benchmarks.scoring [--videos 280] [--frames 2500]
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import evaluate
import numpy as np

from evaluate_metrics.tracking_ope.ope import CONVENTIONS, evaluate_ope

METRIC = str(Path(__file__).resolve().parents[1] / "evaluate_metrics" / "tracking_ope")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=280)
    parser.add_argument("--frames", type=int, default=2500, help="frames per video")
    args = parser.parse_args()
    predictions, references = drifting_tracker(args.videos, args.frames)
    module = evaluate.load(METRIC)
    print(f"{args.videos} videos of {args.frames} frames; numpy {np.__version__}, Python {platform.python_version()}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| way in | convention | wall, s | CPU, s |\n|---|---|---|---|")
    for convention in CONVENTIONS:
        measure("numpy function", convention, lambda name: evaluate_ope(predictions, references, convention=name))
    measure(
        "`evaluate` module",
        "pytracking",
        lambda name: module.compute(predictions=predictions, references=references, convention=name),
    )


def measure(way: str, convention: str, score: Callable[[str], object]) -> None:
    """Print one row."""
    wall, cpu = time.perf_counter(), time.process_time()
    score(convention)
    print(
        f"| {way} | `{convention}` | {time.perf_counter() - wall:.2f} | {time.process_time() - cpu:.2f} |", flush=True
    )


def drifting_tracker(videos: int, frames: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Draw tracks of a wandering object, and a tracker that is off by some pixels and sometimes gives no box."""
    generator = np.random.default_rng(0)
    references, predictions = [], []
    for _ in range(videos):
        places = np.abs(np.cumsum(generator.normal(0, 3, (frames, 2)), axis=0) + [640, 360]) + 1
        references.append(np.concatenate([places, generator.uniform(60, 90, (frames, 2))], axis=1))
        predictions.append(references[-1] + generator.normal(0, 5, (frames, 4)))
        predictions[-1][generator.random(frames) < 0.02] = np.nan
    return predictions, references


if __name__ == "__main__":
    main()
