"""Speed of tracking in two trees of this project, in turns on one machine: has a change made it slower?

One process per tree loads the checkpoint of drawn shapes and writes the same synthetic video; then they track it in
turns, the order alternating. The clock is the processor time of the process (all its threads), which other work on the
machine hardly touches.

    git worktree add --detach ../before 524a0c0
    python -m benchmarks.side_by_side ../before . --rounds 7
    git worktree remove ../before

Prints a table: the median of the rounds and the range of the middle half, per tree, step and number of objects.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tqdm import tqdm

# Runs in the tree, with processor time in place of the wall's; every line that it is sent is one round.
WORKER = """
import argparse, json, sys, tempfile, time
from pathlib import Path
time.perf_counter = time.process_time
sys.path.insert(0, "")
import torch
from benchmarks import tracking_speed as speed

letters, frames, *objects = sys.argv[1:]
torch.set_num_threads(1)
drawn = speed.ROOT / "tests" / "fixtures" / "drawn_shapes"  # in elysium/ until the model of real video came
folder = drawn if drawn.exists() else speed.ROOT / "elysium"
args = argparse.Namespace(random=None, model=str(folder), device="cpu")
model, processor = speed.load(args, torch.float32)
with tempfile.TemporaryDirectory() as folder:
    videos = speed.write_videos(Path(folder) / "videos", 1, int(frames), 336)
    for _ in sys.stdin:
        rows = []
        for step in (step for step in speed.STEPS if step.letter in letters):
            for count in map(int, objects):
                setting = speed.Setting(int(frames), 1, count, None)
                bar = argparse.Namespace(update=lambda: None)
                result = speed.measure(1, step, setting, model, processor, videos, None, bar)
                rows.append((step.letter, count, result.seconds))
        print("ROWS", json.dumps(rows), flush=True)
"""

Seconds = dict[tuple[str, int], list[float]]


def main() -> None:
    """Measure in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="root of the tree to compare with")
    parser.add_argument("after", type=Path, help="root of the tree in question")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each tree (default: %(default)s)")
    parser.add_argument("--steps", default="af", help="letters of benchmarks.tracking_speed (default: %(default)s)")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 8], help="objects per video (default: 1 8)")
    parser.add_argument("--frames", type=int, default=64, help="frames of the video (default: %(default)s)")
    args = parser.parse_args()
    before: Seconds = defaultdict(list)
    after: Seconds = defaultdict(list)
    with start(args.before, args) as old, start(args.after, args) as new:
        pair = [(old, before), (new, after)]
        for number in tqdm(range(args.rounds), desc="rounds"):
            for worker, seconds in pair if number % 2 == 0 else reversed(pair):
                for letter, objects, value in run(worker):
                    seconds[letter, objects].append(value)
        for worker, _ in pair:
            worker.communicate()  # no more lines: it ends
    print(table(before, after))


def start(tree: Path, args: argparse.Namespace) -> subprocess.Popen[str]:
    """Start the process of one tree."""
    command = [sys.executable, "-c", WORKER, args.steps, str(args.frames), *map(str, args.objects)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=tree, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run(worker: subprocess.Popen[str]) -> list[tuple[str, int, float]]:
    """Let one tree track once: (step, number of objects, processor seconds)."""
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write("round\n")
    worker.stdin.flush()
    for line in worker.stdout:
        if line.startswith("ROWS "):
            return [tuple(row) for row in json.loads(line[5:])]
    sys.exit("A process ended early; what it said stands above.")


def table(before: Seconds, after: Seconds) -> str:
    """Write medians and middle halves side by side."""
    lines = ["| step | objects | before, s | middle half | after, s | middle half | after / before |"]
    lines.append("|" + "---|" * 7)
    for (letter, objects), old in sorted(before.items()):
        new = after[letter, objects]
        ratio = statistics.median(new) / statistics.median(old)
        lines.append(f"| {letter} | {objects} | {spread(old)} | {spread(new)} | {ratio:.3f} |")
    return "\n".join(lines)


def spread(seconds: list[float]) -> str:
    """Write the median and, in the next cell, the first and third quartile."""
    if len(seconds) < 2:
        return f"{seconds[0]:.2f} | -"
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return f"{middle:.2f} | {low:.2f} to {high:.2f}"


if __name__ == "__main__":
    main()
