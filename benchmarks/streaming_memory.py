"""Memory over an endless video: the live tracker, with and without zoom, beside SAM 2's video session.

    python -m benchmarks.streaming_memory --report benchmarks/streaming_memory.md

Every system runs in a process of its own, with random weights of a tiny size (memory that a session keeps does not
depend on what the weights know), until it has seen `--frames` frames or `--minutes` are over; the report says what
ran.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

HOUR = 108_000  # frames at 30 per second
SIZE = (120, 160)  # height, width
BOX = (40.0, 30.0, 90.0, 80.0)
EVERY = 10  # frames between two looks at the memory
WARM_UP = 0.1  # of the frames, left out of the slope
SYSTEMS = {
    "live": "live tracker, whole frames, 2 objects",
    "live-zoom": "live tracker, `zoom=True`, 2 objects",
    "sam2": "`Sam2VideoModel`, streaming session, 1 object, tiny (64 px)",
}


def resident_mb() -> float:
    """Resident memory of this process in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def frame_of(number: int) -> np.ndarray:
    """A frame of a pattern that moves."""
    pattern = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    return np.roll(pattern, number % SIZE[1], axis=1)


def live(zoom: bool) -> Callable[[np.ndarray], Any]:
    """A tracker with a tiny random model that goes through real decoding."""
    from tracking_elysium import VideoTrackingPipeline

    from .tracking_speed_models import random_model

    model, processor = random_model("tiny", "cpu", torch.float32)
    pipe = VideoTrackingPipeline(model=model, processor=processor, task="video-tracking", device="cpu")
    return pipe.open(box=[BOX, tuple(value + 20 for value in BOX)], zoom=zoom).push


def sam2() -> Callable[[np.ndarray], Any]:
    """A session of SAM 2 whose frames are handed over one by one, as its documentation does for streams."""
    from evaluate_metrics.baselines.sam2_video import Sam2VideoTracker

    torch.manual_seed(0)
    model = transformers.Sam2VideoModel(tiny_sam2_config()).eval()
    tracker = Sam2VideoTracker(model)
    session = tracker._session(SIZE, np.array([BOX[0], BOX[1], BOX[2] - BOX[0], BOX[3] - BOX[1]]))

    @torch.inference_mode()
    def push(frame: np.ndarray) -> Any:
        return model(inference_session=session, frame=tracker._pixels(frame))

    return push


def tiny_sam2_config() -> Any:
    """SAM 2 at 64 x 64 pixels, as small as its parts fit together."""
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [64, 64],
        "patch_kernel_size": [7, 7], "patch_stride": [4, 4], "patch_padding": [3, 3], "query_stride": [2, 2],
        "window_positional_embedding_background_size": [4, 4], "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 4], "global_attention_blocks": [3],
    }  # fmt: skip
    vision = {
        "model_type": "sam2_vision_model", "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 128,
    }  # fmt: skip
    return transformers.Sam2VideoConfig(
        vision_config=vision, image_size=64,
        prompt_encoder_config={"hidden_size": 128, "image_size": 64, "patch_size": 16},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 16, "iou_head_hidden_dim": 16, "num_attention_heads": 2},
        memory_attention_hidden_size=128, memory_attention_num_layers=1, memory_attention_feed_forward_hidden_size=16,
        memory_attention_rope_feat_sizes=[4, 4], memory_encoder_hidden_size=128, memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=16,
    )  # fmt: skip


def measure(system: str, frames: int, minutes: float) -> dict[str, Any]:
    """Push frames and note resident memory on the way."""
    torch.set_num_threads(1)
    push = sam2() if system == "sam2" else live(system == "live-zoom")
    samples, every, started = [], EVERY, time.monotonic()
    number = 0
    while number < frames and time.monotonic() - started < minutes * 60:
        push(frame_of(number))
        number += 1
        if number % every == 0:
            samples.append((number, resident_mb()))
    return {"system": system, "frames": number, "seconds": time.monotonic() - started, "samples": samples}


def row(result: dict[str, Any]) -> str:
    """A line of the table."""
    samples = np.array(result["samples"])
    kept = samples[samples[:, 0] >= WARM_UP * result["frames"]]
    slope_mb = float(np.polyfit(kept[:, 0], kept[:, 1], 1)[0])
    hour = slope_mb * HOUR / 1024
    return (
        f"| {SYSTEMS[result['system']]} | {result['frames']:,} | {result['seconds'] / 60:.1f} | {kept[0, 1]:.1f} | "
        f"{samples[-1, 1]:.1f} | {slope_mb * 1024:.3f} | {hour:+.2f} |"
    )


def report(results: list[dict[str, Any]], command: str) -> str:
    """The page."""
    stored = 3 * 1024 * 1024 * 4
    return "\n".join(
        [
            "# Memory over an endless video",
            "",
            f"{datetime.date.today()}, `{command}`; {platform.machine()}, {os.cpu_count()} cores, one thread; Python "
            f"{platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}.",
            "",
            f"Tiny random models, frames of {SIZE[1]} x {SIZE[0]} pixels; a process per row. Resident memory (MiB)",
            "once a tenth of the frames had come and at the end, a straight line through what lies between (KiB per",
            "frame),",
            f"and that line over {HOUR:,} frames, an hour at 30 per second (GiB).",
            "",
            "| system | frames that ran | minutes | after a tenth | at the end | KiB per frame | an hour, by slope |",
            "|---|---|---|---|---|---|---|",
            *map(row, results),
            "",
            "The live tracker holds the last two frames, a search window per object and the last five boxes. SAM 2's",
            "session keeps every frame and what it found in it. At the size of its released models, 1024 x 1024",
            f"pixels, a stored frame alone is {stored / 2**20:.0f} MiB in float32,",
            f"{stored * HOUR / 2**40:.2f} TiB in an hour (counted, not measured).",
            "",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=HOUR, help=f"frames to push ({HOUR}: an hour at 30 per second)")
    parser.add_argument("--minutes", type=float, default=60.0, help="most minutes per system (60)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="what to run (all)")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    parser.add_argument("--one", choices=SYSTEMS, help=argparse.SUPPRESS)  # the process of one system
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(measure(options.one, options.frames, options.minutes)))
        return
    limits = ["--frames", str(options.frames), "--minutes", str(options.minutes)]
    results = []
    for system in options.systems:
        command = [sys.executable, "-m", "benchmarks.streaming_memory", "--one", system, *limits]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print(row(results[-1]), flush=True)
    if options.report:
        words = " ".join(
            ["python -m benchmarks.streaming_memory", *(sys.argv[1:] if arguments is None else arguments)]
        )
        options.report.write_text(report(results, words), encoding="utf-8")


if __name__ == "__main__":
    main()
