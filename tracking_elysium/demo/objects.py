"""What a visitor follows: objects, what is known of each, and what is left to track.

There is one rule for a first run, for going on after a stop and for a correction: `remaining` says which frames an
object still lacks and from which box they are to be reached. A correction forgets what came after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels

MAX_TEXT = 200  # characters of a name or an expression
DIRECTIONS = ("forward", "backward", "both")


@dataclass
class Followed:
    """One object of a video.

    Attributes:
        id: number, from 0; its color goes by it.
        label: what it is called on the page and in the downloads.
        start_frame: frame in which it was pointed at.
        box: where it was pointed at, None for an object in words.
        expression: what it was called, None for a box.
        direction: where to from the start frame.
        frames: frame -> the pipeline's object there (`{"id", "label", "score", "present", "box"}`).
    """

    id: int
    label: str
    start_frame: int
    box: Box | None = None
    expression: str | None = None
    direction: str = "forward"
    frames: dict[int, dict[str, Any]] = field(default_factory=dict)

    def correct(self, frame: int, box: Box) -> None:
        """Put the object at `box` in `frame` and forget what was tracked from there on (before, if it goes back)."""
        backward = self.direction == "backward"
        self.frames = {at: known for at, known in self.frames.items() if (at > frame if backward else at < frame)}
        names = ("xmin", "ymin", "xmax", "ymax")
        placed = dict(zip(names, map(float, box), strict=True))
        self.frames[frame] = {"id": self.id, "label": self.label, "score": 1.0, "present": True, "box": placed}

    def box_at(self, frame: int) -> Box | None:
        """Give the box in a frame: the tracked one, or the one that was drawn there."""
        if frame in self.frames:
            return corners(self.frames[frame])
        return self.box if frame == self.start_frame else None


@dataclass(frozen=True)
class Run:
    """One call of the pipeline: objects that are asked about in the same way.

    Attributes:
        ids: objects, in the order of the call.
        start_frames: one per object.
        boxes: one per object, or None.
        expressions: one per object, or None.
        direction: of all.
    """

    ids: tuple[int, ...]
    start_frames: tuple[int, ...]
    boxes: tuple[Box, ...] | None = None
    expressions: tuple[str, ...] | None = None
    direction: str = "forward"

    def words(self) -> dict[str, Any]:
        """Give the arguments of the pipeline's call."""
        asked: dict[str, Any] = {"start_frame": list(self.start_frames), "direction": self.direction}
        if self.boxes is not None:
            return {**asked, "box": [list(box) for box in self.boxes]}
        return {**asked, "expression": list(self.expressions or ())}


def corners(found: dict[str, Any]) -> Box:
    """Give the box of one of the pipeline's objects as x1, y1, x2, y2."""
    box = found["box"]
    return box["xmin"], box["ymin"], box["xmax"], box["ymax"]


def remaining(objects: list[Followed], num_frames: int) -> list[Run]:
    """Plan the calls that give every object the frames it lacks.

    Args:
        objects: what is followed, and what is known of it.
        num_frames: length of the video.

    Returns:
        The calls; none where nothing is left.
    """
    by_box: dict[str, list[tuple[int, int, Box]]] = {}
    by_words: list[tuple[int, int, str]] = []
    for one in objects:
        if not one.frames:
            if one.box is None:
                by_words.append((one.id, one.start_frame, one.expression or ""))
            else:
                by_box.setdefault(one.direction, []).append((one.id, one.start_frame, one.box))
            continue
        first, last = min(one.frames), max(one.frames)
        if one.direction != "backward" and last < num_frames - 1:
            by_box.setdefault("forward", []).append((one.id, last, corners(one.frames[last])))
        if one.direction != "forward" and first > 0:
            by_box.setdefault("backward", []).append((one.id, first, corners(one.frames[first])))
    runs = [
        Run(tuple(x[0] for x in group), tuple(x[1] for x in group), tuple(x[2] for x in group), None, direction)
        for direction, group in by_box.items()
    ]
    if by_words:
        ids, starts, texts = zip(*by_words, strict=True)
        runs.append(Run(ids, starts, None, texts))
    return runs


def frames_to_decide(runs: list[Run], num_frames: int) -> int:
    """Count the (frame, object) pairs that the calls will give."""
    spans = {"forward": lambda at: num_frames - at, "backward": lambda at: at + 1, "both": lambda at: num_frames}
    return sum(spans[run.direction](start) for run in runs for start in run.start_frames)


def take(objects: list[Followed], run: Run, result: dict[str, Any]) -> int:
    """Note one frame that a call has decided, under the visitor's numbers; return how many boxes came.

    A box that the visitor gave, by hand or in a correction, stays.
    """
    known = {one.id: one for one in objects}
    taken = 0
    for found in result["objects"]:
        one = known.get(run.ids[found["id"]])
        if one is None:
            continue
        taken += 1
        old = one.frames.get(result["frame"])
        if old is None or old["score"] < 1.0:
            one.frames[result["frame"]] = {**found, "id": one.id, "label": one.label}
    return taken


def as_results(objects: list[Followed], seconds: Any) -> list[dict[str, Any]]:
    """Give what is known in the pipeline's form, frame after frame.

    Args:
        objects: what is followed.
        seconds: gives the time of a frame, or None.
    """
    frames = sorted({frame for one in objects for frame in one.frames})
    return [
        {
            "frame": frame,
            "timestamp": seconds(frame),
            "objects": [one.frames[frame] for one in objects if frame in one.frames],
        }
        for frame in frames
    ]


def clean_text(text: str | None, what: str) -> str:
    """Make one line of a visitor's text: no control characters, no line breaks, not longer than `MAX_TEXT`.

    Raises:
        ValueError: it is longer.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text or "").split())
    if len(line) > MAX_TEXT:
        raise ValueError(f"{what} has {len(line)} characters; at most {MAX_TEXT} can be taken.")
    return line
