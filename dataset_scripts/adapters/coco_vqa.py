"""COCO-VQA: the questions of VQA v2 on COCO pictures, with the answer that most people gave.

From https://visualqa.org/download.html (questions and annotations, unpacked) and https://cocodataset.org (pictures of
2014). The layout:

    v2_OpenEnded_mscoco_train2014_questions.json    {"data_subtype": "train2014", "questions": [{"image_id": 458752,
                                                      "question": "...", "question_id": 458752000}, ...]}
    v2_mscoco_train2014_annotations.json            {"annotations": [{"question_id": 458752000, "image_id": 458752,
                                                      "multiple_choice_answer": "net", "answers": [...], ...}]}
    train2014/COCO_train2014_000000458752.jpg       (--images: the folder that holds train2014)

One record per picture with all of its questions in turns. Tasks: vqa.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..records import VideoRecord
from .common import Pictures, Reading, find_file, records_of, turns
from .json_stream import walk

SPLITS = ("train", "val")
SOURCE = "COCO-VQA"
LICENSE = "CC BY 4.0 (questions and answers); pictures: COCO's terms of use"


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """One record per picture; see the top of this file for the layout."""
    subset = f"{reading.split}2014"
    questions = find_file(path, f"v2_OpenEnded_mscoco_{subset}_questions.json")
    annotations = find_file(path, f"v2_mscoco_{subset}_annotations.json")
    pictures = Pictures(reading.images or path, path / "images")
    answers: dict[int, str] = {}
    for item in walk(annotations, inside=("annotations",)):
        if item.name == "annotations" and isinstance(item.value, dict) and "question_id" in item.value:
            answers[item.value["question_id"]] = item.value.get("multiple_choice_answer", "")
    asked: defaultdict[Any, list[tuple[str, str]]] = defaultdict(list)
    for item in walk(questions, inside=("questions",)):
        if item.name == "questions":
            _add(asked, item.value, answers, reading, f"{questions.name}, line {item.line}, question {item.index}")

    def convert(name: str, pairs: list[tuple[str, str]]) -> Iterator[VideoRecord]:
        image = int(name)
        video, (width, height) = pictures.find(f"{subset}/COCO_{subset}_{image:012d}.jpg")
        yield VideoRecord(
            id=f"{subset}-{image}", source=SOURCE, license=LICENSE, video=video, width=width, height=height,
            frame_indices=[0], messages=turns(pairs),
        )  # fmt: skip

    return records_of(((str(image), pairs) for image, pairs in asked.items()), convert, reading.skipped)


def _add(asked: Any, question: Any, answers: dict[int, str], reading: Reading, where: str) -> None:
    """Put a question with its answer to those of its picture."""
    if not isinstance(question, dict) or not {"question_id", "question", "image_id"} <= set(question):
        reading.skipped.add("annotation is not of the published form", where)
    elif not answers.get(question["question_id"]):
        reading.skipped.add("question without an answer", where)
    elif not str(question["question"]).strip():
        reading.skipped.add("question or answer is empty", where)
    else:
        asked[question["image_id"]].append((question["question"], answers[question["question_id"]]))
