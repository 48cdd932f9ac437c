"""Two settings that make training of small models on CPUs several times faster."""

from __future__ import annotations

import ctypes
import sys

import torch

__all__ = ["keep_freed_memory", "prepare_cpu"]

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def prepare_cpu() -> None:
    """Set the process up for training on a CPU; call it before the first tensor is made.

    Gradients of a well-trained model are full of denormal numbers, which the processor handles a hundred times more
    slowly than others: they are flushed to zero. Threads inherit the setting from the one that starts them.
    """
    keep_freed_memory()
    torch.set_flush_denormal(True)


def keep_freed_memory() -> bool:
    """Tell glibc not to hand large buffers back to the system after every operation.

    Each large tensor otherwise costs fresh pages, which the kernel must clear. Does nothing (and returns False) where
    the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28), (_M_ARENA_MAX, 1))
    return all(mallopt(name, value) == 1 for name, value in settings)
