"""What `elysium track` shows and writes: progress bar, table, JSON, CSV, overlay video, contact sheet."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..visualize import contact_sheet, draw_objects, write_video
from ..whole_files import check_outputs, written_whole

TABLE_ROWS = 24
SHEET_FRAMES = 12
FALLBACK_FPS = 25.0
_CHUNK = 32


class Stopwatch:
    """A clock that starts when it is made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def seconds(self) -> float:
        """Count the seconds since construction."""
        return time.perf_counter() - self._start


def progress(frames: Iterable[dict[str, Any]], total: int | None, quiet: bool) -> Iterator[dict[str, Any]]:
    """Pass frames on while a bar on stderr counts them; no bar when quiet or when stderr is not a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("tracking"), BarColumn(), MofNCompleteColumn(), TextColumn("frames"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("tracking", total=total)
        for frame in frames:
            bar.advance(task)
            yield frame


@dataclass
class Report:
    """Files to write, checked before the work starts."""

    video: Path | None
    json: str | None
    csv: Path | None
    sheet: Path | None

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> Report:
        """Take the output arguments; nothing is made before there is something to write.

        Raises:
            ValueError: an ending that says another format, a file that is in use, or see `check_outputs`.
        """
        for name, value, endings in (
            ("--output", args.output, (".mp4",)),
            ("--contact-sheet", args.contact_sheet, (".png", ".jpg", ".jpeg")),
        ):
            if value is not None and Path(value).suffix.lower() not in endings:
                raise ValueError(f"{name} {value!r} must end in {' or '.join(endings)}.")
        check_output_arguments(args, ("output", "json", "csv", "contact_sheet"))
        optional = [None if value is None else Path(value) for value in (args.output, args.csv, args.contact_sheet)]
        return cls(video=optional[0], json=args.json, csv=optional[1], sheet=optional[2])

    def write(
        self,
        args: argparse.Namespace,
        source: Any,
        queries: list[Any],
        results: list[dict[str, Any]],
        seconds: float,
        stats: dict[str, Any] | None = None,
    ) -> None:
        """Write every file that was asked for, then the table; `stats` of the run go to stderr and into the JSON."""
        written = []
        if stats is not None:
            print_stats(stats)
        if self.json is not None:
            content = document(args.video, source, queries, results)
            write_json(self.json, content if stats is None else {**content, "stats": stats})
            written += [self.json] if self.json != "-" else []
        if self.csv is not None:
            write_csv(self.csv, results)
            written.append(str(self.csv))
        if self.video is not None:
            write_overlay(self.video, source, results)
            written.append(str(self.video))
        if self.sheet is not None:
            write_sheet(self.sheet, source, results, Path(args.video).name)
            written.append(str(self.sheet))
        if args.visualize is not None:
            written.append(str(Path(args.visualize) / ""))
        if args.quiet or self.json == "-":
            return
        print_table(results)
        rate = len(results) / max(seconds, 1e-9)
        print(f"{len(results)} frames, {len(queries)} object(s), {seconds:.1f} s ({rate:.1f} frames/s)")
        for path in written:
            print(f"wrote {path}")


def check_output_arguments(args: argparse.Namespace, names: tuple[str, ...]) -> None:
    """Check the named arguments as files to write, against each other, the video and the model; "-" is none.

    Raises:
        ValueError: see `check_outputs`.
    """
    given = {f"--{name.replace('_', '-')}": getattr(args, name) for name in names}
    model = args.model if args.model is not None and Path(args.model).is_dir() else None
    outputs = {name: None if (name, path) == ("--json", "-") else path for name, path in given.items()}
    check_outputs(outputs, {"the video": args.video, "the model": model})


def document(video: str, source: Any, queries: list[Any], results: list[dict[str, Any]]) -> dict[str, Any]:
    """Build the JSON document: the video, the objects asked for, and per frame seconds, pixel boxes and scores."""
    size = (source.width, source.height) * 2
    objects = []
    for query in queries:
        box = None if query.box is None else [round(v * s, 2) for v, s in zip(query.box, size, strict=True)]
        asked = {"expression": query.expression} if box is None else {"box": box}
        objects.append({"id": query.id, "label": query.label, "start_frame": query.start_frame, **asked})
    head = {
        "video": os.fsencode(video).decode("utf-8", "replace"),
        "width": source.width,
        "height": source.height,
        "fps": source.fps,
    }
    return {**head, "objects": objects, "frames": [_rounded(result) for result in results]}


def write_json(path: str, content: dict[str, Any]) -> None:
    """Write a document as JSON; "-" prints it."""
    if path == "-":
        unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        print(json.dumps(content, indent=1, ensure_ascii=not unicode, allow_nan=False))
        return
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    with written_whole(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def write_csv(path: Path, results: list[dict[str, Any]]) -> None:
    """Write one line per object and frame."""
    with written_whole(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "timestamp", "id", "label", "score", "xmin", "ymin", "xmax", "ymax", "present"])
        for result in map(_rounded, results):
            for item in result["objects"]:
                row = [result["frame"], result["timestamp"], item["id"], item["label"], item["score"]]
                writer.writerow([*row, *item["box"].values(), int(item["present"])])


def write_overlay(path: Path, source: Any, results: list[dict[str, Any]]) -> None:
    """Read the video a second time, from end to end, and write it with the boxes drawn in."""
    by_frame = {result["frame"]: result for result in results}

    def drawn() -> Iterator[np.ndarray]:
        index = 0
        for chunk in source.chunks(_CHUNK):
            for frame in chunk:
                objects = by_frame[index]["objects"] if index in by_frame else []
                seconds = source.timestamp(index)
                yield draw_objects(frame, objects, caption=f"{index}" if seconds is None else f"{seconds:.2f} s")
                index += 1

    fps = source.fps or FALLBACK_FPS
    write_video(path, drawn(), fps, _uneven_times(source, fps))


def _uneven_times(source: Any, fps: float) -> list[float] | None:
    """Give the seconds of all frames if their rate varies; None if it does not, or is unknown."""
    times = source.timestamps
    if times is None or any(later <= earlier for earlier, later in zip(times, times[1:], strict=False)):
        return None
    even = all(abs(second - times[0] - index / fps) < 0.5 / fps for index, second in enumerate(times))
    return None if even else times


def write_sheet(path: Path, source: Any, results: list[dict[str, Any]], title: str) -> None:
    """Write up to twelve evenly spaced frames of the result as one picture."""
    if not results:
        raise ValueError("no frame was tracked; there is nothing to put on a contact sheet.")
    shown = [results[index] for index in _spread(len(results), SHEET_FRAMES)]
    frames = source.read([result["frame"] for result in shown])
    sheet = contact_sheet(frames, shown[: len(frames)], title=title)
    with written_whole(path) as part:
        sheet.save(part, format="PNG" if path.suffix.lower() == ".png" else "JPEG")


def print_stats(stats: dict[str, Any]) -> None:
    """Print what a run cost to stderr, one line per number; stdout stays the result's."""
    width = max(map(len, stats))
    for name, value in stats.items():
        print(f"{name:<{width}}  {'-' if value is None else value}", file=sys.stderr)


def print_table(results: list[dict[str, Any]]) -> None:
    """Print boxes to stdout, evenly spaced frames when there are many."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, right in (("frame", 1), ("seconds", 1), ("id", 1), ("label", 0), ("score", 1), ("x1", 1), ("y1", 1)):
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for name in ("x2", "y2"):
        table.add_column(name, justify="right", no_wrap=True)
    objects = max((len(result["objects"]) for result in results), default=1)
    indices = _spread(len(results), max(TABLE_ROWS // max(objects, 1), 2))
    for result in (results[index] for index in indices):
        seconds = "-" if result["timestamp"] is None else f"{result['timestamp']:.2f}"
        for item in result["objects"] or [None]:
            if item is None:
                table.add_row(str(result["frame"]), seconds, "-", "no box")
                continue
            box = [f"{value:.1f}" for value in item["box"].values()]
            table.add_row(
                str(result["frame"]), seconds, str(item["id"]), item["label"][:40], f"{item['score']:.2f}", *box
            )
    console = Console()
    console.width = max(console.width, 110)  # a pipe has no width; 80 would cut the labels
    console.print(table, highlight=False, markup=False)
    if len(indices) < len(results):
        print(f"({len(indices)} of {len(results)} frames shown; --json or --csv writes them all)")


def _spread(count: int, most: int) -> list[int]:
    """Choose up to `most` evenly spaced positions of `count`, first and last included."""
    if count <= most:
        return list(range(count))
    return [round(step * (count - 1) / (most - 1)) for step in range(most)]


def _rounded(result: dict[str, Any]) -> dict[str, Any]:
    if any("mask" in item for item in result["objects"]):
        from ..masks import with_rle  # which loads transformers

        result = with_rle(result)
    objects = [
        {
            **item,
            **{name: round(item[name], 4) for name in ("score", "presence") if name in item},
            "box": {k: round(v, 2) for k, v in item["box"].items()},
        }
        for item in result["objects"]
    ]
    seconds = None if result["timestamp"] is None else round(result["timestamp"], 4)
    return {"frame": result["frame"], "timestamp": seconds, "objects": objects}
