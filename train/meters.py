"""What training logs beside its loss: means without a device sync per step, speed, padding, memory, use of the device.

Values of one logging interval are added up where they are and read once, summed over all processes.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch

__all__ = ["Means", "Throughput", "peak_flops", "spread"]

GIB = 2**30
# Dense bfloat16 operations per second (the manufacturer's data sheets), by a part of the device's name.
PEAK_FLOPS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "A10": 125e12,
}


class Means:
    """Named means over an interval and over all processes.

    Args:
        names: all that there may be, the same in every process.
        device: where sums are kept.
    """

    def __init__(self, names: Sequence[str], device: torch.device | str) -> None:
        self.names = tuple(names)
        self._sums = torch.zeros(len(names), 2, device=device, dtype=torch.float64)

    def add(self, name: str, values: torch.Tensor) -> None:
        """Add values of any shape to a mean; nothing waits for the device."""
        row = self._sums[self.names.index(name)]
        row[0] += values.detach().double().sum()
        row[1] += values.numel()

    def add_by(self, names: Sequence[str], values: torch.Tensor, groups: torch.Tensor) -> None:
        """Add `values[i]` to the mean `names[groups[i]]`."""
        first = self.names.index(names[0])
        assert self.names[first : first + len(names)] == tuple(names), "the names stand together"
        rows = self._sums[first : first + len(names)]
        rows[:, 0].index_add_(0, groups, values.detach().double())
        rows[:, 1].index_add_(0, groups, torch.ones_like(values, dtype=torch.float64))

    def read(self, accelerator: Any) -> dict[str, float]:
        """The means of names that something was added to, over all processes; begins a new interval."""
        sums = accelerator.reduce(self._sums.clone(), reduction="sum").tolist()
        self._sums.zero_()
        return {name: total / count for name, (total, count) in zip(self.names, sums, strict=True) if count}


@dataclass
class Counts:
    """Sums over an interval.

    Attributes:
        samples: conversations.
        tokens: without padding.
        padded_tokens: with it.
        frames: encoded.
        flops: operations that the model needs for these, see `train.estimate.step_flops`.
        skipped: items that could not be used.
        waiting_s: seconds that training waited for its data.
        busy_s: seconds of training steps, this waiting included, evaluation and saving not.
    """

    samples: float = 0
    tokens: float = 0
    padded_tokens: float = 0
    frames: float = 0
    flops: float = 0
    skipped: float = 0
    waiting_s: float = 0
    busy_s: float = 0


@dataclass
class Throughput:
    """Speed over logging intervals.

    Attributes:
        device: that trains.
        interval: sums since the last reading.
    """

    device: torch.device
    interval: Counts = field(default_factory=Counts)
    _began: float | None = None

    def begin(self) -> None:
        """A step begins, by waiting for its data."""
        self._began = time.perf_counter()

    def has_data(self) -> None:
        """The data of the step is there."""
        if self._began is not None:
            self.interval.waiting_s += time.perf_counter() - self._began

    def end(self) -> None:
        """The step is done."""
        if self._began is not None:
            self.interval.busy_s += time.perf_counter() - self._began
            self._began = None

    def add(self, info: Mapping[str, Any], padded_tokens: int, flops: float) -> None:
        """Count a batch by what its collator says of it."""
        for name in ("samples", "tokens", "frames"):
            setattr(self.interval, name, getattr(self.interval, name) + info[name])
        self.interval.skipped += len(info["skipped"])
        self.interval.padded_tokens += padded_tokens
        self.interval.flops += flops

    def read(self, accelerator: Any) -> dict[str, float]:
        """Numbers to log, over all processes; begins a new interval. Empty where no step was taken."""
        names = [item.name for item in fields(Counts)]
        own = torch.tensor([getattr(self.interval, name) for name in names], dtype=torch.float64)
        total = accelerator.reduce(own.to(self.device), reduction="sum").tolist()
        self.interval = Counts()
        sums = Counts(**dict(zip(names, total, strict=True)))
        if not sums.busy_s or not sums.padded_tokens:
            return {}
        seconds = sums.busy_s / accelerator.num_processes
        found = {
            "samples_per_s": sums.samples / seconds,
            "tokens_per_s": sums.tokens / seconds,
            "frames_per_s": sums.frames / seconds,
            "padding_share": 1 - sums.tokens / sums.padded_tokens,
            "waiting_share": sums.waiting_s / sums.busy_s,
            "tflops_per_device": sums.flops / sums.busy_s / 1e12,
            "memory_gib": self._memory() / GIB,
        }
        if sums.skipped:
            found["skipped_items"] = sums.skipped
        peak = peak_flops(self.device)
        if peak is not None:
            found["mfu"] = sums.flops / sums.busy_s / peak
        return found

    def _memory(self) -> float:
        """Most bytes in use so far: of the GPU, or of this process."""
        if self.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self.device))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def peak_flops(device: torch.device) -> float | None:
    """Dense bfloat16 operations per second of a known GPU; None of others and of CPUs."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)


def spread(counts: torch.Tensor) -> float:
    """Entropy of how often each of N patches was kept, relative to that of all alike; 1 is most spread.

    Near log K / log N, always the same K patches are kept: the selector has collapsed.
    """
    shares = counts.double() / counts.sum().clamp(min=1)
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum().item()
    return entropy / math.log(len(counts))
