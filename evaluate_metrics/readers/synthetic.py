"""The synthetic split (`dataset_scripts.synthetic`): drawn when asked for, nothing to download."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from dataset_scripts.synthetic import SyntheticClip, SyntheticConfig, make_clip, make_video
from processing_elysium.boxes import unit_to_px, xyxy_to_xywh
from processing_elysium.frames import open_video
from processing_elysium.video_source import VideoSource

from .items import TrackSequence

SIZE = 140
CLIPS = 200  # of 8 frames, 3 to 6 native frames apart
VIDEOS = 50  # of 64 frames


def read(root: Path, split: str) -> list[TrackSequence]:
    """The clips and the videos, each asked about one of its objects.

    Args:
        root: not used.
        split: "test" or "val".
    """
    clips = [_sequence("clip", split, index) for index in range(CLIPS)]
    return clips + [_sequence("video", split, index) for index in range(VIDEOS)]


def _drawn(kind: str, split: str, index: int) -> SyntheticClip:
    config = SyntheticConfig(size=SIZE)
    return make_video(config, split, index, 64) if kind == "video" else make_clip(config, split, index, 8, (3, 6))


def _open(kind: str, split: str, index: int) -> VideoSource:
    return open_video(list(_drawn(kind, split, index).frames))


def _sequence(kind: str, split: str, index: int) -> TrackSequence:
    objects = _drawn(kind, split, index).record.objects
    track = objects[index % len(objects)]
    return TrackSequence(
        name=f"{kind}-{index:03d}",
        frames=partial(_open, kind, split, index),
        boxes_xywh_px=np.asarray(xyxy_to_xywh(unit_to_px(track.clipped_boxes, SIZE, SIZE))),
        absent=track.absent,
        words=track.expression,
        descriptions=(track.caption,) if track.caption else (),
        attributes=(kind,),
    )
