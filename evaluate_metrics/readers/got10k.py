"""GOT-10k: `SPLIT/GOT-10k_*/{%08d.jpg, groundtruth.txt, absence.label, cover.label, meta_info.ini}`.

The truth of the test split is not public beyond the first box: its results go to the benchmark's server.
"""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

import numpy as np

from .items import TrackSequence
from .text_files import check_count, found_images, read_boxes, read_flags


def read(root: Path, split: str) -> list[TrackSequence]:
    """Read the sequences of a split.

    Args:
        root: folder with the splits.
        split: "val", "test" or "train".

    Raises:
        ValueError: counts do not agree.
    """
    folder = root / split
    listed = folder / "list.txt"
    names = listed.read_text(encoding="utf-8").split() if listed.is_file() else []
    names = names or sorted(path.name for path in folder.glob("GOT-10k_*") if path.is_dir())
    return [_sequence(folder / name) for name in names]


def _sequence(folder: Path) -> TrackSequence:
    frames, boxes = found_images(folder), read_boxes(folder / "groundtruth.txt")
    flags = folder / "absence.label"
    absent = read_flags(flags) if flags.is_file() else None
    scored = len(boxes) > 1 or len(frames) == 1
    if not scored:
        boxes = np.concatenate([boxes, np.full((len(frames) - 1, 4), np.nan)])
        absent = None
    check_count(folder.name, frames, groundtruth=boxes, absence=absent)
    return TrackSequence(
        name=folder.name,
        frames=frames,
        boxes_xywh_px=boxes,
        absent=absent,
        attributes=_attributes(folder / "meta_info.ini"),
        scored=scored,
    )


def _attributes(path: Path) -> tuple[str, ...]:
    """Kinds of object and of motion, as the sequence's own file names them."""
    if not path.is_file():
        return ()
    parser = ConfigParser(interpolation=None)
    parser.read_string(path.read_text(encoding="utf-8", errors="replace"))
    values = parser["METAINFO"] if parser.has_section("METAINFO") else {}
    return tuple(values[key].strip() for key in ("major_class", "motion_class") if values.get(key, "").strip())
