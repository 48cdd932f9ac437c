"""Visual7W: questions on COCO pictures answered in words (telling) or by one of the picture's boxes (pointing).

From http://ai.stanford.edu/~yukez/visual7w (dataset_v7w_telling.zip, dataset_v7w_pointing.zip, visual7w_images.zip,
unpacked). The layout:

    dataset_v7w_telling.json     {"images": [{"image_id": 1, "filename": "v7w_1.jpg", "split": "train", "qa_pairs":
                                   [{"qa_id": 7, "question": "What is red?", "answer": "The car.", "type": "what",
                                     "multiple_choices": ["The sky.", ...]}]}]}
    dataset_v7w_pointing.json    the same, where answer and multiple_choices are box ids, and {"boxes": [{"box_id": 3,
                                   "name": "car", "x": 10, "y": 20, "width": 30, "height": 40}, ...]}
    images/v7w_1.jpg

Either JSON file may be missing. Boxes are in pixels of the picture, whose size is read from the file (no annotation
states it). A pointing question becomes the expression of its box ("which car is red"), which no corpus words as a noun
phrase. Wrong choices are not used. Tasks: vqa; rec.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..records import ObjectTrack, VideoRecord
from .common import Pictures, Reading, Skip, as_boxes, records_of, share_out, tidy, turns, usable_box
from .json_stream import walk

SPLITS = ("train", "val", "test")
SOURCE = "Visual7W"
LICENSE = "for research (see the project's page); pictures: COCO's terms of use"


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """Records of told answers, then records of pointed ones; see the top of this file for the layout."""
    pictures = Pictures(reading.images or path / "images")
    telling, pointing = path / "dataset_v7w_telling.json", path / "dataset_v7w_pointing.json"
    if not telling.is_file() and not pointing.is_file():
        raise ValueError(
            f"{path} holds neither {telling.name} nor {pointing.name}; give the folder that the zips are unpacked in."
        )
    if telling.is_file():
        yield from records_of(_images(telling, reading.split), _teller(pictures), reading.skipped)
    if pointing.is_file():
        boxes = {}
        for item in walk(pointing, inside=("boxes", "images")):
            if item.name == "boxes" and isinstance(item.value, dict):
                boxes[item.value.get("box_id")] = item.value
        convert = _pointer(pictures, boxes, reading)
        yield from records_of(_images(pointing, reading.split), convert, reading.skipped)


def _images(file: Path, split: str | None) -> Iterator[tuple[str, Any]]:
    for item in walk(file, inside=("images", "boxes")):
        if item.name == "images" and (not isinstance(item.value, dict) or item.value.get("split") in (split, None)):
            yield f"{file.name}, line {item.line}, image {item.index}", item.value


def _teller(pictures: Pictures) -> Any:
    def convert(name: str, image: Any) -> Iterator[VideoRecord]:
        video, (width, height) = pictures.find(image["filename"])
        pairs = [(pair["question"], pair["answer"]) for pair in image["qa_pairs"]]
        yield VideoRecord(
            id=f"telling-{image['image_id']}", source=SOURCE, license=LICENSE, video=video, width=width, height=height,
            frame_indices=[0], messages=turns(pairs),
        )  # fmt: skip

    return convert


def _pointer(pictures: Pictures, boxes: dict[Any, Any], reading: Reading) -> Any:
    def convert(name: str, image: Any) -> Iterator[VideoRecord]:
        video, size = pictures.find(image["filename"])
        objects = []
        for pair in image["qa_pairs"]:
            where = f"question {pair['qa_id']}"
            box = boxes.get(pair["answer"])
            if box is None:
                reading.skipped.add("answer names a box that is not listed", where)
                continue
            numbers = [box["x"], box["y"], box["width"], box["height"]]
            relative = usable_box(numbers, "xywh", size, reading.skipped, where)
            if relative is not None:
                words = tidy(pair["question"]).rstrip("?. ")
                objects.append(
                    ObjectTrack(
                        boxes=as_boxes([relative]),
                        expression=words[:1].lower() + words[1:],
                        attributes={"category": box["name"]} if box.get("name") else {},
                    )
                )
        if not objects:
            raise Skip("no usable box")
        for number, group in enumerate(share_out(objects)):
            yield VideoRecord(
                id=f"pointing-{image['image_id']}-{number}", source=SOURCE, license=LICENSE, video=video,
                width=size[0], height=size[1], objects=group,
            )  # fmt: skip

    return convert
