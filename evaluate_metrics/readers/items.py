"""What a reader of a benchmark gives: sequences to track, pictures with an object, questions about videos.

Legend of shapes: F frames of one sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from processing_elysium.frames import open_video
from processing_elysium.video_source import VideoSource

__all__ = ["ImageQuery", "Item", "TrackSequence", "VideoQuestion", "check_items", "file_name"]

SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")


@dataclass(frozen=True, kw_only=True)
class TrackSequence:
    """One object through the frames of one video.

    Attributes:
        name: unique in the benchmark; what the toolkits call the sequence.
        frames: paths of the F images, or a function that opens the video; nothing is read before `open`.
        boxes_xywh_px: (F, 4) truth as the benchmark gives it; NaN where there is none.
        absent: (F,) bool, true where the benchmark says that the object is fully occluded or out of view; None where
            it says nothing.
        words: an expression for the object, None where the benchmark has none.
        descriptions: references of Video-REG.
        attributes: names of what makes the sequence hard, as the benchmark lists them.
        scored: false where only the first box is public, and a server scores the rest.
    """

    name: str
    frames: Sequence[str] | Callable[[], VideoSource]
    boxes_xywh_px: np.ndarray
    absent: np.ndarray | None = None
    words: str | None = None
    descriptions: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    scored: bool = True

    def __len__(self) -> int:
        """Return the number of frames F."""
        return len(self.boxes_xywh_px)

    def open(self) -> VideoSource:
        """Open the frames; close the source after use."""
        return self.frames() if callable(self.frames) else open_video(list(self.frames))


@dataclass(frozen=True, kw_only=True)
class ImageQuery:
    """One object of one picture: found by words (REC), or described (REG).

    Attributes:
        name: unique in the benchmark.
        image: path of the picture, or a function that opens it as a video of one frame.
        box_xywh_px: (4,) the object.
        words: the expression, None for REG.
        descriptions: references of REG.
    """

    name: str
    image: str | Callable[[], VideoSource]
    box_xywh_px: np.ndarray
    words: str | None = None
    descriptions: tuple[str, ...] = ()

    def open(self) -> VideoSource:
        """Open the picture as a video of one frame."""
        return self.image() if callable(self.image) else open_video([self.image])


@dataclass(frozen=True, kw_only=True)
class VideoQuestion:
    """One question about a video.

    Attributes:
        name: unique in the benchmark, the question's own number where it has one.
        video: path of the video.
        question: as asked.
        answer: the reference.
        kind: type of the question where the benchmark names types, else "".
    """

    name: str
    video: str
    question: str
    answer: str
    kind: str = field(default="")


Item = TrackSequence | ImageQuery | VideoQuestion


def file_name(name: str) -> str:
    """A name as a file may be called: everything but letters, digits and . _ + - becomes an underscore."""
    return "".join(letter if letter in SAFE else "_" for letter in name)


def check_items(items: Sequence[Item], where: str) -> None:
    """Raise ValueError unless there are items, and their names differ as file names, too.

    Args:
        items: what a reader gave.
        where: what to call the benchmark in the error.
    """
    if not items:
        raise ValueError(f"{where} holds nothing to evaluate; check `--data` and `--split`.")
    seen: dict[str, str] = {}
    for item in items:
        other = seen.setdefault(file_name(item.name), item.name)
        if other is not item.name:
            raise ValueError(f"{where} has {item.name!r} and {other!r}, which would share one result file.")
