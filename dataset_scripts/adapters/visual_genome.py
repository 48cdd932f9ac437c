"""Visual Genome: 108 K pictures, 5.4 M described regions and 3.8 M named objects.

From https://homes.cs.washington.edu/~ranjay/visualgenome/api.html (image_data.json.zip, region_descriptions.json.zip,
objects.json.zip, images.zip and images2.zip, unpacked). The layout:

    image_data.json             [{"image_id": 1, "width": 800, "height": 600, "url": ".../VG_100K_2/1.jpg", ...}, ...]
    region_descriptions.json    [{"id": 1, "regions": [{"region_id": 1382, "image_id": 1, "x": 421, "y": 57,
                                  "width": 82, "height": 139, "phrase": "the clock is green in colour"}]}, ...]
    objects.json                [{"image_id": 1, "objects": [{"object_id": 1058498, "names": ["clock"], "x": 421,
                                  "y": 91, "w": 39, "h": 79, "synsets": ["clock.n.01"]}]}, ...]
    VG_100K/, VG_100K_2/        (or images/ with either)

Either of the last two JSON files may be missing; without image_data.json the picture's own size is used. Boxes are in
pixels, left, top, width, height. Each picture gives records of regions and one of objects; a phrase or name that is
used for several boxes of a picture is left out and counted. Tasks: rec, reg.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..records import ObjectTrack, VideoRecord
from .common import (
    Pictures,
    Reading,
    Skip,
    box_object,
    check_size,
    one_meaning,
    records_of,
    share_out,
    tidy,
    usable_box,
)  # fmt: skip
from .json_stream import walk

SPLITS: tuple[str, ...] = ()
SOURCE = "Visual Genome"
LICENSE = "CC BY 4.0"


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """Records of regions, then records of objects; see the top of this file for the layout."""
    root = reading.images or path
    pictures = Pictures(*(root / name for name in ("VG_100K", "VG_100K_2", "images", "images/VG_100K",
                                                   "images/VG_100K_2", ".")))  # fmt: skip
    regions, objects = path / "region_descriptions.json", path / "objects.json"
    if not regions.is_file() and not objects.is_file():
        raise ValueError(f"{path} holds neither {regions.name} nor {objects.name}; give the folder of Visual Genome.")
    sizes = {}
    if (path / "image_data.json").is_file():
        for item in walk(path / "image_data.json"):
            if isinstance(item.value, dict) and {"image_id", "width", "height"} <= set(item.value):
                sizes[item.value["image_id"]] = (item.value["width"], item.value["height"])

    def convert(name: str, row: Any) -> Iterator[VideoRecord]:
        kind = "regions" if "regions" in row else "objects"
        image = row["image_id"] if "image_id" in row else row["id"]
        video, shown = pictures.find(f"{image}.jpg")
        size = check_size(sizes.get(image, shown), shown)
        found = [_object(item, size, f"{image}", reading) for item in row[kind]]
        kept = one_meaning([item for item in found if item is not None], reading.skipped, f"picture {image}")
        if not kept:
            raise Skip("no usable box")
        for number, group in enumerate(share_out(kept)):
            yield VideoRecord(
                id=f"{image}-{kind}-{number}", source=SOURCE, license=LICENSE, video=video, width=size[0],
                height=size[1], objects=group,
            )  # fmt: skip

    for file in (regions, objects):
        if file.is_file():
            items = ((f"{file.name}, line {item.line}, row {item.index}", item.value) for item in walk(file))
            yield from records_of(items, convert, reading.skipped)


def _object(item: Any, size: tuple[int, int], image: str, reading: Reading) -> ObjectTrack | None:
    """A region or an object, whose keys differ."""
    if "phrase" in item:
        where = f"picture {image}, region {item['region_id']}"
        box, words = [item["x"], item["y"], item["width"], item["height"]], item["phrase"]
    else:
        where = f"picture {image}, object {item['object_id']}"
        box, words = [item["x"], item["y"], item["w"], item["h"]], item["names"][0]
    relative = usable_box(box, "xywh", size, reading.skipped, where)
    return None if relative is None else box_object(relative, tidy(words).rstrip("."))
