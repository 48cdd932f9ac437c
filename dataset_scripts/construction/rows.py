"""The rows that the pipeline writes and everything after it reads: one trajectory per row of a parquet file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..records import ObjectTrack, VideoRecord, part_file

__all__ = ["TRAJECTORY_SCHEMA", "Trajectory", "read_trajectories", "write_trajectories"]

TRAJECTORY_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("video_id", pa.string()),
        ("source", pa.string()),
        ("license", pa.string()),
        ("video", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("frame_indices", pa.list_(pa.int32())),
        ("timestamps", pa.list_(pa.float64())),
        ("boxes", pa.list_(pa.list_(pa.float32()))),
        ("presence", pa.list_(pa.bool_())),
        ("scores", pa.list_(pa.float32())),
        ("phrase", pa.string()),
        ("caption", pa.string()),
        ("split", pa.string()),
        ("provenance", pa.string()),
    ]
)


@dataclass(kw_only=True)
class Trajectory:
    """One object through F frames of a video, with the words of the caption that it was found by.

    Attributes:
        id: unique in a dataset; `VIDEO_ID#N` for the N-th phrase of a video.
        video_id: of the video.
        source: name of the captioned video set.
        license: of the video, None where none is stated.
        video: path of the video relative to the dataset's folder, or an address.
        width, height: frame size in pixels, as displayed.
        fps: frames per second, None where unknown.
        frame_indices: F frames of the video, ascending.
        timestamps: their seconds in the video.
        boxes: (F, 4) xyxy relative to the frame, not clipped to it; NaN where the object is not there.
        presence: (F,) whether the object is there.
        scores: (F,) the tracker's confidence in [0, 1], NaN where it has none.
        phrase: the expression, a noun phrase of the caption.
        caption: the whole caption, None where there is none.
        split: train, validation or test; None before a dataset is divided.
        provenance: versions, thresholds, seeds and measured quantities that led to the row; JSON values.
    """

    id: str
    video_id: str
    source: str
    video: str
    width: int
    height: int
    frame_indices: list[int]
    timestamps: list[float]
    boxes: np.ndarray
    presence: np.ndarray
    scores: np.ndarray
    phrase: str
    caption: str | None = None
    license: str | None = None
    fps: float | None = None
    split: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.boxes = np.asarray(self.boxes, dtype=np.float32).reshape(-1, 4)
        self.presence = np.asarray(self.presence, dtype=bool)
        self.scores = np.asarray(self.scores, dtype=np.float32)
        lengths = {
            name: len(getattr(self, name)) for name in ("frame_indices", "timestamps", "boxes", "presence", "scores")
        }
        if len(set(lengths.values())) != 1:
            raise ValueError(f"trajectory {self.id!r}: lists of unequal lengths {lengths}; give one entry per frame.")
        if np.isnan(self.boxes[self.presence]).any():
            raise ValueError(f"trajectory {self.id!r}: the object is present in a frame without a box.")

    def to_row(self) -> dict[str, Any]:
        """Return the row of `TRAJECTORY_SCHEMA`; frames without a box hold an empty list."""
        row = {f.name: getattr(self, f.name) for f in fields(self)}
        known = ~np.isnan(self.boxes).any(1)
        row["boxes"] = [box.tolist() if has else [] for box, has in zip(self.boxes, known, strict=True)]
        row["presence"], row["scores"] = self.presence.tolist(), self.scores.tolist()
        row["provenance"] = json.dumps(self.provenance, sort_keys=True, ensure_ascii=False)
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Trajectory:
        """Invert `to_row`."""
        values = {f.name: row.get(f.name) for f in fields(cls)}
        values["boxes"] = [box or [np.nan] * 4 for box in row["boxes"]]
        values["provenance"] = json.loads(row["provenance"] or "{}")
        return cls(**values)

    def to_record(self) -> VideoRecord:
        """Return the record that training and evaluation read."""
        track = ObjectTrack(boxes=self.boxes, expression=self.phrase, caption=None, absent=~self.presence)
        return VideoRecord(
            id=self.id, source=self.source, license=self.license, video=self.video, width=self.width,
            height=self.height, fps=self.fps, frame_indices=list(self.frame_indices),
            timestamps=list(self.timestamps), objects=[track],
            metadata={key: value for key, value in {"caption": self.caption, "split": self.split}.items() if value},
        )  # fmt: skip


def write_trajectories(path: str | os.PathLike[str], trajectories: Iterable[Trajectory]) -> int:
    """Write a parquet file whole or not at all; returns the number of rows.

    The bytes depend on the rows alone: equal rows give equal files.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([trajectory.to_row() for trajectory in trajectories], schema=TRAJECTORY_SCHEMA)
    handle, temporary = part_file(path)
    os.close(handle)
    try:
        pq.write_table(table, temporary, compression="zstd")
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return table.num_rows


def read_trajectories(path: str | os.PathLike[str]) -> Iterator[Trajectory]:
    """Read trajectories of one file, or of all `*.parquet` files of a folder in the order of their names.

    Raises:
        FileNotFoundError: there is no such file, or no parquet file in the folder.
        ValueError: a file lacks columns of `TRAJECTORY_SCHEMA`.
    """
    path = Path(path)
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise FileNotFoundError(f"no parquet file at {path}; give a shard, or the folder of shards that build wrote.")
    for file in files:
        table = pq.ParquetFile(file)
        missing = [name for name in TRAJECTORY_SCHEMA.names if name not in table.schema_arrow.names]
        if missing:
            raise ValueError(f"{file} lacks the columns {missing}; trajectories have {TRAJECTORY_SCHEMA.names}.")
        for batch in table.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                yield Trajectory.from_row(row)
