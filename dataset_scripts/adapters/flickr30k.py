"""Flickr30k Entities: five captions for each of 31,783 pictures, their phrases linked to boxes.

From https://github.com/BryanPlummer/flickr30k_entities (annotations.zip, unpacked, and train.txt, val.txt, test.txt);
the pictures by the form at https://shannon.cs.illinois.edu/DenotationGraph. The layout:

    Sentences/1000092795.txt      a caption a line: [/EN#1/people Two young guys] with [/EN#2/bodyparts hair] look ...
    Annotations/1000092795.xml    <annotation><filename>1000092795.jpg</filename><size><width>333</width>...</size>
                                  <object><name>1</name><name>6</name><bndbox><xmin>144</xmin>...</bndbox></object>
                                  <object><name>4</name><scene>1</scene><nobndbox>1</nobndbox></object></annotation>
    train.txt val.txt test.txt    picture ids, one a line; without the file of a split, all pictures are read
    flickr30k-images/1000092795.jpg    (or images/)

Pixels are counted from 1 and the last one belongs to the box (as the dataset's own readers take it), so the box is
xmin - 1 to xmax. A phrase whose entity has several boxes (a plural) or none (a scene) is left out and counted. Each
caption is a record of its own, so that an object is never asked about twice in one conversation. Tasks: rec, reg.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ..records import ObjectTrack, VideoRecord
from .common import Pictures, Reading, Skip, box_object, check_size, find_file, records_of, share_out, tidy, usable_box

SPLITS = ("train", "val", "test")
SOURCE = "Flickr30k Entities"
LICENSE = "for non-commercial research and education; pictures: Flickr's terms of use"
_PHRASE = re.compile(r"\[/EN#(\d+)(?:/([^\s\]]+))? ([^\]]+)\]")


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """One record per caption; see the top of this file for the layout."""
    sentences, annotations = find_file(path, "Sentences"), find_file(path, "Annotations")
    pictures = Pictures(reading.images or path / "flickr30k-images", path / "images")
    listed = path / f"{reading.split}.txt"
    if listed.is_file():
        names = listed.read_text(encoding="utf-8").split()
    else:
        names = sorted(file.stem for file in sentences.glob("*.txt"))

    def convert(name: str, _: str) -> Iterator[VideoRecord]:
        boxes, size = _annotation(annotations / f"{name}.xml", name, reading)
        video, shown = pictures.find(f"{name}.jpg")
        check_size(size, shown)
        text = _text_of(sentences / f"{name}.txt")
        for number, line in enumerate(text.splitlines()):
            objects = _phrases(line, boxes, f"{name}, caption {number}", reading)
            for part, group in enumerate(share_out(objects)):
                yield VideoRecord(
                    id=f"{name}-{number}-{part}", source=SOURCE, license=LICENSE, video=video, width=size[0],
                    height=size[1], objects=group, metadata={"caption": _PHRASE.sub(r"\3", line).strip()},
                )  # fmt: skip

    return records_of(((name, name) for name in names), convert, reading.skipped)


def _text_of(file: Path) -> str:
    if not file.is_file():
        raise Skip("caption file not found")
    return file.read_text(encoding="utf-8")


def _annotation(file: Path, name: str, reading: Reading) -> tuple[dict[str, list[list[float]]], tuple[int, int]]:
    """Boxes by entity, and the picture's size."""
    if not file.is_file():
        raise Skip("annotation file not found")
    try:
        root = ElementTree.parse(file).getroot()
    except ElementTree.ParseError:
        raise Skip("annotation file is no XML") from None
    size = (int(root.findtext("size/width", "")), int(root.findtext("size/height", "")))
    boxes: defaultdict[str, list[list[float]]] = defaultdict(list)
    for number, item in enumerate(root.iter("object")):
        box = item.find("bndbox")
        if box is None:
            continue
        x1, y1, x2, y2 = (float(box.findtext(corner, "")) for corner in ("xmin", "ymin", "xmax", "ymax"))
        relative = usable_box([x1 - 1, y1 - 1, x2, y2], "xyxy", size, reading.skipped, f"{name}, object {number}")
        for entity in item.findall("name"):
            if relative is not None:
                boxes[entity.text or ""].append(relative)
    return boxes, size


def _phrases(line: str, boxes: dict[str, list[list[float]]], where: str, reading: Reading) -> list[ObjectTrack]:
    objects = []
    for entity, kind, words in _PHRASE.findall(line):
        found = boxes.get(entity, [])
        if len(found) == 1:
            objects.append(box_object(found[0], tidy(words), {"category": kind} if kind else None))
        elif entity != "0":  # 0: words that name nothing that can be seen
            reading.skipped.add("phrase with several boxes" if found else "phrase without a box", f"{where}: {words}")
    return objects
