"""What is wrong with a request, and the checks that every request goes through."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

__all__ = [
    "BadRequestError",
    "ModelFailedError",
    "as_box",
    "as_list",
    "as_mapping",
    "as_number",
    "as_text",
    "media_path",
]

LONGEST_TEXT = 1000  # characters of a phrase or an address


class BadRequestError(ValueError):
    """A request that cannot be answered; the message is for whoever sent it."""


class ModelFailedError(RuntimeError):
    """A tracker or grounder raised, or gave up; the message says what it said."""


def as_mapping(value: Any, name: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        BadRequestError: it is something else.
    """
    if not isinstance(value, dict):
        raise BadRequestError(f"{name} must be an object, found {_shown(value)}.")
    return value


def as_list(value: Any, name: str, most: int) -> list[Any]:
    """Return a JSON list of at most `most` items.

    Raises:
        BadRequestError: it is something else, or longer.
    """
    if not isinstance(value, list):
        raise BadRequestError(f"{name} must be a list, found {_shown(value)}.")
    if len(value) > most:
        raise BadRequestError(f"{name} has {len(value)} items, at most {most} are taken; send fewer at a time.")
    return value


def as_text(value: Any, name: str) -> str:
    """Return a text that is not empty.

    Raises:
        BadRequestError: it is something else, empty or too long.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_TEXT:
        raise BadRequestError(f"{name} must be a text of 1 to {LONGEST_TEXT} characters, found {_shown(value)}.")
    return value.strip()


def as_number(value: Any, name: str, least: float = -math.inf, most: float = math.inf) -> float:
    """Return a finite number between bounds.

    Raises:
        BadRequestError: it is something else, or outside.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most:
        raise BadRequestError(f"{name} must be a number from {least:g} to {most:g}, found {_shown(value)}.")
    return float(value)


def as_box(corners: tuple[float, float, float, float], name: str) -> np.ndarray:
    """Return a box (4,) xyxy relative to the frame, cut to the frame.

    Raises:
        BadRequestError: nothing of it lies in the frame.
    """
    box = np.clip(np.asarray(corners, dtype=np.float64), 0, 1)
    if not (box[2] > box[0] and box[3] > box[1]):
        raise BadRequestError(f"{name} has no area inside the frame: {[round(float(v), 4) for v in corners]} relative "
                              "to it; draw it over the object.")  # fmt: skip
    return box


def media_path(address: str, root: str) -> Path:
    """Return the file below the media root that an annotation tool means by an address.

    Understood are paths relative to the root, absolute ones below it, and Label Studio's `/data/upload/PROJECT/FILE`
    and `/data/local-files/?d=PATH`, with or without the server in front. Nothing is fetched.

    Args:
        address: of the task.
        root: the media root.

    Raises:
        BadRequestError: there is no such file, or it lies outside the root.
    """
    address, home = as_text(address, "the address of the video"), Path(root).expanduser().resolve()
    parts = urlsplit(address)
    if parts.scheme and parts.scheme not in ("http", "https"):
        raise BadRequestError(f"video {address!r}: {parts.scheme}:// is not read; copy the file below the media root.")
    named = unquote(parts.path)
    if named.rstrip("/") == "/data/local-files":
        named = (parse_qs(parts.query).get("d") or [""])[0]
    elif named.startswith("/data/"):
        named = named.removeprefix("/data/")
    elif parts.scheme:
        raise BadRequestError(f"video {address!r} is elsewhere; nothing is fetched: serve it from the media root.")
    if "\0" in named:
        raise BadRequestError("the address of the video holds a zero byte.")
    path = (home / named).resolve()
    if not path.is_relative_to(home) or path == home:
        raise BadRequestError(f"video {address!r} lies outside the media root; copy the file below it.")
    if not path.exists():
        raise BadRequestError(f"video {address!r} is not below the media root; is `media_root` the tool's own folder?")
    return path


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
