"""Boxes become trajectories: what is remembered of one object, and the results."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .gap_policy import bridge_gap
from .queries import ObjectQuery
from .zoom import ZoomState


@dataclass
class Track:
    """What a session remembers of one object: constant size, whatever the length of the video."""

    query: ObjectQuery
    seen: deque = field(default_factory=lambda: deque(maxlen=5))  # (step, box) the model gave, latest last
    recent: dict[int, np.ndarray] = field(default_factory=dict)  # step -> box, for the frames the next clip shares
    zoom: ZoomState | None = None  # where the object is followed in search windows

    def is_given(self, step: int) -> bool:
        """Return whether the box of `step` comes with the question."""
        return step == 0 and self.query.box is not None

    def start_box(self, step: int) -> np.ndarray | None:
        """Return the box that the clip beginning at `step` starts from; None as long as nothing is known."""
        if self.is_given(step):
            return np.asarray(self.query.box, dtype=np.float64)
        return self.recent.get(step, self.seen[-1][1] if self.seen else None)

    def known_boxes(self, first_step: int) -> tuple[tuple[int, np.ndarray], ...]:
        """Return (frame_in_clip, box) known before a clip is asked about: of frames before it, and its start box."""
        before = [(step - first_step, box) for step, box in self.seen if step < first_step]
        start = self.start_box(first_step)
        return (*before, (0, start)) if start is not None else tuple(before)

    def decide(self, step: int, box: np.ndarray | None, policy: str) -> np.ndarray | None:
        """Note what the model said of a frame and return the box to report."""
        if box is not None:
            self.seen.append((step, box))
            self.recent[step] = box
            return box
        bridged = bridge_gap(policy, list(self.seen), step)
        # "none" reports nothing, but the next clip still has to start from somewhere.
        anchor = bridged if bridged is not None else bridge_gap("hold", list(self.seen), step)
        if anchor is not None:
            self.recent[step] = anchor
        return bridged


@dataclass(frozen=True)
class ObjectResult:
    """One object in one frame.

    Attributes:
        id: of the object.
        label: of the object.
        score: geometric mean of the digits' probabilities, 0 where a gap policy put the box.
        box: (4,) in [0, 1].
        present: whether the model found the object, or its box was given; False where a gap policy put the box.
        presence: the model's probability that the object is there, None where it was not asked to choose.
    """

    id: int
    label: str
    score: float
    box: np.ndarray
    present: bool = True
    presence: float | None = None


@dataclass
class FrameResult:
    """All objects in one frame; objects without a box in it are left out."""

    frame: int
    timestamp: float | None
    objects: list[ObjectResult]

    def to_dict(self, width: int, height: int) -> dict[str, Any]:
        """Return the frame in the form of the object-detection pipeline, boxes in pixels of a width x height frame."""
        objects = []
        for item in self.objects:
            xmin, ymin, xmax, ymax = (float(v) for v in item.box * [width, height, width, height])
            box = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
            known = {} if item.presence is None else {"presence": item.presence}
            told = {"id": item.id, "label": item.label, "score": item.score, "present": item.present, **known}
            objects.append({**told, "box": box})
        return {"frame": self.frame, "timestamp": self.timestamp, "objects": objects}
