"""COCO's JSON: pictures, or videos in the ways that are common (CocoVID, YouTube-VIS, CVAT's export of a video)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...records import VideoRecord
from ..common import Reading
from ..json_stream import Item, walk
from .media import MediaFolder, open_media, open_picture
from .tracks import Corners, Key, Track, check_frame_size, record_of

__all__ = ["read"]

_LISTS = ("images", "annotations", "categories", "videos")


def read(file: Path, media: MediaFolder, reading: Reading) -> Iterator[VideoRecord]:
    """One record per picture or video.

    Raises:
        ValueError: an entry is wrong, or a file cannot be found; the message names file, line and entry.
    """
    lists: dict[str, list[Item]] = {name: [] for name in _LISTS}
    for item in walk(file, inside=_LISTS):
        if item.name in lists and item.index is not None:
            if not isinstance(item.value, dict):
                raise ValueError(f"{_place(file, item)} is {str(item.value)[:60]}; expected an object.")
            lists[item.name].append(item)
    labels = {_get(file, item, "id"): str(_get(file, item, "name")) for item in lists["categories"]}
    export = _Export(file, media, reading, lists, labels)
    if any("bboxes" in item.value for item in lists["annotations"]):
        yield from export.youtube_vis()
    elif lists["videos"]:
        yield from export.videos(by="video_id")
    elif any(_track_id(item.value) is not None for item in lists["annotations"]):
        yield from export.videos(by="folder")
    else:
        yield from export.pictures()


def _place(file: Path, item: Item) -> str:
    return f"{file}, line {item.line}, {item.name}[{item.index}]"


def _get(file: Path, item: Item, key: str) -> Any:
    if key not in item.value:
        raise ValueError(f"{_place(file, item)} lacks {key!r}; it has {', '.join(item.value) or 'nothing'}.")
    return item.value[key]


def _track_id(annotation: dict[str, Any]) -> Any:
    attributes = annotation.get("attributes")
    inner = attributes.get("track_id") if isinstance(attributes, dict) else None
    return annotation.get("track_id", annotation.get("instance_id", inner))


def _in_order(name: str) -> list[str]:
    """What sorts frame2.jpg before frame10.jpg."""
    return [part.zfill(12) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


class _Export:
    """One COCO file, its lists by name."""

    def __init__(
        self, file: Path, media: MediaFolder, reading: Reading, lists: dict[str, list[Item]], labels: dict[Any, str]
    ) -> None:
        self.file, self.media, self.reading, self.lists, self.labels = file, media, reading, lists, labels

    def corners(self, box: Any, item: Item) -> Corners:
        """Left, top, width, height as corners."""
        try:
            left, top, width, height = (float(number) for number in box)
        except (TypeError, ValueError):
            raise ValueError(
                f"{_place(self.file, item)}: bbox is {str(box)[:60]}; expected [left, top, width, height] in pixels."
            ) from None
        return left, top, left + width, top + height

    def track(self, annotation: Item) -> Track:
        """A track of this annotation's label and words, without boxes."""
        track = Track(label=self.labels.get(annotation.value.get("category_id")))
        for name in ("expression", "caption"):
            track.set_words(name, str(annotation.value.get(name) or ""))
        return track

    def by_image(self) -> dict[Any, list[Item]]:
        """Annotations by picture; crowds, which are no object, are counted."""
        known = {_get(self.file, image, "id") for image in self.lists["images"]}
        found: defaultdict[Any, list[Item]] = defaultdict(list)
        for item in self.lists["annotations"]:
            image = _get(self.file, item, "image_id")
            if image not in known:
                raise ValueError(f"{_place(self.file, item)}: image_id {image!r} is not among the images.")
            if item.value.get("iscrowd"):
                self.reading.skipped.add("crowd, not one object", _place(self.file, item))
            else:
                found[image].append(item)
        return found

    def pictures(self) -> Iterator[VideoRecord]:
        """One record per picture that has boxes."""
        annotations = self.by_image()
        for image in self.lists["images"]:
            where = _place(self.file, image)
            items = annotations.get(image.value["id"], [])
            if not items:
                self.reading.skipped.add("picture without boxes", where)
                continue
            name = str(_get(self.file, image, "file_name"))
            opened = open_picture(self.media.named(name, self.file, where), where)
            check_frame_size((_get(self.file, image, "width"), _get(self.file, image, "height")), opened, where)
            tracks = [self.track(item) for item in items]
            for track, item in zip(tracks, items, strict=True):
                corners = self.corners(_get(self.file, item, "bbox"), item)
                track.keys.append(Key(0, corners, _place(self.file, item)))
            yield from _made(
                record_of(f"{self.media.name_of(self.file)}/{name}", opened, tracks, self.reading.skipped)
            )

    def videos(self, by: str) -> Iterator[VideoRecord]:
        """One record per video; `by` says what tells which pictures belong together."""
        annotations = self.by_image()
        groups: defaultdict[Any, list[Item]] = defaultdict(list)
        for image in self.lists["images"]:
            name = str(_get(self.file, image, "file_name"))
            group = _get(self.file, image, by) if by == "video_id" else name.rpartition("/")[0]
            groups[group].append(image)
        videos = {_get(self.file, item, "id"): item for item in self.lists["videos"]}
        for group, images in groups.items():
            if by == "video_id" and group not in videos:
                raise ValueError(f"{_place(self.file, images[0])}: video_id {group!r} is not among the videos.")
            images.sort(key=lambda image: (image.value.get("frame_id", 0), _in_order(image.value["file_name"])))
            yield from self._video(str(group), images, annotations, videos.get(group))

    def _video(
        self, group: str, images: list[Item], annotations: dict[Any, list[Item]], video: Item | None
    ) -> Iterator[VideoRecord]:
        """Frames as files where they are there, else frame numbers of the video that is named."""
        where = _place(self.file, images[0])
        name = str((video.value.get("name") or video.value.get("file_name")) if video else group) or self.file.stem
        if video is None or self.media.has(images[0].value["file_name"]):
            files = [
                self.media.named(image.value["file_name"], self.file, _place(self.file, image)) for image in images
            ]
            opened, numbers = open_media(files, where), list(range(len(images)))
        else:
            path = self.media.named(str(video.value.get("file_name") or name), self.file, _place(self.file, video))
            opened, numbers = open_media(path, where), [int(_get(self.file, image, "frame_id")) for image in images]
        check_frame_size((_get(self.file, images[0], "width"), _get(self.file, images[0], "height")), opened, where)
        tracks: dict[Any, Track] = {}
        for number, image in zip(numbers, images, strict=True):
            for item in annotations.get(image.value["id"], []):
                identity = _track_id(item.value)
                if identity is None:
                    raise ValueError(
                        f"{_place(self.file, item)} lacks track_id, which says which boxes are one object."
                    )
                track = tracks.setdefault(identity, self.track(item))
                corners = self.corners(_get(self.file, item, "bbox"), item)
                track.keys.append(Key(number, corners, _place(self.file, item)))
        name = f"{self.media.name_of(self.file)}/{name}"
        yield from _made(record_of(name, opened, list(tracks.values()), self.reading.skipped, sorted(numbers)))

    def youtube_vis(self) -> Iterator[VideoRecord]:
        """Annotations that list a box or null for every frame of a video."""
        by_video: defaultdict[Any, list[Item]] = defaultdict(list)
        for item in self.lists["annotations"]:
            by_video[_get(self.file, item, "video_id")].append(item)
        for video in self.lists["videos"]:
            where = _place(self.file, video)
            names: Sequence[str] = _get(self.file, video, "file_names")
            opened = open_media([self.media.named(name, self.file, where) for name in names], where)
            check_frame_size((_get(self.file, video, "width"), _get(self.file, video, "height")), opened, where)
            tracks = []
            for item in by_video[_get(self.file, video, "id")]:
                boxes = _get(self.file, item, "bboxes")
                if len(boxes) != len(names):
                    raise ValueError(
                        f"{_place(self.file, item)}: {len(boxes)} bboxes for {len(names)} frames; give one per frame, "
                        "null where there is none."
                    )
                track = self.track(item)
                track.keys = [
                    Key(frame, self.corners(box, item), _place(self.file, item))
                    for frame, box in enumerate(boxes)
                    if box is not None
                ]
                tracks.append(track)
            name = f"{self.media.name_of(self.file)}/{Path(names[0]).parent.name or video.value['id']}"
            frames = range(len(names))
            yield from _made(record_of(name, opened, tracks, self.reading.skipped, frames))


def _made(record: VideoRecord | None) -> Iterator[VideoRecord]:
    if record is not None:
        yield record
