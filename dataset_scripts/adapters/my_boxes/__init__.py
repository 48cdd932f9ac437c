"""Your own videos and pictures, annotated with MOT, COCO, Label Studio or CVAT; which of them is found out.

PATH is a folder with videos (or folders of frames, or pictures) and what the annotation tool exported, in any order of
folders; or one export, with the videos below its folder. What is recognized:

    MOT             SEQUENCE/gt/gt.txt beside SEQUENCE/img1/ (or SEQUENCE/SEQUENCE.mp4); or cat.txt beside cat.mp4:
                    frame,id,left,top,width,height[,flag,class,visibility] a line, frames and pixels counted from 1.
                    With labels.txt beside it (names of the classes, one a line: CVAT writes it) pixels count from 0.
    COCO            .json with images and annotations: pictures; with videos, or track_id in annotations, or bboxes
                    (YouTube-VIS): videos
    Label Studio    .json, exported as "JSON": VideoRectangle with keyframes, or RectangleLabels on pictures
    CVAT            .xml, exported as "CVAT for video 1.1" or "CVAT for images 1.1"

Between keyframes the box moves in a straight line, as the tools show it. In a video, an object without a box counts as
absent in the frames that are annotated; after the last box of a CVAT track that does not say `outside`, nothing is
known.
An object that is the only one of its label in a video or picture gets the label as its expression, so that it can be
asked for by words; a CVAT attribute, or a COCO annotation's key, named `expression` or `caption` takes precedence.
What is wrong with an export is one error that names file and line; a box without area or outside the frame is counted.
Tasks: sot; rsot and rec with words; video_reg and reg with captions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ...records import VideoRecord
from ..common import Reading
from ..json_stream import walk
from .coco import read as read_coco
from .cvat import read as read_cvat
from .label_studio import read as read_label_studio
from .media import MediaFolder
from .mot import is_mot
from .mot import read as read_mot

__all__ = ["SPLITS", "kind_of", "read"]

SPLITS: tuple[str, ...] = ()
_READERS: dict[str, Callable[[Path, MediaFolder, Reading], Iterator[VideoRecord]]] = {
    "MOT": read_mot,
    "COCO": read_coco,
    "Label Studio": read_label_studio,
    "CVAT": read_cvat,
}


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """One record per video or picture; see the top of this file for the layouts.

    Raises:
        ValueError: there is no export, or something in one is wrong; the message names file and line.
    """
    home = path if path.is_dir() else path.parent
    media = MediaFolder(reading.images or home, home)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    kinds = [(file, kind_of(file, media)) for file in files]
    exports = [(file, kind) for file, kind in kinds if kind is not None]
    if not exports:
        others = [file.name for file in files if file.suffix in (".txt", ".json", ".xml", ".zip")][:5]
        raise ValueError(
            f"{path} holds no export that is known: MOT (gt/gt.txt, or NAME.txt beside NAME.mp4), COCO or Label "
            f"Studio (.json), CVAT (.xml){'; not recognized: ' + ', '.join(others) if others else ''}. Unpack zips "
            "first."
        )
    for file, kind in exports:
        try:
            yield from _READERS[kind](file, media, reading)
        except (KeyError, TypeError, AttributeError) as error:  # a value of another kind than any export has there
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{file} is not what {kind} exports: {what}; export it anew.") from error


def kind_of(file: Path, media: MediaFolder) -> str | None:
    """Which tool wrote a file: a key of the readers, or None."""
    if file.suffix == ".txt":
        return "MOT" if is_mot(file, media) else None
    if file.suffix == ".xml":
        return "CVAT" if "<annotations" in _beginning(file) else None
    if file.suffix == ".json":
        return _kind_of_json(file)
    return None


def _beginning(file: Path) -> str:
    with open(file, encoding="utf-8", errors="replace") as opened:
        return opened.read(4096)


def _kind_of_json(file: Path) -> str | None:
    """COCO is an object with annotations, Label Studio a list of tasks; broken JSON raises ValueError."""
    beginning = _beginning(file).lstrip("\ufeff \t\r\n")
    if beginning.startswith("["):
        first = next(iter(walk(file)), None)
        task = first.value if first is not None and isinstance(first.value, dict) else {}
        return "Label Studio" if "data" in task and ("annotations" in task or "completions" in task) else None
    if not beginning.startswith("{"):
        return None
    keys = set()
    for item in walk(file, inside=("images", "annotations", "videos")):
        keys.add(item.name)
        if {"images", "annotations"} <= keys or {"videos", "annotations"} <= keys:
            return "COCO"
    return None
