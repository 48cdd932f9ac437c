"""ElysiumTrack-1M: 1.27 M objects followed through videos of WebVid-10M, with words for each (the paper, section 3).

From https://huggingface.co/datasets/sty-yyj/ElysiumTrack-1M. The layout:

    ElysiumTrack-1M.json                 a JSON object a line: {"source": "...", "id": "...", "vid": "1025983634",
                                           "metadata": ..., "frames": ["frames/1025983634/000000.jpg", ...],
                                           "object_class": "a dog", "box": [[0.36, 0.15, 0.67, 0.96], ...],
                                           "object_description": "a running dog ...", "frame_size": [600, 336]}
    packaged_results/group_aa.tar.gz     holds frames/1010245676/000000.jpg, ...

Boxes are corners relative to the frame, one per frame. `object_class` is what the authors' code asks for in RSOT, and
`object_description` what Video-REG answers; both are taken so. Unpack the archives first (`for f in
packaged_results/*.tar.gz; do tar xzf "$f"; done`), or name --extract-to FOLDER: then they are unpacked there, each
archive once, which an interrupted run takes up again. Whether each archive stands alone could be checked for the first
one only; an archive that breaks off is an error that names it. The frames' rate is not stated. The held-out 500 videos
(Hon-Wong/ElysiumTrack-val500) have the same form; name their JSON file as PATH. Tasks: sot, rsot, video_reg.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..records import ObjectTrack, VideoRecord
from .archives import tar_members, unpack
from .common import Reading, Skip, as_boxes, find_file, records_of, shown_size, usable_box
from .json_stream import json_rows

SPLITS: tuple[str, ...] = ()
SOURCE = "ElysiumTrack-1M"
LICENSE = "CC BY-NC 4.0; videos: WebVid's terms of use"


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """One record per object; see the top of this file for the layout."""
    file = path if path.is_file() else find_file(path, "ElysiumTrack-1M.json", "ElysiumTrack-1M.jsonl")
    root = reading.images or file.parent
    if reading.extract_to is not None:
        unpack_frames(file.parent, reading.extract_to)
        root = reading.extract_to
    elif not (root / "frames").is_dir():
        raise ValueError(
            f"{root} lacks the folder frames; unpack packaged_results/*.tar.gz there, or name a folder to unpack them "
            "into (--extract-to FOLDER)."
        )

    def convert(name: str, row: Any) -> Iterator[VideoRecord]:
        frames, boxes = row["frames"], row["box"]
        if not frames or len(frames) != len(boxes):
            raise Skip("number of boxes differs from number of frames")
        width, height = row["frame_size"]
        files = _existing(root, frames)
        if shown_size(files[0]) != (width, height):
            raise Skip("frames have another size than the annotation says")
        known = [usable_box(box, "xyxy", None, reading.skipped, f"{name}, frame {i}") for i, box in enumerate(boxes)]
        if known[0] is None:
            raise Skip("no usable box in the first frame")
        track = ObjectTrack(
            boxes=as_boxes(known), expression=_words(row, "object_class"), caption=_words(row, "object_description")
        )
        yield VideoRecord(
            id=f"{row['vid']}-{row['id']}", source=SOURCE, license=LICENSE, video=files, width=int(width),
            height=int(height), objects=[track], metadata={"vid": row["vid"]},
        )  # fmt: skip

    rows = ((f"line {item.line}", item.value) for item in json_rows(file))
    return records_of(rows, convert, reading.skipped)


def _words(row: Any, key: str) -> str | None:
    words = row.get(key)
    return " ".join(words.split()) if isinstance(words, str) and words.strip() else None


def _existing(root: Path, frames: list[str]) -> list[str]:
    files = [root / frame for frame in frames]
    if not all(file.is_file() for file in files):
        raise Skip("frame not found")
    return [str(file) for file in files]


def unpack_frames(folder: Path, target: Path) -> None:
    """Unpack the frames of all archives of a folder, those that are there already excepted.

    Raises:
        ValueError: there is no archive, one breaks off, or it holds paths that leave the folder.
    """
    archives = sorted((*folder.glob("packaged_results/*.tar*"), *folder.glob("*.tar*")))
    if not archives:
        raise ValueError(f"{folder} holds no packaged_results/*.tar.gz to unpack; leave out --extract-to.")
    for archive in archives:
        done = target / f".{archive.name}.unpacked"
        if done.exists():
            continue
        for name, content in tar_members(archive):
            inside = Path(name)
            if inside.is_absolute() or ".." in inside.parts:
                raise ValueError(f"{archive} holds {name!r}, which leaves the folder; it was not unpacked.")
            unpack(content, target / inside)
        target.mkdir(parents=True, exist_ok=True)
        done.touch()
