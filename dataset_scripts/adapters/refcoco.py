"""RefCOCO: three short expressions for each of 50,000 objects in COCO pictures (and the reader of its relatives).

From https://github.com/lichengunc/refer (refcoco.zip, unpacked) and https://cocodataset.org (train2014). The layout of
all three corpora, `refcoco`, `refcoco+` and `refcocog`:

    refcoco/refs(unc).p       pickled list of {"ref_id": 0, "ann_id": 1719310, "image_id": 581857, "split": "train",
                                "sentences": [{"sent_id": 0, "sent": "the lady with the blue shirt", ...}],
                                "file_name": "COCO_train2014_000000581857_16.jpg", "category_id": 1, ...}
    refcoco/instances.json    {"images": [{"id": 581857, "width": 640, "height": 427, "file_name": "..."}],
                                "annotations": [{"id": 1719310, "bbox": [103.9, 299.9, 134.1, 126.0], ...}],
                                "categories": [{"id": 1, "name": "person"}]}
    train2014/COCO_train2014_000000581857.jpg    (also images/train2014; --images: the folder that holds train2014)

The pickle is read by a reader that builds plain containers and refuses anything else. Mirrors are read too: the same
list as `refs(unc).json`, and rows of the Hub's jxu124 copies as .parquet or .jsonl (`raw_anns` and `raw_image_info`
hold the COCO entries as JSON text). PATH: the corpus' folder, the folder above it, or a mirror's file or folder.
Boxes are in pixels, left, top, width, height. The expressions of one object go to different records, so that an answer
never gives the next one away. Tasks: rec, reg.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..records import ObjectTrack, VideoRecord
from .common import Pictures, Reading, Skip, as_boxes, check_size, records_of, share_out, tidy, usable_box
from .json_stream import json_rows, walk
from .restricted_pickle import load_plain_pickle

SPLITS = ("train", "val", "testA", "testB")
LICENSE = "Apache 2.0 (code of refer; the expressions state none); pictures: COCO's terms of use"
# Names of the splits in the Hub's copies.
_ALIASES = {"validation": "val", "test": "testA"}


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """Records of a picture's expressions; see the top of this file for the layout."""
    return read_expressions(path, reading, "RefCOCO", "refcoco", "unc", _ALIASES)


def read_expressions(
    path: Path, reading: Reading, source: str, folder: str, split_by: str, aliases: dict[str, str]
) -> Iterator[VideoRecord]:
    """What the three corpora share.

    Args:
        path: see the top of this file.
        reading: options.
        source: name of the corpus in records.
        folder: its folder's name.
        split_by: who made the split, as the file is named.
        aliases: names of splits in mirrors -> ours.

    Raises:
        ValueError: no file of the corpus is there.
    """
    home = path / folder if (path / folder).is_dir() else path
    above = home.parent if home.is_dir() else home.parent.parent
    root = reading.images or above
    pictures = Pictures(*(place / "train2014" for place in (root, root / "images", home)), root)
    rows = _published(home, split_by) if home.is_dir() else None
    if rows is None:
        rows = _mirror(home, folder, split_by)
    by_image: defaultdict[Any, list[tuple[str, Any]]] = defaultdict(list)
    for name, row in rows:
        if not isinstance(row, dict) or "image_id" not in row:
            reading.skipped.add("annotation is not of the published form", name)
        elif aliases.get(row.get("split", ""), row.get("split")) == reading.split:
            by_image[row["image_id"]].append((name, row))

    def convert(image: str, refs: list[tuple[str, Any]]) -> Iterator[VideoRecord]:
        info = refs[0][1]["image"]
        if info is None:
            raise Skip("picture is not in instances.json")
        video, shown = pictures.find(f"COCO_train2014_{int(image):012d}.jpg")
        size = check_size((info["width"], info["height"]), shown)
        objects = [item for name, ref in refs for item in _objects(name, ref, size, reading)]
        if not objects:
            raise Skip("no usable box")
        for number, group in enumerate(share_out(objects)):
            yield VideoRecord(
                id=f"{image}-{number}", source=source, license=LICENSE, video=video, width=size[0], height=size[1],
                objects=group, metadata={"split": reading.split},
            )  # fmt: skip

    return records_of(((str(image), refs) for image, refs in by_image.items()), convert, reading.skipped)


def _objects(name: str, ref: Any, size: tuple[int, int], reading: Reading) -> Iterator[ObjectTrack]:
    """One object per sentence."""
    if ref["bbox"] is None:
        reading.skipped.add("object is not in instances.json", name)
        return
    relative = usable_box(ref["bbox"], "xywh", size, reading.skipped, name)
    for sentence in ref["sentences"] if relative is not None else ():
        try:
            words = tidy(sentence["sent"])
        except Skip as skip:
            reading.skipped.add(str(skip), name)
            continue
        attributes = {"category": ref["category"]} if ref.get("category") else {}
        yield ObjectTrack(boxes=as_boxes([relative]), expression=words, caption=words, attributes=attributes)


def _published(home: Path, split_by: str) -> Iterator[tuple[str, Any]] | None:
    """Rows of refs(...).p or .json joined with instances.json; None where they are not there."""
    pickled, plain = home / f"refs({split_by}).p", home / f"refs({split_by}).json"
    file = pickled if pickled.is_file() else plain
    if not file.is_file():
        return None
    if not (home / "instances.json").is_file():
        raise ValueError(f"{home} holds {file.name} but lacks instances.json, which has the boxes; unpack both.")
    refs = load_plain_pickle(file) if file is pickled else json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(refs, list):
        raise ValueError(f"{file} holds {type(refs).__name__}; the published file holds a list of referred objects.")
    images, boxes, categories = dict[Any, Any](), dict[Any, Any](), dict[Any, str]()
    for item in walk(home / "instances.json", inside=("images", "annotations", "categories")):
        if item.name == "images":
            images[item.value["id"]] = item.value
        elif item.name == "annotations":
            boxes[item.value["id"]] = item.value["bbox"]  # outlines, the bulk of the file, are let go
        elif item.name == "categories":
            categories[item.value["id"]] = item.value["name"]

    def joined() -> Iterator[tuple[str, Any]]:
        for number, ref in enumerate(refs):
            if not isinstance(ref, dict):
                yield f"ref {number}", ref
                continue
            category = categories.get(ref.get("category_id"))
            extra = {"bbox": boxes.get(ref.get("ann_id")), "image": images.get(ref.get("image_id")),
                     "category": category}  # fmt: skip
            yield f"ref {ref.get('ref_id', number)}", {**ref, **extra}

    return joined()


def _mirror(path: Path, folder: str, split_by: str) -> Iterator[tuple[str, Any]]:
    """Rows of .parquet or .jsonl files of the Hub's copies."""
    endings = (".parquet", ".jsonl", ".json")
    files = [file for file in sorted(path.rglob("*")) if file.suffix in endings] if path.is_dir() else [path]
    files = [file for file in files if file.suffix in endings and file.name != "instances.json"]
    if not files:
        raise ValueError(
            f"{path} holds neither {folder}/refs({split_by}).p with instances.json nor a .parquet or .jsonl mirror; "
            "see docs/data.md for where to get them."
        )
    for file in files:
        for number, row in _rows(file):
            name = f"{file.name}, row {number}"
            if isinstance(row, dict) and "raw_anns" in row and "raw_image_info" in row:
                entry, image = json.loads(row["raw_anns"]), json.loads(row["raw_image_info"])
                row = {**row, "bbox": entry["bbox"], "image": image}
            yield name, row


def _rows(file: Path) -> Iterator[tuple[int, Any]]:
    if file.suffix != ".parquet":
        for item in json_rows(file):
            yield item.index or 0, item.value
        return
    try:
        import pyarrow.parquet
    except ImportError:
        raise ImportError('reading .parquet needs pyarrow; install it with `pip install -e ".[data]"`.') from None
    number = 0
    for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1000):
        for row in batch.to_pylist():
            yield number, row
            number += 1
