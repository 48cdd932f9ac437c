"""RefCOCO+: as RefCOCO, by players who were not allowed to name places in the picture.

`refcoco+/refs(unc).p` and `refcoco+/instances.json`; the layout is told at the top of `refcoco.py`. Tasks: rec, reg.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..records import VideoRecord
from .common import Reading
from .refcoco import LICENSE, read_expressions

__all__ = ["LICENSE", "SPLITS", "read"]

SPLITS = ("train", "val", "testA", "testB")


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """Records of a picture's expressions."""
    return read_expressions(path, reading, "RefCOCO+", "refcoco+", "unc", {"validation": "val", "test": "testA"})
