"""Published raw results of other trackers, taken into our folders so that they are scored by the same rules."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from ..baselines.track import Track
from ..readers.items import TrackSequence
from ..readers.text_files import read_boxes
from .store import check_same_run, write_track

__all__ = ["import_official"]


def import_official(raw: Path, sequences: Sequence[TrackSequence], folder: Path) -> dict[str, list[str]]:
    """Copy every tracker's files below `raw`; sequences without a file stay missing, and the report counts them.

    Args:
        raw: a folder of one tracker's files, or a folder of such folders (`TRACKER/SEQUENCE.txt`, as LaSOT and
            pytracking publish them, or `TRACKER/SEQUENCE/SEQUENCE_001.txt`, as GOT-10k does). Boxes x, y, w, h with
            any separator.
        sequences: of the benchmark.
        folder: of the task's results.

    Returns:
        Tracker -> names of the sequences that it has no file for.

    Raises:
        ValueError: no file fits any sequence, or a file that is not boxes.
    """
    if not raw.is_dir():
        raise ValueError(f"`--official-raw`={raw} is no folder; pass the folder with the trackers' raw results.")
    trackers = {raw.name: raw} if _any(raw, sequences) else {path.name: path for path in _folders(raw, sequences)}
    if not trackers:
        raise ValueError(f"`--official-raw`={raw}: no file below it is named after a sequence of the benchmark.")
    missing: dict[str, list[str]] = {}
    for name, source in trackers.items():
        check_same_run(folder / name / "run.json", {"tracker": name, "source": "published raw results"})
        missing[name] = []
        for sequence in sequences:
            path = _file(source, sequence.name)
            if path is None:
                missing[name].append(sequence.name)
                continue
            boxes = read_boxes(path)
            write_track(folder / name, sequence.name, Track(boxes, np.full(len(boxes), np.nan)))
    return missing


def _any(folder: Path, sequences: Sequence[TrackSequence]) -> bool:
    return any(_file(folder, sequence.name) is not None for sequence in sequences)


def _folders(raw: Path, sequences: Sequence[TrackSequence]) -> list[Path]:
    """Folders of trackers; pytracking has one more level for the parameters, of which there may be several."""
    found: list[Path] = []
    for path in sorted(path for path in raw.rglob("*") if path.is_dir()):
        if _any(path, sequences) and not any(above in path.parents for above in found):
            found.append(path)
    return found


def _file(folder: Path, name: str) -> Path | None:
    # pytracking puts the benchmark before the names of UAV123's sequences.
    for candidate in (f"{name}.txt", f"uav_{name}.txt", f"{name}/{name}_001.txt"):
        if (folder / candidate).is_file():
            return folder / candidate
    return _loosely_named(folder).get(_loose(name))


@cache
def _loosely_named(folder: Path) -> dict[str, Path]:
    return {_loose(path.stem): path for path in sorted(folder.glob("*.txt"))}


def _loose(name: str) -> str:
    """A name without what trackers differ in on OTB: case, and Jogging-1, Jogging_1 or Jogging.1."""
    return name.lower().replace("-", "_").replace(".", "_")
