"""What a call of the pipeline cost: counts of work and seconds per stage."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

STAGES = ("decode", "vision", "prefill", "llm", "parse")


@dataclass
class Stats:
    """Counters of one call; all start at 0.

    Attributes:
        frames: frames decided, over all videos.
        boxes: (frame, object) pairs decided: what `forwards_per_frame` divides by.
        answers: clip prompts answered.
        tokens: tokens of the answers, with the ones that end them.
        forwards: passes of the language model, each over a batch of rows.
        row_forwards: rows in those passes: the passes that one video and object alone would have needed.
        drafted: tokens that drafts proposed.
        accepted: proposed tokens that the model would have said.
        seconds: per stage: `decode` (reading video), `vision` (resizing, tower, compressor), `prefill` (prompts, the
            first draft with them), `llm` (the passes after them), `parse` (text to boxes). Stages that run beside each
            other add up to more than the time that passed.
    """

    frames: int = 0
    boxes: int = 0
    answers: int = 0
    tokens: int = 0
    forwards: int = 0
    row_forwards: int = 0
    drafted: int = 0
    accepted: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers: the counts, ratios (None where nothing was counted), `<stage>_s`, memory in MB."""
        result: dict[str, Any] = {
            "frames": self.frames,
            "boxes": self.boxes,
            "answers": self.answers,
            "tokens": self.tokens,
            "forwards": self.forwards,
            "forwards_per_frame": _ratio(self.row_forwards, self.boxes),
            "accepted_per_forward": _ratio(self.accepted, self.row_forwards),
            "tokens_per_forward": _ratio(self.tokens, self.row_forwards),
            "drafted": self.drafted,
            "accepted": self.accepted,
            **{f"{stage}_s": round(seconds, 4) for stage, seconds in self.seconds.items()},
            "peak_memory_mb": peak_memory_mb(),
        }
        if torch.cuda.is_available():
            result["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
        return result


def peak_memory_mb() -> float | None:
    """Return the largest resident set of this process so far, in MB; None where the system does not tell."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)  # macOS counts bytes, Linux kibibytes


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None
