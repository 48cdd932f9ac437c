"""Results on disk: one raw file per sequence as the toolkits write it, whole or not at all.

In `results/TASK-SPLIT-ASK/`: `task.json` says what was asked, `truth.jsonl` is the truth, so that a report needs no
benchmark. In the folder `TRACKER/` below: `NAME.txt` has x,y,w,h per frame, "nan" where there is no box;
`scores/NAME.txt` the confidence per frame, 0 for a gap that was filled; `presence/NAME.txt`, if the tracker says so,
how probable it finds the object's presence; `block-00000.jsonl` the answers of tasks that are no tracking; `run.json`
says how all this was made, `environment.json` where.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tracking_elysium.whole_files import written_whole

from ..baselines.track import Track
from ..readers.items import ImageQuery, Item, TrackSequence, file_name
from ..readers.text_files import read_boxes

__all__ = [
    "Truth", "check_same_run", "is_done", "read_lines", "read_track", "read_truth", "write_json", "write_lines",
    "write_track", "write_truth",
]  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """One line of `truth.jsonl`: what is known of an item, without its frames."""

    name: str
    boxes_xywh_px: np.ndarray
    absent: np.ndarray | None
    words: str | None
    references: tuple[str, ...]
    attributes: tuple[str, ...]
    scored: bool


def write_json(path: Path, data: Any) -> None:
    """Write JSON, sorted and indented, whole or not at all."""
    with written_whole(path) as part:
        part.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write JSON lines, whole or not at all."""
    with written_whole(path) as part:
        part.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), encoding="utf-8")


def read_lines(path: Path) -> list[Any]:
    """Read JSON lines; none where the file is missing."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def write_track(folder: Path, name: str, track: Track) -> None:
    """Write a sequence's boxes, scores and presence; the boxes last, for they say that it is done.

    Args:
        folder: of the tracker.
        name: of the sequence.
        track: its result.
    """
    for kind, values in (("scores", track.scores), ("presence", track.presence)):
        if values is not None:
            with written_whole(folder / kind / f"{file_name(name)}.txt") as part:
                part.write_text("".join(f"{value:.6f}\n" for value in values), encoding="utf-8")
    with written_whole(folder / f"{file_name(name)}.txt") as part:
        rows = (",".join(f"{value:.4f}" for value in row) for row in track.boxes_xywh_px)
        part.write_text("\n".join(rows) + "\n", encoding="utf-8")


def read_track(folder: Path, name: str) -> Track | None:
    """Read a sequence's boxes, scores and presence; None where there is no result.

    Raises:
        ValueError: a line that is not four numbers, or another number of scores than of boxes.
    """
    path = folder / f"{file_name(name)}.txt"
    if not path.is_file():
        return None
    boxes = read_boxes(path)
    scores, presence = (_column(folder / kind / path.name, len(boxes)) for kind in ("scores", "presence"))
    return Track(boxes, np.full(len(boxes), np.nan) if scores is None else scores, presence)


def _column(path: Path, count: int) -> np.ndarray | None:
    """The numbers of a file beside the boxes; None where there is no such file."""
    if not path.is_file():
        return None
    values = np.array(path.read_text("utf-8").split(), dtype=np.float64)
    if len(values) != count:
        raise ValueError(f"{path} has {len(values)} numbers for {count} boxes; delete both files and run again.")
    return values


def is_done(folder: Path, items: Sequence[Item], block: str) -> bool:
    """Whether the results of a block of items are there."""
    if isinstance(items[0], TrackSequence) and block == file_name(items[0].name):
        return (folder / f"{block}.txt").is_file()
    return [row["name"] for row in read_lines(folder / f"{block}.jsonl")] == [item.name for item in items]


def check_same_run(path: Path, settings: dict[str, Any]) -> None:
    """Write `run.json`, or compare with the one that is there.

    Raises:
        ValueError: the folder holds results of other settings.
    """
    if path.is_file():
        before = json.loads(path.read_text("utf-8"))
        differing = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        if differing:
            told = ", ".join(f"{key}: {before.get(key)!r}, now {settings.get(key)!r}" for key in differing)
            raise ValueError(f"{path.parent} holds results of another run ({told}); pass another `--name` or `--out`.")
    else:
        write_json(path, settings)


def write_truth(folder: Path, items: Sequence[Item]) -> None:
    """Write `truth.jsonl`."""
    write_lines(folder / "truth.jsonl", (_truth_row(item) for item in items))


def _truth_row(item: Item) -> dict[str, Any]:
    row: dict[str, Any] = {"name": item.name}
    if isinstance(item, TrackSequence):
        row["boxes"] = [None if np.isnan(box).any() else box for box in item.boxes_xywh_px.tolist()]
        row["absent"] = None if item.absent is None else np.asarray(item.absent).astype(int).tolist()
        row |= {"words": item.words, "references": item.descriptions, "attributes": item.attributes}
        return row | {"scored": item.scored}
    if isinstance(item, ImageQuery):
        return row | {"boxes": [item.box_xywh_px.tolist()], "words": item.words, "references": item.descriptions}
    attributes = (item.kind,) if item.kind else ()
    return row | {"words": item.question, "references": (item.answer,), "attributes": attributes}


def read_truth(folder: Path) -> list[Truth]:
    """Read `truth.jsonl`.

    Raises:
        ValueError: there is none.
    """
    if not (folder / "truth.jsonl").is_file():
        raise ValueError(f"{folder} has no truth.jsonl; `python -m evaluate_metrics.run` writes it.")
    truths = []
    for row in read_lines(folder / "truth.jsonl"):
        boxes = [[np.nan] * 4 if box is None else box for box in row.get("boxes") or []]
        absent = row.get("absent")
        truths.append(
            Truth(
                name=row["name"],
                boxes_xywh_px=np.array(boxes, dtype=np.float64).reshape(-1, 4),
                absent=None if absent is None else np.array(absent, dtype=bool),
                words=row.get("words"),
                references=tuple(row.get("references") or ()),
                attributes=tuple(row.get("attributes") or ()),
                scored=row.get("scored", True),
            )
        )
    return truths
