"""RefCOCO, RefCOCO+ and RefCOCOg: `refs(unc).p` or `refs(umd).p`, `instances.json`, COCO's train2014 images.

`file_name` in the refs ends in the number of the annotation, which the images' names do not: the image is found by
`image_id`. The one-line-per-expression form (`img_path`, `expression`, `bbox` as x1, y1, x2, y2 in pixels) is read
too, from `*DATASET*_SPLIT.jsonl`.
"""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from processing_elysium.boxes import xyxy_to_xywh

from .items import ImageQuery

PARTITIONS = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}
IMAGE_FOLDERS = ("images/mscoco/images/train2014", "images/train2014", "train2014", "images")


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts, lists and dictionaries; a pickle that asks for any class or function is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"the pickle asks for {module}.{name}; refs hold plain data only, so it is not opened.")


def read(root: Path, split: str, dataset: str, describe: bool = False) -> list[ImageQuery]:
    """Read one query per expression, or per object.

    Args:
        root: folder with `DATASET/refs(...).p` and the images, or with the JSON lines.
        split: "val", "testA", "testB" (RefCOCOg: "val", "test").
        dataset: "refcoco", "refcoco+" or "refcocog".
        describe: one query per object with all its expressions as references (REG), else one per expression (REC).

    Raises:
        ValueError: a file is missing, or is not what it should be.
    """
    images = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), root)
    refs_file = root / dataset / f"refs({PARTITIONS[dataset]}).p"
    if not refs_file.is_file():
        return _from_lines(root, split, dataset, images, describe)
    with open(refs_file, "rb") as file:
        refs = _PlainUnpickler(file, encoding="latin-1").load()
    boxes = _boxes(root / dataset / "instances.json")
    queries = []
    for ref in refs:
        if ref["split"] != split:
            continue
        if ref["ann_id"] not in boxes:
            raise ValueError(f"{refs_file}: instances.json lacks the annotation of ref {ref['ref_id']}.")
        image = str(images / f"COCO_train2014_{ref['image_id']:012d}.jpg")
        box, said = boxes[ref["ann_id"]], [sentence["sent"] for sentence in ref["sentences"]]
        name = f"ref{ref['ref_id']}"
        if describe:
            queries.append(ImageQuery(name=name, image=image, box_xywh_px=box, descriptions=tuple(said)))
        else:
            queries += [
                ImageQuery(name=f"{name}_{number}", image=image, box_xywh_px=box, words=words)
                for number, words in enumerate(said)
            ]
    return queries


def _boxes(path: Path) -> dict[int, np.ndarray]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; it comes with the refs.")
    instances = json.loads(path.read_text(encoding="utf-8"))
    return {item["id"]: np.array(item["bbox"], dtype=np.float64) for item in instances["annotations"]}


def _from_lines(root: Path, split: str, dataset: str, images: Path, describe: bool) -> list[ImageQuery]:
    # "refcoco" is a part of "refcoco+" and "refcocog": the letter after it decides.
    pattern = re.compile(rf"(?:^|.*_){re.escape(dataset)}(?:_.*)?_{split}\.jsonl$", re.IGNORECASE)
    files = sorted(path for path in root.glob("*.jsonl") if pattern.match(path.name))
    if len(files) != 1:
        raise ValueError(
            f"{root} has neither {dataset}/refs({PARTITIONS[dataset]}).p nor one *{dataset}*_{split}.jsonl "
            f"(found {[path.name for path in files]}); see docs/evaluate.md for the layout."
        )
    queries: list[ImageQuery] = []
    grouped: dict[tuple[str, tuple[float, ...]], list[str]] = {}
    for number, line in enumerate(files[0].read_text(encoding="utf-8").splitlines()):
        try:
            data = json.loads(line)
            path, words, corners = data["img_path"], data["expression"], [float(v) for v in data["bbox"]]
            box = xyxy_to_xywh(np.array(corners).reshape(1, 4))[0]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{files[0]}, line {number + 1}: {error!r}.") from None
        plain = re.search(r"COCO_train2014_\d{12}", path)
        image = str(images / (f"{plain.group()}.jpg" if plain else path))
        queries.append(ImageQuery(name=f"line{number}", image=image, box_xywh_px=box, words=words))
        grouped.setdefault((image, tuple(box)), []).append(words)
    if not describe:
        return queries
    return [
        ImageQuery(name=f"object{n}", image=image, box_xywh_px=np.array(box), descriptions=tuple(said))
        for n, ((image, box), said) in enumerate(grouped.items())
    ]
