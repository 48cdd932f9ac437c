"""What goes into the pipeline and what comes out of it for one video; names of reasons are `STAGE.REASON`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .rows import Trajectory

__all__ = ["CaptionedVideo", "PoisonedVideoError", "VideoResult"]


@dataclass(frozen=True, kw_only=True)
class CaptionedVideo:
    """One line of the input.

    Attributes:
        id: unique in a run.
        caption: in English.
        video: path of a file, or an http(s) address; of a tar, where `tar_offset` is given.
        source: name of the captioned video set.
        license: of the video, None where none is stated.
        tar_offset, tar_size: bytes of the video inside the tar `video`.
        tar_member: its name there.
        given: the caption of the input, where `caption` has more words than that.
    """

    id: str
    caption: str
    video: str
    source: str
    license: str | None = None
    tar_offset: int | None = None
    tar_size: int | None = None
    tar_member: str | None = None
    given: str | None = None


class PoisonedVideoError(Exception):
    """A video that cannot be worked on, with the reason under which it is put aside.

    Attributes:
        reason: a short name, counted.
        detail: a sentence.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass
class VideoResult:
    """What became of one video.

    Attributes:
        rows: its trajectories.
        counts: phrases found (`phrases`) and kept (`kept`).
        dropped: reason -> number; reasons of whole videos begin with `video.` or `caption.`.
        quarantined: (reason, detail) of a video that could not be worked on.
        seconds: stage -> seconds spent.
    """

    rows: list[Trajectory] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    quarantined: tuple[str, str] | None = None
    seconds: Counter[str] = field(default_factory=Counter)
