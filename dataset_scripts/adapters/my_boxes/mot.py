"""MOT's gt.txt: a box a line, as the MOTChallenge, CVAT and many tools write it."""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from pathlib import Path

from ...records import VideoRecord
from ..common import Reading
from .media import Media, MediaFolder, open_media
from .tracks import Key, Track, record_of

__all__ = ["is_mot", "read"]


def is_mot(file: Path, media: MediaFolder) -> bool:
    """Whether a text file is called as MOT's are: gt.txt, or as a video beside it."""
    return file.name == "gt.txt" or media.stem(file.stem, file.parent) is not None


def read(file: Path, media: MediaFolder, reading: Reading) -> Iterator[VideoRecord]:
    """The record of one sequence.

    Raises:
        ValueError: a line is wrong, or the video cannot be found or is shorter; the message names file and line.
    """
    name, opened = _sequence(file, media)
    tracks, frames = _tracks(file, reading)
    record = record_of(name, opened, tracks, reading.skipped, frames)
    if record is not None:
        if record.fps is None:
            record.fps = _stated_rate(file)
        yield record


def _sequence(file: Path, media: MediaFolder) -> tuple[str, Media]:
    """The sequence's name and its frames or video."""
    home = file.parent.parent if file.parent.name == "gt" else file.parent
    if file.name != "gt.txt":
        path = media.stem(file.stem, file.parent)
        name = media.name_of(file)
    else:
        name = media.name_of(home) if home != media.exports else home.resolve().name
        folder = next((home / part for part in ("img1", "images") if (home / part).is_dir()), None)
        path = folder or media.only_video_near(home) or media.stem(home.name, home.parent)
    if path is None:
        raise ValueError(
            f"{file}: found neither {home / 'img1'} nor one video in {home}; put the frames or the video there."
        )
    return name, open_media(path, str(file))


def _tracks(file: Path, reading: Reading) -> tuple[list[Track], list[int]]:
    """Objects in the order in which they appear, and the frames that the file speaks of."""
    names = file.with_name("labels.txt")
    labels = names.read_text(encoding="utf-8").split("\n") if names.is_file() else []
    first_pixel = 0 if labels else 1  # CVAT, which writes labels.txt, counts pixels from 0, the MOTChallenge from 1
    tracks: dict[str, Track] = {}
    frames = set()
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        where = f"{file}, line {number}"
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        try:
            frame, identity = int(float(cells[0])), str(int(float(cells[1])))
            left, top, width, height = (float(cell) for cell in cells[2:6])
            flag = float(cells[6]) if len(cells) > 6 else 1.0
            kind = int(float(cells[7])) if 8 <= len(cells) <= 9 else None
        except (ValueError, IndexError):
            raise ValueError(
                f"{where}: expected frame,id,left,top,width,height[,flag,class,visibility], found {line.strip()!r}."
            ) from None
        if frame < 1:
            raise ValueError(f"{where}: frame {frame}; MOT counts frames from 1, so add 1 to all of them.")
        if identity == "-1":
            raise ValueError(f"{where}: id -1 marks a box without identity; tracks need an id per object.")
        frames.add(frame - 1)
        track = tracks.setdefault(identity, Track(label=_label(labels, kind)))
        if flag == 0:
            reading.skipped.add("row with flag 0, which MOT ignores", where)
            track.unsure.add(frame - 1)
            continue
        corners = (left - first_pixel, top - first_pixel, left - first_pixel + width, top - first_pixel + height)
        track.keys.append(Key(frame - 1, corners, where))
    if not frames:
        raise ValueError(f"{file} is empty; a box a line is expected: frame,id,left,top,width,height.")
    return list(tracks.values()), sorted(frames)


def _label(labels: list[str], kind: int | None) -> str | None:
    """The name of a class that is counted from 1."""
    if kind is None or not 1 <= kind <= len(labels):
        return None
    return labels[kind - 1].strip() or None


def _stated_rate(file: Path) -> float | None:
    """Frames per second as seqinfo.ini says."""
    info = configparser.ConfigParser()
    try:
        info.read(file.parent.parent / "seqinfo.ini", encoding="utf-8")
        rate = info.getfloat("Sequence", "frameRate", fallback=0.0)
    except (configparser.Error, ValueError):
        return None
    return rate if rate > 0 else None
