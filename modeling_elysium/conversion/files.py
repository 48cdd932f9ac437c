"""Checkpoint files for the converter: find them, read one tensor at a time, write shards, swap in a folder.

Nothing here holds more than one tensor of the source and one shard of the target in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..configuration_elysium import let_others_read

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_FETCHED = ["*.json", "*.safetensors", "*.bin", "*.model", "*.txt"]


def find_folder(name: str | Path, argument: str, starts: tuple[Path, ...] = (Path(),), weights: bool = True) -> Path:
    """The folder that a path or a Hub id names; an id is downloaded (or taken from the cache).

    Args:
        name: folder or `owner/name`.
        argument: where the name comes from, for messages.
        starts: folders that a relative path may start from, the first one that has it counts.
        weights: whether a download has to bring the weights too, not only the small files.

    Raises:
        ValueError: neither a folder nor a repository that can be had.
    """
    for start in starts:
        if (start / name).is_dir():
            return start / name
    text = str(name)
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise ValueError(f"{argument} {text!r} is neither a folder nor a Hub id (owner/name); check the path.")
    patterns = _FETCHED if weights else ["*.json", "*.model", "*.txt"]
    try:
        return Path(snapshot_download(text, allow_patterns=patterns))
    except Exception as error:  # many kinds, from no network to a private repository
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{argument} {text!r} is no folder here and cannot be had from the Hub ({type(error).__name__}: "
            f"{reason}); check the name and the network, or pass a folder."
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; ValueError names the file when it is missing, broken or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; a checkpoint folder needs it.") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); download it again.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {_kind(content)}; expected a mapping (`{{...}}`): download it again.")
    return content


def mapping_of(fields: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    """The mapping under a key of a JSON object read from `path`; empty where it is absent or null.

    Raises:
        ValueError: something else stands there.
    """
    value = fields.get(key)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{path}: {key} is {_kind(value)}; expected a mapping (`{{...}}`): correct the file.")
    return value or {}


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


class CheckpointReader:
    """Tensors of a checkpoint folder by name, read when asked for.

    Args:
        folder: holds safetensors or torch `.bin` weights, whole or in shards with an index.

    Attributes:
        files: weight files in order.
        keys: name of every tensor -> the file it is in.

    Raises:
        ValueError: no weights, a missing shard, a broken file, a pickle that holds code.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.files = self._find_files()
        self.keys: dict[str, Path] = {}
        for path in self.files:
            with open_weights(path) as tensors:
                for key in tensors.keys():  # noqa: SIM118  (not a dict)
                    if key in self.keys:
                        raise ValueError(f"{key} is in both {self.keys[key].name} and {path.name} of {self.folder}.")
                    self.keys[key] = path

    def _find_files(self) -> list[Path]:
        for name in WEIGHTS:
            index = self.folder / f"{name}.index.json"
            if index.is_file():
                names = _shard_names(index)
                missing = [n for n in names if not (self.folder / n).is_file()]
                if missing or not names:
                    shards = ", ".join(missing) or "none at all"
                    raise ValueError(f"{index} names shards that are missing: {shards}; download them again.")
                return [self.folder / n for n in names]
            if (self.folder / name).is_file():
                return [self.folder / name]
        numbered = sorted(self.folder.glob("*-of-*.safetensors")) or sorted(self.folder.glob("*-of-*.bin"))
        if not numbered:
            raise ValueError(f"{self.folder} holds no weights; expected {' or '.join(WEIGHTS)}, or shards of them.")
        total = int("".join(c for c in numbered[0].stem.rsplit("-of-", 1)[1] if c.isdigit()) or 0)
        if total != len(numbered):
            raise ValueError(f"{self.folder} holds {len(numbered)} of {total} shards; download the missing ones.")
        return numbered

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """All (name, tensor), file by file; a tensor may share its storage with the file until it is copied."""
        for path in self.files:
            with open_weights(path) as tensors:
                for key in tensors.keys():  # noqa: SIM118
                    yield key, tensors.get_tensor(key)


def _shard_names(index: Path) -> list[str]:
    """File names that an index lists, sorted; a name that leads out of the folder is refused."""
    names = list(mapping_of(read_json(index), "weight_map", index).values())
    for name in names:
        if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\:\0"):
            raise ValueError(
                f"{index} names the shard {name!r}; expected the name of a file beside it: do not use this checkpoint."
            )
    return sorted(set(names))


class _TorchFile:
    """A torch file with the interface of an open safetensors file."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self._state = state

    def keys(self) -> list[str]:
        return list(self._state)

    def get_tensor(self, key: str) -> torch.Tensor:
        return self._state[key]


@contextlib.contextmanager
def open_weights(path: Path) -> Iterator[Any]:
    """Open one weight file; gives an object with `keys()` and `get_tensor(key)`.

    Raises:
        ValueError: the file is cut off or broken, or is a pickle that holds more than tensors.
    """
    if path.suffix == ".safetensors":
        try:
            file = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is cut off or broken ({error}); download it again.") from None
        with file as tensors:
            yield tensors
        return
    try:
        # Only files in torch's zip format, from 1.6 on, can be mapped; older ones are read whole.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch raises anything from UnpicklingError to RuntimeError
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f"{path} cannot be read as plain tensors ({type(error).__name__}: {reason}): it is broken, or a pickle "
            "with code in it, which is refused; ask for safetensors."
        ) from None
    named = isinstance(state, dict) and all(isinstance(key, str) for key in state)
    if not named or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} holds more than named tensors; pass a state dict.")
    yield _TorchFile(state)


class ShardWriter:
    """Writes tensors to `model-0000i-of-0000n.safetensors` and their index; to one `model.safetensors` if they fit.

    Args:
        folder: where to write.
        max_bytes: size of a shard; the only memory that is held.
    """

    def __init__(self, folder: Path, max_bytes: int = 2 * 10**9) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self.shards: list[list[str]] = []
        self.total_bytes = 0
        self._held: dict[str, torch.Tensor] = {}
        self._held_bytes = 0

    def add(self, key: str, tensor: torch.Tensor) -> None:
        """Take a tensor; may write a shard."""
        size = tensor.numel() * tensor.element_size()
        if self._held and self._held_bytes + size > self.max_bytes:
            self._flush()
        self._held[key] = tensor.contiguous()
        self._held_bytes += size
        self.total_bytes += size

    def _flush(self) -> None:
        save_file(self._held, self.folder / f"part-{len(self.shards)}.safetensors", metadata={"format": "pt"})
        self.shards.append(list(self._held))
        self._held, self._held_bytes = {}, 0

    def close(self) -> None:
        """Write what is left, give the shards their names and write the index."""
        if self._held:
            self._flush()
        count, weight_map = len(self.shards), {}
        for number, keys in enumerate(self.shards):
            name = f"model-{number + 1:05d}-of-{count:05d}.safetensors" if count > 1 else "model.safetensors"
            (self.folder / f"part-{number}.safetensors").rename(self.folder / name)
            weight_map.update(dict.fromkeys(keys, name))
        let_others_read(self.folder)
        if count > 1:
            index = {"metadata": {"total_size": self.total_bytes}, "weight_map": dict(sorted(weight_map.items()))}
            (self.folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", "utf-8")


@contextlib.contextmanager
def written_at_once(target: Path) -> Iterator[Path]:
    """A scratch folder beside `target` that becomes `target` when the block ends well, and vanishes when it does not.

    Raises:
        ValueError: `target` is there already and is not an empty folder.
    """
    target = Path(target).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is there already; pass a new folder, or remove it first.")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.part-", dir=target.parent))
    try:
        yield scratch
        mask = os.umask(0)
        os.umask(mask)
        scratch.chmod(0o777 & ~mask)  # mkdtemp makes folders for their owner alone
        if target.exists():
            target.rmdir()
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
