"""What an answer with boxes is worth: the rewards of reinforcement learning, each between 0 and 1.

They have the signature of TRL's reward functions; `truth` is a column of the data set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from processing_elysium.boxes import GRID, Rounding, iou, parse_boxes
from processing_elysium.prompts import Task

__all__ = ["REWARDS", "Truth", "format_value", "iou_value", "presence_value"]

_BOX = re.compile(r"\[(?:(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}))?\]")


@dataclass(frozen=True)
class Truth:
    """What is known about one object in F frames.

    Attributes:
        task: how it was asked.
        boxes: `(F, 4)` in [0, 1], NaN where no box is known.
        absent: `(F,)`, true where the object cannot be seen.
        rounding: how the model writes boxes, see `processing_elysium.boxes.format_box`.
    """

    task: Task
    boxes: np.ndarray
    absent: np.ndarray
    rounding: Rounding = "floor"

    @property
    def known(self) -> np.ndarray:
        """`(F,)`, true where the object is seen and its box known."""
        return ~np.isnan(self.boxes).any(axis=1) & ~self.absent


def iou_value(text: str, truth: Truth) -> float | None:
    """Mean intersection over union of the frames with a known box; a frame without an answer counts 0.

    Args:
        text: the model's answer.
        truth: what is known.

    Returns:
        None where no box is known, so that the answer is not judged by it.
    """
    known = truth.known
    if not known.any():
        return None
    answered = parse_boxes(text, len(known), rounding=truth.rounding)
    overlaps = np.where(answered.valid, iou(np.nan_to_num(answered.boxes), np.nan_to_num(truth.boxes)), 0.0)
    return float(overlaps[known].mean())


def format_value(text: str, truth: Truth) -> float:
    """1 where the answer is written as training teaches, else 0.

    That is `Frame 1: [34,40,51,67], Frame 2: [], ...`: every frame once and in order, corners on the grid and in
    order, nothing else; for REC the box alone.
    """
    frames = len(truth.boxes)
    segments = [text.strip()] if truth.task is Task.REC else text.strip().rstrip(".").split(", ")
    if len(segments) != frames:
        return 0.0
    for number, segment in enumerate(segments, start=1):
        label = "" if truth.task is Task.REC else f"Frame {number}: "
        match = _BOX.fullmatch(segment[len(label) :]) if segment.startswith(label) else None
        if match is None:
            return 0.0
        if match[1] is not None:
            left, top, right, bottom = map(int, match.groups())
            if not (left <= right <= GRID and top <= bottom <= GRID):
                return 0.0
    return 1.0


def presence_value(text: str, truth: Truth) -> float | None:
    """Share of frames in which the answer gives a box exactly where the object is seen.

    Args:
        text: the model's answer.
        truth: what is known.

    Returns:
        None where nobody says of any frame whether the object is seen.
    """
    said = truth.known | truth.absent
    if not said.any():
        return None
    answered = parse_boxes(text, len(said), rounding=truth.rounding).valid
    return float((answered == truth.known)[said].mean())


def _reward(value: Callable[[str, Truth], float | None], name: str) -> Callable[..., list[float | None]]:
    """A reward function as TRL calls it."""

    def reward(*, completions: Sequence[Any], truth: Sequence[Truth], **_: Any) -> list[float | None]:
        return [value(completion[0]["content"], one) for completion, one in zip(completions, truth, strict=True)]

    reward.__name__ = name  # by which TRL logs it
    return reward


REWARDS = {
    name: _reward(value, name)
    for name, value in (("iou", iou_value), ("format", format_value), ("presence", presence_value))
}
