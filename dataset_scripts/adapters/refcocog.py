"""RefCOCOg: longer expressions, written and not played, for objects in COCO pictures.

`refcocog/refs(umd).p` and `refcocog/instances.json` (the split of the University of Maryland, which shares no picture
between train and test); the layout is told at the top of `refcoco.py`. Tasks: rec, reg.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..records import VideoRecord
from .common import Reading
from .refcoco import LICENSE, read_expressions

__all__ = ["LICENSE", "SPLITS", "read"]

SPLITS = ("train", "val", "test")


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """Records of a picture's expressions."""
    return read_expressions(path, reading, "RefCOCOg", "refcocog", "umd", {"validation": "val"})
