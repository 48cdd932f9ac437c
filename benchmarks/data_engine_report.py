"""The page that `benchmarks/data_engine.py` writes of the parts that are done; what is missing is named as missing."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data_engine import EXECUTORS, PAPER, PAPER_DAYS, RUNS, filters_of
from benchmarks.data_engine_judge import filter_table
from dataset_scripts.construction.words import GROUP_WORDS, VIRTUAL_WORDS, abstract_nouns

__all__ = ["report"]

PACKAGES = ("numpy", "torch", "transformers", "spacy", "opencv-contrib-python-headless", "filterpy", "av", "pyarrow")
HEAD = """# Evidence for the construction pipeline

{date}, `OMP_NUM_THREADS=1 python -m benchmarks.data_engine OUTPUT --real ../shared/realdata`, then `--report`; x86_64,
2 cores that other work kept busy (load average beside each part: {loads}), a thread per process;
Python {python}, {versions}.

A trajectory is *good* where its object can be seen in every frame and its box overlaps the true one by half or more in
nine frames of ten; everything else that a tracker followed to the end is a *fault*. The sets, the oracle (a grounder
that knows the true boxes and is off by 4 % of the object's side at each corner) and the planted tracker (which follows
the truth until a fault that is planned for the object begins) are in `benchmarks/data_engine_set.py`.
"""


def report(output: Path) -> str:
    """Return the page of a folder of results."""
    files = {path.stem: json.loads(path.read_text()) for path in sorted(output.glob("*.json"))}
    results = {name: one["result"] for name, one in files.items()}
    lines = [
        HEAD.format(
            date=max(one["date"] for one in files.values()),
            loads=", ".join(f"{name} {one['load']:.0f}" for name, one in files.items()),
            python=platform.python_version(), versions=", ".join(f"{name} {version(name)}" for name in PACKAGES),
        )
    ]  # fmt: skip
    lines += _part(results, "words", "Words of captions", _words)
    for name in RUNS:
        lines += _part(results, name, f"Filters: `{name}`", lambda one, name=name: _run(name, one))
    lines += _part(results, "check", "The filters as a build runs them", _check)
    lines += _part(results, "gate", "The gate of the drift filter", _gate)
    lines += _part(results, "kills", "Killed at random moments", _kills)
    lines += ["\n## Executors\n", *_executors(files)]
    lines += _part(results, "memory", "Memory", _memory)
    lines += _part(results, "projection", "Projection", _projection)
    return "\n".join(lines) + "\n"


def _part(results: dict[str, Any], name: str, title: str, write: Any) -> list[str]:
    return [f"\n## {title}\n", *(write(results[name]) if name in results else ["Not measured."])]


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return lines of a table in Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _words(rows: list[dict[str, Any]]) -> list[str]:
    listed = VIRTUAL_WORDS | GROUP_WORDS | abstract_nouns()
    kinds: dict[str, list[dict[str, Any]]] = {"plurals and groups": [], "virtual, in the lists of `words.py`": [],
                                              "virtual, in none of them": []}  # fmt: skip
    for row in rows:
        if row["kind"] == "plural":
            kinds["plurals and groups"].append(row)
        elif row["kind"] == "virtual":
            inside = row["word"].split()[-1] in listed
            kinds["virtual, in the lists of `words.py`" if inside else "virtual, in none of them"].append(row)
    cells = []
    for name, planted in kinds.items():
        dropped = sum(not row["kept"] for row in planted)
        through = sorted({row["word"] for row in planted if row["kept"]})
        cells.append((name, len(planted), _percent(dropped / max(len(planted), 1)), ", ".join(through) or "none"))
    things = [row["kept"] for row in rows if row["kind"] == "missing"] + [
        kept for row in rows for kept in row["objects"]
    ]
    kept = sum(things) / len(things)
    return [
        "spaCy's `en_core_web_sm`; each word through three captions.\n",
        *table(("planted", "phrases", "dropped", "let through"), cells),
        f"\nPhrases that name one object: {len(things)}, kept: {_percent(kept)}.",
    ]


def _run(name: str, one: dict[str, Any]) -> list[str]:
    filters, rows = filters_of(name), one["rows"]
    counts, dropped = one["counts"], one["dropped"]
    before = {reason: n for reason, n in dropped.items() if not reason.startswith("noun_chunks")}
    lines = [
        f"{counts['videos']} videos, {counts['phrases']} phrases; dropped by words "
        f"{sum(n for reason, n in dropped.items() if reason.startswith('noun_chunks'))}, before any filter {before}; "
        f"quarantined {one['quarantined']}. Thresholds: grounding {filters.grounding}, tracking {filters.tracking}, "
        f"drift {filters.drift:g}, consistency {filters.consistency}.\n",
        *table(
            ("filters", "kept", "precision", "good kept", "faults dropped"),
            ((label, row["kept"], _percent(row["precision"]), f"{_percent(row['good kept'])} of {row['good']}",
              f"{_percent(row['faults dropped'])} of {row['faults']}")
             for label, row in filter_table(rows, filters).items()),
        ),
    ]  # fmt: skip
    return lines + (_kinds(rows, filters) if name.endswith("planted") else [])


def _kinds(rows: list[dict[str, Any]], filters: Any) -> list[str]:
    kinds = Counter(row["kind"] for row in rows if not row["good"])
    gone = Counter(row["kind"] for row in rows if not row["good"] and not filters.keep(row))
    return [
        "",
        *table(("planned fault", "faults", "dropped by all filters"),
               ((kind, n, _percent(gone[kind] / n)) for kind, n in kinds.most_common())),
    ]  # fmt: skip


def _check(one: dict[str, Any]) -> list[str]:
    same = "the same" if one["the same"] else "NOT the same"
    return [
        "The tables above judge one build without filters by every set of them. A build with the default filters kept "
        f"{one['kept']} trajectories, {same} as judging says (`drawn-oracle-planted`, all filters)."
    ]


def _gate(one: dict[str, Any]) -> list[str]:
    halves = ("choosing half", "reporting half")
    cells = []
    for gate in one[halves[0]]:
        row = [f"**{gate}**" if float(gate) == one["chosen"] else gate]
        for half in halves:
            row += [_percent(one[half][gate]["good kept"]), _percent(one[half][gate]["faults dropped"])]
        cells.append(row)
    sizes = [
        f"{one[half][str(one['chosen'])]['good']} good and {one[half][str(one['chosen'])]['faults']} leaps"
        for half in halves
    ]
    return [
        "The planned faults that begin with a leap (jump, switch, excursion), the drift filter alone; half of "
        f"the videos to choose ({sizes[0]}), the other to report ({sizes[1]}).\n",
        *table(("gate", "chosen on: good kept", "leaps dropped", "reported on: good kept", "leaps dropped"), cells),
    ]


def _kills(one: dict[str, Any]) -> list[str]:
    builds = Counter(name for name, _ in one["kills"])
    return [
        f"SIGKILL {len(one['kills'])} times, to {len(builds)} build(s) of {one['shards']} shards with two workers; "
        f"shards that were finished at each kill: {', '.join(str(lines) for _, lines in one['kills'])}. Then finished "
        "and compared with an undisturbed build: parquet files byte for byte the same: "
        f"{'yes' if one['same files'] else 'NO'}; manifest in order and without the clock the same: "
        f"{'yes' if one['same manifest'] else 'NO'}. Runs are forked from a process that has the libraries loaded, so "
        "that kills hit work rather than imports; the command itself is killed in "
        "`tests/dataset_scripts/construction/test_build.py`."
    ]


def _executors(files: dict[str, Any]) -> list[str]:
    done = {name: files[name] for name in EXECUTORS if name in files}
    if not done:
        return ["Not measured."]
    first = next(iter(done.values()))["result"]
    cells = []
    for name, one in done.items():
        row = one["result"]
        workers = "-" if "ray" in name else f"{row['workers_s']:.1f}"
        cells.append((f"`{name[9:]}`", row["videos"], "yes" if row["same"] else "NO", f"{row['wall_s']:.0f}",
                      f"{row['working_s']:.1f}", f"{first['working_s'] / row['working_s']:.2f} x",
                      f"{row['parent_s']:.2f}", workers, f"{row['stages_s']:.1f}", f"{one['load']:.0f}"))  # fmt: skip
    return [
        "Drawn videos, OpenCV's KCF as tracker, which is all processor. Processor seconds of the command (with its "
        "imports for Ray), of its workers with their start, and of the stages alone.\n",
        *table(("executor", "videos", "same files", "wall, s", "first to last result, s", "speed-up", "command, s",
                "workers, s", "stages, s", "load"), cells),
    ]  # fmt: skip


def _memory(rows: list[dict[str, Any]]) -> list[str]:
    cells = []
    for row in rows:
        sizes = np.array(row["parent_and_worker_mib"])  # (samples, 2), the first after a twentieth of the videos
        steady = sizes[len(sizes) // 4 :]
        at = np.linspace(0, row["videos"], len(sizes))[-len(steady) :]
        slopes = [np.polyfit(at, steady[:, n], 1)[0] * 1024 for n in (0, 1)]
        cells.append((f"{row['videos']:,}", f"{row['kept']:,}", *(f"{size:.1f}" for size in (*sizes[0], *sizes[-1])),
                      *(f"{slope:+.3f}" for slope in slopes)))  # fmt: skip
    return [
        "Ids that are all one mp4 of 4 frames of 48 x 48 pixels, decoded anew for each; spaCy's model, a grounder and "
        "a tracker that answer at once; 1 process. Resident memory, and a straight line through the last three "
        "quarters.\n",
        *table(("videos", "kept", "parent after 1/20, MiB", "worker", "parent at the end", "worker",
                "parent, KiB per video", "worker, KiB per video"), cells),
    ]  # fmt: skip


def _projection(one: dict[str, Any]) -> list[str]:
    stages = sorted({stage for run in one["runs"].values() for stage in run["seconds"]})
    allowed = PAPER_DAYS * 86_400 * PAPER.gpus / one["videos"]
    return [
        "`dataset_scripts/construction/projection.py` has the formula. Processor seconds per video on this machine, "
        f"one thread, and days for {one['videos']:,} videos on "
        f"{PAPER.cores} such cores (8 per GPU of the paper's), models on the processor too:\n",
        *table(("run", *stages, "days"),
               ((f"`{name}`", *(f"{run['seconds'].get(stage, 0):.3f}" for stage in stages),
                 f"{max(run['days'].values()):.1f}") for name, run in one["runs"].items())),
        f"\nThe paper's {PAPER_DAYS:g} days on {PAPER.gpus} GPUs leave {allowed:.2f} GPU seconds per video for "
        "grounding and tracking together. What Grounding DINO and a tracker take on a GPU has not been measured here: "
        "a build of some hundred videos there and the command of `projection.py` say it.",
    ]  # fmt: skip
