"""How a session cuts a video and decodes answers, and the checks of option values.

The error of a check names the option, what was given and what is allowed.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

from .gap_policy import GAP_POLICIES

RSOT_CONTINUATIONS = ("box", "expression")
DECODINGS = ("drafted", "plain")


@dataclass(frozen=True)
class TrackingOptions:
    """How a session cuts and continues, and how its answers are decoded.

    Attributes:
        clip_len: frames per clip of a long video.
        overlap: frames shared by neighbouring clips.
        single_pass_up_to: videos of at most this many frames go in one piece. A source of unknown length (a camera)
            is read this far ahead to find out; 0 starts with the first clip.
        gap_policy: what is reported for a frame without a box: one of `GAP_POLICIES` in `gap_policy.py`.
        rsot_continuation: `"box"`: an expression is grounded in the first clip, later clips continue from the box;
            `"expression"`: it is grounded anew in every clip (the authors' released behaviour).
        prompt: a template with `{box}` or `{expression}` instead of the built-in wording.
        decoding: `"drafted"`: several tokens per pass of the model; `"plain"`: one, by the library's `generate`. Both
            give the same answers.
        constrained: answers follow the box format, so every frame gets a box; False leaves the model its own words,
            and frames without a box to `gap_policy`.
        compile: drafted decoding compiles the language model (`torch.compile`), and on a GPU records its passes as
            CUDA graphs. Worth its first half minute where much is tracked; boxes may differ where rounding decides.
        vision_memory_mb: bounds the frames per pass of the vision tower: its widest activation takes at most so many
            MiB. None: what suits the device.
        zoom: follow each object in a search window, a square crop around its last box, one new frame at a time; the
            first frame is shown beside it. An expression is found in the whole first frame. `clip_len`, `overlap` and
            `single_pass_up_to` are not used then.
        zoom_factor: side of the search window over the square root of the box's area; wider while the object is lost
            or fast.
        stall_timeout: seconds that the next frame of a source of unknown length is waited for, where a thread reads
            ahead; the source then counts as ended, with a warning. None waits for ever.

    Raises:
        ValueError: a value that is not allowed.
    """

    clip_len: int = 8
    overlap: int = 1
    single_pass_up_to: int = 32
    gap_policy: str = "hold"
    rsot_continuation: str = "box"
    prompt: str | None = None
    decoding: str = "drafted"
    constrained: bool = True
    compile: bool = False
    vision_memory_mb: int | None = None
    zoom: bool = False
    zoom_factor: float = 4.0
    stall_timeout: float | None = 60.0

    def __post_init__(self) -> None:
        check_clip_options(self.clip_len, self.overlap, self.single_pass_up_to)
        check_choice("gap_policy", self.gap_policy, GAP_POLICIES)
        check_choice("rsot_continuation", self.rsot_continuation, RSOT_CONTINUATIONS)
        check_choice("decoding", self.decoding, DECODINGS)
        check_switch("constrained", self.constrained)
        check_switch("compile", self.compile)
        check_count("vision_memory_mb", self.vision_memory_mb, optional=True)
        check_switch("zoom", self.zoom)
        _check_zoom_factor(self.zoom_factor)
        _check_stall_timeout(self.stall_timeout)

    @property
    def cut(self) -> tuple[int, int, int]:
        """Frames per clip, frames shared by clips, and frames that go in one piece, as they are in effect."""
        if self.zoom:  # the frame before and the new one
            return 2, 1, 0
        return self.clip_len, self.overlap, self.single_pass_up_to


def check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of the allowed ones."""
    if value not in allowed:
        raise ValueError(f"`{name}`={value!r} is unknown; use one of {', '.join(map(repr, allowed))}.")


def check_switch(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}`={value!r} is unknown; use True or False.")


def check_count(name: str, value: Any, optional: bool = False) -> None:
    """Raise ValueError unless `value` is a whole number from 1 on, or None where that is allowed."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}`={value!r} must be a whole number from 1 on.")


def check_clip_options(clip_len: int, overlap: int, single_pass_up_to: int) -> None:
    """Raise ValueError unless the three go together."""
    if clip_len < 1:
        raise ValueError(f"`clip_len`={clip_len} must be at least 1 frame; the paper uses 8.")
    if not 0 <= overlap < clip_len:
        raise ValueError(f"`overlap`={overlap} must be at least 0 and below `clip_len`={clip_len}; the paper uses 1.")
    if single_pass_up_to < 0:
        raise ValueError(f"`single_pass_up_to`={single_pass_up_to} is negative; pass 0 to always cut into clips.")


def _check_stall_timeout(seconds: Any) -> None:
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, numbers.Real) or not seconds > 0 or math.isinf(seconds):
        raise ValueError(
            f"`stall_timeout`={seconds!r} must be a number of seconds above 0, for example 60; pass None to wait for "
            "ever."
        )


def _check_zoom_factor(factor: Any) -> None:
    if isinstance(factor, bool) or not isinstance(factor, numbers.Real) or not 1.2 <= factor <= 20:
        raise ValueError(f"`zoom_factor`={factor!r} must be a number from 1.2 to 20; the default is 4.")
