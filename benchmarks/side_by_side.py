"""Speed of tracking in two trees of this project, in turns on one machine: has a change made it slower?

Each round runs `benchmarks.tracking_speed` once in each tree, in a process of its own, in an order that alternates.
The clock is the processor time of that process (all its threads), which other work on the machine hardly touches.

    git worktree add --detach ../before 524a0c0
    python -m benchmarks.side_by_side ../before . --rounds 7
    git worktree remove ../before

Prints a table: the median of the rounds and the range of the middle half, per tree, step and number of objects.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tqdm import tqdm

# Runs in the tree, with processor time in place of the wall's.
WORKER = """
import runpy, sys, time
time.perf_counter = time.process_time
sys.argv = ["benchmarks.tracking_speed", *sys.argv[1:]]
sys.path.insert(0, "")
runpy.run_module("benchmarks.tracking_speed", run_name="__main__")
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
    for number in tqdm(range(args.rounds), desc="rounds"):
        pair = [(args.before, before), (args.after, after)]
        for tree, seconds in pair if number % 2 == 0 else reversed(pair):
            for key, value in run(tree, args).items():
                seconds[key].append(value)
    print(table(before, after))


def run(tree: Path, args: argparse.Namespace) -> dict[tuple[str, int], float]:
    """Run one tree once: processor seconds per (step, number of objects)."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.md"
        options = ["--steps", args.steps, "--objects", *map(str, args.objects), "--frames", str(args.frames)]
        command = [sys.executable, "-c", WORKER, *options, "--repeats", "1", "--threads", "1", "--report", str(report)]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{tree}: {done.stderr}")
        return read_report(report.read_text(encoding="utf-8"))


def read_report(text: str) -> dict[tuple[str, int], float]:
    """Read the table of steps: letter, frames, streams, objects, surprise, seconds."""
    rows = re.findall(r"^\| ([a-h]) [^|]*\| \d+ \| \d+ \| (\d+) \| [^|]* \| ([\d.]+) \|", text, re.MULTILINE)
    return {(letter, int(objects)): float(seconds) for letter, objects, seconds in rows}


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
