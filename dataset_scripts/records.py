"""The one record type: pictures, the objects in them with a box per frame, and questions with answers.

Every source of data (synthetic videos, adapters of public corpora, your own annotations) speaks this type, so that
training and evaluation have one thing to read. On disk a record is one JSON line:

    {"id": "cat-1", "source": "my videos", "license": "CC BY 4.0", "video": "cat.mp4", "frame_size": [640, 360],
     "fps": 25.0, "frames": [0, 5], "objects": [{"expression": "the cat", "box": [[0.1, 0.2, 0.4, 0.6], null],
     "absent": [0, 1]}]}
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ObjectTrack", "VideoRecord", "parse_record", "part_file", "read_record", "read_records", "write_records"]

ROLES = ("system", "user", "assistant")
# A corner farther out than this many frame widths is in pixels, not relative to the frame.
FARTHEST_CORNER = 5.0
_RECORD_KEYS = (
    "id", "source", "license", "video", "frame_size", "fps", "frames", "timestamps", "objects", "messages", "metadata",
)  # fmt: skip
_OBJECT_KEYS = ("expression", "caption", "attributes", "box", "absent")


@dataclass(kw_only=True)
class ObjectTrack:
    """One object through F annotated frames.

    Attributes:
        boxes: `(F, 4)` float xyxy relative to the frame, *not* clipped to it; a row of NaN where no box is known.
        expression: words that fit this object alone in the first frame, None where a corpus has none.
        caption: a description, the answer of (Video-)REG; None where a corpus has none.
        absent: `(F,)` bool, true where too little of the object can be seen to call it present. False together with a
            NaN box means that nobody annotated the frame.
        attributes: named properties (color, category, ...).
    """

    boxes: np.ndarray
    expression: str | None = None
    caption: str | None = None
    absent: np.ndarray | None = None
    attributes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            rows = [[np.nan] * 4 if row is None else row for row in self.boxes]
            self.boxes = np.asarray(rows, dtype=np.float64).reshape(len(rows), 4)
        except (TypeError, ValueError):
            raise ValueError("`box` must hold four numbers [x1, y1, x2, y2], or null, for each frame.") from None
        absent = np.zeros(len(self.boxes)) if self.absent is None else self.absent
        self.absent = np.asarray(absent, dtype=bool).reshape(-1)
        if len(self.boxes) != len(self.absent):
            raise ValueError(
                f"`box` and `absent` must have one entry per frame; got {len(self.boxes)} and {len(self.absent)}."
            )
        known = self.boxes[self.known]
        missing = np.isnan(self.boxes)
        if np.isinf(self.boxes).any() or (missing.any(axis=1) != missing.all(axis=1)).any():
            raise ValueError("`box` holds a number that is not finite; write null for a frame without a box.")
        if (known[:, 2:] < known[:, :2]).any():
            row = known[(known[:, 2:] < known[:, :2]).any(axis=1)][0]
            raise ValueError(f"`box` {row.tolist()} has its corners swapped; write [left, top, right, bottom].")
        if len(known) and np.abs(known).max() > FARTHEST_CORNER:
            raise ValueError(
                f"`box` holds {np.abs(known).max():g}; boxes are relative to the frame: divide pixels by its size."
            )
        for name in ("expression", "caption"):
            _check_text(getattr(self, name), name)

    @property
    def known(self) -> np.ndarray:
        """`(F,)` bool, true where there is a box."""
        return ~np.isnan(self.boxes).any(axis=1)

    @property
    def clipped_boxes(self) -> np.ndarray:
        """`(F, 4)` boxes cut at the frame's edges, as answers write them and metrics compare them."""
        return np.clip(self.boxes, 0, 1)

    def at(self, positions: Sequence[int]) -> ObjectTrack:
        """The track in some of its frames, given by their position (0 to F - 1)."""
        return replace(self, boxes=self.boxes[list(positions)], absent=self.absent[list(positions)])


@dataclass(kw_only=True)
class VideoRecord:
    """Pictures and what is known about them.

    Attributes:
        id: unique within the source.
        source: name of the corpus.
        video: where the frames are, relative to the record file: a video file, a list of image files (the frames in
            order), or one image; None while frames live in memory.
        width, height: frame size in pixels, None where unknown.
        fps: frames per second of the video, None where unknown or for an image.
        frame_indices: F frames of the video, ascending, that the boxes belong to. None: every frame from the first on;
            F is then the number of boxes, of image files, or (without either) only known once the video is opened.
        timestamps: seconds of these frames, for videos of variable rate; None where `fps` says enough.
        objects: the tracks; all have F boxes.
        messages: a conversation about the pictures, `{"role": "user" | "assistant", "content": text}` in turns.
        license: of the pictures and annotations, as the corpus states it; None where it states none.
        metadata: anything else worth keeping (URL, category, split, ...); not read by training.
    """

    id: str
    source: str
    video: str | list[str] | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    frame_indices: list[int] | None = None
    timestamps: list[float] | None = None
    objects: list[ObjectTrack] = field(default_factory=list)
    messages: list[dict[str, str]] = field(default_factory=list)
    license: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self._check_video()
            if self.frame_indices is None and self.objects:
                self.frame_indices = list(range(len(self.objects[0].boxes)))
            elif self.frame_indices is None and isinstance(self.video, list):
                self.frame_indices = list(range(len(self.video)))
            self._check_frames()
            _check_messages(self.messages)
        except ValueError as error:
            raise ValueError(f"record {self.id!r}: {error}") from None

    @property
    def num_frames(self) -> int | None:
        """Number of annotated frames F; None where only opening the video tells."""
        return None if self.frame_indices is None else len(self.frame_indices)

    def at(self, positions: Sequence[int]) -> VideoRecord:
        """The record in some of its annotated frames, given by their position (0 to F - 1)."""
        indices = self.frame_indices or []
        return replace(
            self,
            frame_indices=[indices[i] for i in positions],
            timestamps=None if self.timestamps is None else [self.timestamps[i] for i in positions],
            objects=[track.at(positions) for track in self.objects],
        )

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary without what is not known; boxes are rounded to 1e-5 of the frame, well below a pixel."""
        data = {
            "id": self.id,
            "source": self.source,
            "license": self.license,
            "video": self.video,
            "frame_size": None if self.width is None else [self.width, self.height],
            "fps": self.fps,
            "frames": self.frame_indices,
            "timestamps": self.timestamps,
            "objects": [_track_to_json(track) for track in self.objects],
            "messages": self.messages or None,
            "metadata": self.metadata or None,
        }
        return {key: value for key, value in data.items() if value is not None}

    def _check_video(self) -> None:
        names = self.video if isinstance(self.video, list) else [self.video]
        if self.video is not None and not (names and all(isinstance(name, str) and name for name in names)):
            raise ValueError(
                f"`video` is {self.video!r}; give the path of a video or an image, or a list of the frames' paths."
            )
        size = [side for side in (self.width, self.height) if side is not None]
        if len(size) == 1 or min(size, default=1) < 1:
            raise ValueError(f"`frame_size` is [{self.width}, {self.height}]; give [width, height] in pixels.")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"`fps` is {self.fps}; give frames per second, above 0, or leave it out.")

    def _check_frames(self) -> None:
        indices = self.frame_indices
        if indices is None:
            if self.timestamps is not None:
                raise ValueError("`timestamps` belong to `frames`, which are missing; name the frames too.")
            return
        self.frame_indices = indices = [int(index) for index in indices]
        if not indices or indices[0] < 0 or any(b <= a for a, b in zip(indices, indices[1:], strict=False)):
            raise ValueError(f"`frames` {indices[:8]} must be ascending frame numbers from 0, one at least.")
        if isinstance(self.video, list) and indices[-1] >= len(self.video):
            raise ValueError(f"`frames` name frame {indices[-1]}, but `video` lists {len(self.video)} images.")
        if self.timestamps is not None and len(self.timestamps) != len(indices):
            raise ValueError(f"{len(self.timestamps)} `timestamps` for {len(indices)} frames; give one per frame.")
        for number, track in enumerate(self.objects):
            if len(track.boxes) != len(indices):
                raise ValueError(
                    f"object {number} has {len(track.boxes)} boxes for {len(indices)} frames; give one box per frame, "
                    "null where there is none."
                )


def _check_text(text: Any, name: str) -> None:
    if text is not None and (not isinstance(text, str) or not text.strip()):
        raise ValueError(f"`{name}` is {text!r}; give words, or leave it out.")


def _check_messages(messages: list[dict[str, str]]) -> None:
    """Raise ValueError unless users and assistants take turns and the last word is an answer."""
    for message in messages:
        if not isinstance(message, dict) or set(message) != {"role", "content"} or message["role"] not in ROLES:
            raise ValueError(f'`messages` hold {message!r}; each is {{"role": one of {ROLES}, "content": text}}.')
        _check_text(message["content"], "content")
    turns = [message["role"] for message in messages if message["role"] != "system"]
    if turns != ["user", "assistant"] * (len(turns) // 2) or (messages and not turns):
        raise ValueError(f"`messages` have the roles {turns}; a user asks, the assistant answers, in turns.")
    if any(message["role"] == "system" for message in messages[1:]):
        raise ValueError("`messages` have a system message in the middle; it can only be the first.")


def _track_to_json(track: ObjectTrack) -> dict[str, Any]:
    boxes = np.round(track.boxes, 5).tolist()
    data = {
        "expression": track.expression,
        "caption": track.caption,
        "attributes": track.attributes or None,
        "box": [box if known else None for box, known in zip(boxes, track.known, strict=True)],
        "absent": track.absent.astype(int).tolist(),
    }
    return {key: value for key, value in data.items() if value is not None}


def parse_record(data: Any) -> VideoRecord:
    """The inverse of `VideoRecord.to_json`.

    Args:
        data: what JSON gave.

    Raises:
        ValueError: a key is missing, unknown or of the wrong type, or values contradict each other; the message names
            the record's id.
    """
    if not isinstance(data, dict):
        raise ValueError(f"a record is a JSON object with the keys {_RECORD_KEYS}; found {type(data).__name__}.")
    name = data.get("id")
    if not isinstance(name, str) or not name:
        raise ValueError(f"a record has the id {name!r}; give it a text of its own under the key 'id'.")
    try:
        _check_keys(data, _RECORD_KEYS, required=("source",))
        _check_types(data)
        objects = []
        for number, item in enumerate(data.get("objects", [])):
            try:
                objects.append(_track_from_json(item))
            except ValueError as error:
                raise ValueError(f"object {number}: {error}") from None
        width, height = data.get("frame_size") or (None, None)
    except ValueError as error:
        raise ValueError(f"record {name!r}: {error}") from None
    same = {f.name: data[f.name] for f in fields(VideoRecord) if data.get(f.name) is not None}
    known = {**same, "objects": objects, "width": width, "height": height, "frame_indices": data.get("frames")}
    return VideoRecord(**known)


def _track_from_json(item: Any) -> ObjectTrack:
    if not isinstance(item, dict):
        raise ValueError(f"expected a JSON object with the keys {_OBJECT_KEYS}; found {item!r}.")
    _check_keys(item, _OBJECT_KEYS, required=("box",))
    if not isinstance(item["box"], list) or not isinstance(item.get("absent", []), list):
        raise ValueError("`box` and `absent` are lists with one entry per frame.")
    if not isinstance(item.get("attributes", {}), dict):
        raise ValueError(f"`attributes` is {item['attributes']!r}; give a JSON object.")
    return ObjectTrack(
        boxes=item["box"],
        expression=item.get("expression"),
        caption=item.get("caption"),
        absent=item.get("absent"),
        attributes=item.get("attributes", {}),
    )


def _check_keys(data: dict[str, Any], allowed: Sequence[str], required: Sequence[str]) -> None:
    for key in required:
        if data.get(key) is None:
            raise ValueError(f"lacks the key {key!r}.")
    unknown = sorted(set(data) - set(allowed))
    if unknown:
        raise ValueError(f"has the unknown key(s) {unknown}; allowed are {list(allowed)}.")


def _check_types(data: dict[str, Any]) -> None:
    """Raise ValueError where a key of a record holds another type than it should."""

    def is_number(value: Any, kind: type = Real) -> bool:
        return isinstance(value, kind) and not isinstance(value, bool)

    def is_list_of(value: Any, kind: type) -> bool:
        return isinstance(value, list) and all(is_number(item, kind) for item in value)

    right = {
        "source": lambda v: isinstance(v, str),
        "license": lambda v: isinstance(v, str),
        "fps": is_number,
        "frame_size": lambda v: is_list_of(v, int) and len(v) == 2,
        "frames": lambda v: is_list_of(v, int),
        "timestamps": lambda v: is_list_of(v, Real),
        "objects": lambda v: isinstance(v, list),
        "messages": lambda v: isinstance(v, list),
        "metadata": lambda v: isinstance(v, dict),
    }
    wanted = {
        "source": "a text", "license": "a text", "fps": "a number", "frame_size": "[width, height]",
        "frames": "a list of frame numbers", "timestamps": "a list of seconds", "objects": "a list",
        "messages": "a list", "metadata": "a JSON object",
    }  # fmt: skip
    for key, check in right.items():
        if data.get(key) is not None and not check(data[key]):
            raise ValueError(f"`{key}` is {str(data[key])[:80]}; expected {wanted[key]}.")


def write_records(path: str | os.PathLike[str], records: Iterable[VideoRecord]) -> None:
    """Write JSON lines atomically: the file appears whole or not at all."""
    write_json_lines(path, (record.to_json() for record in records))


def part_file(target: str | os.PathLike[str], suffix: str = ".part") -> tuple[int, str]:
    """Make a new file beside `target` to write and then move onto it, with the permissions of a file opened anew.

    Returns:
        The open descriptor and the path.
    """
    target = Path(target)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=suffix)
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(temporary, 0o666 & ~mask)  # mkstemp lets nobody else read
    return handle, temporary


def write_json_lines(path: str | os.PathLike[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per line, atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = part_file(path)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_records(path: str | os.PathLike[str]) -> Iterator[VideoRecord]:
    """Read JSON lines one by one.

    Raises:
        ValueError: a line is no record, or two records share an id; the message gives file, line and id.
    """
    seen: set[str] = set()
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = parse_record(json.loads(line))
                if record.id in seen:
                    raise ValueError(f"record {record.id!r}: the id was given before; ids are unique in a file.")
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            seen.add(record.id)
            yield record


def read_record(path: str | os.PathLike[str]) -> VideoRecord:
    """Read a file that holds one record, on as many lines as it likes (`examples/sample.json`)."""
    try:
        return parse_record(json.loads(Path(path).read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
