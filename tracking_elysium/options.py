"""How a session cuts a video and decodes answers, and the checks of option values.

`TrackingOptions` is the only list of the options: the pipeline takes its fields as keywords, the command line makes a
flag of each. The error of a check names the option, what was given and what is allowed.
"""

from __future__ import annotations

import numbers
from dataclasses import Field, dataclass, field, fields
from typing import Any

from .gap_policy import GAP_POLICIES

RSOT_CONTINUATIONS = ("box", "expression")
DECODINGS = ("drafted", "plain")
MOST_LOOKS = 6
LARGEST = 1_000_000  # of any count: beyond it is a slip of the keyboard


class UnknownOptionError(ValueError, TypeError):
    """A keyword that no option has: a TypeError as in any call, and a ValueError as for any input of no use."""


def _option(default: Any, about: str, metavar: str | None = None) -> Any:
    """Return a field of `TrackingOptions`; `about` is what the command line says of it."""
    return field(default=default, metadata={"about": about, "metavar": metavar})


@dataclass(frozen=True)
class TrackingOptions:
    """How a session cuts and continues, and how its answers are decoded.

    Attributes:
        clip_len: frames per clip of a long video.
        overlap: frames shared by neighboring clips.
        single_pass_up_to: videos of at most this many frames go in one piece. A source of unknown length (a camera)
            is read this far ahead to find out; 0 starts with the first clip.
        gap_policy: what is reported for a frame without a box: one of `GAP_POLICIES` in `gap_policy.py`.
        rsot_continuation: `"box"`: an expression is grounded in the first clip, later clips continue from the box;
            `"expression"`: it is grounded anew in every clip (the authors' released behavior).
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
        looks: with `zoom`, an expression is looked for in windows of 1/2, 1/3, ... 1/`looks` of the frame's longer
            side too, and the box that most looks agree on is taken; 1: in the whole frame only. Small objects are
            found more often; of a frame of 16:9 there are 10 looks with 2, 31 with 3, once for each expression.
        frame_by_frame: one new frame at a time: the first alone, each other beside the one before it, so that a frame
            is decided as soon as it is there (as with `zoom`, on whole frames). `clip_len`, `overlap` and
            `single_pass_up_to` are not used then.
        stall_timeout: seconds that the next frame of a source of unknown length is waited for, where a thread reads
            ahead; the source then counts as ended, with a warning. None waits for ever.

    Raises:
        ValueError: a value that is not allowed.
    """

    clip_len: int = _option(8, "frames per clip of a long video", "N")
    overlap: int = _option(1, "frames shared by neighboring clips", "N")
    single_pass_up_to: int = _option(32, "videos of up to N frames go in one piece; 0 always cuts", "N")
    gap_policy: str = _option("hold", "frames without a box: " + ", ".join(GAP_POLICIES), "NAME")
    rsot_continuation: str = _option("box", "later clips go on from: " + ", ".join(RSOT_CONTINUATIONS), "NAME")
    prompt: str | None = _option(None, "own question with {box} or {expression} in it", "TEXT")
    decoding: str = _option("drafted", "drafted: several tokens per pass; plain: one; same answers", "NAME")
    constrained: bool = _option(True, "hold answers to the box format: every frame gets a box")
    compile: bool = _option(False, "compile the language model: for long videos (drafted only)")
    vision_memory_mb: int | None = _option(None, "memory of the vision tower's passes, by default the device's", "MB")
    zoom: bool = _option(False, "follow each object in a search window around it, a crop, one new frame at a time")
    zoom_factor: float = _option(4.0, "side of the search window over that of the object", "F")
    looks: int = _option(1, "with zoom, also look for an expression in windows of 1/2 .. 1/N of the frame", "N")
    frame_by_frame: bool = _option(False, "one new frame at a time beside the one before it, as zoom has it")
    stall_timeout: float | None = _option(60.0, "a stream that gives no frame for so long has ended; none waits", "S")

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
        check_count("looks", self.looks)
        if self.looks > MOST_LOOKS:
            raise ValueError(f"`looks`={self.looks} must be at most {MOST_LOOKS}: windows grow in number by its cube.")
        check_switch("frame_by_frame", self.frame_by_frame)
        check_number("stall_timeout", self.stall_timeout, above=0, optional="to wait for ever")
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise ValueError(f"`prompt`={self.prompt!r} must be a text with a slot such as {{box}}, or None.")

    @property
    def cut(self) -> tuple[int, int, int]:
        """Frames per clip, frames shared by clips, and frames that go in one piece, as they are in effect."""
        if self.one_by_one:  # the frame before and the new one
            return 2, 1, 0
        return self.clip_len, self.overlap, self.single_pass_up_to

    @property
    def one_by_one(self) -> bool:
        """Whether the first frame stands alone and every clip after it has one new frame."""
        return self.zoom or self.frame_by_frame


def options_given(given: dict[str, Any], others: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the keywords that say something: None keeps the default, unless it means something for the option.

    Args:
        given: name -> value.
        others: names that the caller takes besides, listed where a name is unknown.

    Raises:
        UnknownOptionError: a name that no option has; the error lists those there are.
    """
    known = {one.name: one for one in fields(TrackingOptions)}
    for name in given:
        if name not in known:
            listed = ", ".join([*known, *others])
            raise UnknownOptionError(f"`{name}` is no option of tracking; the options are {listed}.")
    return {name: value for name, value in given.items() if value is not None or takes_none(known[name])}


def takes_none(option: Field[Any]) -> bool:
    """Return whether None is a value of an option that differs from its default."""
    return option.default is not None and "None" in str(option.type)


# --------------------------------------------------------------------------------------------------------------
# checks of single values
# --------------------------------------------------------------------------------------------------------------
def check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of the allowed ones."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"`{name}`={value!r} is unknown; use one of {', '.join(map(repr, allowed))}.")


def check_switch(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}`={value!r} is unknown; use True or False.")


def check_count(name: str, value: Any, least: int = 1, optional: bool = False, advice: str = "") -> None:
    """Raise ValueError unless `value` is a whole number from `least` to `LARGEST`, or None where that is allowed."""
    if value is None and optional:
        return
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not least <= value <= LARGEST:
        end = f"; {advice}." if advice else "."
        raise ValueError(f"`{name}`={_short(value)} must be a whole number from {least} to {LARGEST}{end}")


def check_number(name: str, value: Any, above: float, optional: str = "") -> None:
    """Raise ValueError unless `value` is a number above a bound and up to `LARGEST`, or None where that is allowed.

    Args:
        name: of the option.
        value: what was given.
        above: the bound, not allowed itself.
        optional: what None is for ("to wait for ever"); empty where it is not allowed.
    """
    if value is None and optional:
        return
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not above < value <= LARGEST:
        end = f"; pass None {optional}." if optional else "."
        raise ValueError(f"`{name}`={_short(value)} must be a number above {above:g}, at most {LARGEST}{end}")


def check_clip_options(clip_len: int, overlap: int, single_pass_up_to: int) -> None:
    """Raise ValueError unless the three are whole numbers that go together."""
    check_count("clip_len", clip_len, advice="the paper uses 8 frames")
    check_count("overlap", overlap, least=0, advice="the paper uses 1")
    if overlap >= clip_len:
        raise ValueError(f"`overlap`={overlap} must be at least 0 and below `clip_len`={clip_len}; the paper uses 1.")
    check_count("single_pass_up_to", single_pass_up_to, least=0, advice="0 always cuts into clips")


def _check_zoom_factor(factor: Any) -> None:
    if isinstance(factor, bool) or not isinstance(factor, numbers.Real) or not 1.2 <= factor <= 20:
        raise ValueError(f"`zoom_factor`={_short(factor)} must be a number from 1.2 to 20; the default is 4.")


def _short(value: Any) -> str:
    """Return a value as it is shown in an error, cut where it is long."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**20:
        return f"{'-' if value < 0 else ''}(an integer of {value.bit_length()} bits)"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
