"""Reads ahead while the model works: a thread per video, a bounded number of items ahead, ends with its reader."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

_PATIENCE_S = 0.1  # how long a thread with a full queue takes to see that nobody reads any more
NOT_YET: Any = object()  # in place of an item, see `ReadAhead.waits`
_FAREWELL_S = 2.0  # how long a reader that leaves waits for a thread that waits for its source


class StallError(Exception):
    """No item came for as long as the reader would wait."""


class ReadAhead(Iterator):
    """An iterator whose items are made in a thread, a bounded number of them ahead.

    The thread starts with the first item that is asked for. It ends with its items, with `close()`, or when this
    object is gone, at the latest when `items` gives its next one; it holds no reference to this object and does not
    keep the process alive. What `items` raises is raised here, where the item would have been.

    Args:
        items: what to run; only the thread touches it from the first item on.
        ahead: items that may wait; one more may be in the thread's hand.
        stall_timeout: seconds that an item is waited for, then `StallError` ends this; None: for ever.

    Attributes:
        waits: whether the next item is waited for. Switched off, `NOT_YET` comes in place of one that is not there.
    """

    def __init__(self, items: Iterator[Any], ahead: int = 1, stall_timeout: float | None = None) -> None:
        self._items = items
        self._waiting: queue.Queue = queue.Queue(maxsize=ahead)
        self._timeout = None if stall_timeout is None else min(stall_timeout, threading.TIMEOUT_MAX)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._over = False
        self.waits = True
        self._missed_at: float | None = None  # since when there has been no item for who asked
        weakref.finalize(self, self._stopped.set)

    def __next__(self) -> Any:
        """The next item, or `NOT_YET`."""
        if self._over or self._stopped.is_set():
            raise StopIteration
        if self._thread is None:
            work = (self._items, self._waiting, self._stopped)
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
        """End the thread; what waits is dropped. A thread that waits for its source is waited for a moment only."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():  # the collector runs anywhere
            self._thread.join(_FAREWELL_S)


def _run(items: Iterator[Any], waiting: queue.Queue, stopped: threading.Event) -> None:
    """Fill the queue until the items end or nobody wants them."""
    try:
        for item in items:
            if not _put(("item", item), waiting, stopped):
                return
        _put(("end", None), waiting, stopped)
    except BaseException as error:  # whatever it is, the reader is to see it
        _put(("error", error), waiting, stopped)


def _put(entry: tuple[str, Any], waiting: queue.Queue, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            waiting.put(entry, timeout=_PATIENCE_S)
        except queue.Full:
            continue
        return True
    return False
