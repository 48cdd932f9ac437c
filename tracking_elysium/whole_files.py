"""Files that are there whole or not at all, and the check that none of them takes the place of a file in use."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a file to write that takes the place of `path` once the block has ended well.

    The file lies beside `path` (of a link: beside the file that it leads to) and is removed after an error or an
    interrupt; what `path` held stays as it was. Missing folders are made. A device or a pipe is written directly.

    Args:
        path: the file that is to be there at the end.

    Yields:
        The path to write to, with the ending of `path`.

    Raises:
        OSError: it cannot be written (no permission, a full disk); the error names `path`.
        ValueError: what goes into it cannot be had; likewise.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".elysium-{os.getpid()}-{threading.get_ident()}{target.suffix}")
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            yield target
            return
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield part
            _flush(part)
            if target.exists():
                os.chmod(part, stat.S_IMODE(target.stat().st_mode))
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise OSError(f"{os.fspath(path)!r} was not written: {reason}.") from error
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r} was not written: {error}") from error


def _flush(path: Path) -> None:
    """Wait until a file is on the disk: a disk that is full may say so only then."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def check_outputs(outputs: dict[str, str | None], inputs: dict[str, str | None]) -> None:
    """Check files that will be written, before any work is done; nothing is made.

    Args:
        outputs: name of the argument -> file; None is not asked for.
        inputs: what each is -> a file or folder that is read; None and URLs are passed over.

    Raises:
        ValueError: an output is an input, lies in an input's folder where a file has its name already, or is another
            output, by any spelling or link; it is a folder; or its folder cannot be written to.
    """
    wanted = {name: path for name, path in outputs.items() if path is not None}
    read = {name: path for name, path in inputs.items() if path is not None and "://" not in path}
    done: dict[str, str] = {}
    for name, path in wanted.items():
        if Path(path).is_dir() or path.endswith(("/", os.sep)) or not path:
            raise ValueError(f"{name} {path!r} is a folder; pass the name of a file to write.")
        for what, source in read.items():
            if _is_same(path, source) or (os.path.exists(path) and _is_inside(path, source)):
                raise ValueError(f"{name} {path!r} would overwrite {what} ({source!r}); pass another name.")
        for other, taken in done.items():
            if _is_same(path, taken):
                raise ValueError(f"{name} {path!r} and {other} {taken!r} are one file; pass two names.")
        done[name] = path
        _check_place(name, path)


def _is_same(one: str, other: str) -> bool:
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other) and not stat.S_ISCHR(os.stat(one).st_mode)  # /dev/null takes anything
    return os.path.normcase(os.path.realpath(one)) == os.path.normcase(os.path.realpath(other))


def _is_inside(path: str, folder: str) -> bool:
    return os.path.isdir(folder) and any(_is_same(str(above), folder) for above in _above(path))


def _above(path: str) -> Iterable[Path]:
    return Path(os.path.realpath(path)).parents


def _check_place(name: str, path: str) -> None:
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise ValueError(f"{name} {path!r} is a file that may not be written; pass another name.")
    folder = next(above for above in _above(path) if above.exists() or above.is_symlink())
    if not folder.is_dir():
        raise ValueError(f"{name} {path!r} lies below {str(folder)!r}, which is no folder; pass another name.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{name} {path!r}: the folder {str(folder)!r} may not be written to; pass another one.")
