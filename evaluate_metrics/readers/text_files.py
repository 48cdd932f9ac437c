"""Annotation files of the tracking benchmarks: boxes and flags, whatever separates them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["check_count", "found_images", "read_attributes", "read_boxes", "read_flags", "read_words"]

_SEPARATORS = str.maketrans(",;\t", "   ")
IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp"}


def _text(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; check `--data` against the benchmark's layout in docs/evaluate.md.")
    return path.read_text(encoding="utf-8-sig", errors="replace")


def read_boxes(path: Path) -> np.ndarray:
    """Read one box per line, separated by commas, semicolons, tabs or spaces; "NaN" is a number.

    Args:
        path: the file. Four numbers a line; eight (corners of a polygon) are refused.

    Returns:
        (F, 4) float64 as written.

    Raises:
        ValueError: no such file, no line, or a line that is not four numbers; the error names it.
    """
    lines = _text(path).strip().splitlines()
    if not lines:
        raise ValueError(f"{path} is empty; it must hold a box per line.")
    words = " ".join(lines).translate(_SEPARATORS).split()
    if len(words) == 4 * len(lines):
        try:
            return np.array(words, dtype=np.float64).reshape(-1, 4)
        except ValueError:
            pass
    boxes = np.empty((len(lines), 4))
    for number, line in enumerate(lines, 1):  # slowly, to name the line
        try:
            boxes[number - 1] = [float(word) for word in line.translate(_SEPARATORS).split()]
        except ValueError:
            raise ValueError(f"{path}, line {number}: {line[:80]!r} is not four numbers x, y, w, h.") from None
    return boxes


def read_flags(path: Path) -> np.ndarray:
    """Read flags 0 and 1, one per line or all on one.

    Returns:
        (F,) bool.

    Raises:
        ValueError: no such file, or something else than 0 and 1.
    """
    words = _text(path).translate(_SEPARATORS).split()
    wrong = [word for word in words if word not in ("0", "1")]
    if wrong:
        raise ValueError(f"{path} holds {wrong[0]!r}; it must hold flags 0 and 1.")
    return np.array(words, dtype=np.int64).astype(bool)


def read_words(path: Path) -> str | None:
    """The expression in a file, on one line; None where the file is missing or empty."""
    return " ".join(_text(path).split()) or None if path.is_file() else None


def read_attributes(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The names whose flag is 1 in a file of one flag per attribute; none where the file is missing.

    Raises:
        ValueError: the file has another number of flags.
    """
    if not path.is_file():
        return ()
    flags = read_flags(path)
    if len(flags) != len(names):
        raise ValueError(f"{path} holds {len(flags)} flags; the benchmark has {len(names)} attributes {tuple(names)}.")
    return tuple(name for name, flag in zip(names, flags, strict=True) if flag)


def found_images(folder: Path) -> list[str]:
    """Paths of the images in a folder, by the number in their name.

    Raises:
        ValueError: the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} does not exist; check `--data` against the layout in docs/evaluate.md.")
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS and path.name[0] != "."]
    if not images:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(IMAGE_ENDINGS))}).")
    return [str(path) for path in sorted(images, key=lambda path: (_number(path), path.name))]


def _number(path: Path) -> int:
    digits = "".join(letter for letter in path.stem if letter.isdigit())
    return int(digits) if digits else -1


def check_count(name: str, frames: Sequence[str], **others: np.ndarray | None) -> None:
    """Raise ValueError unless a sequence has as many boxes and flags as frames.

    Args:
        name: of the sequence.
        frames: F paths.
        **others: what must have F entries, by the name of its file; None is not checked.
    """
    for what, values in others.items():
        if values is not None and len(values) != len(frames):
            raise ValueError(
                f"sequence {name!r}: {len(frames)} frames, but {len(values)} entries in {what}; the copy is "
                "incomplete, or its layout is another one."
            )
