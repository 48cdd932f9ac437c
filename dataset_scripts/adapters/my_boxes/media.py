"""The videos, folders of frames and pictures below a folder, found by the names that annotation tools write."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from processing_elysium.frames import open_video
from processing_elysium.image_sequence import images_of_folder, is_image_name

from ..common import Skip, shown_size

__all__ = ["Media", "MediaFolder", "open_media", "open_picture"]

VIDEO_ENDINGS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".gif")
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts this before the name of an uploaded file


@dataclass(frozen=True)
class Media:
    """A video, frames or a picture.

    Attributes:
        video: as a record names it.
        width, height: in pixels, as shown.
        num_frames: its length.
        fps: frames per second, None where unknown.
    """

    video: str | list[str]
    width: int
    height: int
    num_frames: int
    fps: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height


class MediaFolder:
    """Everything below a folder that can be a video, by name.

    Attributes:
        folder: that folder.
        exports: the folder that the exports are in.
    """

    def __init__(self, folder: Path, exports: Path) -> None:
        """List the folder."""
        self.folder, self.exports = folder, exports
        self.by_name: defaultdict[str, list[Path]] = defaultdict(list)
        self.videos: list[Path] = []
        for file in sorted(folder.rglob("*")):
            if file.is_file() and (file.suffix.lower() in VIDEO_ENDINGS or is_image_name(file)):
                self.by_name[file.name].append(file)
                if file.suffix.lower() in VIDEO_ENDINGS:
                    self.videos.append(file)

    def name_of(self, export: Path) -> str:
        """What to call the records of an export: its path without its ending."""
        return export.relative_to(self.exports).with_suffix("").as_posix()

    def named(self, name: str, export: Path, where: str) -> Path:
        """The file that an export means by `name`: a path, an address or the name of an upload.

        Of several files of this name the one below the export's own folder is meant.

        Raises:
            ValueError: there is no such file, or several.
        """
        plain = unquote(name).replace("\\", "/").partition("?d=")[2] or unquote(name).replace("\\", "/")
        if (self.folder / plain).is_file():
            return self.folder / plain
        base = plain.rpartition("/")[2]
        for candidate in (base, _UPLOADED.sub("", base)):
            found = self.by_name.get(candidate, [])
            found = [file for file in found if file.as_posix().endswith("/" + plain)] or found
            found = [file for file in found if export.parent in file.parents] or found
            if len(found) == 1:
                return found[0]
            if found:
                raise ValueError(
                    f"{where}: {name!r} may be {found[0]} or {found[1]}; give files names of their own, or one "
                    "folder per export."
                )
        held = ", ".join(list(self.by_name)[:5])
        raise ValueError(f"{where}: {name!r} is not below {self.folder}, which holds {held or 'no video or picture'}.")

    def has(self, name: str) -> bool:
        """Whether a file of this name is here."""
        return (self.folder / name).is_file() or name.rpartition("/")[2] in self.by_name

    def stem(self, stem: str, near: Path) -> Path | None:
        """A video of this name without its ending, or a folder of frames; one beside the export first."""
        beside = [near / (stem + ending) for ending in VIDEO_ENDINGS]
        found = [file for file in beside if file.is_file()] or [file for file in self.videos if file.stem == stem]
        if found:
            return found[0]
        return near / stem if _is_frames(near / stem) else None

    def only_video_near(self, folder: Path) -> Path | None:
        """The video of a folder that holds exactly one."""
        found = [file for file in self.videos if file.parent == folder]
        return found[0] if len(found) == 1 else None


def _is_frames(folder: Path) -> bool:
    return folder.is_dir() and any(is_image_name(file) for file in folder.iterdir())


def open_media(path: Path | list[Path], where: str) -> Media:
    """Look at a video, a folder of frames or a list of frame files; frames stay on the disk.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        if isinstance(path, Path) and path.is_dir():
            path = [Path(file) for file in images_of_folder(os.fspath(path))]
        if isinstance(path, list):
            width, height = shown_size(os.fspath(path[0]))
            return Media([os.fspath(file) for file in path], width, height, len(path))
        with open_video(os.fspath(path)) as video:
            length = video.num_frames
            if length is None:
                raise ValueError(f"the number of frames of {path} is unknown")
            return Media(os.fspath(path), video.width, video.height, length, video.fps)
    except (Skip, ValueError, OSError) as error:
        raise ValueError(f"{where}: {path if isinstance(path, Path) else path[0]} cannot be read: {error}") from None


def open_picture(path: Path, where: str) -> Media:
    """Look at a picture.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        width, height = shown_size(os.fspath(path))
    except Skip as skip:
        raise ValueError(f"{where}: {path}: {skip}.") from None
    return Media(os.fspath(path), width, height, 1)
