"""GRIT-20M: captions of web pictures whose noun phrases and longer expressions have boxes.

From https://huggingface.co/datasets/zzliang/GRIT: parquet files of addresses, captions and boxes, whose pictures
img2dataset downloads into WebDataset shards (`--output_format webdataset --save_additional_columns
'["id","noun_chunks","ref_exps","clip_similarity_vitb32","clip_similarity_vitl14"]'`). The layout of what that writes:

    00000.tar    000000000.jpg, 000000000.txt, 000000000.json {"caption": "a wire hanger with a paper cover",
                   "width": 1024, "height": 693, "url": "...", "noun_chunks": [[0, 13, 0.02, 0.03, 0.96, 0.97, 0.68]],
                   "ref_exps": [[0, 32, 0.02, 0.03, 0.96, 0.97, 0.68]], ...}

An entry is [start and end in the caption, left, top, right, bottom relative to the picture, score]. Expressions
(`ref_exps`) are taken, noun chunks where there are none; words with several boxes in one picture are left out. Shards
are read from front to back; their pictures are unpacked into a folder (`--extract-to`), for training that reads each
on its own. Training reads the shards themselves too, without this command and without unpacking, where a recipe says
`source: grit/*.tar` with `options: {layout: grit}`. img2dataset may resize pictures, which relative boxes survive.
PATH: the folder of shards, or one shard. Tasks: rec, reg. The paper uses it in stage 1b.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..records import VideoRecord
from .archives import samples, unpack
from .common import Reading, Skip, Skipped, box_object, one_meaning, records_of, share_out, tidy, usable_box

SPLITS: tuple[str, ...] = ()
SOURCE = "GRIT-20M"
LICENSE = "MS-PL (annotations); pictures: of their sites"
_PICTURES = ("jpg", "jpeg", "png", "webp")


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """One record per picture; see the top of this file for the layout."""
    shards = sorted(path.glob("**/*.tar")) if path.is_dir() else [path]
    if not shards:
        raise ValueError(f"{path} holds no .tar; give the folder that img2dataset wrote (parquet has no pictures).")
    if reading.extract_to is None:
        raise ValueError("GRIT's pictures are in tars; name a folder to unpack them into (--extract-to FOLDER).")
    folder = reading.extract_to

    def convert(name: str, files: dict[str, bytes]) -> Iterator[VideoRecord]:
        ending, records = read_sample(name, files, reading.skipped)
        if not records:
            raise Skip("no usable box")
        picture = folder / f"{name}.{ending}"
        unpack(files[ending], picture)
        for record in records:
            yield replace(record, video=str(picture))

    def named() -> Iterator[tuple[str, dict[str, bytes]]]:
        for shard in shards:
            try:
                for key, files in samples(shard):
                    yield f"{shard.stem}/{Path(key).name}", files
            except ValueError as error:  # the other shards are as good as before
                reading.skipped.add("shard breaks off", f"{shard.name} ({error})")

    return records_of(named(), convert, reading.skipped)


def read_sample(name: str, files: dict[str, bytes], skipped: Skipped) -> tuple[str, list[VideoRecord]]:
    """The records of one sample, several where a box has several expressions.

    Args:
        name: of the sample.
        files: its files by ending, without the dot.
        skipped: counts boxes that cannot be used.

    Returns:
        The ending of the picture's file, and records without `video`; none where no box can be asked for.

    Raises:
        Skip: the sample has no picture that can be read, or no annotation.
        KeyError, TypeError, ValueError, IndexError, AttributeError: the annotation is not of the published form.
    """
    ending = next((ending for ending in _PICTURES if ending in files), None)
    if ending is None:
        raise Skip("sample without a picture")
    if "json" not in files:
        raise Skip("sample without an annotation")
    try:
        data = json.loads(files["json"])
    except ValueError:
        raise Skip("annotation is no JSON") from None
    width, height = _size(files[ending])
    about = {"caption": data["caption"], "url": data.get("url")}
    groups = share_out(one_meaning(_objects(name, data, skipped), skipped, name))
    return ending, [
        VideoRecord(
            id=f"{name}-{number}", source=SOURCE, license=LICENSE, width=width, height=height, objects=group,
            metadata=about,
        )
        for number, group in enumerate(groups)
    ]  # fmt: skip


def _size(content: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise Skip("picture cannot be read") from None


def _objects(name: str, data: Any, skipped: Skipped) -> list[Any]:
    caption, objects = data["caption"], []
    for start, end, *numbers in data.get("ref_exps") or data["noun_chunks"]:
        words = tidy(caption[int(start) : int(end)])
        relative = usable_box(numbers[:4], "xyxy", None, skipped, f"{name}: {words}")
        if relative is not None:
            objects.append(box_object(relative, words))
    return objects
