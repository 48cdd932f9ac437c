"""What the adapters share: skipping and counting, finding pictures, units of boxes, questions and answers."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from processing_elysium.boxes import px_to_unit, xywh_to_xyxy

from ..records import FARTHEST_CORNER, ObjectTrack, VideoRecord

__all__ = [
    "Pictures", "Reading", "Skip", "Skipped", "as_boxes", "box_object", "check_size", "find_file", "one_meaning",
    "records_of", "relative_box", "share_out", "shown_size", "tidy", "turns", "usable_box",
]  # fmt: skip

EXIF_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_EXAMPLES = 3  # items named for each reason
Form = Literal["xyxy", "xywh"]


class Skip(Exception):  # noqa: N818 - not an error: the item is passed over and counted
    """An item that cannot become a record; the message is the reason under which it is counted."""


@dataclass
class Skipped:
    """Items passed over, counted by reason, the first ones named."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, reason: str, item: str) -> None:
        """Count one item."""
        self.counts[reason] += 1
        if len(self.examples[reason]) < _EXAMPLES:
            self.examples[reason].append(item)

    def lines(self) -> list[str]:
        """One line per reason, the most frequent first."""
        return [
            f"{count} x {reason}: {', '.join(self.examples[reason])}{', ...' if count > _EXAMPLES else ''}"
            for reason, count in self.counts.most_common()
        ]


@dataclass(kw_only=True)
class Reading:
    """How a corpus is read.

    Attributes:
        split: a name from the adapter's `SPLITS`; None: the first.
        images: where the pictures or videos are, if not where the corpus' layout has them.
        extract_to: folder that pictures in archives are unpacked into.
        skipped: where items that are passed over are counted.
    """

    split: str | None = None
    images: Path | None = None
    extract_to: Path | None = None
    skipped: Skipped = field(default_factory=Skipped)


def records_of(
    items: Iterable[tuple[str, Any]], convert: Callable[[str, Any], Iterable[VideoRecord]], skipped: Skipped
) -> Iterator[VideoRecord]:
    """Convert items one by one; those that cannot be converted are counted and named, and the next one follows.

    Args:
        items: (name, annotation) pairs.
        convert: makes the records of one item; raises `Skip` with a reason, or KeyError, TypeError, ValueError,
            IndexError or AttributeError where the annotation is not of the published form.
        skipped: counts.
    """
    for name, item in items:
        try:
            made = list(convert(name, item))
        except Skip as skip:
            skipped.add(str(skip), name)
        except KeyError as error:
            skipped.add("annotation is not of the published form", f"{name} lacks {error}")
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            skipped.add("annotation is not of the published form", f"{name} ({error})")
        else:
            yield from made


# --------------------------------------------------------------------------------------------------------------
# files
# --------------------------------------------------------------------------------------------------------------
def find_file(folder: Path, *names: str) -> Path:
    """The first of some paths below a folder that exists.

    Raises:
        ValueError: none does; the message lists what was looked for and what the folder holds.
    """
    for name in names:
        if (folder / name).exists():
            return folder / name
    held = sorted(entry.name for entry in folder.iterdir())[:8] if folder.is_dir() else []
    raise ValueError(f"{folder} lacks {' or '.join(names)}; it holds {', '.join(held) or 'nothing'}.")


class Pictures:
    """Image files of a corpus, looked for in some folders."""

    def __init__(self, *folders: Path) -> None:
        """Keep the folders, in the order in which they are tried."""
        self.folders = folders

    def find(self, name: str) -> tuple[str, tuple[int, int]]:
        """The path of a picture, and its width and height as shown (turned as its EXIF orientation says).

        Raises:
            Skip: it is in none of the folders, or it is no picture.
        """
        for folder in self.folders:
            if (folder / name).is_file():
                path = os.fspath(folder / name)
                return path, shown_size(path)
        raise Skip("picture not found")


def shown_size(path: str) -> tuple[int, int]:
    """Width and height of an image file as shown, from its header.

    Raises:
        Skip: the file is no picture.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(EXIF_ORIENTATION) in _QUARTER_TURNS
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise Skip("picture cannot be read") from None
    return (height, width) if turned else (width, height)


def check_size(annotated: tuple[int, int], shown: tuple[int, int]) -> tuple[int, int]:
    """The size that boxes in pixels belong to, which has to be that of the picture as it will be shown.

    Raises:
        Skip: the annotation was made on a picture of another size, or before it was turned.
    """
    if annotated != shown:
        raise Skip("picture has another size than its annotation says")
    return shown


# --------------------------------------------------------------------------------------------------------------
# boxes
# --------------------------------------------------------------------------------------------------------------
def relative_box(box: Sequence[float], form: Form = "xyxy", size: tuple[int, int] | None = None) -> list[float]:
    """Four numbers of any convention as corners relative to the frame, not clipped to it.

    Args:
        box: "xyxy" corners, or "xywh" left, top, width, height.
        form: which of them.
        size: width and height of the frame for numbers in pixels; None for numbers that are relative already.

    Raises:
        Skip: not four finite numbers, no area, no part of it in the frame, or so far outside that the unit is wrong.
    """
    try:
        corners = np.asarray([float(value) for value in box])
    except (TypeError, ValueError):
        raise Skip("box is not four numbers") from None
    if corners.shape != (4,) or not np.isfinite(corners).all():
        raise Skip("box is not four numbers")
    if form == "xywh":
        corners = xywh_to_xyxy(corners)
    if size is not None:
        corners = px_to_unit(corners, *size)
    if not (corners[2:] > corners[:2]).all():
        raise Skip("box has no area")
    if (corners[2:] <= 0).any() or (corners[:2] >= 1).any():
        raise Skip("box is outside the frame")
    if np.abs(corners).max() > FARTHEST_CORNER:
        raise Skip("box reaches far outside the frame")
    return [float(value) for value in corners]


def usable_box(
    box: Sequence[float], form: Form, size: tuple[int, int] | None, skipped: Skipped, where: str
) -> list[float] | None:
    """`relative_box`, or None for a box that cannot be used, which is counted."""
    try:
        return relative_box(box, form, size)
    except Skip as skip:
        skipped.add(str(skip), where)
        return None


def as_boxes(rows: Sequence[list[float] | None]) -> np.ndarray:
    """Boxes `(F, 4)` of a track, NaN where there is none."""
    return np.array([[np.nan] * 4 if row is None else row for row in rows], dtype=np.float64)


def box_object(box: list[float], words: str, attributes: dict[str, str] | None = None) -> ObjectTrack:
    """An object of a picture whose words both lead to it (REC) and describe it (REG)."""
    return ObjectTrack(boxes=as_boxes([box]), expression=words, caption=words, attributes=attributes or {})


def one_meaning(objects: Sequence[ObjectTrack], skipped: Skipped, where: str) -> list[ObjectTrack]:
    """The objects whose words are used for no other object of the picture; the others are counted."""
    used = Counter((track.expression or "").lower() for track in objects)
    kept = [track for track in objects if used[(track.expression or "").lower()] == 1]
    for _ in range(len(objects) - len(kept)):
        skipped.add("words fit several boxes of the picture", where)
    return kept


def share_out(objects: Iterable[ObjectTrack]) -> list[list[ObjectTrack]]:
    """Objects in as many lists as the most described box has descriptions, so that no list has a box twice.

    A conversation about one list then never asks for a box that an earlier answer has given away.
    """
    lists: list[list[ObjectTrack]] = []
    met: Counter[tuple[float, ...]] = Counter()
    for track in objects:
        box = tuple(np.round(track.boxes[0], 5))
        if met[box] == len(lists):
            lists.append([])
        lists[met[box]].append(track)
        met[box] += 1
    return lists


# --------------------------------------------------------------------------------------------------------------
# words
# --------------------------------------------------------------------------------------------------------------
def tidy(text: Any) -> str:
    """Words without white space around and runs of it within.

    Raises:
        Skip: no words are left, or it is no text.
    """
    if not isinstance(text, str) or not text.strip():
        raise Skip("words are missing")
    return " ".join(text.split())


def turns(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Questions and answers as messages.

    Raises:
        Skip: a question or an answer is empty, or there is none.
    """
    messages = []
    for question, answer in pairs:
        for role, text in (("user", question), ("assistant", answer)):
            if not isinstance(text, str) or not text.strip():
                raise Skip("question or answer is empty")
            messages.append({"role": role, "content": text.strip()})
    if not messages:
        raise Skip("question or answer is empty")
    return messages
