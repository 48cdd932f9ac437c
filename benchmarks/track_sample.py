"""Speed and peak memory of tracking the sample video with the embedded checkpoint.

What a user waits for: loading (imports not counted), then the whole way from the mp4 to boxes, by expression and by
box; the first run of each is a warm-up and is reported apart. Peak memory is the process's largest resident set, the
libraries included. The last line is one JSON object.

    python -m benchmarks.track_sample [--repeats 3] [--threads 2] [--model elysium]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import pipeline

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", default=str(ROOT / "examples" / "sample.mp4"))
    parser.add_argument("--model", default=str(ROOT / "elysium"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of PyTorch (default: its own choice)")
    args = parser.parse_args()
    if args.threads:
        os.environ["OMP_NUM_THREADS"] = str(args.threads)  # the pipeline then leaves the number alone
        torch.set_num_threads(args.threads)
    started = time.perf_counter()
    pipe = pipeline("video-tracking", model=args.model)
    loaded = time.perf_counter() - started
    report = {
        "load_s": round(loaded, 2),
        "expression": measure(pipe, args, {"expression": "the object"}),
        "box": measure(pipe, args, {"box": central_box(pipe, args.video)}),
        "parameters": sum(p.numel() for p in pipe.model.parameters()),
        "peak_memory_mb": round(peak_memory_mb()),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(json.dumps(report))


def measure(pipe: Any, args: argparse.Namespace, subject: dict[str, Any]) -> dict[str, float]:
    """Seconds and frames per second of one way of asking, the median of the repeats."""
    seconds, frames = [], 0
    for _ in range(args.repeats + 1):
        started = time.perf_counter()
        frames = len(pipe(args.video, **subject))
        seconds.append(time.perf_counter() - started)
    middle = statistics.median(seconds[1:])
    print(f"{next(iter(subject))}: {frames} frames in {middle:.2f} s ({frames / middle:.1f} frames/s)")
    return {"frames": frames, "first_s": round(seconds[0], 2), "s": round(middle, 2), "fps": round(frames / middle, 1)}


def central_box(pipe: Any, video: str) -> tuple[float, float, float, float]:
    """The middle ninth of the frame, in pixels: speed does not depend on what is in it."""
    source = pipe.processor.open_video(video)
    return source.width / 3, source.height / 3, source.width * 2 / 3, source.height * 2 / 3


def peak_memory_mb() -> float:
    """Largest resident set of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS counts bytes, Linux kibibytes


if __name__ == "__main__":
    main()
