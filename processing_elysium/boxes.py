"""Boxes and their text form: the only place that knows "[34,40,51,67]".

Inside the code a box is float (x1, y1, x2, y2) in [0, 1], relative to the frame's width and height; any other form
carries its unit in the name (`boxes_xyxy_px`, `boxes_xywh_px`). As text a box is four integers, "[x1,y1,x2,y2]", cells
of a grid of `GRID` x `GRID` over the frame (paper, section 3: integers in [0, 100)). `GRID` is the one constant that
sets the grid for text, decoding and training. Shapes: F frames; leading dimensions `...` are free.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Rounding = Literal["floor", "round"]
ROUNDINGS: tuple[str, ...] = ("floor", "round")
GRID = 100  # cells per axis: numbers from 0 to GRID - 1, with rounding to GRID
GRID_DIGITS = len(str(GRID - 1))  # of the largest cell number
MAX_FRAMES = 100_000  # a "Frame 999999" in model text must not make us allocate a giant array
_FLOOR_SLACK = 1e-9  # 0.29 * 100 is 28.999999999999996 in floating point and must still be cell 29
_NORMALIZED_HINT_PX = 16  # in frames this small a box of at most 1 x 1 pixel may be meant


# --------------------------------------------------------------------------------------------------------------
# text out
# --------------------------------------------------------------------------------------------------------------
def format_box(box: Sequence[float], rounding: Rounding = "floor") -> str:
    """Write one box as text.

    Args:
        box: (x1, y1, x2, y2), floats relative to the frame (0 = left or top edge, 1 = right or bottom edge).
        rounding: `"floor"` writes the index of the cell a corner lies in, an integer in [0, GRID - 1] (the
            paper, with 100). `"round"` writes `round(GRID * v)` without clamping, as the authors' released code does,
            so GRID and numbers outside [0, GRID] are possible.

    Returns:
        The box as `"[34,40,51,67]"`, without spaces.

    Raises:
        ValueError: `box` does not hold four finite numbers, or `rounding` is unknown.
    """
    _check_rounding(rounding)
    values = _four_numbers(box, "box")
    if rounding == "round":
        cells = [round(GRID * v) for v in values]
    else:
        cells = [min(max(math.floor(GRID * v + _FLOOR_SLACK), 0), GRID - 1) for v in values]
    return "[{},{},{},{}]".format(*cells)


def format_boxes(
    boxes: Sequence[Sequence[float]],
    valid: Sequence[bool] | None = None,
    first_frame: int = 1,
    rounding: Rounding = "floor",
) -> str:
    """Write a trajectory as text, one box per frame.

    Args:
        boxes: array-like of shape (F, 4), relative (x1, y1, x2, y2).
        valid: array-like of shape (F,); frames that are False are left out. None: all frames are written.
        first_frame: number of the first row's frame in the text.
        rounding: see `format_box`.

    Returns:
        `"Frame 1: [34,40,51,67], Frame 2: [35,40,52,67]"`; the empty string when no frame is valid.

    Raises:
        ValueError: a valid row is not four finite numbers, or `valid` and `boxes` differ in length.
    """
    if valid is not None and len(valid) != len(boxes):
        raise ValueError(f"`valid` has {len(valid)} entries for {len(boxes)} boxes; pass one flag per box.")
    return ", ".join(
        f"Frame {first_frame + index}: {format_box(box, rounding)}"
        for index, box in enumerate(boxes)
        if valid is None or valid[index]
    )


# --------------------------------------------------------------------------------------------------------------
# text in
# --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ParsedBoxes:
    """Boxes read from model text.

    Attributes:
        boxes: float64 array of shape (F, 4), relative (x1, y1, x2, y2) in [0, 1]; NaN in rows without a box.
        valid: bool array of shape (F,), True where the text gave a usable box for that frame.
        spans: int64 array of shape (F, 2), the (start, stop) character range of each box in the text, -1 in rows
            without a box. It lets a caller find the tokens that wrote the box.
    """

    boxes: np.ndarray
    valid: np.ndarray
    spans: np.ndarray

    def __len__(self) -> int:
        """Return the number of frames F."""
        return len(self.valid)


_CLOSING = "])>}"
_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)%?"
_NUMBERS = rf"{_NUMBER}(?:[,;\s]+{_NUMBER})*"
_BRACKETED = re.compile(rf"[\[(<{{]\s*(?P<numbers>{_NUMBERS})\s*[,;]?\s*(?P<close>[\])>}}])?")
_BARE = re.compile(rf"[\s:=\-,]*(?P<numbers>{_NUMBER}(?:\s*,\s*{_NUMBER})*)\s*(?P<close>[\])>}}])?")
# Plural or ranged labels ("Frames 2-3", "frame 1.5") cannot be tied to one frame: group 1 stays empty for them.
_LABEL = re.compile(
    r"\bframe(?:s\b|[\s_#]*([0-9]{1,6})(?![0-9]|\.[0-9]|\s*-\s*[0-9])|(?=[\s_#]*[0-9]))", re.IGNORECASE
)


def parse_boxes(
    text: str,
    num_frames: int | None = None,
    rounding: Rounding = "floor",
    first_frame: int = 1,
    partial: bool = False,
) -> ParsedBoxes:
    """Read the boxes in a model's answer. Never raises on any text, never invents a box.

    A box belongs to the `Frame i` label before it; the first readable box of a frame counts. A text without any label
    gives its first box to `first_frame`. Integers are cells of the text grid and become the cell's center
    (`"floor"`) or the rounded value (`"round"`). When both corners lie in one cell the box becomes the middle third
    of it (the expected order statistics of two points in a cell), so that it has an area and is written back as the
    same text. Decimals of at most 1 are taken as relative coordinates, larger decimals as cells, percentages as such.
    Swapped corners are put in order. Coordinates up to one frame outside the frame are clipped to it (the authors'
    rounding writes them for objects that leave the frame); anything farther out, such as pixels, is not a box. A box
    that the end of the text may have cut in its last number is not a box either.

    Args:
        text: what the model said.
        num_frames: F, the number of frames asked about. None: the highest frame number with a box.
        rounding: how the text was written, see `format_box`.
        first_frame: the frame number of the first row.
        partial: the text is the beginning of an answer that is still being written: only boxes that stay as they are,
            whatever follows, are read.

    Returns:
        Boxes of shape (F, 4), a mask of shape (F,) and character spans of shape (F, 2).
    """
    found: dict[int, tuple[list[float], tuple[int, int]]] = {}
    limit = MAX_FRAMES if num_frames is None else num_frames
    if partial:  # no match continues past a closing bracket
        text = text[: max(map(text.rfind, _CLOSING)) + 1]
    for frame, start, stop in _segments(text, None if partial else first_frame):
        row = frame - first_frame
        if not 0 <= row < limit or row in found:
            continue
        hit = _first_box(text, start, stop, rounding)
        if hit is not None:
            found[row] = hit
    size = num_frames if num_frames is not None else max(found, default=-1) + 1
    boxes, spans = np.full((size, 4), np.nan), np.full((size, 2), -1, dtype=np.int64)
    for row, (box, span) in found.items():
        boxes[row], spans[row] = box, span
    return ParsedBoxes(boxes=boxes, valid=spans[:, 0] >= 0, spans=spans)


def _segments(text: str, unlabeled: int | None) -> list[tuple[int, int, int]]:
    """Cut the text at its frame labels: (frame number, start, stop) of what follows each readable label.

    A text without any label belongs to the frame `unlabeled`, if that is one: a beginning may still get its label.
    """
    labels = list(_LABEL.finditer(text))
    if not any(label.group(1) for label in labels):
        # A plural ("in both frames the ball is at [..]") without a number is not tied to a frame.
        return [] if labels or unlabeled is None else [(unlabeled, 0, len(text))]
    stops = [label.start() for label in labels[1:]] + [len(text)]
    return [(int(label[1]), label.end(), stop) for label, stop in zip(labels, stops, strict=True) if label[1]]


def _first_box(text: str, start: int, stop: int, rounding: str) -> tuple[list[float], tuple[int, int]] | None:
    """Find the first readable box in text[start:stop] with its character span, or None."""
    bare = _BARE.match(text, start, stop)
    for match in [bare] if bare else _BRACKETED.finditer(text, start, stop):
        words = re.findall(_NUMBER, match.group("numbers"))
        cut_off = match.end("numbers") >= len(text.rstrip(" .,;\n")) and not match.group("close")
        if len(words) != 4 or (cut_off and not _is_complete(words[-1], rounding)):
            continue
        box = _decode(words, rounding)
        if box is not None:
            return box, match.span("numbers")
    return None


def _is_complete(word: str, rounding: str) -> bool:
    """Tell whether a number at the very end of the text has all its digits: we write at most those of `GRID`."""
    cut_edge = rounding == "round" and word.isdigit() and 10 * int(word) == GRID  # "10" may be the start of "100"
    return word.isdigit() and len(word) >= GRID_DIGITS and not cut_edge


def _decode(words: list[str], rounding: str) -> list[float] | None:
    """Turn four written numbers into a relative box inside the frame, or None when they are not one."""
    values = [float(word.rstrip("%")) for word in words]
    percent = any(word.endswith("%") for word in words)
    decimal = any("." in word for word in words)
    if not decimal and not percent:
        offset = 0.5 if rounding == "floor" else 0.0
        spread = 1.0 / 6.0  # one cell: 1/3 and 2/3 of it, as the docstring of parse_boxes says
        xs, ys = (_cell_span(values[i], values[i + 2], offset, spread) for i in (0, 1))
        low_high = [xs[0], ys[0], xs[1], ys[1]]
    else:
        relative = decimal and all(abs(v) <= 1.0 for v in values)
        unit = 100 if percent else 1 if relative else GRID
        (x1, x2), (y1, y2) = (sorted((values[i] / unit, values[i + 2] / unit)) for i in (0, 1))
        low_high = [x1, y1, x2, y2]
    if not all(-1.0 <= v <= 2.0 for v in low_high):
        return None
    x1, y1, x2, y2 = (min(max(v, 0.0), 1.0) for v in low_high)
    return [x1, y1, x2, y2] if x2 > x1 and y2 > y1 else None


def _cell_span(first: float, second: float, offset: float, spread: float) -> tuple[float, float]:
    """Return the relative start and end of a span between two cells, in order."""
    low, high = sorted((first, second))
    if low == high:
        return (low + offset - spread) / GRID, (low + offset + spread) / GRID
    return (low + offset) / GRID, (high + offset) / GRID


# --------------------------------------------------------------------------------------------------------------
# conversions and geometry
# --------------------------------------------------------------------------------------------------------------
def xyxy_to_xywh(boxes: Any) -> np.ndarray:
    """Convert corners to top-left, width, height; shape (..., 4), any unit."""
    boxes = _as_boxes(boxes)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def xywh_to_xyxy(boxes: Any) -> np.ndarray:
    """Convert top-left, width, height to corners; shape (..., 4), any unit."""
    boxes = _as_boxes(boxes)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def px_to_unit(boxes_xyxy_px: Any, width: float, height: float) -> np.ndarray:
    """Convert pixel corners of shape (..., 4) to relative corners. Raises ValueError for a frame without area."""
    return _as_boxes(boxes_xyxy_px) / _frame_scale(width, height)


def unit_to_px(boxes: Any, width: float, height: float) -> np.ndarray:
    """Convert relative corners of shape (..., 4) to pixel corners. Raises ValueError for a frame without area."""
    return _as_boxes(boxes) * _frame_scale(width, height)


def clip(boxes: Any) -> np.ndarray:
    """Cut relative boxes of shape (..., 4) to the frame; NaN stays NaN."""
    return np.clip(_as_boxes(boxes), 0.0, 1.0)


def iou(a: Any, b: Any) -> np.ndarray:
    """Return the intersection over union of corner boxes in the same unit.

    Args:
        a: shape (..., 4).
        b: shape (..., 4), broadcast against `a`.

    Returns:
        Shape (...), 0 where a box is inverted, empty or NaN.
    """
    a, b = _as_boxes(a), _as_boxes(b)
    with np.errstate(invalid="ignore", divide="ignore"):
        side = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
        overlap = np.prod(np.maximum(side, 0.0), axis=-1)
        union = _area(a) + _area(b) - overlap
        return np.where(union > 0, overlap / np.where(union > 0, union, 1.0), 0.0)


def validate_box_px(box: Any, width: int, height: int) -> np.ndarray:
    """Check a box that a user typed, in pixels.

    Args:
        box: (x1, y1, x2, y2) in pixels of the original frame.
        width: frame width in pixels.
        height: frame height in pixels.

    Returns:
        float64 array of shape (4,), pixels, cut to the frame. A box that sticks out of the frame by more than a pixel
        is cut with a warning.

    Raises:
        ValueError: not four finite numbers, in [0, 1] by mistake, inverted, without area, or outside the frame.
    """
    x1, y1, x2, y2 = _four_numbers(box, "box")
    seen = f"box=({x1:g}, {y1:g}, {x2:g}, {y2:g})"
    want = f"pass (x1, y1, x2, y2) in pixels with 0 <= x1 < x2 <= {width} and 0 <= y1 < y2 <= {height}"
    if max(width, height) > _NORMALIZED_HINT_PX and all(0.0 <= v <= 1.0 for v in (x1, y1, x2, y2)):
        raise ValueError(
            f"`{seen}` looks normalized to [0, 1], but boxes are given in pixels of the {width} x {height} frame; "
            f"multiply x by {width} and y by {height}."
        )
    if x2 < x1 or y2 < y1:
        raise ValueError(f"`{seen}` is inverted (the second corner lies left of or above the first); {want}.")
    if x2 == x1 or y2 == y1:
        raise ValueError(f"`{seen}` has zero area; {want}.")
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise ValueError(f"`{seen}` lies outside the {width} x {height} frame; {want}.")
    cut = np.array([max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)], dtype=np.float64)
    if float(np.abs(cut - [x1, y1, x2, y2]).max()) > 1.0:
        warnings.warn(f"`{seen}` sticks out of the {width} x {height} frame and was cut to it; {want}.", stacklevel=2)
    return cut


def _check_rounding(rounding: str) -> None:
    if rounding not in ROUNDINGS:
        raise ValueError(f"`rounding`={rounding!r} is unknown; use one of {', '.join(map(repr, ROUNDINGS))}.")


def _four_numbers(box: Any, name: str) -> list[float]:
    """Return the box as four finite Python floats, or a ValueError that names the argument."""
    if hasattr(box, "tolist"):
        box = box.tolist()
    if isinstance(box, str) or not isinstance(box, Sequence) or len(box) != 4:
        size = f"{len(box)} values" if hasattr(box, "__len__") else f"a {type(box).__name__}"
        raise ValueError(f"`{name}`={box!r} is {size}; pass four numbers (x1, y1, x2, y2).")
    try:
        values = [float(v) for v in box]
    except (TypeError, ValueError):
        raise ValueError(f"`{name}`={box!r} holds something that is not a number; pass (x1, y1, x2, y2).") from None
    if not all(math.isfinite(v) for v in values):
        raise ValueError(f"`{name}`={box!r} holds NaN or infinity; pass four finite numbers (x1, y1, x2, y2).")
    return values


def _as_boxes(boxes: Any) -> np.ndarray:
    array = np.asarray(boxes, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != 4:
        raise ValueError(f"`boxes` has shape {array.shape}; the last dimension must hold the 4 coordinates.")
    return array


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), axis=-1)


def _frame_scale(width: float, height: float) -> np.ndarray:
    if not (width > 0 and height > 0):
        raise ValueError(f"`width`={width} and `height`={height} must both be positive pixels.")
    return np.array([width, height, width, height], dtype=np.float64)
