"""VideoChat-11K: 7 K detailed descriptions of and 4 K conversations about videos of WebVid-10M.

From https://github.com/OpenGVLab/InternVideo/blob/main/Data/instruction_data.md (`videochat_instruct_11k.json`).
WebVid is no longer distributed: the videos have to be at hand. The layout:

    videochat_instruct_11k.json    [{"video": "053551_053600/1024.mp4", "QA": [{"q": "...", "a": "..."}, ...]}, ...]
    053551_053600/1024.mp4         the paths that the rows name, beside the file, in videos/, or in --images FOLDER

The row format is that of the authors' own loader; it also accepts `start`, a second of the video, which is kept as
metadata. The frames are chosen when the video is read. Rows of other data in this form (VideoChat2) work too: name the
file as PATH. Tasks: chat, vqa.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..records import VideoRecord
from .common import Reading, Skip, find_file, records_of, turns
from .json_stream import json_rows

SPLITS: tuple[str, ...] = ()
SOURCE = "VideoChat-11K"
LICENSE = "for research; videos: WebVid's terms of use"


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """One record per row; see the top of this file for the layout."""
    file = path if path.is_file() else find_file(path, "videochat_instruct_11k.json")
    folders = [reading.images] if reading.images else [file.parent, file.parent / "videos"]

    def convert(name: str, row: Any) -> Iterator[VideoRecord]:
        messages = turns((pair["q"], pair["a"]) for pair in row["QA"])
        video = next((folder / row["video"] for folder in folders if (folder / row["video"]).is_file()), None)
        if video is None:
            raise Skip("video not found")
        start = {"start": row["start"]} if "start" in row else {}
        yield VideoRecord(
            id=name.replace(" ", "-"), source=SOURCE, license=LICENSE, video=str(video), messages=messages,
            metadata={"file": row["video"], **start},
        )  # fmt: skip

    rows = ((f"row {item.index}", item.value) for item in json_rows(file))
    return records_of(rows, convert, reading.skipped)
