"""What the tasks' YAML files name: frames and question of an item, its answer read, scores of all items.

An item is a row of the file that `python -m evaluate_metrics.lmms_tasks` writes: `name`, `frames` (paths of F images),
`width`, `height`, `boxes` (F, [x1, y1, x2, y2] in [0, 1], or null), `absent` (F flags, or null), `words`,
`references`, `box_format` (a key of `answers.FORMATS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from processing_elysium.boxes import unit_to_px, xyxy_to_xywh
from processing_elysium.prompts import Task, render_prompt

from ..tracking_ope.ope import evaluate_ope
from ..video_reg.captions import evaluate_captions
from .answers import FORMATS, read_answer, written

Item = dict[str, Any]
Result = dict[str, Any]

CONVENTION = "pytracking_unclipped"
ANSWER_PER_FRAME = 'Answer with one box for every frame, each after the number of its frame, as "Frame 1: ...".'


def frames(item: Item) -> list[Image.Image]:
    """The F frames of an item.

    Raises:
        ValueError: a frame is missing.
    """
    missing = [path for path in item["frames"] if not Path(path).is_file()]
    if missing:
        raise ValueError(f"item {item['name']!r}: {missing[0]} does not exist; write the tasks' folder anew.")
    return [Image.open(path).convert("RGB") for path in item["frames"]]


def sot_text(item: Item) -> str:
    """The question that gives the box in the first frame."""
    box_format = _format(item)
    box = written(np.array(item["boxes"][0]), box_format, _size(item))
    if box_format == "elysium":
        return render_prompt(Task.SOT, box=box)
    return _about_video(item, f"In frame 1 an object is at {box}. Where is it in every frame?")


def _about_video(item: Item, question: str) -> str:
    """A question to a model that knows no prompts of ours, and how its boxes are to be written."""
    about = FORMATS[_format(item)].about
    rest = "" if "JSON" in about else ANSWER_PER_FRAME
    return f"These are {len(item['frames'])} frames of a video. {question} {about} {rest}".strip()


def rsot_text(item: Item) -> str:
    """The question that names the object."""
    box_format = _format(item)
    if box_format == "elysium":
        return render_prompt(Task.RSOT, expression=item["words"])
    return _about_video(item, f"Where is this object in every frame: {item['words']}?")


def video_reg_text(item: Item) -> str:
    """The question for a description of the object in a box of the first frame."""
    box_format = _format(item)
    box = written(np.array(item["boxes"][0]), box_format, _size(item))
    if box_format == "elysium":
        return render_prompt(Task.VIDEO_REG, box=box)
    place = FORMATS[box_format].about.removeprefix("Write each box as ")
    told = "" if "JSON" in place else f" (boxes are {place.rstrip('.')})"
    return f"In frame 1 of this video an object is at {box}{told}. Describe the object in one short phrase."


def target(item: Item) -> str:
    """What the right answer would be, for the log."""
    return item["references"][0] if item.get("references") else item["name"]


def _format(item: Item) -> str:
    if item["box_format"] not in FORMATS:
        raise ValueError(
            f"item {item['name']!r}: `box_format`={item['box_format']!r} is none of {', '.join(FORMATS)}."
        )
    return str(item["box_format"])


def _size(item: Item) -> tuple[int, int]:
    return item["width"], item["height"]


# --------------------------------------------------------------------------------------------------------------
# answers
# --------------------------------------------------------------------------------------------------------------
def track_results(item: Item, answers: list[str]) -> dict[str, Result]:
    """The boxes of an answer beside the truth: every metric gets the same row, and makes one number of all rows."""
    text, size = answers[0] or "", _size(item)
    boxes = read_answer(text, len(item["frames"]), _format(item), size)
    row = {
        "name": item["name"],
        "text": text,
        "boxes": _rows(xyxy_to_xywh(unit_to_px(boxes, *size))),
        "truth": _rows(xyxy_to_xywh(unit_to_px(_array(item["boxes"]), *size))),
        "absent": item.get("absent"),
    }
    return dict.fromkeys(("auc", "precision", "normalized_precision", "unreadable"), row)


def caption_results(item: Item, answers: list[str]) -> dict[str, Result]:
    """An answer of Video-REG beside its references."""
    row = {"name": item["name"], "text": (answers[0] or "").strip(), "references": list(item["references"])}
    return dict.fromkeys(("cider", "meteor_exact", "unanswered"), row)


def _rows(boxes: np.ndarray) -> list[list[float] | None]:
    return [None if np.isnan(box).any() else box.tolist() for box in boxes]


# --------------------------------------------------------------------------------------------------------------
# scores of all items
# --------------------------------------------------------------------------------------------------------------
def auc(rows: Sequence[Result]) -> float:
    """Success AUC; the other scores of tracking likewise."""
    return float(_ope(rows)["auc"])


def precision(rows: Sequence[Result]) -> float:
    """Precision at 20 px."""
    return float(_ope(rows)["precision"])


def normalized_precision(rows: Sequence[Result]) -> float:
    """Normalized precision at 0.2."""
    return float(_ope(rows)["normalized_precision"])


def unreadable(rows: Sequence[Result]) -> float:
    """Share of frames for which the answers hold no readable box; they count as missed in all scores."""
    boxes = [box for row in rows for box in row["boxes"]]
    return sum(box is None for box in boxes) / len(boxes)


def _ope(rows: Sequence[Result]) -> dict[str, Any]:
    predictions, references = ([_array(row[key]) for row in rows] for key in ("boxes", "truth"))
    absent = [np.array(row["absent"] or [0] * len(row["truth"]), dtype=bool) for row in rows]
    return evaluate_ope(predictions, references, absent, CONVENTION)


def _array(boxes: Sequence[Sequence[float] | None]) -> np.ndarray:
    return np.array([[np.nan] * 4 if box is None else box for box in boxes], dtype=np.float64)


def cider(rows: Sequence[Result]) -> float:
    """CIDEr of all descriptions."""
    return float(_captions(rows)["cider"])


def meteor_exact(rows: Sequence[Result]) -> float:
    """METEOR's formula on exact words, which needs no Java."""
    return float(_captions(rows)["meteor_exact"])


def unanswered(rows: Sequence[Result]) -> float:
    """Share of empty descriptions; they count as wrong."""
    return sum(not row["text"] for row in rows) / len(rows)


def _captions(rows: Sequence[Result]) -> dict[str, Any]:
    return evaluate_captions([row["text"] for row in rows], [row["references"] for row in rows], backend="python")
