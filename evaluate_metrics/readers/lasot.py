"""LaSOT and its extension: `CLASS/CLASS-N` with `img/%08d.jpg` and annotations.

These are `groundtruth.txt`, `full_occlusion.txt`, `out_of_view.txt` (flags on one line) and `nlp.txt`.

Absent is what LaSOT calls full occlusion or out of view. Expressions are those of `nlp.txt`. Attributes are read from
`att/CLASS-N.txt`, which the evaluation toolkit carries, where it lies beside the classes.

A clone of the evaluation toolkit (`annos/{CLASS-N.txt, absent, att, nlp}`, `sequence_evaluation_config`) is read, too:
it has no frames, but published raw results can be scored with it (`run --official-raw`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from processing_elysium.video_source import VideoSource

from .items import TrackSequence
from .text_files import check_count, found_images, read_attributes, read_boxes, read_flags, read_words

ATTRIBUTES = ("IV", "POC", "DEF", "MB", "CM", "ROT", "BC", "VC", "SV", "FOC", "FM", "OV", "LR", "ARC")
LISTS = {"test": "testing_set.txt", "train": "training_set.txt"}


def read(root: Path, split: str) -> list[TrackSequence]:
    """Read the sequences of a split.

    Args:
        root: folder with the classes, and with `testing_set.txt` (or `training_set.txt`).
        split: "test", "train", or "all": every sequence there is (what the extension needs).

    Raises:
        ValueError: a listed sequence is missing, or its files do not agree.
    """
    toolkit = (root / "annos").is_dir()
    if split == "all":
        found = (root / "annos").glob("*.txt") if toolkit else root.glob("*/*/groundtruth.txt")
        names = sorted(path.stem if toolkit else path.parent.name for path in found)
    else:
        listed = root / ("sequence_evaluation_config" if toolkit else "") / LISTS[split]
        if not listed.is_file():
            raise ValueError(
                f"{listed} does not exist; put LaSOT's list of the split there, or pass `--split all` for every "
                "sequence in the folder."
            )
        names = listed.read_text(encoding="utf-8").split()
    return [(_annotated if toolkit else _sequence)(root, name) for name in sorted(names, key=_order)]


def _order(name: str) -> tuple[str, int]:
    kind, _, number = name.rpartition("-")
    return kind, int(number) if number.isdigit() else 0


def _sequence(root: Path, name: str) -> TrackSequence:
    folder = root / name.rpartition("-")[0] / name
    if not folder.is_dir():  # some copies have all sequences in one folder
        folder = root / name
    frames = found_images(folder / "img")
    boxes = read_boxes(folder / "groundtruth.txt")
    absent = read_flags(folder / "full_occlusion.txt") | read_flags(folder / "out_of_view.txt")
    check_count(name, frames, groundtruth=boxes, full_occlusion=absent)
    return TrackSequence(
        name=name,
        frames=frames,
        boxes_xywh_px=boxes,
        absent=absent,
        words=read_words(folder / "nlp.txt"),
        attributes=read_attributes(root / "att" / f"{name}.txt", ATTRIBUTES),
    )


def _annotated(root: Path, name: str) -> TrackSequence:
    """A sequence of the evaluation toolkit: everything but the frames."""
    folder = root / "annos"
    boxes, absent = read_boxes(folder / f"{name}.txt"), read_flags(folder / "absent" / f"{name}.txt")
    check_count(name, [""] * len(boxes), absent=absent)
    return TrackSequence(
        name=name,
        frames=partial(_no_frames, name),
        boxes_xywh_px=boxes,
        absent=absent,
        words=read_words(folder / "nlp" / f"{name}.txt"),
        attributes=read_attributes(folder / "att" / f"{name}.txt", ATTRIBUTES),
    )


def _no_frames(name: str) -> VideoSource:
    raise ValueError(
        f"sequence {name!r}: LaSOT's evaluation toolkit has annotations, no frames; it can score `--official-raw`, to "
        "run a tracker pass `--data` the data set itself."
    )
