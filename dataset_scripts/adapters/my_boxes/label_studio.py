"""Label Studio's "JSON" export: rectangles with keyframes in videos, and rectangles in pictures.

Numbers are per cent of the frame. Frames count from 1, at the rate of the project's Video tag, which need not be the
file's: `framesCount` is what the tool took for the number of frames, and where the file has another number the frames
are converted. A keyframe with `enabled` false is the last one in which the object is seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...records import VideoRecord
from ..common import Reading
from ..json_stream import Item, walk
from .media import Media, MediaFolder, open_media, open_picture
from .tracks import Corners, Key, Track, check_frame_size, record_of, rotated_extent

__all__ = ["read"]


def read(file: Path, media: MediaFolder, reading: Reading) -> Iterator[VideoRecord]:
    """One record per task.

    Raises:
        ValueError: a task is wrong, or its file cannot be found; the message names file and line.
    """
    for item in walk(file):
        where = f"{file}, line {item.line}, task {_task_name(item)}"
        if not isinstance(item.value, dict) or not isinstance(item.value.get("data"), dict):
            raise ValueError(f'{where}: expected {{"data": ..., "annotations": ...}}; export as "JSON", not JSON-MIN.')
        results = _results(item.value, where, reading)
        videos = [result for result in results if result.get("type") == "videorectangle"]
        rectangles = [result for result in results if result.get("type") in ("rectanglelabels", "rectangle")]
        try:
            if videos:
                record = _video(item.value["data"], videos, where, file, media, reading)
            elif rectangles:
                record = _picture(item.value["data"], rectangles, where, file, media, reading)
            else:
                reading.skipped.add("task without rectangles", where)
                continue
        except (KeyError, TypeError, AttributeError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else f"is not of the known form ({error})"
            raise ValueError(f"{where} {what}.") from None
        if record is not None:
            yield record


def _task_name(item: Item) -> Any:
    return item.value.get("id", item.index) if isinstance(item.value, dict) else item.index


def _results(task: dict[str, Any], where: str, reading: Reading) -> list[dict[str, Any]]:
    """The regions of the task's last annotation that was not cancelled."""
    made = [one for one in task.get("annotations") or task.get("completions") or [] if not one.get("was_cancelled")]
    if len(made) > 1:
        reading.skipped.add("older annotation of a task that has a newer one", where)
    return (made[-1].get("result") or []) if made else []


def _address(data: dict[str, Any], endings: str, where: str) -> str:
    """The value of the task's data that names the file."""
    texts = [value for value in data.values() if isinstance(value, str) and "." in value.rpartition("/")[2]]
    if not texts:
        raise ValueError(f"{where}: data names no {endings}; it has {', '.join(data) or 'nothing'}.")
    return texts[0]


def _video(
    data: dict[str, Any], results: list[dict[str, Any]], where: str, file: Path, media: MediaFolder, reading: Reading
) -> VideoRecord | None:
    path = media.named(_address(data, "video", where), file, where)
    opened = open_media(path, where)
    tracks = []
    for number, result in enumerate(results):
        value, place = result["value"], f"{where}, region {result.get('id', number)}"
        keys = [_key(step, value, opened, place) for step in sorted(value["sequence"], key=lambda step: step["frame"])]
        if not keys:
            reading.skipped.add("region without keyframes", place)
            continue
        labels = value.get("labels") or value.get("rectanglelabels") or [None]
        track = Track(label=labels[0], keys=keys, to_end=keys[-1].carries_on)
        _take_words(track, result)
        tracks.append(track)
    return record_of(f"{media.name_of(file)}/{path.stem}", opened, tracks, reading.skipped)


def _key(step: dict[str, Any], value: dict[str, Any], opened: Media, where: str) -> Key:
    """A keyframe, its frame counted from 0 in the file."""
    frame, place = int(step["frame"]), f"{where}, keyframe {step['frame']}"
    if frame < 1:
        raise ValueError(f"{place}: frames count from 1.")
    counted = int(value.get("framesCount") or opened.num_frames)
    index = frame - 1
    if abs(counted - opened.num_frames) > 1:  # counted at another rate than the file's
        index = min(round((frame - 1) * opened.num_frames / counted), opened.num_frames - 1)
    return Key(index, _corners(step, opened.size), place, carries_on=bool(step.get("enabled", True)))


def _corners(value: dict[str, Any], size: tuple[int, int]) -> Corners:
    """Corners in pixels of left, top, width, height in per cent and a turn in degrees."""
    x, width = (value[key] / 100 * size[0] for key in ("x", "width"))
    y, height = (value[key] / 100 * size[1] for key in ("y", "height"))
    return rotated_extent((x, y, x + width, y + height), float(value.get("rotation") or 0.0))


def _picture(
    data: dict[str, Any], results: list[dict[str, Any]], where: str, file: Path, media: MediaFolder, reading: Reading
) -> VideoRecord | None:
    path = media.named(_address(data, "picture", where), file, where)
    opened = open_picture(path, where)
    tracks = []
    for number, result in enumerate(results):
        place = f"{where}, region {result.get('id', number)}"
        if "original_width" in result:
            check_frame_size((result["original_width"], result["original_height"]), opened, place)
        value = result["value"]
        track = Track(label=(value.get("rectanglelabels") or value.get("labels") or [None])[0])
        track.keys = [Key(0, _corners(value, opened.size), place)]
        _take_words(track, result)
        tracks.append(track)
    return record_of(f"{media.name_of(file)}/{path.name}", opened, tracks, reading.skipped)


def _take_words(track: Track, result: dict[str, Any]) -> None:
    """What the annotator noted about the region (`meta`) is its caption."""
    texts = (result.get("meta") or {}).get("text")
    if texts:
        track.set_words("caption", texts if isinstance(texts, str) else " ".join(texts))
