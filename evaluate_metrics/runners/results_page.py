"""The command line of `python -m evaluate_metrics.results`: the two local benchmarks, and docs/results.md of them."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_scripts.synthetic import COLORS, SHAPES
from tracking_elysium.whole_files import written_whole

from ..readers.tasks import ASKS, TASKS
from . import command
from .plots import plot_overview
from .scoring import TrackerScores, score_task
from .store import Truth, read_lines, read_truth
from .tables import Row, group_rows, main_rows, markdown, presence_rows

__all__ = ["PAGE", "PARTS", "Part", "main", "run_part", "where_lines", "with_section", "write_page"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "results.md"
OPENCV = ("keep_first", "rounding_oracle", "kcf", "csrt", "mil")
HEAD = """# Results

Written by `make results` (`python -m evaluate_metrics.results --data DATA`); do not edit. What the columns mean, and
what is counted how, is in [evaluate.md](evaluate.md). Brackets: 95 % interval by bootstrap over sequences or items.
"""


@dataclass(frozen=True)
class Part:
    """One benchmark of the page.

    Attributes:
        task: key of `TASKS`.
        split: that is measured.
        title: of the section.
        about: what the reader should know of the material and the model.
        groups: beginnings of the names of the groups that have a table.
    """

    task: str
    split: str
    title: str
    about: str
    groups: tuple[str, ...]

    def folder(self, ask: str) -> str:
        """Name of the folder of results."""
        return f"{self.task}-{self.split}-{ask}"


PARTS = {
    "synthetic": Part(
        "synthetic",
        "test",
        "Drawn shapes: the synthetic test split",
        "200 clips of 8 frames (3 to 6 native frames apart) and 50 videos of 64 consecutive frames, 140 x 140 pixels, "
        "one object of each. The model is the checkpoint of drawn shapes; no clip of the split was seen in training.",
        ("attribute", "size"),
    ),
    "realdata": Part(
        "realdata",
        "val",
        "Real video: the validation split of `realdata`",
        "Short real clips of at most 248 pixels on the shorter side. The model is the embedded checkpoint, and "
        "choices were made on this split while it was trained: its numbers on sequences that no choice was made on "
        "are in the [README](../README.md#results).",
        ("size", "speed", "absence"),
    ),
}

SECTIONS = (*PARTS, "effects")  # in the order of the page; `effects` is written by `evaluate_metrics.effects`


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluate_metrics.results",
        description="Run all that needs no download (the synthetic test split; with --data the validation split of "
        "`realdata`) with models and baselines, and write the page with tables and plots. Hours on one core; what is "
        "there already is not run again. Without --data the section of real video stays as it is.",
    )
    parser.add_argument("--data", type=Path, help="folder of `realdata` (records.jsonl, videos, images)")
    parser.add_argument("--drawn", default="tests/fixtures/drawn_shapes", help="model of the synthetic split")
    parser.add_argument("--model", default="elysium", help="model of real video (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("outputs/results"), help="raw results (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to write (default: docs/results.md)")
    parser.add_argument("--only", choices=PARTS, help="one section alone")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N sequences or items, for a quick look")
    options = parser.parse_args(arguments)
    try:
        for name, part in PARTS.items():
            if options.only not in (None, name):
                continue
            if TASKS[part.task].needs_data and options.data is None:
                print(f"no --data: the section of {name} in {options.page} stays as it is", file=sys.stderr)
                continue
            model = options.drawn if name == "synthetic" else options.model
            run_part(part, model, options.data, options.out, options.limit)
            write_page(options.page, name, part, options.out)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {options.page}", file=sys.stderr)


def run_part(part: Part, model: str, data: Path | None, out: Path, limit: int | None = None) -> None:
    """Run the model and every baseline that needs nothing but this clone.

    Args:
        part: which benchmark.
        model: folder or Hub id.
        data: folder of the benchmark.
        out: folder of results; what is there is not run again.
        limit: only the first sequences or items.
    """
    common = ["--task", part.task, "--split", part.split, "--out", str(out)]
    common += [] if data is None else ["--data", str(data)]
    common += [] if limit is None else ["--limit", str(limit)]
    for ask in TASKS[part.task].asks:
        runs: list[list[str]] = [["--model", model]]
        if ask == "sot":
            runs.append(["--trackers", *OPENCV])
        elif ask == "rsot":
            runs += [["--trackers", "rounding_oracle"], ["--trackers", "rec_per_frame", "--model", model]]
        for run in runs:
            command.main([*common, "--ask", ask, *run])


def write_page(page: Path, name: str, part: Part, results: Path) -> None:
    """Write one section of the page, and the pictures beside it; the others stay as they are.

    Args:
        page: Markdown file; pictures go into a folder of its name.
        name: of the section.
        part: what it is about.
        results: folder of results.
    """
    lines = [f"## {part.title}", "", part.about, ""]
    for ask in TASKS[part.task].asks:
        folder = results / part.folder(ask)
        if (folder / "task.json").is_file():
            lines += _ask_section(page, part, ask, folder)
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    with written_whole(page) as file:
        file.write_text(with_section(text, name, "\n".join(lines).rstrip()), encoding="utf-8")


def with_section(page: str, name: str, section: str) -> str:
    """A page with one section put in its place, between two comments; the head and the other sections stay."""
    found = dict(re.findall(r"<!-- (\w+): begin -->\n(.*?)\n<!-- \1: end -->", page, re.DOTALL)) | {name: section}
    parts = [f"<!-- {key}: begin -->\n{found[key]}\n<!-- {key}: end -->\n" for key in SECTIONS if key in found]
    return "\n".join([HEAD, *parts])


def _ask_section(page: Path, part: Part, ask: str, folder: Path) -> list[str]:
    task = json.loads((folder / "task.json").read_text("utf-8"))
    truths = read_truth(folder)
    scored = score_task(folder, truths, task)
    tracked = ask in ("sot", "rsot")
    how = f", convention `{task['convention']}`" if tracked else ""
    how += f", absent frames: {task['absent_as']}" if tracked and task["absent_as"] else ""
    lines = [f"### {ask.upper().replace('_', '-')}: {ASKS[ask]}", "", f"{task['items']} items{how}.", ""]
    lines += markdown(main_rows(scored, ()))
    if part.task == "synthetic" and ask == "video_reg":
        lines += markdown(_word_rows(folder, scored, truths))
    if tracked:
        rows = group_rows(scored, truths, "auc")
        lines += ["AUC by group:", "", *markdown([rows[0], *(row for row in rows if row[0].startswith(part.groups))])]
        presence = presence_rows(scored)
        lines += ["Does it know when the object is gone?", "", *markdown(presence)] if len(presence) > 1 else []
        picture = page.with_suffix("") / f"{folder.name}.png"
        for path in plot_overview(scored, truths, folder, picture):
            lines += [f"![{folder.name}]({path.parent.name}/{path.name})", ""]
    for one in scored:
        lines += [f"- {one.tracker}: {one.notes}"] if one.notes else []
        lines += [f"- {one.tracker}: **{problem}**" for problem in one.problems]
    return [*lines, *where_lines(scored), ""]


def where_lines(scored: Sequence[TrackerScores]) -> list[str]:
    """One line per environment, with the trackers that ran in it."""
    ran: dict[str, list[str]] = {}
    for one in scored:
        model = one.run.get("model")
        ran.setdefault(one.environment or "environment unknown", []).append(
            f"{one.tracker} (`{model}`)" if model and model != one.tracker else one.tracker
        )
    return [f"- {', '.join(names)}: {where}" for where, names in ran.items()]


def _word_rows(folder: Path, scored: Sequence[TrackerScores], truths: Sequence[Truth]) -> list[Row]:
    """Shares of descriptions with the one right color, the one right shape, and both."""
    rows = [["model", "right color", "right shape", "both"]]
    for one in scored:
        said = {
            row["name"]: str(row.get("text") or "")
            for path in sorted((folder / one.tracker).glob("block-*.jsonl"))
            for row in read_lines(path)
        }
        right = [
            [_only(said.get(truth.name, ""), words) == _only(truth.references[0], words) for words in (COLORS, SHAPES)]
            for truth in truths
        ]
        count = len(right)
        shares = [sum(r[0] for r in right) / count, sum(r[1] for r in right) / count, sum(map(all, right)) / count]
        rows.append([one.tracker, *(f"{share:.1%}" for share in shares)])
    return rows


def _only(text: str, allowed: Any) -> str | None:
    """The one word of `allowed` in a text; None if none or several are in it."""
    found = {word for word in re.findall(r"[a-z]+", text.lower()) if word in allowed}
    return found.pop() if len(found) == 1 else None
