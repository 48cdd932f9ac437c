"""How many threads torch takes for a model on a CPU.

A pass of a small model is over before its threads have met: one thread is as fast on an idle machine and many times
faster on a busy one, where the others wait for a core (`benchmarks/threads.md`). What a user has set stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

SMALL = 30_000_000  # parameters up to which one thread is enough
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")


def threads_for(model: Any) -> int | None:
    """Return threads that suit a model; None (a large model, another device, a user's setting) changes nothing.

    A number from `torch.set_num_threads` is a user's own where it is not the one that torch starts with.
    """
    if model.device.type != "cpu" or any(name in os.environ for name in VARIABLES):
        return None
    if torch.get_num_threads() not in starting_threads():
        return None
    return 1 if sum(weight.numel() for weight in model.parameters()) <= SMALL else None


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
    torch.set_num_threads(count)
    try:
        with context():
            yield
    finally:
        torch.set_num_threads(before)
