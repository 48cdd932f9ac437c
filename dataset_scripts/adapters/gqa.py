"""GQA: questions on Visual Genome pictures, and the scene graphs that they were made from.

From https://cs.stanford.edu/people/dorarad/gqa/download.html (questions1.2.zip, sceneGraphs.zip and images.zip,
unpacked). The layout:

    train_balanced_questions.json    {"07333408": {"question": "What is on the white wall?", "answer": "pipe",
                                       "fullAnswer": "The pipe is on the wall.", "imageId": "2375429", ...}, ...}
    train_sceneGraphs.json           {"2375429": {"width": 640, "height": 480, "objects": {"681267":
                                       {"name": "banana", "x": 248, "y": 160, "w": 30, "h": 50, "relations": [...],
                                        "attributes": ["small"]}}}}
    images/2375429.jpg

Either file may be missing (scene graphs: train and val only), and either may lie in a folder `questions` or
`sceneGraphs`. Each picture gives a record of its questions, eight at most in one, and a record of those objects whose
name no other object of the picture has (boxes in pixels, left, top, width, height). Tasks: vqa; rec, reg.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..records import VideoRecord
from .common import (
    Pictures,
    Reading,
    Skip,
    box_object,
    check_size,
    one_meaning,
    records_of,
    tidy,
    turns,
    usable_box,
)  # fmt: skip
from .json_stream import walk

SPLITS = ("train", "val", "testdev")
SOURCE = "GQA"
LICENSE = "CC BY 4.0"
MOST_QUESTIONS = 8  # in one record


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """Records of questions, then records of objects; see the top of this file for the layout."""
    pictures = Pictures(reading.images or path / "images")
    found = False
    for name in (f"{reading.split}_balanced_questions.json", f"questions/{reading.split}_balanced_questions.json"):
        if (path / name).is_file():
            found = True
            yield from _questions(path / name, pictures, reading)
            break
    for name in (f"{reading.split}_sceneGraphs.json", f"sceneGraphs/{reading.split}_sceneGraphs.json"):
        if (path / name).is_file():
            found = True
            yield from _objects(path / name, pictures, reading)
            break
    if not found:
        raise ValueError(
            f"{path} holds neither {reading.split}_balanced_questions.json nor {reading.split}_sceneGraphs.json; give "
            "the folder that questions1.2.zip or sceneGraphs.zip was unpacked into."
        )


def _questions(file: Path, pictures: Pictures, reading: Reading) -> Iterator[VideoRecord]:
    asked: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for item in walk(file):
        try:
            asked[str(item.value["imageId"])].append((item.value["question"], item.value["answer"]))
        except (KeyError, TypeError):
            reading.skipped.add("annotation is not of the published form", f"question {item.name}, line {item.line}")

    def convert(image: str, pairs: list[tuple[str, str]]) -> Iterator[VideoRecord]:
        video, (width, height) = pictures.find(f"{image}.jpg")
        for part in range(0, len(pairs), MOST_QUESTIONS):
            yield VideoRecord(
                id=f"{image}-questions-{part // MOST_QUESTIONS}", source=SOURCE, license=LICENSE, video=video,
                width=width, height=height, frame_indices=[0], messages=turns(pairs[part : part + MOST_QUESTIONS]),
            )  # fmt: skip

    return records_of(asked.items(), convert, reading.skipped)


def _objects(file: Path, pictures: Pictures, reading: Reading) -> Iterator[VideoRecord]:
    def convert(image: str, graph: Any) -> Iterator[VideoRecord]:
        video, shown = pictures.find(f"{image}.jpg")
        size = check_size((graph["width"], graph["height"]), shown)
        objects = []
        for key, item in graph["objects"].items():
            box = [item["x"], item["y"], item["w"], item["h"]]
            relative = usable_box(box, "xywh", size, reading.skipped, f"{image}, object {key}")
            if relative is not None:
                looks = ", ".join(item.get("attributes", []))
                objects.append(box_object(relative, tidy(item["name"]), {"attributes": looks} if looks else None))
        objects = one_meaning(objects, reading.skipped, image)
        if not objects:
            raise Skip("picture without an object that its name fits alone")
        yield VideoRecord(
            id=f"{image}-objects", source=SOURCE, license=LICENSE, video=video, width=size[0], height=size[1],
            objects=objects,
        )  # fmt: skip

    return records_of(((item.name, item.value) for item in walk(file)), convert, reading.skipped)
