"""OTB-lang (Li et al., 2017): `OTB_videos/SEQUENCE` as in OTB-100, `OTB_query_{train,test}/SEQUENCE.txt`.

A query file holds one expression.
Of a sequence with two objects the query's name says which is meant (`Jogging-1`, `Skating2-2`).
"""

from __future__ import annotations

from pathlib import Path

from .items import TrackSequence
from .otb import OBJECTS, sequence_of


def read(root: Path, split: str) -> list[TrackSequence]:
    """Read the sequences that the split has an expression for.

    Args:
        root: folder with `OTB_videos` and the queries.
        split: "test" or "train".

    Raises:
        ValueError: a named sequence is missing, or counts do not agree.
    """
    sequences = []
    for query in sorted((root / f"OTB_query_{split}").glob("*.txt")):
        folder, _, number = query.stem.partition("-")
        if folder in OBJECTS and not number:
            number = OBJECTS[folder][0]
        sequences.append(sequence_of(root / "OTB_videos" / folder, number, query))
    return sequences
