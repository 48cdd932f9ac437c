"""Elysium itself, as grounder (REC in a single frame) and as tracker.

Its confidence is the geometric mean of the probabilities of a box's digits: how sure the model was of what it wrote,
not whether an object is there. A model taught to answer `[]` says "not there", which counts as not found.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from processing_elysium.boxes import unit_to_px

from ..protocols import Detections

__all__ = ["ElysiumGrounder", "ElysiumTracker", "load_pipeline"]


def load_pipeline(checkpoint: str, device: str = "cpu", **options: Any) -> Any:
    """Load the pipeline of a checkpoint folder or Hub id with the code of the installed packages.

    Args:
        checkpoint: folder, or Hub id.
        device: torch device.
        **options: of tracking, see `tracking_elysium/options.py`.
    """
    from transformers import pipeline

    import tracking_elysium  # noqa: F401 - registers the pipeline
    from tracking_elysium.threads import fix_threads

    pipe = pipeline("video-tracking", model=checkpoint, device=device, **options)
    fix_threads(pipe.model)
    return pipe


class ElysiumGrounder:
    """See `Grounder`: each pair is a video of one frame, tracked by its words."""

    def __init__(self, checkpoint: str, device: str = "cpu", batch_size: int = 16, looks: int = 1) -> None:
        """Load a checkpoint; `looks` as in tracking: 3 takes thirty times as long and finds smaller things."""
        self._pipe, self._batch_size = load_pipeline(checkpoint, device, looks=looks), batch_size

    def ground(self, frames: Sequence[np.ndarray], phrases: Sequence[str]) -> list[Detections]:
        """See `Grounder`; at most one box per pair."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the checkpoint was not taught, said by its card
            answers = self._pipe(
                [[frame] for frame in frames],
                expression=[str(phrase) for phrase in phrases],
                batch_size=self._batch_size,
            )
        return [_detections(answer, frame) for answer, frame in zip(answers, frames, strict=True)]


class ElysiumTracker:
    """See `ClipTracker`; all objects of a video are followed together."""

    def __init__(self, checkpoint: str, device: str = "cpu", **options: Any) -> None:
        """Load a checkpoint; `options` are those of tracking (`clip_len`, `zoom`, ...)."""
        self._pipe = load_pipeline(checkpoint, device, **options)

    def follow(self, frames: Iterable[np.ndarray], boxes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See `ClipTracker`."""
        given = iter(frames)
        first = next(given)
        size = (first.shape[1], first.shape[0])
        starts = [tuple(float(v) for v in _inside_px(box, *size)) for box in boxes]
        stream = self._pipe(_chain(first, given), box=starts, stream=True)
        for frame in stream:
            found, scores = np.full((len(boxes), 4), np.nan), np.zeros(len(boxes))
            for item in frame["objects"]:
                position = int(item["id"])
                found[position] = _unit(item["box"], *size)
                scores[position] = float(item["score"])
            yield found, scores


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def _inside_px(box: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a box in pixels, cut to the frame and at least one pixel wide: what the pipeline takes."""
    x1, y1, x2, y2 = unit_to_px(np.clip(box, 0, 1), width, height)
    x1, y1 = min(x1, width - 1), min(y1, height - 1)
    return np.array([x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)])


def _unit(box: dict[str, float], width: int, height: int) -> np.ndarray:
    return np.array([box["xmin"] / width, box["ymin"] / height, box["xmax"] / width, box["ymax"] / height])


def _detections(answer: list[dict[str, Any]], frame: np.ndarray) -> Detections:
    size = (frame.shape[1], frame.shape[0])
    # A gap policy cannot help in a single frame: what scores 0 was no answer.
    found = [item for item in (answer[0]["objects"] if answer else []) if item["score"] > 0]
    return Detections.sorted([_unit(item["box"], *size) for item in found], [item["score"] for item in found])
