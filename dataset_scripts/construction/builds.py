"""A finished build as its readers see it: the files of rows, and where the videos are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from processing_elysium.video_source import VideoSource

from .frame_tars import TarFrames, is_in_tar, split_address
from .rows import Trajectory, read_trajectories

__all__ = ["build_files", "is_address", "open_row", "read_build", "video_path"]

_FOLDERS = (".", "shards", "trajectories")


def build_files(build: str | os.PathLike[str]) -> list[Path]:
    """Return the parquet files of a build in the order of their names: one file, a folder of them, or its `shards`.

    Raises:
        ValueError: there is none.
    """
    path = Path(build)
    if path.is_file():
        return [path]
    for name in _FOLDERS:
        files = sorted((path / name).glob("*.parquet"))
        if files:
            return files
    raise ValueError(
        f"{path} holds no *.parquet, nor does its folder shards; give what `python -m "
        "dataset_scripts.construction.build` wrote."
    )


def read_build(build: str | os.PathLike[str]) -> Iterator[Trajectory]:
    """Read the rows of a build one by one.

    Raises:
        ValueError: there are none, or a file is not of a build.
    """
    for file in build_files(build):
        yield from read_trajectories(file)


def is_address(video: str) -> bool:
    """Whether a video is an address rather than a path."""
    return "://" in video


def video_path(row: Trajectory, videos: str | os.PathLike[str]) -> str:
    """Return where the video of a row is; `open_row` opens it.

    Args:
        row: of a build.
        videos: folder that its path is relative to.

    Raises:
        ValueError: there is no such file.
    """
    if is_address(row.video):
        return row.video
    path = Path(videos) / (split_address(row.video)[0] if is_in_tar(row.video) else row.video)
    if not path.exists():
        raise ValueError(f"trajectory {row.id!r}: {path} does not exist; name the videos' folder with --videos.")
    return str(Path(videos) / row.video)


def open_row(row: Trajectory, videos: str | os.PathLike[str]) -> VideoSource:
    """Open the video of a row: a file, a folder of frames, frames in a tar, an address.

    Args:
        row: of a build.
        videos: folder that its path is relative to.

    Raises:
        ValueError: it cannot be read.
    """
    from processing_elysium.frames import open_video  # loads torch, which readers of rows do not need

    path = video_path(row, videos)
    return TarFrames(path) if is_in_tar(row.video) else open_video(path)
