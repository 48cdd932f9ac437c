"""The one record type: a clip, its objects, and one box per object and frame.

Every source of data (synthetic videos, the ElysiumTrack construction, adapters of public corpora) speaks this
type, so that training and evaluation have one thing to read. On disk a record is one JSON line.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ObjectTrack", "VideoRecord", "read_records", "write_records"]


@dataclass
class ObjectTrack:
    """One object through one clip.

    Attributes:
        expression: words that fit this object alone in the first frame.
        caption: a description, the answer of (Video-)REG.
        boxes: `(F, 4)` float xyxy in [0, 1], clipped to the frame.
        absent: `(F,)` bool, true where too little of the object can be seen to call it present.
        attributes: named properties (colour, shape, ...), empty where a corpus has none.
    """

    expression: str
    caption: str
    boxes: np.ndarray
    absent: np.ndarray
    attributes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.boxes = np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4)
        self.absent = np.asarray(self.absent, dtype=bool).reshape(-1)
        if len(self.boxes) != len(self.absent):
            raise ValueError(
                f"boxes and absent must have one entry per frame; got {len(self.boxes)} and {len(self.absent)}."
            )


@dataclass
class VideoRecord:
    """One clip and its objects.

    Attributes:
        id: unique within the source.
        source: name of the corpus.
        width, height: frame size in pixels.
        fps: frames per second of the video file.
        frame_indices: `(F,)` the frames of the video file that the boxes belong to.
        objects: the tracks; all have F boxes.
        video: path of the file, relative to the record file; None while frames live in memory.
    """

    id: str
    source: str
    width: int
    height: int
    fps: float
    frame_indices: list[int]
    objects: list[ObjectTrack]
    video: str | None = None

    def __post_init__(self) -> None:
        for number, track in enumerate(self.objects):
            if len(track.boxes) != len(self.frame_indices):
                raise ValueError(
                    f"record {self.id!r}: object {number} has {len(track.boxes)} boxes for "
                    f"{len(self.frame_indices)} frames; give one box per frame."
                )

    @property
    def num_frames(self) -> int:
        """Number of annotated frames F."""
        return len(self.frame_indices)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; boxes rounded to 1e-5 of the frame, well below a pixel."""
        return {
            "id": self.id,
            "source": self.source,
            "video": self.video,
            "frame_size": [self.width, self.height],
            "fps": self.fps,
            "frames": list(map(int, self.frame_indices)),
            "objects": [
                {
                    "expression": track.expression,
                    "caption": track.caption,
                    "attributes": track.attributes,
                    "box": np.round(track.boxes, 5).tolist(),
                    "absent": track.absent.astype(int).tolist(),
                }
                for track in self.objects
            ],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> VideoRecord:
        """The inverse of `to_json`; a missing key raises a ValueError that names it."""
        try:
            width, height = data["frame_size"]
            objects = [
                ObjectTrack(
                    expression=item["expression"],
                    caption=item.get("caption", item["expression"]),
                    boxes=item["box"],
                    absent=item.get("absent", [0] * len(item["box"])),
                    attributes=item.get("attributes", {}),
                )
                for item in data["objects"]
            ]
            return cls(
                id=data["id"],
                source=data["source"],
                width=width,
                height=height,
                fps=data["fps"],
                frame_indices=data["frames"],
                objects=objects,
                video=data.get("video"),
            )
        except KeyError as error:
            raise ValueError(
                f"a record lacks the key {error}; expected the keys that VideoRecord.to_json writes."
            ) from error


def write_records(path: str | os.PathLike[str], records: Iterable[VideoRecord]) -> None:
    """Write JSON lines atomically: the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for record in records:
                file.write(json.dumps(record.to_json()) + "\n")
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_records(path: str | os.PathLike[str]) -> Iterator[VideoRecord]:
    """Read JSON lines one by one; a bad line raises a ValueError that gives its number."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield VideoRecord.from_json(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
