"""CVAT's XML 1.1: tracks with keyframes ("CVAT for video") and boxes in pictures ("CVAT for images").

Frames count from 0 in the video. CVAT lists the boxes between keyframes too; where an older export does not, they are
filled in. `outside` marks the frame from which on the object cannot be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from ...records import VideoRecord
from ..common import Reading
from .media import Media, MediaFolder, open_media, open_picture
from .tracks import Corners, Key, Track, check_frame_size, record_of

__all__ = ["read"]

_SHAPES = ("polygon", "polyline", "points", "cuboid", "mask", "ellipse", "skeleton")


@dataclass
class Element:
    """An XML element and its line."""

    tag: str
    attributes: dict[str, str]
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str) -> list[Element]:
        """Children of this name."""
        return [child for child in self.children if child.tag == tag]

    def find(self, *tags: str) -> Element | None:
        """The first element along a path of names."""
        found: Element | None = self
        for tag in tags:
            found = next(iter(found.all(tag)), None) if found is not None else None
        return found


def parse_xml(file: Path) -> Element:
    """An XML file with the lines of its elements; entities of its own are refused.

    Raises:
        ValueError: it is no XML; the message names file and line.
    """
    root = Element("", {}, 0)
    open_elements = [root]
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, attributes, parser.CurrentLineNumber)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(_: str) -> None:
        open_elements.pop()

    def text(data: str) -> None:
        open_elements[-1].text += data

    def entity(*_: object) -> None:
        raise ValueError(f"{file}, line {parser.CurrentLineNumber}: declares an entity, which no export of CVAT does.")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.EntityDeclHandler = text, entity
    try:
        with open(file, "rb") as opened:
            parser.ParseFile(opened)
    except expat.ExpatError as error:
        raise ValueError(f"{file}, line {error.lineno}: no XML ({expat.ErrorString(error.code)}).") from None
    return root.children[0]


def read(file: Path, media: MediaFolder, reading: Reading) -> Iterator[VideoRecord]:
    """One record per video (tracks) or picture (images).

    Raises:
        ValueError: an element is wrong, or a file cannot be found; the message names file and line.
    """
    root = parse_xml(file)
    tracks, images = root.all("track"), root.all("image")
    if tracks:
        record = _video(root, tracks, file, media, reading)
        if record is not None:
            yield record
    for image in images:
        record = _picture(image, file, media, reading)
        if record is not None:
            yield record
    if not tracks and not images:
        raise ValueError(f"{file} holds no <track> and no <image>; export as CVAT for video 1.1 or for images 1.1.")


def _video(
    root: Element, elements: list[Element], file: Path, media: MediaFolder, reading: Reading
) -> VideoRecord | None:
    opened, name = _opened(root, file, media)
    stated = root.find("meta", "task", "original_size") or root.find("meta", "job", "original_size")
    if stated is not None:
        width, height = (stated.find(side) for side in ("width", "height"))
        if width is not None and height is not None:
            check_frame_size((float(width.text or 0), float(height.text or 0)), opened, f"{file}, line {stated.line}")
    tracks = []
    for element in elements:
        boxes = element.all("box")
        if not boxes:
            shapes = sorted({child.tag for child in element.children if child.tag in _SHAPES})
            what = f"track of {', '.join(shapes)}, not of boxes" if shapes else "track without boxes"
            reading.skipped.add(what, f"{file}, line {element.line}")
            continue
        keys = [_key(box, file) for box in boxes]
        keys.sort(key=lambda key: key.frame)
        track = Track(label=element.attributes.get("label"), keys=keys, ended=not keys[-1].shown)
        for attribute in boxes[0].all("attribute") + element.all("attribute"):
            track.set_words(attribute.attributes.get("name", ""), attribute.text)
        tracks.append(track)
    return record_of(name, opened, tracks, reading.skipped)


def _opened(root: Element, file: Path, media: MediaFolder) -> tuple[Media, str]:
    """The video that the export names, or the one that is called as the export or stands alone beside it."""
    where = f"{file}, line {root.line}"
    source = root.find("meta", "task", "source") or root.find("meta", "source") or root.find("meta", "job", "source")
    path = media.stem(file.stem, file.parent) or media.only_video_near(file.parent)
    if source is not None and source.text.strip() and media.has(source.text.strip()):
        path = media.named(source.text.strip(), file, f"{file}, line {source.line}")
    if path is None and (file.parent / "images").is_dir():
        path = file.parent / "images"
    if path is None:
        named = f"{source.text.strip()!r} (<source>) or " if source is not None and source.text.strip() else ""
        raise ValueError(f"{where}: found neither {named}a video called {file.stem!r} nor one video in {file.parent}.")
    return open_media(path, where), f"{media.name_of(file)}/{path.stem}"


def _number(element: Element, name: str, file: Path) -> float:
    try:
        return float(element.attributes[name])
    except (KeyError, ValueError):
        raise ValueError(
            f"{file}, line {element.line}: <{element.tag}> has {name}={element.attributes.get(name)!r}; "
            "expected a number."
        ) from None


def _corners(box: Element, file: Path) -> Corners:
    x1, y1, x2, y2 = (_number(box, name, file) for name in ("xtl", "ytl", "xbr", "ybr"))
    return x1, y1, x2, y2


def _key(box: Element, file: Path) -> Key:
    shown = box.attributes.get("outside", "0") != "1"
    frame = int(_number(box, "frame", file))
    return Key(frame, _corners(box, file), f"{file}, line {box.line}", shown=shown, carries_on=shown)


def _picture(image: Element, file: Path, media: MediaFolder, reading: Reading) -> VideoRecord | None:
    where = f"{file}, line {image.line}"
    name = image.attributes.get("name", "")
    boxes = image.all("box")
    if not boxes:
        reading.skipped.add("picture without boxes", where)
        return None
    opened = open_picture(media.named(name, file, where), where)
    check_frame_size((_number(image, "width", file), _number(image, "height", file)), opened, where)
    tracks = []
    for box in boxes:
        key = Key(0, _corners(box, file), f"{file}, line {box.line}")
        track = Track(label=box.attributes.get("label"), keys=[key])
        for attribute in box.all("attribute"):
            track.set_words(attribute.attributes.get("name", ""), attribute.text)
        tracks.append(track)
    return record_of(f"{media.name_of(file)}/{name}", opened, tracks, reading.skipped)
