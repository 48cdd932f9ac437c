"""Videos and captions from a folder, a table, tars or a Hub data set, one after another."""

from __future__ import annotations

import csv
import glob
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .config import InputConfig
from .items import CaptionedVideo

__all__ = ["read_inputs"]

VIDEO_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


def read_inputs(config: InputConfig) -> Iterator[CaptionedVideo]:
    """Yield the videos of an input in an order that depends on its content alone.

    Raises:
        ValueError: the input does not exist, is of another form, or lacks a column.
    """
    reader = {"folder": _folder, "table": _table, "webdataset": _tars, "hub": _hub}[config.kind]
    yield from reader(config)


def _folder(config: InputConfig) -> Iterator[CaptionedVideo]:
    root = Path(config.path)
    if not root.is_dir():
        raise ValueError(f"input.path={config.path!r} is no folder; pass the folder that holds the videos.")
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in VIDEO_ENDINGS):
        text, data = path.with_suffix(".txt"), path.with_suffix(".json")
        row: dict[str, Any] = {}
        if data.is_file():
            row = json.loads(data.read_text(encoding="utf-8"))
        elif text.is_file():
            row = {config.caption: text.read_text(encoding="utf-8")}
        name = path.relative_to(root).with_suffix("").as_posix()
        yield _item(config, {**row, config.id: row.get(config.id) or name}, str(path.resolve()), name)


def _table(config: InputConfig) -> Iterator[CaptionedVideo]:
    path = Path(config.path)
    if not path.is_file():
        raise ValueError(f"input.path={config.path!r} does not exist; pass a csv, tsv, jsonl or parquet file.")
    root = Path(config.root) if config.root else path.parent
    for number, row in enumerate(_rows(path)):
        for column in (config.video, config.caption):
            if column not in row:
                raise ValueError(f"{path}, row {number}: no column {column!r}; columns are {sorted(row)}.")
        video = str(row[config.video] or "")
        address = video if "://" in video else str((root / video).resolve())
        yield _item(config, row, address, str(number))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ",")
    elif kind in (".jsonl", ".json"):
        with path.open(encoding="utf-8") as file:
            yield from (json.loads(line) for line in file if line.strip())
    elif kind == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(path).iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    else:
        raise ValueError(f"input.path={str(path)!r} ends in {kind!r}; use .csv, .tsv, .jsonl or .parquet.")


def _tars(config: InputConfig) -> Iterator[CaptionedVideo]:
    paths = sorted(glob.glob(config.path)) or sorted(glob.glob(str(Path(config.path) / "*.tar")))
    if not paths:
        raise ValueError(f"input.path={config.path!r} matches no tar; pass a tar, a folder of tars or a glob.")
    for path in paths:
        try:
            yield from _tar(config, path)
        except tarfile.TarError as error:
            raise ValueError(
                f"{path} cannot be read as an uncompressed tar ({error}); unpack its compression."
            ) from error


def _tar(config: InputConfig, path: str) -> Iterator[CaptionedVideo]:
    """Yield the samples of a WebDataset tar: members in a row that share a name up to the first dot."""
    key, video, row = "", None, dict[str, Any]()
    with tarfile.open(path, mode="r:") as tar:
        for member in [*_members(tar), None]:
            stem, _, ending = (member.name.rpartition("/")[2] if member else "").partition(".")
            whole = (member.name[: len(member.name) - len(ending)] if member else "").rstrip(".")
            if member is None or whole != key:
                if video is not None:
                    yield _item(config, {**row, config.id: row.get(config.id) or key}, path, key, video)
                key, video, row = whole, None, {}
            if member is None:
                continue
            if f".{ending.lower()}" in VIDEO_ENDINGS:
                video = member
            elif ending.lower() in ("txt", "json"):
                content = tar.extractfile(member)
                text = (content.read() if content else b"").decode("utf-8", "replace")
                row |= {config.caption: text} if ending.lower() == "txt" else json.loads(text)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        tar.members = []  # the library keeps all; a tar of a million videos would fill the memory
        if member.isfile():
            yield member


def _hub(config: InputConfig) -> Iterator[CaptionedVideo]:
    from datasets import Video, load_dataset

    rows = load_dataset(config.path, config.name, split=config.split, streaming=True)
    kinds = rows.features or {}
    if config.video in kinds and type(kinds[config.video]).__name__ == "Video":
        rows = rows.cast_column(config.video, Video(decode=False))
    for number, row in enumerate(rows):
        if config.video not in row:
            raise ValueError(f"input.path={config.path!r} has no column {config.video!r}; columns are {sorted(row)}.")
        video = row[config.video]
        path = video.get("path") if isinstance(video, dict) else video
        if not path or (isinstance(video, dict) and video.get("bytes") and not Path(path).is_file()):
            raise ValueError(
                f"input.path={config.path!r}, row {number}: the video is stored inside the table; export it to files "
                "or tars first, and read these with input.kind=table or webdataset."
            )
        yield _item(config, row, str(path), str(number))


def _item(
    config: InputConfig, row: dict[str, Any], address: str, name: str, member: tarfile.TarInfo | None = None
) -> CaptionedVideo:
    license_name = row.get(config.license) or config.default_license
    return CaptionedVideo(
        id=str(row.get(config.id) or name),
        caption=str(row.get(config.caption) or ""),
        video=str(Path(address).resolve()) if member else address,
        source=config.source or Path(config.path).stem,
        license=str(license_name) if license_name else None,
        tar_offset=member.offset_data if member else None,
        tar_size=member.size if member else None,
        tar_member=member.name if member else None,
    )
