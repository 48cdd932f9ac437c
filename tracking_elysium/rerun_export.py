"""Results as a recording for the viewer of Rerun (https://rerun.io): frames, boxes, masks and scores over time.

    write_rerun("tracked.rrd", frames, pipe(frames, box=(34, 40, 120, 160)))

`rerun tracked.rrd` shows it. The library is optional: `pip install rerun-sdk`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from .visualize import color_of
from .whole_files import written_whole

_ENTITY = "video"
_JPEG_QUALITY = 85


def write_rerun(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    results: Iterable[dict[str, Any]],
    name: str = "elysium",
) -> int:
    """Write a recording, frame by frame: memory does not grow with the video.

    Args:
        path: file to write, ending in `.rrd`; whole or not at all.
        frames: uint8 RGB arrays (H, W, 3), the frame of each result.
        results: dicts of the pipeline; masks of `add_masks` come along.
        name: of the application, as the viewer shows it.

    Returns:
        The number of frames written.

    Raises:
        ImportError: rerun-sdk is not installed.
        ValueError: another ending, no frame, or not one result per frame.
        OSError: the file cannot be written.
    """
    if Path(path).suffix.lower() != ".rrd":
        raise ValueError(f"`path`={os.fspath(path)!r} does not end in .rrd, which Rerun's viewer asks for.")
    try:
        rr = import_module("rerun")
    except ImportError as error:
        raise ImportError("a recording for Rerun needs rerun-sdk; install it with `pip install rerun-sdk`.") from error
    nothing: Any = object()
    count = 0
    with written_whole(path) as part:
        with rr.RecordingStream(name) as recording:
            recording.save(part)
            for frame, result in zip_longest(frames, results, fillvalue=nothing):
                if frame is nothing or result is nothing:
                    ended, more = ("frames", "results") if frame is nothing else ("results", "frames")
                    raise ValueError(f"`{ended}` ends after {count}, `{more}` goes on; pass one frame per result.")
                _log(rr, recording, np.asarray(frame), result)
                count += 1
        if count == 0:
            raise ValueError("`results` is empty; there is nothing to record.")
    return count


def _log(rr: Any, recording: Any, frame: np.ndarray, result: dict[str, Any]) -> None:
    """Log one frame and what is in it."""
    recording.set_time("frame", sequence=result["frame"])
    if result["timestamp"] is not None:
        recording.set_time("seconds", duration=result["timestamp"])
    recording.log(_ENTITY, rr.Image(frame).compress(jpeg_quality=_JPEG_QUALITY))
    objects = result["objects"]
    corners = [[item["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")] for item in objects]
    boxes = rr.Boxes2D(
        array=np.array(corners, np.float32).reshape(-1, 4),
        array_format=rr.Box2DFormat.XYXY,
        labels=[f"{item['label']} {item['score']:.2f}" for item in objects],
        colors=[color_of(item["id"]) for item in objects],
    )
    recording.log(f"{_ENTITY}/objects", boxes)
    for item in objects:
        recording.log(f"scores/{item['id']}", rr.Scalars(item["score"]))
    masks = [(item["id"], item["mask"]) for item in objects if item.get("mask") is not None]
    if masks:
        classes = np.zeros(frame.shape[:2], np.uint16)
        for number, mask in masks:
            classes[mask] = number + 1  # 0 is the background
        colored = [(number + 1, f"object {number}", color_of(number)) for number, _ in masks]
        recording.log(_ENTITY, rr.AnnotationContext([rr.AnnotationInfo(*one) for one in colored]))
        recording.log(f"{_ENTITY}/masks", rr.SegmentationImage(classes))


__all__ = ["write_rerun"]
