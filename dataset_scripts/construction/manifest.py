"""What a build has finished: a line per shard in `manifest.jsonl`, which decides what a restart skips.

A shard counts as finished when its line is there whole and its file exists. The line is written after the file, both
are flushed to the disk, and half a line is dropped, so a run may be killed at any moment.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml
from filelock import FileLock, Timeout

from ..plain import read_yaml, to_plain
from ..records import part_file
from .config import WITHOUT_EFFECT, BuildConfig, fingerprint

__all__ = ["MANIFEST", "Manifest", "ShardEntry"]

MANIFEST, SETTINGS, LOCK = "manifest.jsonl", "config.yaml", ".lock"


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One line of the manifest.

    Attributes:
        shard: its number.
        file: its parquet file, relative to the build.
        fingerprint: of the settings that it was made with.
        input_digest: of the ids of its videos, in order.
        counts: `videos`, `phrases` found and `kept`.
        dropped: reason (`STAGE.REASON`) -> number, in the order of the stages.
        quarantined: reason -> number of videos.
        quarantined_videos: id, reason and detail of each.
        seconds: stage -> seconds spent, over all workers.
    """

    shard: int
    file: str
    fingerprint: str
    input_digest: str
    counts: dict[str, int]
    dropped: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    quarantined_videos: list[dict[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Manifest:
    """The manifest of one build, held by one run at a time; use it as a context.

    Attributes:
        finished: number of a shard -> its entry.
    """

    def __init__(self, config: BuildConfig) -> None:
        """Name the build; nothing is read or written before the context is entered."""
        self.folder, self._config, self._fingerprint = config.folder, config, fingerprint(config)
        self.finished: dict[int, ShardEntry] = {}
        self._lock = FileLock(self.folder / LOCK, timeout=0)

    def __enter__(self) -> Self:
        """Lock the build, compare its settings and read what is finished.

        Raises:
            ValueError: another run writes to it, it was made with other settings, or a line cannot be read.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(f"output={str(self.folder)!r} is being written by another run; wait.") from None
        try:
            self._compare_settings()
            self._read()
            for part in self.folder.rglob("*.part"):
                part.unlink(missing_ok=True)  # of a run that was killed
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the build."""
        self._lock.release()

    def add(self, entry: ShardEntry) -> None:
        """Append the line of a shard whose file is written; half a line is taken back.

        Raises:
            OSError: the disk is full.
        """
        _flush_to_disk(self.folder / entry.file)
        path = self.folder / MANIFEST
        with path.open("ab") as file:
            before = file.tell()
            try:
                file.write(_line(entry))
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(path, before)
                raise
        self.finished[entry.shard] = entry

    def _compare_settings(self) -> None:
        path, now = self.folder / SETTINGS, to_plain(self._config)
        if not path.exists():
            if (self.folder / MANIFEST).exists() or any(self.folder.glob("*.parquet")):
                raise ValueError(
                    f"output={str(self.folder)!r} holds files that are not of a build ({SETTINGS} is missing); "
                    "name a new folder."
                )
            _write_whole(path, yaml.safe_dump({"fingerprint": self._fingerprint, **now}, sort_keys=False).encode())
            return
        then = read_yaml(path)
        if then.get("fingerprint") != self._fingerprint:
            before, after = _flat(then), _flat({k: v for k, v in now.items() if k not in WITHOUT_EFFECT})
            others = [name for name, value in after.items() if before.get(name) != value]
            raise ValueError(
                f"output={str(self.folder)!r} was made with other settings: {', '.join(others) or 'other defaults'} "
                f"(fingerprint {then.get('fingerprint')}, now {self._fingerprint}); name a new output, or go back to "
                f"the settings in {path}."
            )

    def _read(self) -> None:
        path = self.folder / MANIFEST
        written = path.read_bytes() if path.exists() else b""
        *lines, _half = written.split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                entry = ShardEntry(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}, is no line of a manifest ({error}); delete the line, and its shard is "
                    "made again."
                ) from None
            if entry.fingerprint == self._fingerprint and (self.folder / entry.file).is_file():
                self.finished[entry.shard] = entry
        whole = b"".join(map(_line, self.finished.values()))
        if whole != written:
            _write_whole(path, whole)


def _line(entry: ShardEntry) -> bytes:
    return json.dumps(asdict(entry)).encode() + b"\n"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dots in the names."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{name}" if prefix else str(name))
    return flat


def _write_whole(path: Path, content: bytes) -> None:
    handle, temporary = part_file(path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
