"""The command line of `python -m evaluate_metrics.report`: reads results, writes tables, plots and JSON."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tracking_elysium.whole_files import written_whole

from ..tracking_ope.ope import ABSENT_AS, CONVENTIONS
from .plots import plot_curves
from .scoring import TrackerScores, score_task
from .store import Truth, read_truth, write_json
from .tables import LABELS, group_rows, judge_rows, latex, main_rows, markdown, per_item_rows, presence_rows

__all__ = ["main", "write_report"]

PUBLISHED = Path(__file__).with_name("published.json")
LONGEST_TABLE = 60  # sequences that a page lists; more are in the CSV file


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluate_metrics.report",
        description="Score the results of `evaluate_metrics.run`: report.md, report.tex, report.json, a CSV of "
        "sequences and (with matplotlib) plots. Only files are read: no model, no benchmark.",
    )
    parser.add_argument("results", type=Path, help="folder that `run` wrote (its --out)")
    parser.add_argument("--out", type=Path, help="folder of the report (default: RESULTS/report)")
    parser.add_argument("--task", nargs="+", help="folders of tasks below it, e.g. lasot-test-sot (default: all)")
    parser.add_argument("--convention", choices=CONVENTIONS, help="of all scores of tracking, instead of the task's")
    parser.add_argument("--absent-as", choices=ABSENT_AS, help="how absent frames count, instead of the task's rule")
    options = parser.parse_args(arguments)
    try:
        problems = write_report(
            options.results, options.out or options.results / "report", options.task, options.convention,
            options.absent_as,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {options.out or options.results / 'report'}; {problems} problems are named in it", file=sys.stderr)


def write_report(
    results: Path, out: Path, tasks: Sequence[str] | None = None, convention: str | None = None,
    absent_as: str | None = None,
) -> int:  # fmt: skip
    """Score every task below a folder and write the report.

    Args:
        results: folder with one folder per task.
        out: folder to write to.
        tasks: names of their folders; None: all.
        convention: instead of the tasks' own.
        absent_as: likewise.

    Returns:
        Number of problems and missing results that the report names.

    Raises:
        ValueError: no task, or one without truth.
    """
    found = sorted(path.parent for path in results.glob("*/task.json") if tasks is None or path.parent.name in tasks)
    if not found or (tasks is not None and len(found) != len(set(tasks))):
        there = [path.parent.name for path in results.glob("*/task.json")]
        raise ValueError(f"{results} has no task {tasks or ''}; it has {there}: run `evaluate_metrics.run` first.")
    published = json.loads(PUBLISHED.read_text("utf-8"))
    page, tex, data, problems = ["# Results", ""], [], {}, 0
    for folder in found:
        task = json.loads((folder / "task.json").read_text("utf-8"))
        if convention or absent_as:
            task |= {"convention": convention or task["convention"], "absent_as": absent_as}
        truths = read_truth(folder)
        scored = score_task(folder, truths, task)
        plots = plot_curves(scored, out, folder.name)
        page += _section(folder.name, task, scored, truths, published.get(folder.name, []), plots)
        tex += latex(main_rows(scored, published.get(folder.name, [])), f"{folder.name}, {_protocol(task)}")
        data[folder.name] = {"task": task, "trackers": [asdict(one) for one in scored]}
        _write_csv(out / f"{folder.name}-per-item.csv", scored)
        problems += sum(len(one.problems) + len(one.missing) for one in scored)
    for name, text in (("report.md", page), ("report.tex", tex)):
        with written_whole(out / name) as part:
            part.write_text("\n".join(text), encoding="utf-8")
    write_json(out / "report.json", data)
    return problems


def _protocol(task: dict[str, Any]) -> str:
    if task["ask"] not in ("sot", "rsot"):
        return task["ask"]
    absent = f", absent frames: {task['absent_as']}" if task["absent_as"] else ""
    return f"{task['ask'].upper()}, convention {task['convention']}{absent}"


def _section(
    name: str,
    task: dict[str, Any],
    scored: Sequence[TrackerScores],
    truths: Sequence[Truth],
    published: Sequence[dict[str, Any]],
    plots: Sequence[Path],
) -> list[str]:
    lines = [f"## {name}", "", f"{task['items']} items; {_protocol(task)}. Brackets: 95 % interval by bootstrap.", ""]
    lines += markdown(main_rows(scored, published))
    for one in scored:
        lines += [f"- {one.tracker}: {one.environment or 'environment unknown'}; {_settings(one.run)}"]
        lines += [f"  - captions: {one.notes}"] if one.notes else []
        if one.missing:
            lines.append(f"  - **{len(one.missing)} without result, counted as failed**: {_listed(one.missing)}")
        if one.unanswered:
            what = "sequences with frames" if task["ask"] in ("sot", "rsot") else "answers"
            lines.append(f"  - **{len(one.unanswered)} {what} that hold nothing readable**: {_listed(one.unanswered)}")
        lines += [f"  - **{problem}**" for problem in one.problems]
    lines.append("")
    for about, rows in (("Does the tracker know when the object is gone?", presence_rows(scored)),
                        ("GPT-assisted:", judge_rows(scored))):  # fmt: skip
        lines += [about, "", *markdown(rows)] if len(rows) > 1 else []
    score = next((key for one in scored for key in one.scores if key in LABELS and key in _keys(one)), None)
    if score is None:
        return lines
    if any(truth.attributes or len(truth.boxes_xywh_px) > 1 for truth in truths):
        lines += [f"{LABELS[score]} by group:", "", *markdown(group_rows(scored, truths, score))]
    if len(truths) <= LONGEST_TABLE:
        lines += [f"{LABELS[score]} by sequence:", "", *markdown(per_item_rows(scored, score))]
    return lines + [f"![{path.stem}]({path.name})" for path in plots] + [""]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _settings(run: dict[str, Any]) -> str:
    """What `run.json` says, on one line."""
    told = {key: value for key, value in run.items() if key != "tracker" and value not in (None, {}, [])}
    return ", ".join(f"{key} {value}" for key, value in told.items()) or "no settings"


def _keys(one: TrackerScores) -> set[str]:
    return {key for item in one.per_item.values() if item is not None for key in item}


def _write_csv(path: Path, scored: Sequence[TrackerScores]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["tracker", "name", "score", "value"])
    for one in scored:
        for name, item in one.per_item.items():
            writer.writerows([one.tracker, name, key, f"{value:.6f}"] for key, value in (item or {}).items())
    with written_whole(path) as part:
        part.write_text(text.getvalue(), encoding="utf-8")
