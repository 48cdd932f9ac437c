r"""LLaVA-558K: one conversation of a question and an answer for each of 558 K captioned pictures.

From https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain (files `blip_laion_cc_sbu_558k.json` and `images.zip`,
unpacked). The layout:

    blip_laion_cc_sbu_558k.json    [{"id": "004539375", "image": "00453/004539375.jpg", "conversations":
                                     [{"from": "human", "value": "Describe the photo.\n<image>"},
                                      {"from": "gpt", "value": "select luxury furniture"}]}, ...]
    images/00453/004539375.jpg     or 00453/004539375.jpg beside the JSON file

`<image>` in a question is dropped: training puts the picture where its model wants it. Any other file of this form
works too, named as PATH itself. Tasks: chat, vqa. The paper uses it in stage 1a.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..records import VideoRecord
from .common import Pictures, Reading, Skip, find_file, records_of, turns
from .json_stream import walk

SPLITS: tuple[str, ...] = ()
SOURCE = "LLaVA-558K"
LICENSE = "of the pictures: those of LAION, CC and SBU; of the captions: see the dataset card"
_ROLES = {"human": "user", "gpt": "assistant"}


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """One record per row; see the top of this file for the layout."""
    file = path if path.is_file() else find_file(path, "blip_laion_cc_sbu_558k.json")
    pictures = Pictures(reading.images or file.parent / "images", file.parent)

    def convert(name: str, row: Any) -> Iterator[VideoRecord]:
        parts = row["conversations"]
        roles = [_ROLES.get(part["from"]) for part in parts]
        if roles != ["user", "assistant"] * (len(parts) // 2):
            raise Skip("questions and answers do not take turns")
        texts = [part["value"].replace("<image>", "").strip() for part in parts]
        video, (width, height) = pictures.find(row["image"])
        messages = turns(zip(texts[::2], texts[1::2], strict=True))
        yield VideoRecord(
            id=str(row["id"]), source=SOURCE, license=LICENSE, video=video, width=width, height=height,
            frame_indices=[0], messages=messages,
        )  # fmt: skip

    rows = ((f"row {item.index}", item.value) for item in walk(file))
    return records_of(rows, convert, reading.skipped)
