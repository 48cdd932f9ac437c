"""How models write boxes, and how what they wrote is read: one line of `FORMATS` per convention.

Reading never raises and never makes a box up. Inside, a box is (x1, y1, x2, y2) in [0, 1]; F is the number of frames.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from processing_elysium.boxes import format_box, parse_boxes

__all__ = ["FORMATS", "BoxFormat", "read_answer"]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
_GAP = r"[\s,;()\[\]<>{}]+"
_FOUR = re.compile(rf"[\[({{<]\s*({_NUMBER}){_GAP}({_NUMBER}){_GAP}({_NUMBER}){_GAP}({_NUMBER})\s*[\])}}>]")
_FRAME = re.compile(r"frame[\s_#]*(\d+)", re.IGNORECASE)
_OBJECT = re.compile(r"\{[^{}]*\}")
_FRAME_KEYS = ("frame", "frame_id", "frame_index", "frame_number", "time")
_BOX_KEYS = ("bbox_2d", "box_2d", "bbox", "box", "position")


@dataclass(frozen=True)
class BoxFormat:
    """One convention.

    Attributes:
        about: what the model is told of it, with an example.
        full: number that stands for the whole width or height; None: pixels of the frame as it is shown.
        decimals: digits after the point of a box in the question.
        order: where x1, y1, x2, y2 stand among the four numbers.
        pattern: of a box in the question, four slots.
    """

    about: str
    full: float | None
    decimals: int = 0
    order: tuple[int, int, int, int] = (0, 1, 2, 3)
    pattern: str = "[{},{},{},{}]"

    def write(self, box: np.ndarray, size: tuple[int, int]) -> str:
        """A box (4,) in [0, 1] of a frame of `size` (width, height) as this convention writes it."""
        numbers = np.asarray(box, dtype=np.float64) * self._scale(size)
        placed = [0.0] * 4
        for value, place in zip(numbers.tolist(), self.order, strict=True):
            placed[place] = value
        return self.pattern.format(*(f"{value:.{self.decimals}f}" for value in placed))

    def to_unit(self, numbers: list[float], size: tuple[int, int]) -> np.ndarray | None:
        """Four numbers as a box (4,) in [0, 1]; None where they are none.

        Corners in the wrong order are swapped. What lies up to one frame outside is cut at the edge, as
        `processing_elysium.boxes.parse_boxes` does; what lies farther out was written in another convention.
        """
        box = np.array([numbers[place] for place in self.order], dtype=np.float64) / self._scale(size)
        if not np.isfinite(box).all() or box.min() < -1.0 or box.max() > 2.0:
            return None
        box = np.clip(np.concatenate([np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])]), 0.0, 1.0)
        return box if (box[2:] > box[:2]).all() else None

    def _scale(self, size: tuple[int, int]) -> np.ndarray:
        return np.array([*size, *size], dtype=np.float64) if self.full is None else np.full(4, self.full)


_CORNERS = "x1, y1 its left upper and x2, y2 its right lower corner"
FORMATS: dict[str, BoxFormat] = {
    "elysium": BoxFormat("", 100),  # asked and read by the project's own prompts and parser
    "relative": BoxFormat(
        f"Write each box as [x1,y1,x2,y2], {_CORNERS}, as shares of width and height between 0 and 1 with three "
        "decimals.",
        1.0,
        3,
    ),
    "thousandths": BoxFormat(f"Write each box as [x1,y1,x2,y2], {_CORNERS}, in integers from 0 to 1000.", 1000.0),
    "pixels": BoxFormat(f"Write each box as [x1,y1,x2,y2], {_CORNERS}, in pixels.", None),
    "qwen_vl": BoxFormat(
        f"Write each box as <box>(x1,y1),(x2,y2)</box>, {_CORNERS}, in integers from 0 to 1000.",
        1000.0,
        pattern="<box>({},{}),({},{})</box>",
    ),
    "json_pixels": BoxFormat(
        'Answer in JSON: a list with {"frame": number, "bbox_2d": [x1, y1, x2, y2]} for every frame, in pixels.', None
    ),
    "json_thousandths": BoxFormat(
        'Answer in JSON: a list with {"frame": number, "bbox_2d": [x1, y1, x2, y2]} for every frame, in integers from '
        "0 to 1000.",
        1000.0,
    ),
    "json_yxyx": BoxFormat(
        'Answer in JSON: a list with {"frame": number, "box_2d": [ymin, xmin, ymax, xmax]} for every frame, in '
        "integers from 0 to 1000.",
        1000.0,
        order=(1, 0, 3, 2),
    ),
}


def read_answer(text: str, num_frames: int, box_format: str, size: tuple[int, int]) -> np.ndarray:
    """Read the boxes in a model's answer.

    A box belongs to the frame that is named before it ("Frame 3: ...") or in the same JSON object. Boxes without any
    frame are taken in order if there is one for each frame; otherwise only the first one is, for the first frame.

    Args:
        text: what the model said.
        num_frames: F.
        box_format: key of `FORMATS`.
        size: width and height in pixels of the frames as they were shown.

    Returns:
        (F, 4) boxes in [0, 1], NaN where no box can be read.

    Raises:
        ValueError: an unknown format.
    """
    if box_format not in FORMATS:
        raise ValueError(f"`box_format`={box_format!r} is unknown; use one of {', '.join(FORMATS)}.")
    if box_format == "elysium":
        return parse_boxes(text, num_frames).boxes
    how, boxes = FORMATS[box_format], np.full((num_frames, 4), np.nan)
    found = list(_json_boxes(text)) or list(_text_boxes(text))
    if found and all(frame is None for frame, _ in found):
        found = [(index, numbers) for index, (_, numbers) in enumerate(found, 1)]
        found = found if len(found) == num_frames else found[:1]
    for frame, numbers in found:
        if frame is None or not 1 <= frame <= num_frames or np.isfinite(boxes[frame - 1]).all():
            continue
        box = how.to_unit(numbers, size)
        if box is not None:
            boxes[frame - 1] = box
    return boxes


def _text_boxes(text: str) -> Iterator[tuple[int | None, list[float]]]:
    """(frame that is named before it, four numbers) of each box in words."""
    labels = [(match.start(), int(match.group(1))) for match in _FRAME.finditer(text)]
    for match in _FOUR.finditer(text):
        before = [frame for start, frame in labels if start < match.start()]
        yield (before[-1] if before else None), [float(word) for word in match.groups()]


def _json_boxes(text: str) -> Iterator[tuple[int | None, list[float]]]:
    """(frame, four numbers) of each JSON object that has a box; a list that was cut off is read up to the cut."""
    for match in _OBJECT.finditer(text):
        try:
            item = json.loads(match.group())
        except ValueError:
            continue
        numbers = next((item[key] for key in _BOX_KEYS if key in item), None)
        if _is_four(numbers):
            frame = next((item[key] for key in _FRAME_KEYS if key in item), None)
            yield _whole(frame), [float(value) for value in numbers]


def _is_four(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(type(v) in (int, float) for v in value)


def _whole(value: Any) -> int | None:
    found = re.fullmatch(r"\D*(\d+)", str(value)) if value is not None else None
    return int(found.group(1)) if found else None


def written(box: np.ndarray, box_format: str, size: tuple[int, int]) -> str:
    """A box (4,) in [0, 1] as a question of that format writes it."""
    return format_box(box.tolist()) if box_format == "elysium" else FORMATS[box_format].write(box, size)
