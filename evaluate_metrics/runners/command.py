"""The command line of `python -m evaluate_metrics.run`."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

from tracking_elysium.options import TrackingOptions, options_given

from ..baselines.trackers import NAMES, make_tracker
from ..readers.items import Item, TrackSequence
from ..readers.tasks import ASKS, TASKS, load_items
from .model import ModelTracker, answer_items
from .official import import_official
from .store import check_same_run, read_lines, write_json, write_truth
from .work import Share, run_blocks

__all__ = ["main", "make_parser"]

# Options of tracking whose effect is worth a table; `runners/inspection.py` compares them.
OPTIONS = (
    "clip_len", "overlap", "single_pass_up_to", "gap_policy", "rsot_continuation", "constrained", "zoom",
    "zoom_factor", "looks",
)  # fmt: skip
EPILOG = """examples:
  python -m evaluate_metrics.run --task lasot --data DATA/LaSOT --model elysium --out results
  python -m evaluate_metrics.run --task realdata --data DATA --trackers keep_first kcf mil csrt --out results
  accelerate launch --num_processes 4 -m evaluate_metrics.run --task got10k --data DATA/GOT-10k --out results
  python -m evaluate_metrics.run --task lasot --data DATA/LaSOT --official-raw DOWNLOADS/tracking_results --out results
  python -m evaluate_metrics.report results
A run that was stopped goes on where it was: sequences with a result file are skipped."""


def make_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluate_metrics.run",
        description="Run a model or baselines on a benchmark; one raw result file per sequence, scored by `report`.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", required=True, choices=TASKS, metavar="TASK", help=f"one of {', '.join(TASKS)}")
    parser.add_argument("--data", type=Path, help="folder of the benchmark as it is published (docs/evaluate.md)")
    parser.add_argument("--split", help="of the benchmark, by default the one that papers report")
    parser.add_argument("--ask", choices=ASKS, help="; ".join(f"{key}: {about}" for key, about in ASKS.items()))
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of results (default: %(default)s)")
    parser.add_argument("--model", help="checkpoint folder or Hub id; without it and --trackers: elysium")
    parser.add_argument("--name", help="folder of the model's results (default: the model's own name)")
    parser.add_argument("--trackers", nargs="+", default=[], metavar="NAME", help=f"baselines: {', '.join(NAMES)}")
    parser.add_argument("--checkpoint", help="of detector_per_frame or sam2_video, a folder or Hub id")
    parser.add_argument("--onnx", nargs="+", default=[], metavar="FILE", help="files that nano and vit need")
    parser.add_argument("--official-raw", type=Path, metavar="DIR", help="score published raw results instead")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N sequences or items, for a quick look")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these sequences or items")
    parser.add_argument("--batch-size", type=int, default=16, help="clips that the model reads together")
    options = parser.add_argument_group("options of tracking (default: what the checkpoint asks for)")
    for field in fields(TrackingOptions):
        if field.name in OPTIONS:
            kind = {"int": int, "float": float, "str": str}.get(str(field.type))
            how: dict[str, Any] = {"type": kind} if kind else {"action": argparse.BooleanOptionalAction}
            options.add_argument(f"--{field.name.replace('_', '-')}", help=field.metadata["about"], **how)
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    options = make_parser().parse_args(arguments)
    try:
        _run(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def _run(options: argparse.Namespace) -> None:
    from accelerate import PartialState  # slow to import, and --help needs none of it

    spec = TASKS[options.task]
    ask, split = options.ask or spec.asks[0], options.split or spec.splits[0]
    settings = options_given({key: getattr(options, key) for key in OPTIONS})
    TrackingOptions(**settings)  # a wrong value is an error before anything is read
    items = _chosen(load_items(options.task, ask, split, options.data), options)
    # The slowest process may be hours behind the first.
    state = PartialState(timeout=datetime.timedelta(days=7))
    folder = options.out / f"{options.task}-{split}-{ask}"
    if state.is_main_process:
        _write_task(folder, options, ask, split, items)
    if options.official_raw:
        if state.is_main_process:
            _import(options.official_raw, items, folder)
        return
    pipe = cache(partial(_pipeline, options.model or "elysium", state.device, options.batch_size, settings))
    for name, make, run in _trackers(options, ask, pipe, state.device):
        target = folder / name
        if state.is_main_process:
            check_same_run(target / "run.json", {"tracker": name, **run})
        state.wait_for_everyone()
        share = Share(state.process_index, state.num_processes)
        if ask in ("sot", "rsot"):
            done = run_blocks(items, ask, target, share, tracker=make())
        else:
            done = run_blocks(items, ask, target, share, answer=partial(answer_items, pipe()))
        # Where nothing was left to do, the results stay those of the run that made them.
        if state.is_main_process and (done or not (target / "environment.json").is_file()):
            from .machine import provenance

            write_json(target / "environment.json", {"environment": provenance(str(state.device))})
    state.wait_for_everyone()
    if state.is_main_process:
        print(f"results are in {folder}; now: python -m evaluate_metrics.report {options.out}", file=sys.stderr)


def _chosen(items: list[Item], options: argparse.Namespace) -> list[Item]:
    if options.sequences:
        known = {item.name: item for item in items}
        unknown = [name for name in options.sequences if name not in known]
        if unknown:
            raise ValueError(f"`--sequences` has {unknown[0]!r}, which is none of {', '.join(list(known)[:5])}, ...")
        items = [known[name] for name in options.sequences]
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"`--limit`={options.limit} must be at least 1.")
    return items[: options.limit]


def _write_task(folder: Path, options: argparse.Namespace, ask: str, split: str, items: list[Item]) -> None:
    spec = asdict(TASKS[options.task])
    task = {"task": options.task, "split": split, "ask": ask, "items": len(items)}
    task |= {key: spec[key] for key in ("convention", "absent_as")}
    task["data"] = None if options.data is None else str(options.data)
    if options.limit or options.sequences:  # a quick look takes nothing from the truth of a whole run
        known = {row["name"] for row in read_lines(folder / "truth.jsonl")}
        if known >= {item.name for item in items}:
            return
    write_json(folder / "task.json", task)
    write_truth(folder, items)


def _import(raw: Path, items: Sequence[Item], folder: Path) -> None:
    sequences = [item for item in items if isinstance(item, TrackSequence)]
    for name, missing in import_official(raw, sequences, folder).items():
        lacking = f"; no file for {len(missing)}: {', '.join(missing[:5])}" if missing else ""
        print(f"{name}: {len(sequences) - len(missing)} of {len(sequences)} sequences{lacking}", file=sys.stderr)


def _trackers(
    options: argparse.Namespace, ask: str, pipe: Callable[[], Any], device: Any
) -> list[tuple[str, Callable[[], Any], dict[str, Any]]]:
    """(name of the folder, what builds the tracker, what run.json says) of everything that is to run."""
    if options.trackers and ask not in ("sot", "rsot"):
        raise ValueError(f"`--trackers` are for tracking (sot, rsot); `--ask {ask}` is for a model.")
    found: list[tuple[str, Callable[[], Any], dict[str, Any]]] = []
    for name in options.trackers:
        make = partial(make_tracker, name, options.checkpoint, tuple(options.onnx), device, pipe)
        run = {"checkpoint": options.checkpoint} if name in ("detector_per_frame", "sam2_video") else {}
        found.append((name, make, run | ({"model": options.model} if name == "rec_per_frame" else {})))
    if not options.trackers or (options.model and "rec_per_frame" not in options.trackers):
        model = options.model or "elysium"
        name = options.name or Path(model).name
        given = options_given({key: getattr(options, key) for key in OPTIONS})
        if name in NAMES:
            raise ValueError(f"`--name`={name!r} is the name of a baseline; choose another one.")
        found.append((name, lambda: ModelTracker(pipe(), name), {"model": model, "options": given}))
    return found


def _pipeline(model: str, device: Any, batch_size: int, settings: dict[str, Any]) -> Any:
    from transformers import pipeline

    import tracking_elysium  # noqa: F401 - registers model, processor and pipeline
    from tracking_elysium.threads import fix_threads

    pipe = pipeline("video-tracking", model=model, device=device, batch_size=batch_size, **settings)
    fix_threads(pipe.model)
    return pipe
