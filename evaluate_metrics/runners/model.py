"""The model as a tracker, a finder, a describer and an answerer: the pipeline behind the runner's interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from processing_elysium.boxes import xywh_to_xyxy

from ..baselines.track import Track
from ..readers.items import ImageQuery, Item, TrackSequence, VideoQuestion

__all__ = ["ModelTracker", "answer_items"]


class ModelTracker:
    """Tracks with a video-tracking pipeline, one video at a time.

    Where the pipeline's gap policy put a box, its score is 0; with a presence beside it the model said that the object
    is absent, without one its answer held nothing readable. The report counts both.
    """

    def __init__(self, pipe: Any, name: str) -> None:
        self.pipe, self.name = pipe, name

    def track(self, sequence: TrackSequence, ask: str) -> Track:
        """See `evaluate_metrics.baselines.track.Tracker`."""
        boxes, scores = np.full((len(sequence), 4), np.nan), np.zeros(len(sequence))
        presence = np.full(len(sequence), np.nan)
        with sequence.open() as video:
            asked = {"box": _corners(sequence, video)} if ask == "sot" else {"expression": sequence.words}
            for frame in self.pipe(video, **asked):
                for item in frame["objects"]:
                    index = frame["frame"]
                    boxes[index], scores[index] = _xywh(item["box"]), item["score"]
                    presence[index] = item.get("presence", np.nan)
        return Track(boxes, scores, presence if np.isfinite(presence).any() else None)


def answer_items(pipe: Any, items: Sequence[Item], ask: str) -> list[dict[str, Any]]:
    """Answer a block of items that are no tracking.

    Args:
        pipe: a video-tracking pipeline.
        items: of one kind.
        ask: "video_reg", "rec", "reg" or "vqa".

    Returns:
        Per item `{"name", "box": [x, y, w, h] in pixels or None}` (REC; None: no readable box), or `{"name", "text"}`.
    """
    if ask == "rec":
        return _found(pipe, items)
    rows = []
    for item in items:
        if isinstance(item, VideoQuestion):
            text = pipe.ask(item.video, item.question)
        else:
            with item.open() as video:
                shown = min(8, video.num_frames or 1)
                described = pipe(video, box=_corners(item, video), task="describe", num_frames=shown)
            text = described[0]["description"]
        rows.append({"name": item.name, "text": text})
    return rows


def _found(pipe: Any, items: Sequence[Item]) -> list[dict[str, Any]]:
    queries = [item for item in items if isinstance(item, ImageQuery)]
    opened = [query.open() for query in queries]
    try:
        answers = pipe(opened, expression=[query.words for query in queries])
    finally:
        for video in opened:
            video.close()
    rows = []
    for query, frames in zip(queries, answers, strict=True):
        objects = frames[0]["objects"] if frames else []
        readable = objects and objects[0]["score"] > 0  # a gap policy cannot help in a single frame
        rows.append({"name": query.name, "box": _xywh(objects[0]["box"]) if readable else None})
    return rows


def _corners(item: Any, video: Any) -> tuple[float, ...]:
    """The first box as corners in pixels, cut at the frame as the pipeline asks for."""
    first = item.boxes_xywh_px[0] if isinstance(item, TrackSequence) else item.box_xywh_px
    corners = np.clip(xywh_to_xyxy(first), 0, [video.width, video.height] * 2)
    return tuple(float(value) for value in corners)


def _xywh(box: dict[str, float]) -> list[float]:
    return [float(v) for v in (box["xmin"], box["ymin"], box["xmax"] - box["xmin"], box["ymax"] - box["ymin"])]
