"""Evidence for the construction pipeline: what its filters keep, restarts, executors, memory, and a projection.

Parts, each written to OUTPUT/NAME.json when it is done and not done again (delete the file for that):

  words       planted plurals, virtual words and objects through spaCy's model and the lists
  RUNS        a build with every filter off, whose rows are then judged against the truth by every set of filters:
              {runs}
              (set-grounder-tracker; `oracle` knows the truth, `planted` follows it with planned faults)
  check       a build with the default filters: the same rows as judged from `drawn-oracle-planted`
  gate        the drift gate, chosen on one half of the videos and reported on the other
  kills       the command killed with SIGKILL 20 times at random, then finished: the same files as undisturbed
  executor-local-1, executor-local-2, executor-ray-2
              1 process, 2 processes, 2 actors of Ray: the same files; wall and processor time
  memory      resident memory over 1 000 and 10 000 tiny clips
  projection  seconds per video by stage, and days for the paper's 10.7 million videos on 24 GPUs

    OMP_NUM_THREADS=1 python -m benchmarks.data_engine OUTPUT [--parts words gate ...] [--real ../shared/realdata]
    OMP_NUM_THREADS=1 python -m benchmarks.data_engine OUTPUT --report benchmarks/data_engine.md
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.data_engine_judge import DEFAULT, Filters, choose_gate, judge
from benchmarks.data_engine_set import MISSING, PLURALS, TEMPLATES, VIRTUAL, draw_set, wrap_real
from dataset_scripts.construction import workers
from dataset_scripts.construction.config import BackendConfig, BuildConfig, InputConfig, RayConfig, VideoConfig
from dataset_scripts.construction.consistency import ConsistencyConfig
from dataset_scripts.construction.drift import DriftConfig
from dataset_scripts.construction.executor import run_build
from dataset_scripts.construction.grounding import GroundingConfig
from dataset_scripts.construction.inputs import read_inputs
from dataset_scripts.construction.manifest import MANIFEST, ShardEntry
from dataset_scripts.construction.noun_chunks import NounChunkConfig, load_spacy, split_caption
from dataset_scripts.construction.projection import Machines, bounds_days, seconds_per_video
from dataset_scripts.construction.tracking import TrackingConfig
from dataset_scripts.synthetic.write import write_video

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINTS = {"shapes": ROOT / "tests/fixtures/drawn_shapes", "elysium": ROOT / "elysium"}
RUNS = ("drawn-oracle-planted", "real-oracle-planted", "drawn-oracle-kcf", "drawn-oracle-csrt", "real-oracle-kcf",
        "real-oracle-csrt", "drawn-shapes-kcf", "drawn-shapes-shapes", "real-elysium-csrt")  # fmt: skip
# A grounder of ours is unsure of its words: with the paper's 0.6 nothing would be left to judge.
GROUNDING = {"oracle": 0.6, "shapes": 0.15, "elysium": 0.15}
TRACKING = {"shapes": 0.15}
KILLS, KILL_SHARD, SPED, TINY = 20, 5, 200, (1_000, 10_000)
OFF = {
    "grounding": GroundingConfig(min_confidence=0.0), "tracking": TrackingConfig(min_confidence=None),
    "drift": DriftConfig(enabled=False), "consistency": ConsistencyConfig(enabled=False),
}  # fmt: skip


def main() -> None:
    """Do the parts that are not done, or write the report."""
    args = _arguments()
    parts: dict[str, Callable[[], Any]] = {
        "words": words,
        **{name: lambda name=name: run(args, name) for name in RUNS},
        "check": lambda: check(args), "gate": lambda: gate(args.output), "kills": lambda: kills(args),
        "memory": lambda: memory(args.output), "projection": lambda: projection(args.output),
        **{name: lambda name=name: executor(args, name) for name in EXECUTORS},
    }  # fmt: skip
    if args.report:
        from benchmarks.data_engine_report import report

        args.report.write_text(report(args.output))
        return
    for name in args.parts or parts:
        if name.startswith("real") and args.real is None:
            continue
        path = args.output / f"{name}.json"
        if not path.exists():
            print(name, flush=True)
            done = {"date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[0], "result": parts[name]()}
            path.with_suffix(".part").write_text(json.dumps(done))
            os.replace(path.with_suffix(".part"), path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").format(runs=", ".join(RUNS)), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder for videos, builds and results")
    parser.add_argument("--parts", nargs="+", help="only these")
    parser.add_argument("--videos", type=int, default=200, help="drawn videos; a tenth more are broken files")
    parser.add_argument(
        "--real", type=Path, help="folder with records.jsonl and tars of frames; without it no real runs"
    )
    parser.add_argument(
        "--first", type=int, metavar="N", help="the RUNS asked for take the first N videos of their set"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what is done as a page, and do nothing")
    args = parser.parse_args()
    (args.output / "builds").mkdir(parents=True, exist_ok=True)
    return args


def words() -> list[dict[str, Any]]:
    """Put every planted word through every template; each word counts once per template."""
    nlp, config, rows = load_spacy("en_core_web_sm"), NounChunkConfig(), []
    kinds = {"virtual": VIRTUAL, "plural": PLURALS, "missing": MISSING}
    for kind, planted in kinds.items():
        for word in planted:
            for template in TEMPLATES:
                fill = {"a": "the large red ring", "b": "the striped star", "plural": "two dogs",
                        "virtual": "love", "missing": "a bicycle", kind: word}  # fmt: skip
                text = template.format(**fill)
                found = {phrase.text.lower() for phrase in split_caption(nlp, text, config).phrases}
                both = [fill["a"] in found, fill["b"] in found]
                rows.append({"kind": kind, "word": word, "kept": word in found, "objects": both})
    return rows


def settings(args: argparse.Namespace, name: str, build: str, **changes: Any) -> BuildConfig:
    """Return the settings of a run; makes its videos where they are missing."""
    where, grounder, tracker = name.split("-")
    folder = args.output / where
    draw_set(folder, args.videos, args.seed) if where == "drawn" else wrap_real(folder, args.real, args.seed)
    return BuildConfig(
        input=InputConfig("table", str(folder / "videos.jsonl")), output=str(args.output / "builds" / build),
        grounder=_backend(folder, "grounder", grounder), tracker=_backend(folder, "tracker", tracker),
        shard_size=10, **changes,
    )  # fmt: skip


def _backend(folder: Path, role: str, name: str) -> BackendConfig:
    """Return a backend whose worker counts processor seconds, see `benchmarks.data_engine_set.backend`."""
    options = {"truth": str(folder)} if name in ("oracle", "planted") else {}
    kind = name
    if name in CHECKPOINTS:
        kind, options = "elysium", {"checkpoint": str(CHECKPOINTS[name])}
    factory = "benchmarks.data_engine_set:backend"
    return BackendConfig("custom", {"factory": factory, "role": role, "kind": kind, "options": options})


def run(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Build with all filters off and judge every row against the truth."""
    config = settings(args, name, name, **OFF)
    entries = _build(config, first=args.first)
    total: Counter[str] = Counter()
    dropped, quarantined, seconds = Counter[str](), Counter[str](), Counter[str]()
    for entry in entries:
        total.update(entry.counts)
        dropped.update(entry.dropped)
        quarantined.update(entry.quarantined)
        seconds.update(entry.seconds)
    rows = judge(args.output / name.split("-")[0], config.folder)
    return {"counts": total, "dropped": dropped, "quarantined": quarantined, "seconds": seconds, "rows": rows}


def _build(
    config: BuildConfig, on_result: Callable[[Any], None] = lambda result: None, first: int | None = None
) -> list[ShardEntry]:
    """Run a build whose workers are forked: they do what spawned ones do, without importing everything again."""
    load_spacy(config.noun_chunks.model)
    plain = multiprocessing.get_context("fork")
    with mock.patch.object(workers.multiprocessing, "get_context", lambda _: plain):
        return run_build(config, itertools.islice(read_inputs(config.input), first), on_result)


def filters_of(name: str) -> Filters:
    """Return the default filters, with the confidences that a run's backends are given."""
    _, grounder, tracker = name.split("-")
    return replace(DEFAULT, grounding=GROUNDING[grounder], tracking=TRACKING.get(tracker, DEFAULT.tracking))


def check(args: argparse.Namespace) -> dict[str, Any]:
    """Compare a build with the default filters with what judging says of the build without."""
    config = settings(args, "drawn-oracle-planted", "check")
    _build(config)
    kept = {(row["video"], row["phrase"]) for row in judge(args.output / "drawn", config.folder)}
    rows = done(args.output, "drawn-oracle-planted")["rows"]
    judged = {(row["video"], row["phrase"]) for row in rows if DEFAULT.keep(row)}
    return {"kept": len(kept), "the same": kept == judged}


def done(output: Path, name: str) -> Any:
    """Return the result of a part that is done."""
    path = output / f"{name}.json"
    if not path.exists():
        raise SystemExit(f"{name} is not done: --parts {name}")
    return json.loads(path.read_text())["result"]


def gate(output: Path) -> dict[str, Any]:
    """Choose on the videos of one half, report on the other; drawn and real videos with planned faults together."""
    names = [name for name in ("drawn-oracle-planted", "real-oracle-planted") if (output / f"{name}.json").exists()]
    return choose_gate([row for name in names for row in done(output, name)["rows"]])


def kills(args: argparse.Namespace) -> dict[str, Any]:
    """Kill builds at random moments, let them finish and compare their files.

    A build that ends before all kills are made is followed by another. Every run is forked from this process, which
    has the libraries loaded: else nearly all kills would hit imports. The command with its own processes is killed in
    tests/dataset_scripts/construction.
    """
    progress = args.output / "builds" / "kills.json"  # (build, shards finished at the kill), so that this part resumes
    made: list[tuple[str, int]] = json.loads(progress.read_text()) if progress.exists() else []
    calm = replace(settings(args, "drawn-oracle-planted", "undisturbed"), shard_size=KILL_SHARD, processes=2)
    shards = -(-sum(1 for _ in read_inputs(calm.input)) // KILL_SHARD)
    names = {name for name, _ in made}
    while len(made) < KILLS:
        name = f"killed-{len(names)}"
        names.add(name)
        config = replace(calm, output=str(args.output / "builds" / name))
        while len(made) < KILLS and (lines := _kill(config, shards)) is not None:
            made.append((name, lines))
            progress.write_text(json.dumps(made))
            print(lines, end=" ", flush=True)
    for name in [*sorted(names), "undisturbed"]:
        os.waitpid(_forked(replace(calm, output=str(args.output / "builds" / name))), 0)
    want = content(calm.folder)
    found = [content(args.output / "builds" / name) for name in sorted(names)]
    return {"kills": made, "shards": len(want[0]), "same files": all(one[0] == want[0] for one in found),
            "same manifest": all(one[1] == want[1] for one in found)}  # fmt: skip


def _kill(config: BuildConfig, shards: int) -> int | None:
    """Kill a build at a random moment of its next shards; None where it had nothing left to do before."""
    manifest, draw = config.folder / MANIFEST, random.Random(time.time_ns())
    before = _lines(manifest)
    wanted = before + draw.randint(0, 3)
    if wanted >= shards - 1:
        return None
    child = _forked(config)
    while _lines(manifest) < wanted:
        time.sleep(0.002)
    time.sleep(draw.random() * (10 if wanted == before else 0.5))
    os.kill(child, signal.SIGKILL)
    killed = os.waitpid(child, 0)[1] == signal.SIGKILL
    return _lines(manifest) if killed else None


def _forked(config: BuildConfig) -> int:
    """Start a build in a process forked from this one; returns its id."""
    child = os.fork()
    if child == 0:
        _build(config)
        os._exit(0)
    return child


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def content(build: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Return the bytes of a build's shards, and its manifest in order and without the clock."""
    lines = [{**json.loads(line), "seconds": None} for line in (build / MANIFEST).read_text().splitlines()]
    return ({path.name: path.read_bytes() for path in sorted(build.glob("*.parquet"))},
            sorted(lines, key=lambda line: line["shard"]))  # fmt: skip


EXECUTORS = {
    "executor-local-1": {"processes": 1},
    "executor-local-2": {"processes": 2},
    "executor-ray-2": {"executor": "ray", "ray": RayConfig(min_actors=2, max_actors=2)},
}


def executor(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Build the first videos with OpenCV's KCF, which is all processor, in one of three ways."""
    config = settings(args, "drawn-oracle-kcf", name, **EXECUTORS[name])
    items = list(read_inputs(config.input))[:SPED]
    arrived: list[float] = []
    begun, before = time.monotonic(), _processor_s()
    run_build(config, items, lambda _: arrived.append(time.monotonic()))
    parent, ended = (after - then for after, then in zip(_processor_s(), before, strict=True))
    seconds = seconds_per_video(config.folder)
    first = args.output / "builds" / next(iter(EXECUTORS))
    return {"videos": len(items), "wall_s": time.monotonic() - begun, "working_s": arrived[-1] - arrived[0],
            "parent_s": parent, "workers_s": ended, "stages_s": sum(seconds.values()) * len(items),
            "same": content(config.folder) == content(first)}  # fmt: skip


def _processor_s() -> tuple[float, float]:
    """Return processor seconds of this process, and of those of its children that have ended."""
    return tuple(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def memory(output: Path) -> list[dict[str, Any]]:
    """Build many ids that are all the same tiny video; one mp4 is decoded anew for each."""
    folder, rows = output / "tiny", []
    frames = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
    write_video(folder / "tiny.mp4", frames)
    for count in TINY:
        table = folder / f"{count}.jsonl"
        lines = ({"id": str(n), "video": "tiny.mp4", "caption": "A dog is here."} for n in range(count))
        table.write_text("".join(json.dumps(line) + "\n" for line in lines))
        config = BuildConfig(
            input=InputConfig("table", str(table)), output=str(output / "builds" / f"memory-{count}"),
            video=VideoConfig(min_frames=3),
            grounder=BackendConfig("custom", {"factory": "benchmarks.data_engine_set:Still"}),
            tracker=BackendConfig("custom", {"factory": "benchmarks.data_engine_set:Still"}), shard_size=100,
        )  # fmt: skip
        measured: list[tuple[int, int]] = []
        entries = _build(config, _weigh(measured, max(count // 20, 1)))
        rows.append({"videos": count, "kept": sum(entry.counts["kept"] for entry in entries),
                     "parent_and_worker_mib": [[p / 2**20, w / 2**20] for p, w in measured]})  # fmt: skip
    return rows


def _weigh(measured: list[tuple[int, int]], every: int) -> Callable[[Any], None]:
    """Note resident memory of this process and of its workers, every so many videos."""
    seen = iter(range(1, sys.maxsize))

    def note(_: Any) -> None:
        if next(seen) % every == 0:
            workers = sum(_resident(child.pid) for child in multiprocessing.active_children())
            measured.append((_resident("self"), workers))

    return note


def _resident(process: int | str | None) -> int:
    """Return the bytes in memory of a process (Linux)."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Machines of the projection: the paper's 24 GPUs, with 4 actors a GPU and 8 cores a GPU.
PAPER_VIDEOS, PAPER_DAYS, PAPER = 10_700_000, 6.0, Machines(actors=96, cores=192, gpus=24)


def projection(output: Path) -> dict[str, Any]:
    """Project the stage costs that the runs of this machine measured, all on the processor."""
    measured = {}
    for name in RUNS:
        if (output / f"{name}.json").exists():
            seconds = seconds_per_video(output / "builds" / name)
            days = bounds_days(seconds, PAPER_VIDEOS, Machines(PAPER.cores, PAPER.cores))
            measured[name] = {"seconds": seconds, "days": days}
    return {"videos": PAPER_VIDEOS, "runs": measured}


if __name__ == "__main__":
    main()
