"""The parquet files of a published data set: frames for training, trajectories, and the videos to browse."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ..construction.builds import is_address, open_row, video_path
from ..construction.rows import Trajectory
from ..records import part_file
from .elysium_track import evenly, features_of, jpeg, task_row
from .plan import PublishSettings

__all__ = ["FRAME_CONFIGS", "VideoShelf", "frame_features", "write_frames", "write_trajectory_rows"]

FRAME_CONFIGS = ("rsot", "sot", "video_reg")  # one file holds their columns, so that frames are stored once
_ROWS_PER_GROUP = 20  # what a reader of a stream has in memory at least
_VIDEOS_PER_FOLDER = 5000  # the Hub asks for fewer than 10,000 files in a folder


def frame_features() -> datasets.Features:
    """Return the columns of the files with frames: those of the three configurations together."""
    columns: dict[str, Any] = {}
    for config in FRAME_CONFIGS:
        columns |= features_of(config)
    return datasets.Features(columns)


def write_frames(rows: Sequence[Trajectory], settings: PublishSettings, target: Path) -> None:
    """Write trajectories with their frames as one parquet file, whole or not at all.

    Raises:
        ValueError: a video cannot be read, or ends before its rows say.
    """

    def made() -> Iterator[dict[str, Any]]:
        for row, frames in _with_frames(rows, settings):
            positions = evenly(len(row.frame_indices), settings.max_frames)
            values: dict[str, Any] = {}
            for config in FRAME_CONFIGS:
                values |= task_row(config, row.to_row(), positions, frames)
            yield values

    _write(made(), frame_features(), target)


def write_trajectory_rows(rows: Iterable[Trajectory], videos: dict[str, str], target: Path) -> None:
    """Write trajectories without frames, their videos by the names that `videos` gives them in the data set."""

    def made() -> Iterator[dict[str, Any]]:
        for row in rows:
            values = {**row.to_row(), "video": videos.get(row.video, row.video)}
            yield task_row("trajectories", values, range(len(row.frame_indices)), ())

    _write(made(), features_of("trajectories"), target)


def _with_frames(rows: Sequence[Trajectory], settings: PublishSettings) -> Iterator[tuple[Trajectory, list[bytes]]]:
    """Yield each row with its pictures; those of one video are decoded once for rows that follow each other."""
    last, kept = "", {}  # type: str, dict[int, bytes]
    for row in rows:
        if row.video != last:
            last, kept = row.video, {}
        wanted = [row.frame_indices[i] for i in evenly(len(row.frame_indices), settings.max_frames)]
        missing = [index for index in wanted if index not in kept]
        if missing:
            with open_row(row, settings.videos) as video:
                frames = video.read(missing)
            if len(frames) < len(missing):
                raise ValueError(f"trajectory {row.id!r}: {video.name} ends before frame {missing[-1]}.")
            for index, frame in zip(missing, frames, strict=True):
                kept[index] = jpeg(_shrunk(Image.fromarray(frame), settings.max_side), settings.quality)
        yield row, [kept[index] for index in wanted]


def _shrunk(picture: Image.Image, side: int | None) -> Image.Image:
    if side is None or max(picture.size) <= side:
        return picture
    scale = side / max(picture.size)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def _write(rows: Iterable[dict[str, Any]], features: datasets.Features, target: Path) -> None:
    schema = features.arrow_schema
    with _whole(target) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
        group: list[dict[str, Any]] = []
        for row in rows:
            group.append(row)
            if len(group) == _ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                group = []
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Give a file to write that becomes `target` once the block has ended well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = part_file(target)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


class VideoShelf:
    """The folder `videos/SPLIT` of a data set: video files and `metadata.parquet`, as VideoFolder reads it.

    Args:
        home: folder of the data set.
        split: part of it.
        settings: where the videos are.
    """

    def __init__(self, home: Path, split: str, settings: PublishSettings) -> None:
        self.folder, self.home, self.settings = home / "videos" / split, home, settings
        self.rows: dict[str, dict[str, Any]] = {}
        self.names: dict[str, str] = {}
        self.taken: set[str] = set()

    def add(self, row: Trajectory) -> None:
        """Put the video of a row on the shelf, once, and note the object; an address stays where it is."""
        if is_address(row.video):
            return
        if row.video not in self.rows:
            source = Path(video_path(row, self.settings.videos))
            if not source.is_file():
                return  # a folder of frames, or frames in a tar, are no video file
            inside = self._free_name(row, source)
            target = self.folder / inside
            self.taken.add(inside)
            self.names[row.video] = target.relative_to(self.home).as_posix()
            if not target.exists():
                with _whole(target) as part:
                    shutil.copyfile(source, part)
            self.rows[row.video] = {
                "file_name": inside, "video_id": row.video_id, "source": row.source, "license": row.license,
                "caption": row.caption, "width": row.width, "height": row.height, "fps": row.fps, "objects": [],
            }  # fmt: skip
        there = row.presence.nonzero()[0]
        self.rows[row.video]["objects"].append(
            {"id": row.id, "expression": row.phrase, "frames": len(row.frame_indices),
             "first_box": row.boxes[there[0]].tolist() if len(there) else []}
        )  # fmt: skip

    def _free_name(self, row: Trajectory, source: Path) -> str:
        """Return a name that no other video of the split has."""
        folder, stem = f"{len(self.rows) // _VIDEOS_PER_FOLDER:03d}", _safe(row.video_id)
        inside, number = f"{folder}/{stem}{source.suffix.lower()}", 1
        while inside in self.taken:
            number += 1
            inside = f"{folder}/{stem}-{number}{source.suffix.lower()}"
        return inside

    def write(self) -> None:
        """Write `metadata.parquet`."""
        text, number = pa.string(), pa.int32()
        item = pa.struct(
            [("id", text), ("expression", text), ("frames", number), ("first_box", pa.list_(pa.float32()))]
        )
        schema = pa.schema(
            [("file_name", text), ("video_id", text), ("source", text), ("license", text), ("caption", text),
             ("width", number), ("height", number), ("fps", pa.float64()), ("objects", pa.list_(item))]
        )  # fmt: skip
        if self.rows:
            with _whole(self.folder / "metadata.parquet") as part:
                pq.write_table(pa.Table.from_pylist(list(self.rows.values()), schema=schema), part)


def _safe(name: str) -> str:
    """A video's name as a file's name."""
    return re.sub(r"[^\w.-]", "_", name).lstrip(".")[:150] or "video"
