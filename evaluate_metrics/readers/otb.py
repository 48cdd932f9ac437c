"""OTB-100: `SEQUENCE/{img/%04d.jpg, groundtruth_rect.txt}`, separated by commas, tabs or spaces.

Jogging and Skating2 have two objects (`groundtruth_rect.1.txt`, `.2.txt`), of Human4 the benchmark uses the second.
Some sequences begin late or end before their last image (`RANGES`), and Tiger1 is tracked from its sixth frame on.
"""

from __future__ import annotations

from pathlib import Path

from .items import TrackSequence
from .text_files import check_count, found_images, read_boxes, read_words

RANGES = {  # first and last image, by the number in its name
    "BlurCar1": (247, 988),
    "BlurCar3": (3, 359),
    "BlurCar4": (18, 397),
    "David": (300, 770),
    "Diving": (1, 215),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
}
LATE_START = {"Tiger1": 5}  # annotated frames that are left out
OBJECTS = {"Jogging": ("1", "2"), "Skating2": ("1", "2"), "Human4": ("2",)}


def read(root: Path, split: str) -> list[TrackSequence]:
    """Read every sequence in the folder; the benchmark has one split.

    Args:
        root: folder of the sequences.
        split: "test".

    Raises:
        ValueError: frames are missing, or counts do not agree.
    """
    folders = sorted(path for path in root.iterdir() if (path / "img").is_dir())
    return [sequence_of(folder, number) for folder in folders for number in OBJECTS.get(folder.name, ("",))]


def sequence_of(folder: Path, number: str, words: Path | None = None) -> TrackSequence:
    """One sequence.

    Args:
        folder: with `img` and the annotations.
        number: of the object where there are several, else "".
        words: file of the expression.
    """
    name = f"{folder.name}_{number}" if number else folder.name
    boxes = read_boxes(folder / f"groundtruth_rect{'.' + number if number else ''}.txt")
    images = found_images(folder / "img")
    if folder.name in RANGES:
        first, last = RANGES[folder.name]
        images = [path for path in images if first <= int(Path(path).stem) <= last]
    check_count(name, images, groundtruth_rect=boxes)
    late = LATE_START.get(folder.name, 0)
    return TrackSequence(
        name=name,
        frames=images[late:],
        boxes_xywh_px=boxes[late:],
        words=None if words is None else read_words(words),
    )
