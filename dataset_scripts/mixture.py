"""Which clip is item i of a mixture: sources in shares that are exact in every block, found by arithmetic alone.

Nothing is drawn one after the other, so that a run goes on at any item without a look at those before it, and several
processes and workers share the items out by their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .sources import Source
from .streams import StreamSource, is_stream

__all__ = ["BLOCK", "Mixture", "Part", "scrambled"]

BLOCK = 1000  # items among which the sources of a mixture have exactly their shares
_ROUNDS = 6  # of the scrambling below
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Part:
    """One source of a mixture.

    Attributes:
        source: the opened source.
        weight: its share, relative to the other parts.
        limit: use only its first so many clips.
        name: what errors call it.
    """

    source: Source | StreamSource
    weight: float = 1.0
    limit: int | None = None
    name: str = "source"

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"{self.name!r}: weight is {self.weight}; give a number above 0, or drop the source.")
        if self.limit is not None and (self.limit < 1 or is_stream(self.source)):
            raise ValueError(
                f"{self.name!r}: limit is {self.limit}; give 1 or more, or drop it (a stream has none: list fewer "
                "of its shards)."
            )

    @property
    def length(self) -> int | None:
        """Clips, as limited; None of a stream, whose end is not known."""
        if is_stream(self.source):
            return None
        length = len(self.source)
        return length if self.limit is None else min(length, self.limit)


@dataclass(frozen=True)
class Mixture:
    """Item number -> part and index within it, with every part's share exact in each block of items.

    Attributes:
        parts: sources and shares. A share is rounded to a thousandth, and is one at least.
        seed: what orders are drawn from; its last number is where a source without an order of its own begins.

    Raises:
        ValueError: there is no part.
    """

    parts: Sequence[Part]
    seed: tuple[int, ...]
    _orders: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("the mixture is empty; give one source or more.")
        if len(self.parts) > BLOCK // 2:
            raise ValueError(f"the mixture has {len(self.parts)} sources, at most {BLOCK // 2} can have their shares.")

    def __len__(self) -> int:
        """Clips of all parts whose end is known: one pass over the data."""
        return sum(part.length or 0 for part in self.parts)

    @property
    def endless(self) -> bool:
        """Whether a part is a stream, so that the mixture has no length."""
        return any(part.length is None for part in self.parts)

    def locate(self, item: int) -> tuple[int, int]:
        """(number of the part, index within it) of an item; of a stream the index is its running number."""
        number, position = 0, item
        if len(self.parts) > 1:
            block, place = divmod(item, BLOCK)
            order = self._order(block)
            number = int(order[place])
            before = int((order[:place] == number).sum())
            position = block * int((order == number).sum()) + before
        length = self.parts[number].length
        if length is None:
            return number, position
        if not self.parts[number].source.shuffled:
            return number, (self.seed[-1] + position) % length
        turn, place = divmod(position, length)
        return number, scrambled(place, length, (*self.seed, 5, number, turn))

    def _order(self, block: int) -> np.ndarray:
        """The parts of a block's items: as many of each as its weight says, shuffled."""
        if block not in self._orders:
            weights = np.array([part.weight for part in self.parts])
            exact = weights / weights.sum() * BLOCK
            counts = np.maximum(np.floor(exact).astype(int), 1)
            counts[np.argmax(counts)] += BLOCK - counts.sum()  # what rounding left, less than one item per part
            places = np.random.default_rng([*self.seed, 4, block]).permutation(BLOCK)
            if len(self._orders) > 4:
                self._orders.clear()
            self._orders[block] = np.repeat(np.arange(len(counts)), counts)[places]
        return self._orders[block]


def scrambled(place: int, length: int, key: tuple[int, ...]) -> int:
    """Element `place` of a permutation of 0 .. length - 1 that `key` names, in constant memory.

    A Feistel network permutes the numbers of some bits; a number at or beyond `length` is permuted again until it
    falls below (cycle walking, Black and Rogaway 2002).

    Args:
        place: from 0 to length - 1.
        length: of the permutation; twenty million records would take 160 MB in every worker as a list.
        key: numbers from 0.
    """
    if not 0 <= place < length:
        raise ValueError(f"place is {place}; give 0 to {length - 1}.")
    half = max((length - 1).bit_length() + 1, 2) // 2
    mask = (1 << half) - 1
    seed = 0
    for number in key:
        seed = _mixed(seed ^ _mixed(number + 1))
    value = place
    while True:
        left, right = value >> half, value & mask
        for turn in range(_ROUNDS):
            left, right = right, left ^ (_mixed(seed + turn * 0x9E3779B97F4A7C15 + right) & mask)
        value = left << half | right
        if value < length:
            return value


def _mixed(number: int) -> int:
    """Bits of a 64-bit number, mixed (the finalizer of SplitMix64)."""
    number &= _MASK
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _MASK
    return number ^ number >> 31
