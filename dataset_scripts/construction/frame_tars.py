"""Videos that are frames in an uncompressed tar: `PATH.tar!PREFIX`, as `export webdataset` writes them.

The frames of such a video are the pictures in the tar whose names are PREFIX, digits and an ending, by number; frame 0
is the first of them. They are read where they are, without unpacking.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from processing_elysium.video_source import VideoSource

__all__ = ["TarFrames", "is_in_tar", "split_address", "tar_address", "unpack"]

_MARK = ".tar!"
_PICTURE = re.compile(r"(.*?)(\d+)\.(jpe?g|png|webp|bmp)$", re.IGNORECASE)
Member = tuple[int, int, int]  # number in the name, offset and size in the tar


def is_in_tar(video: str) -> bool:
    """Whether a video is frames in a tar."""
    return _MARK in video


def tar_address(tar: str, prefix: str) -> str:
    """The address of the frames with a prefix."""
    return f"{tar}!{prefix}"


def split_address(video: str) -> tuple[str, str]:
    """Path of the tar, and the prefix."""
    path, _, prefix = video.partition(_MARK)
    return f"{path}.tar", prefix


class TarFrames(VideoSource):
    """The frames of one video in a tar."""

    def __init__(self, video: str) -> None:
        """Find the frames and look at the first.

        Args:
            video: `PATH.tar!PREFIX`.

        Raises:
            ValueError: there is no such tar, it is compressed, or has no such frame.
        """
        path, prefix = split_address(video)
        self.name, self._path = video, path
        try:
            stat = os.stat(path)
            self._members = _frames_in(path, stat.st_size, stat.st_mtime_ns).get(prefix, [])
        except (OSError, tarfile.TarError) as error:
            raise ValueError(f"{path} cannot be read as an uncompressed tar: {error}.") from error
        if not self._members:
            raise ValueError(f"{path} has no picture called {prefix}NUMBER.jpg.")
        self.num_frames = len(self._members)
        first = self._read([0])[0]
        self.height, self.width = first.shape[:2]

    def _read(self, indices: list[int]) -> list[np.ndarray]:
        frames = []
        with open(self._path, "rb") as tar:
            for index in indices:
                _, offset, size = self._members[index]
                tar.seek(offset)
                try:
                    frames.append(np.asarray(Image.open(io.BytesIO(tar.read(size))).convert("RGB")))
                except OSError as error:
                    raise ValueError(f"frame {index} of {self.name} cannot be read: {error}.") from error
        return frames


def unpack(video: str, folder: str | os.PathLike[str]) -> Path:
    """Write the frames of a video as files into a folder, for readers of files.

    Raises:
        ValueError: see `TarFrames`.
    """
    source, folder = TarFrames(video), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(source._path, "rb") as tar:
        for index, (_, offset, size) in enumerate(source._members):
            tar.seek(offset)
            (folder / f"{index:08d}.jpg").write_bytes(tar.read(size))  # what it is, its first bytes say
    return folder


@lru_cache(maxsize=4)
def _frames_in(path: str, size: int, changed: int) -> dict[str, list[Member]]:
    """Prefix -> its pictures by number; size and time of change only tell one state of the file from another."""
    found: dict[str, list[Member]] = {}
    with tarfile.open(path, "r:") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # the library would keep all
            match = _PICTURE.fullmatch(member.name) if member.isfile() else None
            if match:
                found.setdefault(match[1], []).append((int(match[2]), member.offset_data, member.size))
    return {prefix: sorted(members) for prefix, members in found.items()}
