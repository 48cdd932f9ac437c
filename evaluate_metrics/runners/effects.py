"""The command line of `python -m evaluate_metrics.effects`: what the options of tracking change, one at a time."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracking_elysium.whole_files import written_whole

from . import command
from .results_page import PAGE, where_lines, with_section
from .scoring import TrackerScores, bootstrap_interval, score_task
from .store import read_truth
from .tables import Row, markdown

__all__ = ["STUDIES", "Change", "Study", "effect_rows", "main", "run_study"]

SECTION = "effects"
BASE = "default"


@dataclass(frozen=True)
class Change:
    """One run that differs from the default.

    Attributes:
        name: of its folder of results.
        about: for people.
        options: of tracking, as on the command line of `evaluate_metrics.run`.
    """

    name: str
    about: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """Runs of one model on one set of sequences.

    Attributes:
        task: key of `evaluate_metrics.readers.tasks.TASKS`; tracked by box.
        split: of it.
        title: of the section.
        about: what the reader should know of material and default.
        sequences: names; empty for all.
        changes: the runs beside the default.
    """

    task: str
    split: str
    title: str
    about: str
    sequences: tuple[str, ...]
    changes: tuple[Change, ...]


_WORDS = ("--no-constrained",)  # without it every frame has a box, and no policy is asked
STUDIES = {
    "synthetic": Study(
        "synthetic",
        "test",
        "Drawn shapes: clips, overlap, gaps",
        "The first 12 videos of 64 frames of the synthetic test split, checkpoint of drawn shapes. Default: clips of "
        "8 frames that share 1, answers held to the box format, no search window. The model was trained on up to "
        "32 frames, and on no search windows.",
        tuple(f"video-{number:03d}" for number in range(12)),
        (
            Change("clip_2", "clips of 2 frames", ("--clip-len", "2")),
            Change("clip_4", "clips of 4 frames", ("--clip-len", "4")),
            Change("clip_16", "clips of 16 frames", ("--clip-len", "16")),
            Change("overlap_2", "clips share 2 frames", ("--overlap", "2")),
            Change("overlap_4", "clips share 4 frames", ("--overlap", "4")),
            Change("one_piece", "all 64 frames in one piece", ("--single-pass-up-to", "64")),
            Change("zoom", "search window", ("--zoom",)),
            Change("words_hold", "free answers, gaps: hold", (*_WORDS, "--gap-policy", "hold")),
            Change("words_none", "free answers, gaps: none", (*_WORDS, "--gap-policy", "none")),
        ),
    ),
    "realdata": Study(
        "realdata",
        "val",
        "Real video: search window, gaps",
        "The validation split of `realdata`, embedded checkpoint. Default: a search window of 4 times the object's "
        "side, one new frame at a time, gaps: hold. By box the model learned on search windows only.",
        (),
        (
            Change("no_zoom", "no search window: clips of 8 frames that share 1", ("--no-zoom",)),
            Change("gaps_none", "gaps: none", ("--gap-policy", "none")),
            Change("gaps_velocity", "gaps: previous_velocity", ("--gap-policy", "previous_velocity")),
            Change("factor_3", "search window of 3 times the side", ("--zoom-factor", "3")),
            Change("factor_6", "search window of 6 times the side", ("--zoom-factor", "6")),
        ),
    ),
}
HEAD = """## Effect of options

Written by `python -m evaluate_metrics.effects --data DATA`. SOT, one option changed at a time. "Difference" is the
mean of AUC minus the default's over the same sequences, with its 95 % interval by bootstrap over them: where it holds
0, the run shows no effect.
"""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluate_metrics.effects",
        description="Track with clip length, overlap, search window and gap policy changed one at a time, and write "
        "the differences into docs/results.md. Half an hour of one core; what is there already is not run again. "
        "Without --data only drawn videos are tracked.",
    )
    parser.add_argument("--data", type=Path, help="folder of `realdata` (records.jsonl, videos)")
    parser.add_argument("--drawn", default="tests/fixtures/drawn_shapes", help="model of drawn videos")
    parser.add_argument("--model", default="elysium", help="model of real video (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("outputs/effects"), help="raw results (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to write (default: docs/results.md)")
    parser.add_argument("--only", choices=STUDIES, help="one study alone")
    options = parser.parse_args(arguments)
    try:
        for name, study in STUDIES.items():
            if options.only in (None, name) and (name == "synthetic" or options.data is not None):
                run_study(study, options.drawn if name == "synthetic" else options.model, options.data, options.out)
        write_section(options.page, options.out)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {options.page}", file=sys.stderr)


def run_study(study: Study, model: str, data: Path | None, out: Path) -> None:
    """Run the default and every change.

    Args:
        study: what to run.
        model: folder or Hub id.
        data: folder of the benchmark.
        out: folder of results; what is there is not run again.
    """
    common = ["--task", study.task, "--split", study.split, "--ask", "sot", "--model", model, "--out", str(out)]
    common += [] if data is None else ["--data", str(data)]
    common += ["--sequences", *study.sequences] if study.sequences else []
    for change in (Change(BASE, "", ()), *study.changes):
        command.main([*common, "--name", change.name, *change.options])


def write_section(page: Path, out: Path) -> None:
    """Write the section of the page from all studies that have results; what else the page says stays as it is.

    Args:
        page: Markdown file.
        out: folder of results.

    Raises:
        ValueError: there are none.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    before = re.search(rf"<!-- {SECTION}: begin -->\n(.*?)\n<!-- {SECTION}: end -->", text, re.DOTALL)
    parts = re.split(r"^### ", before[1] if before else "", flags=re.MULTILINE)[1:]
    found = {part.partition("\n")[0]: f"### {part.rstrip()}" for part in parts}
    written = {study.title: "\n".join(lines) for study in STUDIES.values() if (lines := _study_lines(study, out))}
    if not written:
        raise ValueError(f"{out} holds no results; run with `--data`, or without `--only realdata`.")
    found |= written
    studies = [found[study.title] for study in STUDIES.values() if study.title in found]
    with written_whole(page) as file:
        file.write_text(with_section(text, SECTION, "\n\n".join([HEAD.rstrip(), *studies])), encoding="utf-8")


def _study_lines(study: Study, out: Path) -> list[str]:
    """Lines of one study; none where `out` has no results of it."""
    folder = out / f"{study.task}-{study.split}-sot"
    if not (folder / BASE / "run.json").is_file():
        return []
    task = json.loads((folder / "task.json").read_text("utf-8"))
    scored = score_task(folder, read_truth(folder), task)
    lines = [f"### {study.title}", "", study.about, "", *markdown(effect_rows(study, scored))]
    return [*lines, *where_lines([one for one in scored if not one.missing])]


def effect_rows(study: Study, scored: Sequence[TrackerScores]) -> list[Row]:
    """One row per run that has all its results: scores, the difference from the default in pairs, gaps.

    Args:
        study: gives the order.
        scored: of its folder.
    """
    by_name = {one.tracker: one for one in scored if not one.missing}
    base = by_name.get(BASE)
    rows = [["changed", "AUC", "difference", "better / worse sequences", "P", "frames without an answer's box"]]
    for change in (Change(BASE, "default", ()), *study.changes):
        one = by_name.get(change.name)
        if one is None or base is None:
            continue
        gaps = sum(one.counts[name] for name in ("without box", "said absent", "unreadable"))
        told = f"{gaps} of {one.counts['frames']}"
        compared = ["", ""] if one is base else _compared(one, base)
        rows.append([change.about, f"{one.scores['auc']:.3f}", *compared, f"{one.scores['precision']:.3f}", told])
    return rows


def _compared(one: TrackerScores, base: TrackerScores) -> list[str]:
    """Mean difference of AUC with its interval; sequences that are better and worse by more than 0.01."""
    pairs: list[tuple[Any, Any]] = [(one.per_item[name], base.per_item[name]) for name in base.per_item]
    gains = [ours["auc"] - theirs["auc"] for ours, theirs in pairs if ours is not None and theirs is not None]
    low, high = bootstrap_interval(gains)
    better, worse = sum(gain > 0.01 for gain in gains), sum(gain < -0.01 for gain in gains)
    return [f"{sum(gains) / len(gains):+.3f} [{low:+.3f}, {high:+.3f}]", f"{better} / {worse}"]
