"""What a trained cell is worth: REC on single frames, SOT and RSOT on short clips, all drawn and never trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from transformers import pipeline

from dataset_scripts.records import ObjectTrack
from dataset_scripts.synthetic import SyntheticClip, SyntheticConfig, make_clip
from evaluate_metrics.rec_accuracy.rec import evaluate_rec
from evaluate_metrics.tracking_ope.ope import evaluate_ope
from processing_elysium.boxes import format_boxes, parse_boxes, xyxy_to_xywh
from tracking_elysium.threads import fix_threads

from .config import EvaluationConfig

__all__ = ["METRICS", "limits", "score_model"]

METRICS = {"rec": "REC, IoU > 0.5", "sot": "SOT, AUC", "rsot": "RSOT, AUC"}
CONVENTION = "pytracking_unclipped"  # that of docs/results.md: a box at the frame's edge counts
CHUNK = 50  # scenes that are held at once

Drawn = tuple[SyntheticClip, ObjectTrack]


def score_model(folder: Path, settings: EvaluationConfig, device: str) -> dict[str, float]:
    """Ask a model everything and score its answers.

    Args:
        folder: of the model.
        settings: how much.
        device: to run on.

    Returns:
        `rec` (accuracy at IoU 0.5), `sot` and `rsot` (AUC), each in [0, 1].
    """
    pipe = cast(Any, pipeline)("video-tracking", model=str(folder), device=device)
    fix_threads(pipe.model)
    size = pipe.model.config.vision_config.image_size
    said: list[Any] = []
    true: list[np.ndarray] = []
    for drawn in _chunks(settings.images, 1, settings, size):
        videos, words = [list(clip.frames) for clip, _ in drawn], [track.expression for _, track in drawn]
        said += [boxes_of(found, 1)[0] for found in pipe(videos, expression=words, batch_size=settings.batch_size)]
        true += [track.clipped_boxes[0] * size for _, track in drawn]
    scores = {"rec": evaluate_rec(said, true)["accuracy"]}
    tracked: dict[str, list[np.ndarray]] = {"sot": [], "rsot": []}
    tracks: list[ObjectTrack] = []
    for drawn in _chunks(settings.clips, settings.frames, settings, size):
        videos = [list(clip.frames) for clip, _ in drawn]
        starts = [tuple(float(v) for v in track.clipped_boxes[0] * size) for _, track in drawn]
        words = [track.expression for _, track in drawn]
        for task, asked in (("sot", {"box": starts}), ("rsot", {"expression": words})):
            answers = pipe(videos, batch_size=settings.batch_size, **asked)
            tracked[task] += [boxes_of(found, settings.frames) for found in answers]
        tracks += [track for _, track in drawn]
    return scores | {task: _auc(boxes, tracks, size) for task, boxes in tracked.items()}


def boxes_of(frames: list[dict[str, Any]], num_frames: int) -> np.ndarray:
    """Turn the pipeline's output of one object into boxes (F, 4) xyxy in pixels, NaN where there is none."""
    boxes = np.full((num_frames, 4), np.nan)
    for frame in frames:
        for item in frame["objects"]:
            boxes[frame["frame"]] = [item["box"][key] for key in ("xmin", "ymin", "xmax", "ymax")]
    return boxes


def limits(settings: EvaluationConfig, size: int) -> dict[str, float]:
    """AUC of a tracker that keeps the first box, and of the truth written as text: the floor and the ceiling.

    Args:
        settings: which clips.
        size: side of the frames in pixels.
    """
    tracks = [track for drawn in _chunks(settings.clips, settings.frames, settings, size) for _, track in drawn]
    kept = [np.repeat(track.clipped_boxes[:1], settings.frames, axis=0) * size for track in tracks]
    written = [parse_boxes(format_boxes(t.clipped_boxes.tolist()), settings.frames).boxes * size for t in tracks]
    return {"floor": _auc(kept, tracks, size), "ceiling": _auc(written, tracks, size)}


def _chunks(count: int, frames: int, settings: EvaluationConfig, size: int) -> Iterator[list[Drawn]]:
    """Scenes and the object that each is asked about, some at a time."""
    config = SyntheticConfig(size=size)

    def draw(index: int) -> Drawn:
        clip = make_clip(config, settings.split, index, frames, settings.interval)
        return clip, clip.record.objects[index % len(clip.record.objects)]

    for first in range(0, count, CHUNK):
        yield [draw(index) for index in range(first, min(first + CHUNK, count))]


def _auc(boxes_px: Sequence[np.ndarray], tracks: Sequence[ObjectTrack], size: int) -> float:
    truth = [np.asarray(xyxy_to_xywh(track.clipped_boxes * size)) for track in tracks]
    found = [np.asarray(xyxy_to_xywh(boxes)) for boxes in boxes_px]
    absent = [np.asarray(track.absent).astype(int) for track in tracks]
    return float(evaluate_ope(found, truth, absent, CONVENTION)["auc"])
