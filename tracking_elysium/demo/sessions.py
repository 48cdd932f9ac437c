"""The visitors: one folder and one state each, gone when they leave or have been idle too long."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from .objects import Followed
from .uploads import Clip

AWAY_S = 120.0  # that a visitor is waited for whose connection is lost
NO_VIDEO = "There is no video yet; choose a file, record one, or take the sample."


@dataclass
class Session:
    """What one visitor has on the machine.

    Attributes:
        folder: for the video and everything made of it.
        clip: the video, None before one was taken in.
        objects: what is followed in it.
        next_id: number of the next object; numbers are not given twice, so that colors stay.
        busy: held by the one step that changes the objects or runs the model.
        stop: asks a running or waiting job to end with what it has.
        waiting: whether a job was asked for that has not begun.
        upload: what the browser sent, until the visitor takes another video or leaves.
        result: folder of the latest job's files.
        pictures: how many pictures of running jobs were shown.
        used: when the visitor last did something.
        told: what the visitor was told last of a step that failed.
        away: since when the page's connection is lost, None while it holds.
        left: whether the visitor is gone; the folder goes when the running job has ended.
    """

    folder: Path
    clip: Clip | None = None
    objects: list[Followed] = field(default_factory=list)
    next_id: int = 0
    busy: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    waiting: bool = False
    upload: Path | None = None
    result: Path | None = None
    pictures: int = 0
    used: float = field(default_factory=time.monotonic)
    told: str = ""
    away: float | None = None
    left: bool = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the session for one step.

        Raises:
            ValueError: another step is under way.
        """
        if not self.busy.acquire(blocking=False):
            raise ValueError("A job is running; wait for it, or press Stop first.")
        try:
            yield
        finally:
            self.busy.release()
            if self.left:
                shutil.rmtree(self.folder, ignore_errors=True)

    def clear(self) -> None:
        """Forget the video and remove every file.

        The folder gets another name, since browsers remember what an address showed.
        """
        self.clip, self.objects, self.next_id, self.result = None, [], 0, None
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = new_folder(self.folder.parent)

    def object(self, number: int | None) -> Followed:
        """Give one object by its number.

        Raises:
            ValueError: there is none of this number.
        """
        for one in self.objects:
            if one.id == number:
                return one
        raise ValueError("Choose an object in the list first; add one if the list is empty.")

    def video(self) -> Clip:
        """Give the video.

        Raises:
            ValueError: none was taken in.
        """
        if self.clip is None:
            raise ValueError(NO_VIDEO)
        return self.clip


def new_folder(parent: Path, prefix: str = "") -> Path:
    """Make a folder whose name nobody can guess: what lies in it is served to whoever knows its address."""
    folder = parent / f"{prefix}{secrets.token_hex(16)}"
    folder.mkdir(parents=True)
    return folder


class Sessions:
    """All visitors.

    Args:
        root: folder that holds the uploads and, in `visitors`, a folder for each visitor. Gradio shows files of it,
            and would copy those of any other.
        keep_seconds: how long an idle visitor is remembered.
        clock: seconds that only grow.
    """

    def __init__(self, root: Path, keep_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.uploads = root
        self.folders = root / "visitors"
        self.folders.mkdir(parents=True, exist_ok=True)
        self._keep_seconds, self._clock = keep_seconds, clock
        self._known: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, visitor: str | None, is_visit: bool = True) -> Session:
        """Give the visitor's state, a new one at the first step; the idle are swept out on the way.

        Args:
            visitor: name of the page.
            is_visit: whether the step shows that the visitor is there. One that waited for others' jobs does not, and
                the end of a job does not, since the page may have been closed meanwhile: it begins no visit and does
                not end an absence.

        Raises:
            ValueError: the visit is over, and the step shows no other.
        """
        self.sweep()
        name = visitor or ""
        with self._lock:
            if name not in self._known:
                if not is_visit:
                    raise ValueError(NO_VIDEO)
                self._known[name] = Session(new_folder(self.folders))
            session = self._known[name]
            if is_visit:
                session.used, session.away = self._clock(), None
            return session

    def note(self, visitor: str | None, sentence: str) -> None:
        """Note why a step failed, for the page to say it; whoever has left needs no telling."""
        with self._lock:
            session = self._known.get(visitor or "")
            if session is not None:
                session.told = sentence

    def lose(self, visitor: str | None) -> None:
        """Note that a page's connection is lost: closed for good, or only broken for a moment."""
        with self._lock:
            session = self._known.get(visitor or "")
            if session is not None:
                session.away = self._clock()

    def leave(self, visitor: str | None) -> None:
        """End a visit: a running job stops, the files go."""
        with self._lock:
            session = self._known.pop(visitor or "", None)
        if session is not None:
            session.left = True
            session.stop.set()
            self.replace_upload(session, None)
            if session.busy.acquire(blocking=False):
                session.busy.release()
                shutil.rmtree(session.folder, ignore_errors=True)

    def replace_upload(self, session: Session, upload: Path | None) -> None:
        """Note what a visitor uploaded and remove what they uploaded before, unless it is somebody else's too.

        Gradio stores equal files once.
        """
        with self._lock:
            old, session.upload = session.upload, upload
            needed = old is None or any(one.upload == old for one in (session, *self._known.values()))
        if old is not None and not needed:
            old.unlink(missing_ok=True)
            with suppress(OSError):  # another file lies there
                old.parent.rmdir()

    def sweep(self) -> None:
        """Remove visitors who are away or idle, and uploads that are older than an idle visitor may be."""
        now = self._clock()
        with self._lock:
            gone = [
                name
                for name, one in self._known.items()
                if (one.away is not None and now - one.away > AWAY_S)
                or (now - one.used > self._keep_seconds and not one.busy.locked())
            ]
        for name in gone:
            self.leave(name)
        oldest = time.time() - self._keep_seconds
        for folder in self.uploads.iterdir():
            if folder != self.folders:
                _remove_old(folder, oldest)

    def close(self) -> None:
        """End all visits."""
        for name in list(self._known):
            self.leave(name)


def _remove_old(folder: Path, oldest: float) -> None:
    """Remove files and empty folders that were last changed before `oldest`, the folder itself too."""
    for path in sorted([folder, *folder.rglob("*")], reverse=True):
        if _changed(path) < oldest:
            with suppress(OSError):  # a folder that is not empty, a file that is gone
                path.rmdir() if path.is_dir() else path.unlink()


def _changed(path: Path) -> float:
    """When a file was last changed; a file that is gone meanwhile is new."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
