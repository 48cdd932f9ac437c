"""Threads of torch on a CPU: tracking the sample, and single passes of language models of several sizes.

Every measurement is a process of its own that gets its number of threads from OMP_NUM_THREADS, which the pipeline
leaves alone; "own choice" is the pipeline's (`tracking_elysium/threads.py`). `--busy` starts that many processes that
keep a core busy meanwhile. Prints the rows of benchmarks/threads.md.

    python -m benchmarks.threads [--threads 1 2] [--busy 0 2] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
# (width, layers) of Llama language models, 8 tokens at a time behind 300: what a pass of drafted decoding reads.
SIZES = ((192, 6), (384, 8), (768, 10), (1280, 14))
PASSES = 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--busy", type=int, nargs="+", default=[0, os.cpu_count() or 1])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--passes", action="store_true", help=argparse.SUPPRESS)  # the inner process
    args = parser.parse_args()
    if args.passes:
        print(json.dumps([measure_passes(*size) for size in SIZES]))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    for busy in args.busy:
        spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            for threads in (None, *args.threads):
                print(f"| {busy} | {'own choice' if threads is None else threads} | {row(threads, args.repeats)} |")
                sys.stdout.flush()
        finally:
            for spinner in spinners:
                spinner.kill()


def row(threads: int | None, repeats: int) -> str:
    """Cells of one number of threads: seconds of the sample, then milliseconds per pass of each size."""
    track = inner(threads, "benchmarks.track_sample", "--repeats", str(repeats))
    cells = [f"{track['box']['s']:.2f} s"]
    if threads is not None:
        cells += [f"{milliseconds:.1f} ms" for _, milliseconds in inner(threads, "benchmarks.threads", "--passes")]
    return " | ".join(cells)


def inner(threads: int | None, module: str, *words: str) -> dict | list:
    """The JSON in the last line of a module of ours, run with so many threads."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@torch.inference_mode()
def measure_passes(width: int, layers: int) -> tuple[int, float]:
    """(parameters, median milliseconds of a pass) of a random Llama model."""
    from transformers import DynamicCache, LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
    )
    model = LlamaModel(config).eval()
    seconds = []
    for number in range(PASSES + 1):
        if number % 10 == 0:
            cache = DynamicCache()
            model(torch.ones(1, 300, dtype=torch.long), None, None, cache)  # its name depends on the library's version
        started = time.perf_counter()
        model(torch.ones(1, 8, dtype=torch.long), None, None, cache)
        seconds.append(time.perf_counter() - started)
    return sum(weight.numel() for weight in model.parameters()), 1000 * statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
