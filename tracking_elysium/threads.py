"""How many threads torch takes for a model on a CPU.

A pass of a small model is over before its threads have met: one thread is as fast on an idle machine and many times
faster on a busy one, where the others wait for a core (`benchmarks/threads.md`). Passes of its vision tower are
longer: there it depends on the machine and on what else it does, so that they are timed. What a user has set stays.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

SMALL = 30_000_000  # parameters up to which one thread is enough
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")
# Passes after which the slower number of threads is tried again, and how much slower than last time a pass may be
# before it is: what else the machine does has changed.
TRY_EVERY, TRY_IF_SLOWER = 64, 1.5
_local = threading.local()  # `before`: the number that `with_threads` has replaced in this thread


def threads_for(model: Any) -> int | None:
    """Return threads that suit a model; None (a large model, another device, a user's setting) changes nothing.

    A number from `torch.set_num_threads` is a user's own where it is not the one that torch starts with.
    """
    if model.device.type != "cpu" or any(name in os.environ for name in VARIABLES):
        return None
    if torch.get_num_threads() not in starting_threads():
        return None
    return 1 if sum(weight.numel() for weight in model.parameters()) <= SMALL else None


def fix_threads(model: Any) -> None:
    """Set once what `threads_for` says, for runs that are to be equal to the last digit: nothing is timed then.

    How many threads share a sum may change its last digit, and what passes take differs from run to run.
    """
    count = threads_for(model)
    if count is not None:
        torch.set_num_threads(count)


def starting_threads() -> set[int]:
    """Return numbers of threads that torch may take by itself: one per processor or one per core of this process."""
    if not hasattr(os, "sched_getaffinity"):
        return {os.cpu_count() or 1}
    processors = os.sched_getaffinity(0)
    cores = set()
    for number in processors:
        siblings = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.is_file() else str(number))
    return {len(processors), len(cores)}


def with_threads(count: int | None, context: Callable[[], AbstractContextManager[Any]]) -> Callable[[], Any]:
    """Return a maker of contexts as `context` is one, in which torch has so many threads; None changes nothing."""
    return context if count is None else partial(_threaded, count, context)


@contextmanager
def _threaded(count: int, context: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    before = torch.get_num_threads()
    outer, _local.before = getattr(_local, "before", None), before
    torch.set_num_threads(count)
    try:
        with context():
            yield
    finally:
        torch.set_num_threads(before)
        _local.before = outer


class TimedThreads:
    """Runs passes in as many threads as `with_threads` has set or as there were before, whichever is faster now.

    Both numbers are tried; the faster one stays until a pass is much slower than the last or `TRY_EVERY` passes are
    over. Outside `with_threads` nothing is changed.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._seconds: dict[int, float] = {}  # threads -> of one frame, when last tried
        self._passes = 0
        self._again: int | None = None  # a number that is tried next, whatever it took last

    @contextmanager
    def passing(self, frames: int) -> Iterator[None]:
        """Run one pass over so many frames in this context."""
        few, many = torch.get_num_threads(), getattr(_local, "before", None)
        if many is None or many <= few:
            yield
            return
        count = self._choice(few, many)
        torch.set_num_threads(count)
        began = self._clock()
        try:
            yield
        finally:
            torch.set_num_threads(few)
        self._note(count, (self._clock() - began) / frames)

    def _choice(self, few: int, many: int) -> int:
        for count in (few, many):
            if count not in self._seconds:
                return count
        fast, slow = sorted((few, many), key=self._seconds.__getitem__)
        return self._again or (slow if self._passes % TRY_EVERY == 0 else fast)

    def _note(self, count: int, seconds: float) -> None:
        self._passes += 1
        if self._passes == 1:  # what is done once, such as packing weights, is in it
            return
        last, tried_again = self._seconds.get(count), self._again is not None
        self._seconds[count], self._again = seconds, None
        if last is not None and seconds > TRY_IF_SLOWER * last and not tried_again:
            self._again = next((other for other in self._seconds if other != count), None)
