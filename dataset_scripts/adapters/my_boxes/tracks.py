"""From keyframes in pixels to the tracks of a record, whatever tool they were drawn with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ...records import ObjectTrack, VideoRecord
from ..common import Skip, Skipped, as_boxes, relative_box
from .media import Media

__all__ = ["Key", "Track", "check_frame_size", "interpolated", "record_of", "rotated_extent"]

SOURCE = "my boxes"
Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Key:
    """A box that somebody drew.

    Attributes:
        frame: from 0.
        corners_px: left, top, right, bottom in pixels.
        where: file and line, for messages.
        shown: whether the object can be seen in this frame.
        carries_on: whether it can be seen up to the next key, the box moving in a straight line.
    """

    frame: int
    corners_px: Corners
    where: str
    shown: bool = True
    carries_on: bool = False


@dataclass
class Track:
    """One object of an export.

    Attributes:
        label: its class, None where the export has none.
        keys: its boxes; any order.
        to_end: whether the last box holds to the end of the video.
        ended: whether the object is known to be out of sight after the last box.
        unsure: frames of which the annotator says nothing: no box there does not mean that the object is absent.
        expression, caption: words for this object, where the annotator wrote them.
        attributes: others.
    """

    label: str | None = None
    keys: list[Key] = field(default_factory=list)
    to_end: bool = False
    ended: bool = True
    unsure: set[int] = field(default_factory=set)
    expression: str | None = None
    caption: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)

    def set_words(self, name: str, text: str) -> None:
        """Take an attribute: `expression` and `caption` are words of the object, others are kept as they are."""
        if name.lower() in ("expression", "caption") and text.strip():
            setattr(self, name.lower(), text.strip())
        elif text.strip():
            self.attributes[name] = text.strip()


def interpolated(track: Track, num_frames: int) -> dict[int, Key]:
    """The key of each frame in which the track has a box, straight lines between keys that carry on.

    Raises:
        ValueError: two keys of one frame.
    """
    keys = sorted(track.keys, key=lambda key: key.frame)
    found: dict[int, Key] = {}
    for key, following in pairwise([*keys, None]):
        assert key is not None
        if key.frame in found:
            raise ValueError(f"{key.where}: a second box of the same object in frame {key.frame} (counted from 0).")
        if key.shown:
            found[key.frame] = key
        if following is None:
            stop = num_frames if track.to_end and key.carries_on else key.frame + 1
        else:
            stop = following.frame if key.carries_on else key.frame + 1
        for frame in range(key.frame + 1, stop):
            share = 0.0 if following is None else (frame - key.frame) / (following.frame - key.frame)
            target = key.corners_px if following is None else following.corners_px
            corners = tuple(a + share * (b - a) for a, b in zip(key.corners_px, target, strict=True))
            found[frame] = Key(frame, corners, key.where)  # type: ignore[arg-type]
    return found


def record_of(
    name: str, media: Media, tracks: Sequence[Track], skipped: Skipped, frames: Sequence[int] | None = None
) -> VideoRecord | None:
    """The record of a video or picture; None where no box can be used.

    Args:
        name: of the record.
        media: what was annotated.
        tracks: its objects.
        skipped: where unusable boxes are counted.
        frames: the annotated frames, ascending; None: all from the first box to the last.

    Raises:
        ValueError: a box lies behind the last frame, or an object has two in one frame.
    """
    for key in (key for track in tracks for key in track.keys):
        if not 0 <= key.frame < media.num_frames:
            where = media.video if isinstance(media.video, str) else f"the folder of {media.video[0]}"
            raise ValueError(
                f"{key.where}: a box in frame {key.frame} (counted from 0), but {where} has {media.num_frames} "
                "frames; is it the video that was annotated?"
            )
    boxes = [interpolated(track, media.num_frames) for track in tracks]
    met = [frame for found in boxes for frame in found]
    if not met:
        return None
    frames = list(range(min(met), max(met) + 1)) if frames is None else list(frames)
    objects = [_object(track, found, frames, media, skipped) for track, found in zip(tracks, boxes, strict=True)]
    objects = [item for item in objects if item.known.any()]
    if not objects:
        return None
    labels = Counter(track.label for track in tracks)
    for item in objects:
        label = item.attributes.get("category")
        if item.expression is None and label is not None and labels[label] == 1:
            item.expression = label.replace("_", " ")
    return VideoRecord(
        id=name, source=SOURCE, video=media.video, width=media.width, height=media.height, fps=media.fps,
        frame_indices=frames, objects=objects,
    )  # fmt: skip


def _object(track: Track, found: dict[int, Key], frames: Sequence[int], media: Media, skipped: Skipped) -> ObjectTrack:
    """The track in the annotated frames; where it has no box it is absent, unless the export leaves that open."""
    last = max((key.frame for key in track.keys), default=-1)
    rows: list[list[float] | None] = []
    absent = []
    for frame in frames:
        key, box = found.get(frame), None
        away = key is None and frame not in track.unsure and (frame <= last or track.ended)
        if key is not None:
            try:
                box = relative_box(key.corners_px, "xyxy", media.size)
            except Skip as skip:
                skipped.add(str(skip), f"{key.where} (frame {frame})")
                away = str(skip) == "box is outside the frame"
        rows.append(box)
        absent.append(away)
    attributes = {"category": track.label, **track.attributes} if track.label else track.attributes
    return ObjectTrack(
        boxes=as_boxes(rows),
        absent=np.array(absent),
        expression=track.expression,
        caption=track.caption,
        attributes=attributes,
    )


def check_frame_size(annotated: tuple[float, float], media: Media, where: str) -> None:
    """Refuse pixels of another frame size.

    Raises:
        ValueError: the annotation was made on frames of another size.
    """
    if tuple(round(side) for side in annotated) != media.size:
        name = media.video if isinstance(media.video, str) else media.video[0]
        raise ValueError(
            f"{where}: the export says {annotated[0]:g} x {annotated[1]:g} pixels, but {name} has {media.width} x "
            f"{media.height}; use the file that was annotated, unscaled and not turned."
        )


def rotated_extent(corners_px: Corners, degrees: float) -> Corners:
    """The upright box around a rectangle that was turned clockwise about its top left corner."""
    if degrees % 360 == 0:
        return corners_px
    x, y, width, height = corners_px[0], corners_px[1], corners_px[2] - corners_px[0], corners_px[3] - corners_px[1]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in ((0, 0), (width, 0), (0, height),
                                                                           (width, height))]  # fmt: skip
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)
