"""Plain values (YAML, the command line) become dataclasses: every key checked, every error with its place."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = ["did_you_mean", "from_plain", "load_yaml", "override", "read_yaml", "to_plain"]


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-3 as a number; YAML 1.1 asks for 1.0e-3 and takes the rest for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The plain values of a YAML file.

    Raises:
        ValueError: there is no such file.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; pass a YAML file (shipped recipes are in train/recipes).") from None


def load_yaml(kind: type, path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Any:
    """Read a YAML file as the dataclass `kind`.

    Args:
        kind: what the file describes.
        path: the file.
        overrides: see `override`.

    Raises:
        ValueError: an override has no "=" or leads nowhere, or see `from_plain`.
    """
    value = read_yaml(path)
    for text in overrides:
        override(value, text, str(path))
    return from_plain(kind, value, str(path))


def override(value: Any, text: str, where: str) -> None:
    """Change one key of plain values in place.

    Args:
        value: mappings and lists.
        text: `key=value` with a YAML value; dots go inward, into a list by number or by the `name` of its entry
            (`stages.0.turns=2`, `stages.2a.turns=2`).
        where: named in errors.

    Raises:
        ValueError: there is no "=", or no such place.
    """
    key, separator, written = text.partition("=")
    if not separator:
        raise ValueError(f"override {text!r} has no '='; write KEY=VALUE.")
    *outer, last = key.split(".")
    target = value
    try:
        for name in outer:
            if isinstance(target, list):
                target = target[_position(target, name)]
            else:
                if target.get(name) is None:
                    target[name] = {}
                target = target[name]
        place: Any = _position(target, last) if isinstance(target, list) else last
        target[place] = yaml.load(written, Loader=_Loader)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"override {text!r} leads nowhere in {where} ({error}).") from error


def _position(entries: list[Any], name: str) -> int:
    """The place of an entry of a list by its number or its `name`; "2" is a name where an entry has it."""
    names = [str(entry.get("name")) if isinstance(entry, dict) else "" for entry in entries]
    if name in names:
        return names.index(name)
    if not name.lstrip("-").isdigit():
        raise ValueError(f"no entry is named {name!r}{did_you_mean(name, [n for n in names if n])}")
    return int(name)


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest of `allowed`, or nothing."""
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def from_plain(kind: Any, value: Any, where: str) -> Any:
    """Turn YAML's plain values into the annotated type `kind`.

    Args:
        kind: a dataclass or a type as its fields are annotated with; of several types (`int | None`) the first that
            fits.
        value: mappings, lists, numbers, texts.
        where: named in errors.

    Raises:
        ValueError: an unknown key, a missing one, or a value of another type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments, value, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{where}: expected a list, found {value!r}.")
        return [from_plain(arguments[0], item, f"{where}[{number}]") for number, item in enumerate(value)]
    if origin is tuple:
        if not isinstance(value, list) or len(value) != len(arguments):
            raise ValueError(f"{where}: expected {len(arguments)} values, found {value!r}.")
        return tuple(from_plain(a, item, where) for a, item in zip(arguments, value, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected a mapping, found {value!r}.")
        return {key: from_plain(arguments[1], item, f"{where}: {key}") for key, item in value.items()}
    if kind is Any:
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ValueError(f"{where}: expected {kind.__name__}, found {value!r}.")


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """The first of several types that the value fits; the error is that of the first."""
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    for kind in kinds[1:]:
        if isinstance(value, typing.get_origin(kind) or kind) and typing.get_origin(kind) is not None:
            return from_plain(kind, value, where)
    return from_plain(kinds[0], value, where)


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected a mapping, found {value!r}.")
    hints = {f.name: typing.get_type_hints(kind)[f.name] for f in dataclasses.fields(kind) if f.init}
    if unknown := sorted(map(str, set(value) - set(hints))):
        guess = did_you_mean(unknown[0], hints)
        raise ValueError(f"{where}: unknown key(s) {unknown}; allowed are {sorted(hints)}{guess or '.'}")
    plain = {key: from_plain(hints[key], item, f"{where}: {key}") for key, item in value.items()}
    required = [f.name for f in dataclasses.fields(kind) if f.init and _is_required(f)]
    if missing := [name for name in required if name not in plain]:
        raise ValueError(f"{where}: the key(s) {missing} are missing.")
    try:
        return kind(**plain)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _is_required(item: dataclasses.Field) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def to_plain(value: Any) -> Any:
    """A dataclass as the mappings, lists and numbers that YAML holds; `from_plain` reads it back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value
