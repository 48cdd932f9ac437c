"""Reads ahead while the model works: a thread per video, a bounded number of items ahead, ends with its reader."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

_CLOSE_POLL_S = 0.1  # how often a thread with a full queue looks whether its reader has gone
NOT_YET: Any = object()  # in place of an item, see `ReadAhead.waits`
_JOIN_TIMEOUT_S = 2.0  # how long `close` waits for a thread that is waiting for its source


class StallError(Exception):
    """No item came within the `stall_timeout`."""


class ReadAhead(Iterator):
    """Iterator whose items are made in a thread, a bounded number of them ahead.

    The thread starts with the first item that is asked for. It ends with its items, with `close()`, or when this
    object is gone, at the latest when `items` gives its next one; it holds no reference to this object and does not
    keep the process alive. What `items` raises is raised here, where the item would have been.

    Args:
        items: what to run; only the thread touches it from the first item on.
        ahead: items that may wait in the queue; the thread may hold one more.
        stall_timeout: seconds that an item is waited for, then `StallError` ends the iterator; None: for ever.
        newest: the thread never waits for its reader: a new item takes the place of the oldest that waits.

    Attributes:
        waits: whether the next item is waited for. If not, `NOT_YET` comes in place of one that is not there.
    """

    def __init__(
        self, items: Iterator[Any], ahead: int = 1, stall_timeout: float | None = None, newest: bool = False
    ) -> None:
        self._items: Iterator[Any] | None = items
        self._waiting: queue.Queue = queue.Queue(maxsize=ahead)
        self._newest = newest
        self._timeout = None if stall_timeout is None else min(stall_timeout, threading.TIMEOUT_MAX)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._over = False
        self.waits = True
        self._missed_at: float | None = None  # when an item was asked for first that is not there yet
        weakref.finalize(self, self._stopped.set)

    def __next__(self) -> Any:
        """Return the next item, or `NOT_YET`."""
        if self._over or self._stopped.is_set():
            raise StopIteration
        if self._thread is None:
            work = (self._items, self._waiting, self._stopped, self._newest)
            self._thread = threading.Thread(target=_run, args=work, name="elysium-read-ahead", daemon=True)
            self._items = None
            self._thread.start()
        now = time.monotonic()
        self._missed_at = now if self._missed_at is None else self._missed_at
        left = None if self._timeout is None else max(self._missed_at + self._timeout - now, 0.0)
        try:
            kind, value = self._waiting.get(self.waits, left)
        except queue.Empty:
            if not self.waits and left != 0.0:
                return NOT_YET
            self._stopped.set()
            raise StallError from None
        self._missed_at = None
        if kind == "item":
            return value
        self._over = True
        if kind == "error":
            raise value
        raise StopIteration

    def close(self) -> None:
        """End the thread and drop what is in the queue; joining a thread that waits for its source has a timeout."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():  # the collector runs anywhere
            self._thread.join(_JOIN_TIMEOUT_S)


def _run(items: Iterator[Any], waiting: queue.Queue, stopped: threading.Event, newest: bool) -> None:
    """Fill the queue until the items end or the reader closes it."""
    try:
        for item in items:
            while newest and waiting.full():
                with suppress(queue.Empty):  # its reader was quicker
                    waiting.get_nowait()
            if not _put(("item", item), waiting, stopped):
                return
        _put(("end", None), waiting, stopped)
    except BaseException as error:  # of any kind: it is raised where the item would have been
        _put(("error", error), waiting, stopped)


def _put(entry: tuple[str, Any], waiting: queue.Queue, stopped: threading.Event) -> bool:
    """Put an entry into the queue; return whether the reader is still there."""
    while not stopped.is_set():
        try:
            waiting.put(entry, timeout=_CLOSE_POLL_S)
        except queue.Full:
            continue
        return True
    return False
