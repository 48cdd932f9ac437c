"""Results as `sv.Detections` of the library supervision, and its detections as boxes to begin tracking with.

    for frame, result in zip(frames, results):
        picture = supervision.BoxAnnotator().annotate(frame.copy(), to_detections(result))

    begin = from_detections(detections_of_a_frame)
    results = pipeline(video, box=begin.box, labels=begin.labels)

The library is imported when it is needed; tracking does without it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

NAMES = "class_name"  # where supervision's own models and annotators keep the name of a class


@dataclass(frozen=True)
class Beginnings:
    """Objects to begin tracking with; the object of row i has id i in the results of a call.

    Attributes:
        box: (x1, y1, x2, y2) in pixels per object, for `box=` of the pipeline or of a live tracker's `add`.
        labels: one per object, for `labels=`.
        ids: the tracker id of each where the detections had one, else its row; for `ids=` of `to_detections`.
    """

    box: list[tuple[float, float, float, float]]
    labels: list[str]
    ids: list[int]


def to_detections(
    result: dict[str, Any], classes: Sequence[str] | None = None, ids: Sequence[int] | None = None
) -> Any:
    """Turn one frame of the pipeline into `sv.Detections`.

    Args:
        result: a dict of the pipeline; masks of `add_masks` come along.
        classes: labels by class id. None: every object is a class of its own, by its id.
        ids: tracker ids by object id, such as `Beginnings.ids`. None: the ids of the objects.

    Returns:
        Detections with one row per object: `xyxy` in pixels, `confidence` (the score), `class_id`, `tracker_id`,
        `mask` (n, H, W) where any object has one, and in `data` `"class_name"` (the label) and `"present"`; rows that
        a gap policy put there are left out by `detections[detections.data["present"]]`.

    Raises:
        ImportError: supervision is not installed.
        ValueError: a label that is not among `classes`, or an object that `ids` does not reach.
    """
    objects = result["objects"]
    labels = [item["label"] for item in objects]
    unknown = [] if classes is None else [label for label in labels if label not in classes]
    if unknown:
        raise ValueError(f"`classes`={list(classes or ())!r} lacks the label {unknown[0]!r}; add it, or leave it out.")
    numbers = [int(item["id"]) for item in objects]
    if ids is not None and numbers and max(numbers) >= len(ids):
        raise ValueError(f"`ids` has {len(ids)} entries and the result an object {max(numbers)}; pass one per object.")
    corners = [[item["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")] for item in objects]
    return supervision().Detections(
        xyxy=np.array(corners, np.float32).reshape(-1, 4),
        mask=_masks(objects),
        confidence=np.array([item["score"] for item in objects], np.float32),
        class_id=np.array(numbers if classes is None else [list(classes).index(label) for label in labels], int),
        tracker_id=np.array(numbers if ids is None else [ids[number] for number in numbers], int),
        data={
            NAMES: np.array(labels, dtype=str),
            "present": np.array([item.get("present", True) for item in objects], bool),
        },
    )


def from_detections(detections: Any) -> Beginnings:
    """Take the objects of `sv.Detections` as objects to track.

    Args:
        detections: of one frame; boxes in pixels of the frame.

    Returns:
        Boxes, labels (the name of the class, or `"object ID"`) and ids, in the order of the rows.

    Raises:
        ValueError: not detections, none in it, or a tracker id twice.
    """
    if not hasattr(detections, "xyxy"):
        raise ValueError(
            f"`detections` is a {type(detections).__name__}; pass the sv.Detections of one frame, e.g. "
            "sv.Detections.from_transformers(...)."
        )
    boxes = np.asarray(detections.xyxy, np.float64).reshape(-1, 4)
    if not len(boxes):
        raise ValueError("`detections` is empty; pass those of a frame in which an object was found.")
    given = detections.tracker_id
    ids = list(range(len(boxes))) if given is None else [int(number) for number in given]
    if len(set(ids)) < len(ids):
        raise ValueError(f"`detections.tracker_id`={ids} holds an id twice; pass the detections of one frame.")
    names = detections.data.get(NAMES)
    labels = [f"object {number}" for number in ids] if names is None else [str(name) for name in names]
    rows = [(float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in boxes]
    return Beginnings(box=rows, labels=labels, ids=ids)


def _masks(objects: Sequence[dict[str, Any]]) -> np.ndarray | None:
    """Stack the masks (n, H, W); an object without one has an empty one, None where none has."""
    masks = [item.get("mask") for item in objects]
    shape = next((mask.shape for mask in masks if mask is not None), None)
    if shape is None:
        return None
    return np.stack([np.zeros(shape, bool) if mask is None else mask for mask in masks])


def supervision() -> Any:
    """Import the library when it is needed: it takes a second, and tracking does without.

    Raises:
        ImportError: it is not installed.
    """
    if sys.modules.get("supervision") is not None:
        return sys.modules["supervision"]
    try:
        with warnings.catch_warnings():
            # Without OpenCV it draws with numpy and says so: the same pictures, more slowly.
            warnings.filterwarnings("ignore", "OpenCV", UserWarning)
            return import_module("supervision")
    except ImportError as error:
        raise ImportError(
            "drawing and sv.Detections need the library supervision; install it with `pip install supervision`."
        ) from error


__all__ = ["Beginnings", "from_detections", "supervision", "to_detections"]
