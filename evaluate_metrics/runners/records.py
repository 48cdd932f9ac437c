"""Evaluate a checkpoint on any videos with known boxes: track every object of every record and score it.

    python -m evaluate_metrics.runners.records data/videos.jsonl --model elysium

A reader of a benchmark is a file beside this one: a function from the benchmark's folder to records, handed to `main`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
from transformers import pipeline

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline
from dataset_scripts.records import ObjectTrack, VideoRecord, read_records
from dataset_scripts.sources import open_recorded
from tracking_elysium.threads import fix_threads

from .machine import provenance

__all__ = ["evaluate_records", "main"]

METRIC = str(Path(__file__).resolve().parents[1] / "tracking_ope")
TASKS = ("sot", "rsot")


def evaluate_records(
    pipe: Any, records: Iterable[VideoRecord], root: str | Path, task: str = "sot", convention: str = "pytracking"
) -> dict[str, Any]:
    """Track every object from the first frame in which it is seen, and score the annotated frames from there on.

    Args:
        pipe: a video-tracking pipeline.
        records: videos with objects; with `task="rsot"` objects without an expression are left out.
        root: folder that the records' `video` is relative to.
        task: `"sot"`: from the true box in that frame; `"rsot"`: from the expression.
        convention: of the scores, a name of `evaluate_metrics.tracking_ope.ope`.

    Returns:
        What `tracking_ope` returns, one video per object; `names` (record id and number of the object) in its order.

    Raises:
        ValueError: an unknown task, a video that cannot be read, or no object to track.
    """
    if task not in TASKS:
        raise ValueError(f"`task`={task!r} is unknown; use one of {', '.join(map(repr, TASKS))}.")
    names: list[str] = []
    predictions, references, flags = [], [], []
    for record in records:
        with open_recorded(record, root) as video:
            for number, track in enumerate(record.objects):
                seen = np.flatnonzero(track.known & ~track.absent)
                if not len(seen) or (task == "rsot" and track.expression is None):
                    continue
                first = int(seen[0])
                frames = record.frame_indices or range(len(track.boxes))
                size = [video.width, video.height] * 2
                boxes = _tracked(pipe, video, track, task, frames[first], track.clipped_boxes[first] * size)
                missing = np.full(4, np.nan)
                predictions.append(np.stack([boxes.get(frame, missing) for frame in frames[first:]]))
                references.append(track.boxes[first:] * size)
                flags.append(track.absent[first:].astype(int).tolist())
                names.append(f"{record.id}/{number}")
    if not names:
        needed = "a box and an expression" if task == "rsot" else "a box"
        raise ValueError(f"the records hold no object with {needed} to track; check the reader or the file.")
    metric = evaluate.load(METRIC)
    how = {"absent": flags, "convention": convention, "box_format": "xyxy"}
    return {**metric.compute(predictions=predictions, references=references, **how), "names": names}


def _tracked(
    pipe: Any, video: Any, track: ObjectTrack, task: str, start: int, box_px: np.ndarray
) -> dict[int, np.ndarray]:
    """Frame -> box (4,) xyxy in pixels, where there is one."""
    asked = {"box": tuple(map(float, box_px))} if task == "sot" else {"expression": track.expression}
    return {
        frame["frame"]: np.array([item["box"][key] for key in ("xmin", "ymin", "xmax", "ymax")])
        for frame in pipe(video, start_frame=start, **asked)
        for item in frame["objects"]
    }


def main(
    read: Callable[[Path], Iterable[VideoRecord]],
    convention: str = "pytracking",
    arguments: list[str] | None = None,
) -> None:
    """Entry point of the command line, of this file and of the readers.

    Args:
        read: from the path given on the command line to records; `video` is relative to that folder, or to the
            file's.
        convention: of the scores, unless the command line names another one.
        arguments: the command line, by default the process's own.
    """
    parser = argparse.ArgumentParser(description="Track the objects of a benchmark and score the boxes.")
    parser.add_argument("data", type=Path, help="folder of the benchmark, or file of records")
    parser.add_argument("--model", default="elysium", help="checkpoint folder or Hub id (default: %(default)s)")
    parser.add_argument("--task", default="sot", choices=TASKS, help="ask by box or by words (default: %(default)s)")
    parser.add_argument("--convention", default=convention, help="of the scores (default: %(default)s)")
    options = parser.parse_args(arguments)
    root = options.data if options.data.is_dir() else options.data.parent
    pipe = pipeline("video-tracking", model=options.model)
    fix_threads(pipe.model)
    try:
        scores = evaluate_records(pipe, read(options.data), root, options.task, options.convention)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(scores, indent=1))
    print(f"{options.model}; {provenance(str(pipe.device))}", file=sys.stderr)


if __name__ == "__main__":
    main(read_records)
