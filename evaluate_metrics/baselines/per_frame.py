"""Frame by frame: the same words asked of every frame alone, by a model or by any detector.

This is how the paper's comparison with MiniGPT-v2 is made (section 4.4): nothing passes from one frame to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from processing_elysium.frames import open_video

from ..readers.items import TrackSequence
from .track import Track

__all__ = ["DetectorPerFrame", "RecPerFrame"]


class RecPerFrame:
    """Asks a model for the object's expression in every frame on its own."""

    name = "rec_per_frame"

    def __init__(self, pipe: Any, batch_size: int = 16) -> None:
        self._pipe, self._batch_size = pipe, batch_size

    def track(self, sequence: TrackSequence, ask: str) -> Track:
        """See `Tracker`; by words only."""
        _check_words(self.name, ask)
        boxes, scores = np.full((len(sequence), 4), np.nan), np.zeros(len(sequence))
        for start, frames in _chunks(sequence, self._batch_size):
            videos = [open_video([frame]) for frame in frames]
            answers = self._pipe(videos, expression=sequence.words, batch_size=self._batch_size, looks=1)
            for index, answer in enumerate(answers, start):
                found = answer[0]["objects"] if answer else []
                # A gap policy cannot help in a single frame: what scores 0 was no answer.
                if found and found[0]["score"] > 0:
                    boxes[index], scores[index] = _xywh(found[0]["box"]), found[0]["score"]
        return Track(boxes, scores)


class DetectorPerFrame:
    """Takes the most certain box of a zero-shot detector of transformers in every frame."""

    name = "detector_per_frame"

    def __init__(self, detector: Any, threshold: float = 0.0, batch_size: int = 4) -> None:
        """Wrap a detector.

        Args:
            detector: `transformers.pipeline("zero-shot-object-detection", model=...)`.
            threshold: below this score there is no box.
            batch_size: frames that it sees together.
        """
        self._detector, self._threshold, self._batch_size = detector, threshold, batch_size

    def track(self, sequence: TrackSequence, ask: str) -> Track:
        """See `Tracker`; by words only."""
        _check_words(self.name, ask)
        boxes, scores = np.full((len(sequence), 4), np.nan), np.zeros(len(sequence))
        for start, frames in _chunks(sequence, self._batch_size):
            asked = [{"image": Image.fromarray(f), "candidate_labels": [sequence.words]} for f in frames]
            for index, found in enumerate(self._detector(asked, threshold=self._threshold), start):
                best = max(found, key=lambda item: item["score"], default=None)
                if best is not None:
                    boxes[index], scores[index] = _xywh(best["box"]), best["score"]
        return Track(boxes, scores)


def _check_words(name: str, ask: str) -> None:
    if ask != "rsot":
        raise ValueError(f"tracker {name!r} is asked by words (`--ask rsot`), not by a box ({ask}).")


def _chunks(sequence: TrackSequence, size: int) -> Iterator[tuple[int, list[np.ndarray]]]:
    with sequence.open() as video:
        for start in range(0, len(sequence), size):
            yield start, video.read(range(start, min(start + size, len(sequence))))


def _xywh(box: dict[str, float]) -> list[float]:
    return [box["xmin"], box["ymin"], box["xmax"] - box["xmin"], box["ymax"] - box["ymin"]]
