"""The synthetic split (`dataset_scripts.synthetic`): drawn when asked for, nothing to download."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dataset_scripts.records import ObjectTrack
from dataset_scripts.synthetic import SyntheticClip, SyntheticConfig, make_clip, make_video
from processing_elysium.boxes import unit_to_px, xyxy_to_xywh
from processing_elysium.frames import open_video
from processing_elysium.video_source import VideoSource

from .items import TrackSequence

__all__ = ["PARTS", "Part", "drawn", "read"]

SIZE = 140


@dataclass(frozen=True)
class Part:
    """One part of a split.

    Attributes:
        kind: attribute of its sequences, and what their names begin with.
        name: for people.
        count: sequences.
        num_frames: frames of each.
        interval: smallest and largest distance between frames in native frames, drawn per clip; None: consecutive.
    """

    kind: str
    name: str
    count: int
    num_frames: int
    interval: tuple[int, int] | None = None


PARTS = (Part("clip", "clips of 8 frames", 200, 8, (3, 6)), Part("video", "videos of 64 frames", 50, 64))


def read(root: Path, split: str) -> list[TrackSequence]:
    """The clips and the videos, each asked about one of its objects.

    Args:
        root: not used.
        split: "test" or "val".
    """
    return [_sequence(part, split, index) for part in PARTS for index in range(part.count)]


def drawn(part: Part, split: str, index: int) -> tuple[SyntheticClip, ObjectTrack]:
    """A clip of a part, and the one object that is asked about: the index cycles through its objects."""
    config = SyntheticConfig(size=SIZE)
    if part.interval is None:
        clip = make_video(config, split, index, part.num_frames)
    else:
        clip = make_clip(config, split, index, part.num_frames, part.interval)
    return clip, clip.record.objects[index % len(clip.record.objects)]


def _open(part: Part, split: str, index: int) -> VideoSource:
    return open_video(list(drawn(part, split, index)[0].frames))


def _sequence(part: Part, split: str, index: int) -> TrackSequence:
    _, track = drawn(part, split, index)
    return TrackSequence(
        name=f"{part.kind}-{index:03d}",
        frames=partial(_open, part, split, index),
        boxes_xywh_px=np.asarray(xyxy_to_xywh(unit_to_px(track.clipped_boxes, SIZE, SIZE))),
        absent=track.absent,
        words=track.expression,
        descriptions=(track.caption,) if track.caption else (),
        attributes=(part.kind,),
    )
