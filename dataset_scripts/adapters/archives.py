"""Tar archives read from front to back, members at a time, and pictures unpacked from them."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["samples", "tar_members", "unpack"]


def tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the files in a tar, compressed or not, in the order in which they lie there.

    Raises:
        ValueError: it is no tar, or it breaks off.
    """
    try:
        with tarfile.open(path, mode="r|*") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield member.name, content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a tar ({error}); download it again.") from error


def samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, {ending: content}) of a WebDataset shard: files in a row that share a name up to its first dot.

    Raises:
        ValueError: see `tar_members`.
    """
    key, files = "", dict[str, bytes]()
    for name, content in tar_members(path):
        folder, _, base = name.rpartition("/")
        stem, _, ending = base.partition(".")
        whole = f"{folder}/{stem}" if folder else stem
        if whole != key and files:
            yield key, files
            files = {}
        key = whole
        files[ending.lower()] = content
    if files:
        yield key, files


def unpack(content: bytes, target: Path) -> None:
    """Write a file whole or not at all; one of this length that is there already is kept."""
    if target.is_file() and target.stat().st_size == len(content):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
