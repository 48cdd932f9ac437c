"""OpenCV's trackers as baselines: those of the construction pipeline, in a benchmark's pixels."""

from __future__ import annotations

import numpy as np

from dataset_scripts.construction.backends.opencv import KINDS, OpenCVTrackers

from ..readers.items import TrackSequence
from .track import Track

__all__ = ["KINDS", "OpenCVBaseline"]


class OpenCVBaseline:
    """One of OpenCV's trackers; where it reports that it has lost the object there is no box."""

    def __init__(self, kind: str, onnx: tuple[str, ...] = (), seed: int = 0) -> None:
        """Check that OpenCV has the tracker.

        Args:
            kind: a key of `KINDS`.
            onnx: files that Nano (backbone, neck and head) or Vit (one) need.
            seed: of what OpenCV draws, set before every sequence.

        Raises:
            ValueError: an unknown kind, files that are missing, or an OpenCV without the tracker.
        """
        names = [*(KINDS[kind][1] if kind in KINDS else ()), *(f"file {n}" for n in range(len(onnx)))]
        self.name = kind
        # as many threads as OpenCV takes: speed is reported
        self._trackers = OpenCVTrackers(kind, dict(zip(names, onnx, strict=False)), seed, threads=None)

    def track(self, sequence: TrackSequence, ask: str) -> Track:
        """See `Tracker`; by box only. Scores are those of networks, NaN for the others."""
        if ask != "sot":
            raise ValueError(f"tracker {self.name!r} is asked by a box (`--ask sot`), not by words ({ask}).")
        boxes, scores = np.full((len(sequence), 4), np.nan), np.full(len(sequence), np.nan)
        boxes[0] = sequence.boxes_xywh_px[0]
        tracker = self._trackers.new()
        with sequence.open() as video:
            for index in range(len(sequence)):
                (frame,) = video.read([index])
                if index == 0:
                    tracker.begin(frame, boxes[0])
                    continue
                boxes[index], score = tracker.step(frame)
                if KINDS[self.name][1]:
                    scores[index] = score
        return Track(boxes, scores)
