"""Words for synthetic objects: expressions that fit one object only, and captions."""

from __future__ import annotations

import numpy as np

__all__ = ["caption", "is_unique", "referring_expression"]

_ATTRIBUTES = ("size", "texture", "colour", "shape")


def caption(look: tuple[str, str, str, str], motion: str | None = None) -> str:
    """Describe in full: "a small striped red ring moving left"; `look` is (size, texture, color, shape)."""
    words = "a " + " ".join(look)
    return f"{words} {motion}" if motion else words


def is_unique(look: tuple[str, ...], others: list[tuple[str, ...]], named: tuple[int, ...]) -> bool:
    """Return True if no other object has the same values of all `named` attributes (positions in `look`)."""
    return not any(all(other[i] == look[i] for i in named) for other in others)


def referring_expression(
    rng: np.random.Generator,
    look: tuple[str, str, str, str],
    others: list[tuple[str, str, str, str]],
    motion: str | None = None,
) -> str:
    """Return words that fit `look` and none of `others`, e.g. "the small red ring".

    Attributes are added in random order (color and shape first, as people do, in two cases of three) until the
    words are unique, and sometimes one more; the motion, where given, is sometimes added and never needed.

    Raises:
        ValueError: two objects look the same, so that no words can tell them apart in one frame.
    """
    everything = tuple(range(len(_ATTRIBUTES)))
    if not is_unique(look, others, everything):
        raise ValueError(f"no expression is unique: another object also looks like {look}.")
    if rng.random() < 2 / 3:
        order = [int(i) for i in rng.permutation([2, 3])] + [int(i) for i in rng.permutation([0, 1])]
    else:
        order = [int(i) for i in rng.permutation(4)]
    count = 1
    while not is_unique(look, others, tuple(order[:count])):
        count += 1
    if count < len(order) and rng.random() < 0.6:
        count += 1
    named = set(order[:count])
    noun = look[3] if 3 in named else "object"
    words = " ".join([look[i] for i in (0, 1, 2) if i in named] + [noun])
    if motion is not None and rng.random() < 0.3:
        words += " " + motion
    return f"the {words}"
