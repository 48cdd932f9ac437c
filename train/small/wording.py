"""What a person might call one of several named objects, so that only one is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .vocabulary import COLORS

__all__ = ["expression_for", "made_up", "may_be", "with_article"]

MARGIN = 0.1  # of the side: an object is "on the left" if its center is so much farther left than those of its kind
LARGER = 1.8  # times the area of the next of its kind: "the large" one
# Extra words where the name alone would do.
EXTRA_COLOR, EXTRA_PLACE = 0.15, 0.08
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"


def expression_for(objects: Sequence[dict[str, Any]], target: int, rng: np.random.Generator) -> str | None:
    """Write an expression that fits the target and no other object of the list.

    Args:
        objects: `{"name", "box", "color"}` of each.
        target: which one is meant.
        rng: draws among what fits.

    Returns:
        Such as "dog", "the red cup", "the person on the left"; None where name, color, place and size do not tell it
        apart.
    """
    meant = objects[target]
    others = [item for i, item in enumerate(objects) if i != target and item["name"] == meant["name"]]
    color = meant["color"]
    has_color = color is not None and not set(meant["name"].split()) & set(COLORS)
    by_color = [f"the {color} {meant['name']}"] if has_color else []
    places = _places(meant, others)
    if not others:
        draw = rng.random()
        if draw < EXTRA_COLOR and by_color:
            return by_color[0]
        if draw > 1 - EXTRA_PLACE and places:
            return str(rng.choice(places))
        return with_article(meant["name"], rng)
    fitting = places + _sizes(meant, others)
    if by_color and all(item["color"] not in (None, color) for item in others):
        fitting += by_color * 2
    return str(rng.choice(fitting)) if fitting else None


def with_article(name: str, rng: np.random.Generator) -> str:
    """Return the name alone, or with "the" or "a"."""
    article = ("the ", "", "a ")[int(rng.choice(3, p=[0.5, 0.35, 0.15]))]
    return ("an " if article == "a " and name[0] in "aeiou" else article) + name


def made_up(rng: np.random.Generator) -> str:
    """Return a word that means nothing, two to four syllables, such as "the dovika"."""
    letters = (rng.choice(list(kind)) for _ in range(int(rng.integers(2, 5))) for kind in (CONSONANTS, VOWELS))
    return with_article("".join(letters), rng)


def may_be(name: str, other: str) -> bool:
    """Return whether two names share a word, as "apple" and "red apple" do."""
    return bool(set(name.split()) & set(other.split()))


def _center(item: dict[str, Any]) -> np.ndarray:
    box = np.asarray(item["box"])
    return (box[:2] + box[2:]) / 2


def _places(meant: dict[str, Any], others: list[dict[str, Any]]) -> list[str]:
    """Return places that tell it from the others; alone, those of an object that is clearly there."""
    center = _center(meant)
    rest = np.array([_center(item) for item in others]) if others else np.array([[0.5, 0.5]])
    margin = MARGIN if others else 2 * MARGIN
    names = []
    for axis, (low, high) in enumerate((("on the left", "on the right"), ("at the top", "at the bottom"))):
        if center[axis] < rest[:, axis].min() - margin:
            names.append(low)
        elif center[axis] > rest[:, axis].max() + margin:
            names.append(high)
    return [f"the {meant['name']} {name}" for name in names]


def _sizes(meant: dict[str, Any], others: list[dict[str, Any]]) -> list[str]:
    def area(item: dict[str, Any]) -> float:
        box = np.asarray(item["box"])
        return float(np.prod(box[2:] - box[:2]))

    own, rest = area(meant), [area(item) for item in others]
    if own > LARGER * max(rest):
        return [f"the large {meant['name']}"]
    if own < min(rest) / LARGER:
        return [f"the small {meant['name']}"]
    return []
