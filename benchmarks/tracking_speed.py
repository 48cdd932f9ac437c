"""Speed of tracking, step by step, on one machine in one run, and its report.

From (a) plain `generate`, clip by clip and one prompt at a time, each step adds one thing; all of them track the same
videos with the same weights. The boxes of the lossless steps are compared with those of (a).

    python -m benchmarks.tracking_speed                                    # the embedded checkpoint, all steps
    python -m benchmarks.tracking_speed --random medium --steps abcdef     # random weights led along recorded boxes
    python -m benchmarks.tracking_speed --random 7b --device cuda --dtype bfloat16 --steps afh --surprise 0.1 0.5 1 \
        --streams 1 8 32 --objects 1 16
    python -m benchmarks.tracking_speed --hour-frames 108000 --steps ""    # memory over an hour of video

`--append` adds to `benchmarks/tracking_speed.md` what else would replace it. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tqdm import tqdm

from dataset_scripts.synthetic import SyntheticConfig, make_video
from evaluate_metrics.runners.machine import provenance
from tracking_elysium.options import TrackingOptions
from tracking_elysium.queries import ObjectQuery
from tracking_elysium.scheduling import track_videos
from tracking_elysium.session import TrackingSession
from tracking_elysium.stats import Stats
from tracking_elysium.visualize import write_video

from .tracking_speed_models import FORESIGHT, SIZES, Lead, LedClipAnswerer, LedDraftedAnswerer, random_model

ROOT = Path(__file__).resolve().parents[1]
DRAWN = ROOT / "tests" / "fixtures" / "drawn_shapes"
REPORT = ROOT / "benchmarks" / "tracking_speed.md"
FRAMES_OF_MINUTE = 1800  # at 30 frames per second


@dataclass(frozen=True)
class Step:
    """One way of tracking.

    Attributes:
        letter: on the command line.
        says: what it adds to the step before it.
        drafted: several tokens per pass.
        constrained: answers follow the format.
        rows: prompts at a time.
        apart: one object at a time, each clip's frames encoded for it: what code does that knows one clip at a time.
        read_ahead: the next clip is read in a thread.
        bfloat16: 16-bit weights.
        compiled: the passes are compiled, on a GPU also recorded as CUDA graphs.
    """

    letter: str
    says: str
    drafted: bool = False
    constrained: bool = False
    rows: int = 1
    apart: bool = False
    read_ahead: bool = False
    bfloat16: bool = False
    compiled: bool = False


STEPS = (
    Step("a", "plain `generate`, clip by clip, one object at a time", apart=True),
    Step("b", "+ a frame is encoded once"),
    Step("c", "+ drafts", drafted=True),
    Step("d", "+ grammar", drafted=True, constrained=True),
    Step("e", "+ shared prefill, batches", drafted=True, constrained=True, rows=16),
    Step("f", "+ reading ahead", drafted=True, constrained=True, rows=16, read_ahead=True),
    Step("g", "f + bfloat16", drafted=True, constrained=True, rows=16, read_ahead=True, bfloat16=True),
    Step("h", "f + compiled passes", drafted=True, constrained=True, rows=16, read_ahead=True, compiled=True),
)


@dataclass(frozen=True)
class Setting:
    """What is tracked: `surprise` as in `Lead`, None also where the model answers by itself."""

    frames: int
    streams: int
    objects: int
    surprise: float | None


@dataclass
class Result:
    """One measured cell: seconds are of the median repeat, `boxes` of the last."""

    step: Step
    setting: Setting
    seconds: float
    stats: dict[str, Any]
    boxes: dict[tuple[int, int, int], tuple[float, ...]]


def main() -> None:
    """Measure and write the report."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    lines = [header(args)]
    steps = [step for step in STEPS if step.letter in args.steps]
    if steps:
        with tempfile.TemporaryDirectory() as folder:
            videos = {
                length: write_videos(Path(folder) / str(length), max(args.streams), length, args.size)
                for length in args.frames
            }
            lines.append(report_steps(args, measure_all(args, steps, videos)))
    if args.hour_frames:
        lines.append(report_memory(args, measure_memory(args)))
    text = "\n".join(lines)
    args.report.write_text((args.report.read_text() + "\n" if args.append else "") + text, encoding="utf-8")
    print(text)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(DRAWN), help="checkpoint that tracks by itself")
    parser.add_argument("--random", choices=sorted(SIZES), help="random weights of this size instead, led along boxes")
    parser.add_argument(
        "--surprise",
        type=float,
        nargs="+",
        help="random weights: share of boxes that no draft foresees (default: boxes recorded with the videos)",
    )
    parser.add_argument(
        "--steps", default="abcdefg", help="letters: " + ", ".join(f"{s.letter} {s.says}" for s in STEPS)
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[1], help="videos side by side")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 8], help="objects per video")
    parser.add_argument("--frames", type=int, nargs="+", default=[64], help="frames per video")
    parser.add_argument("--size", type=int, default=336, help="side of the videos in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of PyTorch (default: its own choice)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--hour-frames", type=int, default=0, help="frames of the memory run; an hour is 108000")
    parser.add_argument("--report", type=Path, default=REPORT)
    parser.add_argument("--append", action="store_true", help="add to the report instead of replacing it")
    return parser.parse_args()


# --------------------------------------------------------------------------------------------------------------
# measuring
# --------------------------------------------------------------------------------------------------------------
def load(args: argparse.Namespace, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and processor."""
    if args.random:
        return random_model(args.random, args.device, dtype)
    import tracking_elysium  # noqa: F401 - registers model, processor and pipeline

    model = transformers.AutoModelForImageTextToText.from_pretrained(args.model, dtype=dtype)
    return model.to(args.device).eval(), transformers.AutoProcessor.from_pretrained(args.model)


def write_videos(folder: Path, count: int, num_frames: int, size: int) -> list[tuple[str, np.ndarray]]:
    """Synthetic test videos as files, with the boxes (O, F, 4) in [0, 1] of their objects."""
    folder.mkdir()
    videos = []
    for index in range(count):
        clip = make_video(SyntheticConfig(size=size), "test", index, num_frames)
        path = folder / f"{index}.mp4"
        write_video(path, clip.frames, 30.0)
        videos.append((str(path), np.stack([track.clipped_boxes for track in clip.record.objects])))
    return videos


def measure_all(
    args: argparse.Namespace, steps: list[Step], videos: dict[int, list[tuple[str, np.ndarray]]]
) -> tuple[list[Result], dict[str, float]]:
    """Every step in every setting; and the ceilings of the machine and the model, per element type."""
    dtype, results, ceilings = getattr(torch, args.dtype), [], {}
    surprises = args.surprise if args.random and args.surprise else [None]
    settings = [Setting(*cell) for cell in itertools.product(args.frames, args.streams, args.objects, surprises)]
    with tqdm(total=len(steps) * len(settings) * args.repeats, desc="runs") as bar:
        model = processor = loaded = None
        for step in steps:
            wanted = torch.bfloat16 if step.bfloat16 else dtype
            if loaded != wanted:
                model = None  # before the next one is there
                model, processor = load(args, wanted)
                loaded, ceilings = wanted, ceilings | {str(wanted): ceiling(model)}
            for setting in settings:
                shown = videos[setting.frames][: setting.streams]
                tracks = [boxes for _, boxes in shown]
                lead = Lead(processor, setting.surprise, tracks) if args.random else None
                results.append(measure(args.repeats, step, setting, model, processor, shown, lead, bar))
    return results, ceilings


def measure(
    repeats: int,
    step: Step,
    setting: Setting,
    model: Any,
    processor: Any,
    videos: list[tuple[str, np.ndarray]],
    lead: Lead | None,
    bar: Any,
) -> Result:
    """Track the videos `repeats` times, after their first clips for warming up."""

    def run(limit: int | None = None) -> tuple[dict[tuple[int, int, int], tuple[float, ...]], dict[str, Any]]:
        answerer = make_answerer(step, model, processor, lead, setting.objects)
        found = dict(itertools.islice(track(step, processor, videos, setting.objects, answerer), limit))
        return found, answerer.stats.as_dict()

    run(limit=1)
    seconds, stats, boxes = [], {}, {}
    for _ in range(repeats):
        started = time.perf_counter()
        boxes, stats = run()
        seconds.append(time.perf_counter() - started)
        bar.update()
    return Result(step, setting, statistics.median(seconds), stats, boxes)


def make_answerer(step: Step, model: Any, processor: Any, lead: Lead | None, objects: int) -> Any:
    """The step's answerer; a batch holds all objects of a video."""
    rows = step.rows if step.rows == 1 else max(step.rows, objects)
    kind = LedDraftedAnswerer if step.drafted else LedClipAnswerer
    how = {"compile": True} if step.compiled else {}
    answerer = kind(model, processor, batch_size=rows, constrained=step.constrained, stats=Stats(), **how)
    answerer.lead, answerer.anew = lead, step.apart
    return answerer


def track(
    step: Step, processor: Any, videos: list[tuple[str, np.ndarray]], objects: int, answerer: Any
) -> Iterator[tuple[tuple[int, int, int], tuple[float, ...]]]:
    """((video, frame, object), box) of all videos."""
    led = answerer.lead is not None
    options = TrackingOptions(
        single_pass_up_to=0, rsot_continuation="expression" if led else "box", constrained=step.constrained
    )
    asked = [
        (video, numbers)
        for video in range(len(videos))
        for numbers in ([[n] for n in range(objects)] if step.apart else [list(range(objects))])
    ]

    def sessions() -> Iterator[TrackingSession]:
        for video, numbers in asked:
            path, boxes = videos[video]
            subjects = [
                {"expression": Lead.name(video, n)} if led else {"box": tuple(boxes[n % len(boxes), 0])}
                for n in numbers
            ]
            queries = [ObjectQuery(n, str(n), **subject) for n, subject in zip(numbers, subjects, strict=True)]
            yield TrackingSession(processor.open_video(path), processor, queries, options, read_ahead=step.read_ahead)

    at_once = 1 if step.apart else max(answerer.batch_size, objects)
    for number, result in track_videos(sessions(), answerer, at_once):
        for item in result.objects:
            yield (asked[number][0], result.frame, item.id), tuple(item.box)


def ceiling(model: Any) -> dict[str, float]:
    """What the machine could do: seconds to read the language model's weights once, and to compute one frame."""
    device, dtype = model.device, model.dtype
    weights = [*model.base_model.language_model.parameters(), *model.lm_head.parameters()]
    big = torch.ones(2**26 if device.type == "cpu" else 2**29, dtype=dtype, device=device)
    square = torch.ones(1024 if device.type == "cpu" else 8192, 1024 if device.type == "cpu" else 8192, device=device)
    square = square.to(dtype)
    bandwidth = big.nbytes / best_of(lambda: big.sum(), device)
    flops = 2 * square.shape[0] ** 3 / best_of(lambda: square @ square, device)
    tower = sum(p.numel() for p in model.base_model.vision_tower.parameters())
    language = sum(p.numel() for p in model.base_model.language_model.parameters())
    return {
        "pass_s": sum(p.nbytes for p in weights) / bandwidth,
        "frame_s": 2 * (tower * model.config.num_patches + language * model.config.num_image_tokens) / flops,
        "gb_per_s": bandwidth / 1e9,
        "gflop_per_s": flops / 1e9,
    }


def best_of(work: Any, device: torch.device, times: int = 7) -> float:
    """Seconds of the fastest of some runs."""
    best = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best


def measure_memory(args: argparse.Namespace) -> list[tuple[int, float]]:
    """(frames tracked, resident MB) once a minute of an endless video, made while it is tracked."""
    model, processor = load(args, getattr(torch, args.dtype))
    step = next(step for step in STEPS if step.letter == "f")
    answerer = make_answerer(step, model, processor, Lead(processor, 0.3) if args.random else None, 1)
    rng = np.random.default_rng(0)
    background = rng.integers(0, 255, (args.size, args.size, 3), dtype=np.uint8)

    def camera() -> Iterator[np.ndarray]:
        for index in range(args.hour_frames):
            frame = background.copy()
            left = index % (args.size - 40)
            frame[40:80, left : left + 40] = (255, 0, 0)
            yield frame

    query = (
        ObjectQuery(0, "0", expression=Lead.name(0, 0))
        if args.random
        else ObjectQuery(0, "0", box=(0.0, 0.1, 0.1, 0.2))
    )
    options = TrackingOptions(single_pass_up_to=0, rsot_continuation="expression" if args.random else "box")
    session = TrackingSession(processor.open_video(camera()), processor, [query], options)
    seen = []
    frames = tqdm(track_videos([session], answerer), total=args.hour_frames, desc="frames")
    for count, _ in enumerate(frames, start=1):
        if count % FRAMES_OF_MINUTE == 0 or count == args.hour_frames:
            seen.append((count, resident_mb()))
    return seen


def resident_mb() -> float:
    """Memory that the process holds now; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# --------------------------------------------------------------------------------------------------------------
# report
# --------------------------------------------------------------------------------------------------------------
def header(args: argparse.Namespace) -> str:
    """Where, when, with what."""
    words = " ".join(
        word for word in sys.argv[1:] if not word.endswith(".md") and word not in ("--report", "--append")
    )
    title = "" if args.append else "# Speed of tracking\n\n"
    return f"{title}{provenance(args.device)}.\n\n`python -m benchmarks.tracking_speed {words}`\n"


def report_steps(args: argparse.Namespace, measured: tuple[list[Result], dict[str, Any]]) -> str:
    """The table of steps: each line also says how much faster than its (a)."""
    results, ceilings = measured
    what = (
        f"random weights, size {args.random}, led along boxes" if args.random else "a checkpoint that tracks by itself"
    )
    lines = [
        f"## Steps: {what}, videos of {args.size} pixels, {args.dtype}\n",
        "Frames per second count (frame, object) pairs. Passes per frame are those of one row. Ceilings: the time "
        "that reading the weights once per pass takes at the measured bandwidth, over the time of the passes; the "
        "time that tower and language model need for every frame once at the measured speed of a matrix product, "
        "over the time of vision and prompts."
        + (
            f" Led: behind a wrong token of a draft the model is right with chance {FORESIGHT}.\n"
            if args.random
            else "\n"
        ),
        "| step | frames | streams | objects | surprise | s | frames/s | x (a) | x (a), passes alone | passes/frame "
        "| accepted/pass | read s | vision s | prompt s | passes s | % of bandwidth | % of FLOPs | boxes as (a) |",
        "|" + "---|" * 18,
    ]
    first = {result.setting: result for result in results if result.step.letter == "a"}
    for result in results:
        dtype = torch.bfloat16 if result.step.bfloat16 else getattr(torch, args.dtype)
        base = first.get(result.setting)
        lines.append(line(result, base, ceilings[str(dtype)]))
    speeds = "; ".join(
        f"{name}: {c['gb_per_s']:.1f} GB/s read, {c['gflop_per_s']:.0f} GFLOP/s" for name, c in ceilings.items()
    )
    return "\n".join([*lines, f"\n{speeds}.\n"])


def line(result: Result, base: Result | None, limit: dict[str, float]) -> str:
    """One row of the table."""
    s, step, setting = result.stats, result.step, result.setting
    encoded = result.stats["frames"] * limit["frame_s"]
    vision_and_prompts = s["vision_s"] + s["prefill_s"]
    cells = [
        f"{step.letter} {step.says}",
        setting.frames,
        setting.streams,
        setting.objects,
        "-" if setting.surprise is None else setting.surprise,
        f"{result.seconds:.2f}",
        f"{s['boxes'] / result.seconds:.2f}",
        "-" if base is None else f"{base.seconds / result.seconds:.2f}",
        "-" if base is None else f"{base.stats['llm_s'] / max(s['llm_s'], 1e-9):.1f}",
        s["forwards_per_frame"],
        s["accepted_per_forward"],
        *(f"{s[name]:.2f}" for name in ("decode_s", "vision_s", "prefill_s", "llm_s")),
        f"{100 * s['forwards'] * limit['pass_s'] / max(s['llm_s'] + s['prefill_s'], 1e-9):.0f}",
        f"{100 * encoded / max(vision_and_prompts, 1e-9):.0f}",
        "-" if base is None else agreement(result, base),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def agreement(result: Result, base: Result) -> str:
    """Share of boxes that are those of (a), to the last digit."""
    same = sum(result.boxes.get(key) == box for key, box in base.boxes.items())
    return f"{100 * same / max(len(base.boxes), 1):.1f} %"


def report_memory(args: argparse.Namespace, seen: list[tuple[int, float]]) -> str:
    """Resident memory once a minute, and how much it grew after the first."""
    grown = max(mb for _, mb in seen) - seen[0][1]
    rows = "\n".join(f"| {frames} | {mb:.0f} |" for frames, mb in seen)
    return (
        f"## Memory over {args.hour_frames} frames, made while they are tracked\n\n"
        f"Largest growth after the first minute: {grown:.0f} MB.\n\n| frames | resident MB |\n|---|---|\n{rows}\n"
    )


if __name__ == "__main__":
    main()
