"""Pickled annotations of plain containers, read without running anything that a pickle may ask for."""

from __future__ import annotations

import os
import pickle
from typing import Any

__all__ = ["load_plain_pickle"]

# What pickles of containers ask for by name, under the module names of Python 2 and 3. Nothing here does more than
# build a container.
_CONTAINERS = {"set": set, "frozenset": frozenset, "list": list, "dict": dict, "tuple": tuple}
_MODULES = ("builtins", "__builtin__")


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _MODULES and name in _CONTAINERS:
            return _CONTAINERS[name]
        raise pickle.UnpicklingError(f"asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("refers to objects outside the file")


def load_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle of lists, dictionaries, tuples, sets, texts and numbers.

    Texts pickled by Python 2 (the referring expressions are) come out as text.

    Raises:
        ValueError: the file is no pickle, or asks for anything but plain containers; nothing of it has been run.
    """
    with open(path, "rb") as file:
        try:
            return _PlainUnpickler(file, encoding="latin1").load()
        except (
            pickle.UnpicklingError,
            EOFError,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            AttributeError,
        ) as error:
            raise ValueError(
                f"{path} is no pickle of plain lists and dictionaries ({error}); it was not loaded. "
                "Get the file from the address in docs/data.md."
            ) from None
