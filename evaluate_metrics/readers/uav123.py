"""UAV123: `data_seq/UAV123/FOLDER/%06d.jpg`, `anno/UAV123/SEQUENCE.txt`; NaN where the object is absent.

Several sequences share one folder of frames; which frames are theirs is in the benchmark's own list (`configSeqs.m`),
repeated in `RANGES`. Attributes: `anno/UAV123/att/SEQUENCE.txt`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .items import TrackSequence
from .text_files import check_count, found_images, read_attributes, read_boxes

ATTRIBUTES = ("SV", "ARC", "LR", "FM", "FOC", "POC", "OV", "BC", "IV", "VC", "CM", "SOB")
# Folder -> first and last frame (from 1) of its sequences FOLDER_1, FOLDER_2, ...
RANGES: dict[str, tuple[tuple[int, int], ...]] = {
    "bird1": ((1, 253), (775, 1477), (1573, 2437)),
    "car1": ((1, 751), (751, 1627), (1627, 2629)),
    "car6": ((1, 487), (487, 1807), (1807, 2953), (2953, 3925), (3925, 4861)),
    "car8": ((1, 1357), (1357, 2575)),
    "car16": ((1, 415), (415, 1993)),
    "group1": ((1, 1333), (1333, 2515), (2515, 3925), (3925, 4873)),
    "group2": ((1, 907), (907, 1771), (1771, 2683)),
    "group3": ((1, 1567), (1567, 2827), (2827, 4369), (4369, 5527)),
    "person2": ((1, 1189), (1189, 2623)),
    "person4": ((1, 1501), (1501, 2743)),
    "person5": ((1, 877), (877, 2101)),
    "person7": ((1, 1249), (1249, 2065)),
    "person8": ((1, 1075), (1075, 1525)),
    "person12": ((1, 601), (601, 1621)),
    "person14": ((1, 847), (847, 1813), (1813, 2923)),
    "person17": ((1, 1501), (1501, 2347)),
    "person19": ((1, 1243), (1243, 2791), (2791, 4357)),
    "truck4": ((1, 577), (577, 1261)),
    "uav1": ((1, 1555), (1555, 2377), (2473, 3469)),
}


def read(root: Path, split: str) -> list[TrackSequence]:
    """Read every sequence that has annotations; the benchmark has one split.

    Args:
        root: folder with `data_seq` and `anno`.
        split: "test".

    Raises:
        ValueError: frames are missing, or counts do not agree.
    """
    annotations = root / "anno" / "UAV123"
    return [_sequence(root, path) for path in sorted(annotations.glob("*.txt"))]


def _sequence(root: Path, annotation: Path) -> TrackSequence:
    name = annotation.stem
    folder, _, number = name.rpartition("_")
    shared = RANGES.get(folder) if number.isdigit() else None
    images = found_images(root / "data_seq" / "UAV123" / (folder if shared else name))
    if shared:
        first, last = shared[int(number) - 1]
        if len(images) < last:
            raise ValueError(f"sequence {name!r}: frames {first} to {last} of {folder}, which has {len(images)}.")
        images = images[first - 1 : last]
    boxes = read_boxes(annotation)
    # A few folders hold frames after the last annotated one.
    images = images if shared else images[: len(boxes)]
    check_count(name, images, annotation=boxes)
    attributes = read_attributes(annotation.parent / "att" / annotation.name, ATTRIBUTES)
    unboxed = np.isnan(boxes).any(axis=1)
    boxes[unboxed] = np.nan
    return TrackSequence(
        name=name, frames=images, boxes_xywh_px=boxes, absent=unboxed if unboxed.any() else None, attributes=attributes
    )
