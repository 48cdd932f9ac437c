"""Small real videos and pictures with boxes in tar files: `records.jsonl`, `videos/*.tar`, `images/*.tar`.

A line of kind "video" is one object through one clip: id, clip, shard, frames (pattern inside the tar), n_frames,
width, height, boxes ([x1, y1, x2, y2] in 0..1, or null), absent, words, description, split. A line of kind "image" is
a picture with named boxes. A sequence begins with the first frame that has a box.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from processing_elysium.boxes import unit_to_px, xyxy_to_xywh
from processing_elysium.frames import open_video
from processing_elysium.video_source import VideoSource

from .items import ImageQuery, TrackSequence


class TarVideo(VideoSource):
    """Images inside a tar file, as a video; the file is opened when a frame is read."""

    def __init__(self, shard: Path, names: list[str], size: tuple[int, int]) -> None:
        self.name, self.num_frames = f"{shard.name}:{names[0]}", len(names)
        self.width, self.height = size
        self._shard, self._names = shard, names
        self._tar: tarfile.TarFile | None = None

    def _read(self, indices: list[int]) -> list[np.ndarray]:
        if self._tar is None:
            self._tar = tarfile.open(self._shard)  # noqa: SIM115 - closed by close()
        return [_picture(self._tar, self._names[index]) for index in indices]

    def close(self) -> None:
        """Close the tar file."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None


def _picture(tar: tarfile.TarFile, name: str) -> np.ndarray:
    try:
        file = tar.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise ValueError(f"{str(tar.name)} has no file {name!r}.")
    return np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))


def read(root: Path, split: str, images: bool = False) -> list[Any]:
    """Read the rows of a split.

    Args:
        root: folder with `records.jsonl`.
        split: "train", "val", "test"; of images also "unseen".
        images: the pictures with words that fit one box alone (REC), else the videos.

    Raises:
        ValueError: no such file, or a row that is not what it should be.
    """
    path = root / "records.jsonl"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; pass `--data` the folder that holds records.jsonl.")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["split"] == split and (row["kind"] == "image") == images]
    if images:
        return [query for row in rows for query in _queries(root, row)]
    # Words say which object is meant only where no other object of the clip has the same.
    shared = Counter((row["clip"], word) for row in rows for word in row["words"][:1])
    return [_sequence(root, row, shared) for row in rows if any(box is not None for box in row["boxes"])]


def _sequence(root: Path, row: dict[str, Any], shared: Counter[tuple[str, str]]) -> TrackSequence:
    boxes = np.array([[np.nan] * 4 if box is None else box for box in row["boxes"]], dtype=np.float64)
    first = int(np.flatnonzero(np.isfinite(boxes).all(axis=1))[0])
    size = (row["width"], row["height"])
    names = [row["frames"] % index for index in range(first, row["n_frames"])]
    if len(names) != len(boxes) - first:
        raise ValueError(f"row {row['id']!r}: {row['n_frames']} frames, but {len(boxes)} boxes.")
    absent = np.array(row["absent"], dtype=bool)[first:] if row["absent_meaning"] == "absent" else None
    word = row["words"][0] if row["words"] and shared[row["clip"], row["words"][0]] == 1 else None
    return TrackSequence(
        name=row["id"],
        frames=partial(TarVideo, root / row["shard"], names, size),
        boxes_xywh_px=xyxy_to_xywh(unit_to_px(boxes[first:], *size)),
        absent=absent,
        words=row["description"] or word,
        descriptions=(row["description"],) if row["description"] else (),
        attributes=tuple(dict.fromkeys((row["category"], row["modality"]))),
    )


def _queries(root: Path, row: dict[str, Any]) -> list[ImageQuery]:
    alone = Counter(item["name"] for item in row["boxes"])
    size = (row["width"], row["height"])
    opened = partial(_open_image, root / row["shard"], row["file"], size)
    return [
        ImageQuery(
            name=f"{row['id']}-{item['name']}",
            image=opened,
            box_xywh_px=xyxy_to_xywh(unit_to_px(np.array([item["box"]]), *size))[0],
            words=item["name"],
        )
        for item in row["boxes"]
        if alone[item["name"]] == 1
    ]


def _open_image(shard: Path, name: str, size: tuple[int, int]) -> VideoSource:
    return open_video(TarVideo(shard, [name], size))
