"""`python -m dataset_scripts.construction.stats BUILD`: the paper's Table 1, distributions, pictures, drops."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..records import part_file
from .builds import read_build, video_path
from .frame_tars import is_in_tar, unpack
from .funnel import Funnel, read_funnel
from .measures import MEASURES, Measured, measure, table_lines
from .rows import Trajectory

__all__ = ["main", "make_parser", "plot", "save_sheet"]

_EPILOG = """examples:
  python -m dataset_scripts.construction.stats build
  python -m dataset_scripts.construction.stats build --out look      numbers.md, statistics.json, distributions.png,
                                                                     funnel.png, contact_sheet.jpg
"""
_ON_SHEET = 16
_BINS = 40
_INK, _BAR = "#27272a", "#2563eb"


def save_sheet(rows: Sequence[Trajectory], videos: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Draw first and last frame of trajectories with their boxes as one picture.

    Args:
        rows: at least one.
        videos: folder that their videos are relative to.
        target: file to write, whole or not at all.

    Raises:
        ValueError: a video cannot be read.
    """
    from dataclasses import replace

    from ..adapters.contact_sheet import contact_sheet

    with tempfile.TemporaryDirectory() as scratch:
        places = [video_path(row, videos) for row in rows]
        for number, place in enumerate(places):
            if is_in_tar(place):
                places[number] = str(unpack(place, Path(scratch) / str(number)))
        sheet = contact_sheet([replace(row.to_record(), video=p) for row, p in zip(rows, places, strict=True)])
    with _part(Path(target)) as part:
        sheet.save(part, quality=85)
        os.replace(part, target)


class _part:  # noqa: N801 - read as a verb: `with _part(file) as part`
    """A temporary file beside another, gone at the end."""

    def __init__(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, self.name = part_file(target, target.suffix)
        os.close(handle)

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *details: object) -> None:
        Path(self.name).unlink(missing_ok=True)


def plot(found: Measured, funnel: Funnel | None, folder: str | os.PathLike[str]) -> list[Path]:
    """Draw the distributions, and the funnel where it is known, as PNG files.

    Returns:
        The files.

    Raises:
        ImportError: matplotlib is missing.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    for axes, (name, numbers) in zip(figure.subplots(2, 3).flat, found.values.items(), strict=True):
        known = numbers[~np.isnan(numbers)]
        if name == "words" and len(known):
            bins = np.arange(known.min(), known.max() + 2) - 0.5
        else:
            bins = np.histogram_bin_edges(known, _BINS)
        axes.hist(known, bins=bins, color=_BAR)
        axes.set_xlabel(MEASURES[name], fontsize=8, wrap=True)
        axes.set_ylabel("trajectories", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    files = [_save(figure, Path(folder) / "distributions.png")]
    if funnel is not None:
        figure = Figure(figsize=(9, 1.2 + 0.32 * len(funnel.steps())), layout="constrained")
        axes = figure.subplots()
        steps = funnel.steps()
        axes.barh([name for name, *_ in steps], [left for _, left, _ in steps], color=_BAR)
        for place, (_, left, dropped) in enumerate(steps):
            axes.text(left, place, f" {left:,}" + (f" (-{dropped:,})" if dropped else ""), va="center", fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.2)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("phrases that are left", fontsize=8, color=_INK)
        files.append(_save(figure, Path(folder) / "funnel.png"))
    return files


def _save(figure: Any, target: Path) -> Path:
    with _part(target) as part:
        figure.savefig(part, dpi=120)
        os.replace(part, target)
    return target


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_scripts.construction.stats",
        description="Print the numbers by which the paper compares data sets (Table 1), and the spread of length, box "
        "size, motion and words; draw them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("build", type=Path, metavar="BUILD", help="folder (or parquet file) that the pipeline wrote")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write numbers and pictures here; it must not exist"
    )
    parser.add_argument("--videos", type=Path, metavar="FOLDER", help="where the videos are (default: BUILD)")
    parser.add_argument("--split", help="only the rows of this split")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: 0, or 2 for arguments or data that are wrong."""
    options = make_parser().parse_args(arguments)
    try:
        if options.out is not None and options.out.exists():
            raise ValueError(f"--out {options.out} exists and is not overwritten; give a new folder.")
        first: list[Trajectory] = []

        def rows() -> Any:
            for row in read_build(options.build):
                if options.split in (None, row.split):
                    if len(first) < _ON_SHEET:
                        first.append(row)
                    yield row

        found, funnel = measure(rows()), read_funnel(options.build)
        numbers = found.as_json() | ({"funnel": funnel.as_json()} if funnel else {})
        lines = table_lines(found) + (["", *funnel.lines()] if funnel else [])
        print(json.dumps(numbers, indent=1, ensure_ascii=False) if options.json else "\n".join(lines))
        if options.out is not None:
            videos = options.videos or (options.build if options.build.is_dir() else options.build.parent)
            _write(options.out, numbers, lines)
            plot(found, funnel, options.out)
            save_sheet(first, videos, options.out / "contact_sheet.jpg")
        return 0
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _write(folder: Path, numbers: Mapping[str, Any], lines: Sequence[str]) -> None:
    texts = {"statistics.json": json.dumps(numbers, indent=1, ensure_ascii=False), "numbers.md": "\n".join(lines)}
    for name, text in texts.items():
        with _part(folder / name) as part:
            Path(part).write_text(text + "\n", encoding="utf-8")
            os.replace(part, folder / name)


if __name__ == "__main__":
    sys.exit(main())
