"""What a caller typed (`box=`, `expression=`, one video or many) becomes object queries, or one clear error.

Everything here runs before any model does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .clips import check_start_frame
from .options import check_choice

DIRECTIONS = ("forward", "backward", "both")


@dataclass(frozen=True)
class ObjectQuery:
    """One object to track: a box in one frame, or an expression.

    Attributes:
        id: identifies the object in the results.
        label: name shown to people.
        box: float (x1, y1, x2, y2) in [0, 1] in frame `start_frame`, or None.
        expression: what the object is called, or None.
        start_frame: first frame of the track (0-based).
        direction: `"forward"` from the start frame to the end of the video, `"backward"` to its beginning, `"both"`.
    """

    id: int
    label: str
    box: tuple[float, float, float, float] | None = None
    expression: str | None = None
    start_frame: int = 0
    direction: str = "forward"

    def __post_init__(self) -> None:
        check_choice("direction", self.direction, DIRECTIONS)
        if (self.box is None) == (self.expression is None):
            given = "both" if self.box is not None else "neither"
            raise ValueError(f"An object needs `box` or `expression`, got {given}; pass exactly one of them.")
        if self.expression is not None and self.direction != "forward":
            raise ValueError(
                f"`direction`={self.direction!r} needs `box`: an expression is grounded forward from its start frame; "
                "track it forward first and pass the box it gives."
            )


# A list of files with these endings is one video; equal to those of the processing package, as a test holds.
IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".tga"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".heic", ".heif"),
)


@dataclass(frozen=True)
class Subjects:
    """Who is meant in one video, as the caller gave it.

    Attributes:
        box: (x1, y1, x2, y2) in pixels, a `{"xmin", "ymin", "xmax", "ymax"}` dict, or a list of either.
        expression: a text or a list of texts.
        start_frame: frame (from 0) in which the box holds or the expression is looked for; a list gives one per
            object.
        labels: names for the results, one per object.
    """

    box: Any = None
    expression: Any = None
    start_frame: Any = 0
    labels: Any = None


def make_queries(source: Any, processor: Any, subjects: Subjects, direction: str = "forward") -> list[ObjectQuery]:
    """Check what one video is asked with and turn it into queries.

    Args:
        source: the opened video; its width and height are the frame that pixel boxes refer to.
        processor: knows what a box in pixels must look like.
        subjects: boxes or expressions.
        direction: see `ObjectQuery`.

    Returns:
        One query per object, ids from 0.

    Raises:
        ValueError: both or neither of box and expression, an empty expression, a box that is not one, a start frame
            outside the video, or lists of different lengths.
    """
    box, expression = subjects.box, subjects.expression
    if (box is None) == (expression is None):
        seen = "neither `box` nor `expression` is given" if box is None else "both `box` and `expression` are given"
        raise ValueError(f"{seen}; pass exactly one of them to say which object is meant.")
    if box is not None:
        given_boxes = [box] if _is_single_box(box) else list(box)
        values: list[Any] = [_unit_box(item, source, processor) for item in given_boxes]
    else:
        values = [expression] if isinstance(expression, str) else _listed("expression", expression)
        for item in values:
            if not isinstance(item, str) or not item.strip():
                raise ValueError(
                    f"`expression`={item!r} is not a description; name the object, e.g. 'the black swan'."
                )
    if not values:
        raise ValueError(f"`{'box' if box is not None else 'expression'}` is an empty list; pass at least one object.")
    starts = _per_object("start_frame", subjects.start_frame, len(values))
    for start in starts:
        check_start_frame(source, start)
    fallback = [f"object {number}" for number in range(len(values))] if box is not None else values
    labels = fallback if subjects.labels is None else _per_object("labels", subjects.labels, len(values))
    name = "box" if box is not None else "expression"
    return [
        ObjectQuery(id=number, label=str(label), start_frame=int(start), direction=direction, **{name: value})
        for number, (value, start, label) in enumerate(zip(values, starts, labels, strict=True))
    ]


def is_batch(videos: Any) -> bool:
    """Say if `videos` is a list of videos; a list of frames (images, image paths, arrays up to 3-D) is one video.

    A column of a data set counts as a list.

    Raises:
        ValueError: an iterator stands in the list twice; it can be read once.
    """
    if isinstance(videos, (str, bytes, bytearray, memoryview, Mapping)) or hasattr(videos, "num_frames"):
        return False
    if hasattr(videos, "__array__") or not (hasattr(videos, "__len__") and hasattr(videos, "__getitem__")):
        return False
    if not len(videos):
        return False
    iterators = [item for item in videos if hasattr(item, "__next__")] if isinstance(videos, (list, tuple)) else []
    if len({id(item) for item in iterators}) < len(iterators):
        raise ValueError("`videos` holds the same iterator twice, and it can be read only once; pass one per video.")
    first = videos[0]
    if isinstance(first, str) or hasattr(first, "__fspath__"):
        return not str(first).lower().endswith(IMAGE_ENDINGS)
    if hasattr(first, "num_frames") or isinstance(first, (bytes, list, tuple)) or hasattr(first, "read"):
        return True
    if hasattr(first, "__array__") or hasattr(first, "ndim"):
        return np.ndim(first) == 4
    return hasattr(first, "__next__")


def is_local_file(video: Any) -> bool:
    """Say whether `video` names a file, which can be opened again at no cost."""
    return hasattr(video, "__fspath__") or (
        isinstance(video, str) and "://" not in video and not video.startswith("camera:")
    )


def per_video(videos: Sequence[Any], subjects: Subjects) -> list[Subjects]:
    """Spread the arguments of a batch: one value for all videos, or a list with one entry per video.

    Raises:
        ValueError: a list that does not have one entry per video.
    """
    count = len(videos)
    boxes = _spread("box", subjects.box, count, subjects.box is None or _is_single_box(subjects.box))
    expressions = _spread(
        "expression", subjects.expression, count, subjects.expression is None or isinstance(subjects.expression, str)
    )
    starts = _spread("start_frame", subjects.start_frame, count, np.ndim(subjects.start_frame) == 0)
    labels = _spread("labels", subjects.labels, count, subjects.labels is None or isinstance(subjects.labels, str))
    return [Subjects(*values) for values in zip(boxes, expressions, starts, labels, strict=True)]


def _spread(name: str, value: Any, count: int, single: bool) -> list[Any]:
    if single:
        return [value] * count
    if len(value) != count:
        raise ValueError(
            f"`{name}` has {len(value)} entries for {count} videos; pass one value for all, or a list with one entry "
            "per video (itself a list for several objects)."
        )
    return list(value)


def _is_single_box(box: Any) -> bool:
    """Say whether these are numbers (four, or a wrong count) rather than a list of boxes."""
    if isinstance(box, (Mapping, str)) or not hasattr(box, "__len__") or not hasattr(box, "__getitem__"):
        return True  # a str or a number is nothing we take; the box check says so
    return len(box) > 0 and not isinstance(box[0], Mapping) and (isinstance(box[0], str) or np.ndim(box[0]) == 0)


def _unit_box(box: Any, source: Any, processor: Any) -> tuple[float, ...]:
    if isinstance(box, Mapping):
        missing = [key for key in ("xmin", "ymin", "xmax", "ymax") if key not in box]
        if missing:
            raise ValueError(
                f"`box`={dict(box)!r} lacks {', '.join(missing)}; pass xmin, ymin, xmax and ymax in pixels."
            )
        box = [box[key] for key in ("xmin", "ymin", "xmax", "ymax")]
    pixels = processor.validate_box_px(box, source.width, source.height)
    scale = (source.width, source.height, source.width, source.height)
    return tuple(float(value) / size for value, size in zip(pixels, scale, strict=True))


def _listed(name: str, value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return list(value)
    raise ValueError(f"`{name}`={value!r} is a {type(value).__name__}; pass a text or a list of texts.")


def _per_object(name: str, value: Any, count: int) -> list[Any]:
    if isinstance(value, str) or np.ndim(value) == 0:
        return [value] * count
    if len(value) != count:
        raise ValueError(
            f"`{name}` has {len(value)} entries for {count} object(s); pass one value, or one per object."
        )
    return list(value)
