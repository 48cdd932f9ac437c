"""JSON files item by item, with the line on which each item starts; large files are never held as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

__all__ = ["Item", "json_rows", "walk"]

_CHUNK = 1 << 20  # characters read at a time
_SPACE = " \t\r\n"


@dataclass(frozen=True)
class Item:
    """A value and where it was found.

    Attributes:
        name: key in the outermost object, "" in an outermost list.
        index: place in the list; None for the value of a key.
        value: what JSON gave.
        line: on which it starts, from 1.
    """

    name: str
    index: int | None
    value: Any
    line: int


def walk(path: str | os.PathLike[str], inside: tuple[str, ...] = ()) -> Iterator[Item]:
    """The members of the outermost list or object of a JSON file.

    Args:
        path: the file.
        inside: keys of the outermost object whose lists are given item by item too.

    Raises:
        ValueError: the file is no JSON, or neither a list nor an object; the message names file and line.
    """
    with open(path, encoding="utf-8-sig") as file:
        text = _Text(file, path)
        opening = text.take("[{")
        if opening == "[":
            yield from text.list_items("")
        elif text.peek() == "}":
            text.take("}")
        else:
            while True:
                key = text.value()
                if not isinstance(key, str):
                    raise text.error("a key has to be a text")
                text.take(":")
                if key in inside and text.peek() == "[":
                    text.take("[")
                    yield from text.list_items(key)
                else:
                    line = text.line
                    yield Item(key, None, text.value(), line)
                if text.take(",}") == "}":
                    break
        if text.peek():
            raise text.error("more follows after the end")


def json_rows(path: str | os.PathLike[str]) -> Iterator[Item]:
    """Rows of a file that is either one JSON list or has a JSON object on each line.

    Raises:
        ValueError: a row is no JSON; the message names file and line.
    """
    path = Path(path)
    with open(path, encoding="utf-8-sig") as file:
        first = next((line.lstrip()[0] for line in file if line.strip()), "[")
    if first == "[":
        yield from walk(path)
        return
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    value = json.loads(line)
                except ValueError as error:
                    raise ValueError(
                        f"{path}, line {number}: no JSON ({error}); expected one object a line."
                    ) from None
                yield Item("", number - 1, value, number)


class _Text:
    """The characters of a file from the current place on, as many as were needed so far."""

    def __init__(self, file: TextIO, path: str | os.PathLike[str]) -> None:
        self.file, self.path = file, path
        self.buffer, self.place, self.line = "", 0, 1
        self.decoder = json.JSONDecoder()

    def _fill(self) -> bool:
        """Read on, twice as far as before where one value is long; False at the end of the file."""
        more = self.file.read(max(_CHUNK, len(self.buffer) - self.place))
        if more:
            self.buffer, self.place = self.buffer[self.place :] + more, 0
        return bool(more)

    def _advance(self, place: int) -> None:
        self.line += self.buffer.count("\n", self.place, place)
        self.place = place

    def peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            place = self.place
            while place < len(self.buffer) and self.buffer[place] in _SPACE:
                place += 1
            self._advance(place)
            if place < len(self.buffer):
                return self.buffer[place]
            if not self._fill():
                return ""

    def take(self, allowed: str) -> str:
        """Pass over the next character, one of `allowed`."""
        found = self.peek()
        if not found or found not in allowed:
            raise self.error(f"expected {' or '.join(allowed)}, found {found or 'the end of the file'}")
        self._advance(self.place + 1)
        return found

    def value(self) -> Any:
        """Pass over the next value and give it."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.place)
            except json.JSONDecodeError as error:
                if not self._fill():
                    self._advance(max(error.pos, self.place))
                    raise self.error(error.msg) from None
                continue
            # A number at the end of what was read may go on in what was not ("1." or "1e-" looks like 1 there).
            if end + 2 < len(self.buffer) or not self._fill():
                self._advance(end)
                return value

    def list_items(self, name: str) -> Iterator[Item]:
        """The items of a list whose bracket was passed, up to its end."""
        if self.peek() == "]":
            self.take("]")
            return
        index = 0
        while True:
            self.peek()
            line = self.line
            yield Item(name, index, self.value(), line)
            index += 1
            if self.take(",]") == "]":
                return

    def error(self, problem: str) -> ValueError:
        """What is wrong, and where."""
        return ValueError(f"{self.path}, line {self.line}: no JSON ({problem}).")
