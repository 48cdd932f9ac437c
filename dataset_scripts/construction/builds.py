"""A finished build as its readers see it: the files of rows, and where the videos are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .rows import Trajectory, read_trajectories

__all__ = ["build_files", "is_address", "read_build", "video_path"]

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
    """Return what opens the video of a row.

    Args:
        row: of a build.
        videos: folder that its path is relative to.

    Raises:
        ValueError: there is no such file.
    """
    if is_address(row.video):
        return row.video
    path = Path(videos) / row.video
    if not path.exists():
        raise ValueError(f"trajectory {row.id!r}: {path} does not exist; name the videos' folder with --videos.")
    return str(path)
