"""How far reviewers agree beyond chance: Cohen's kappa of two, Fleiss' of all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from .decisions import VERDICTS, Decision, latest

__all__ = ["Agreement", "agreement_of", "cohen_kappa", "fleiss_kappa"]


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Return (observed - chance) / (1 - chance) for two reviewers of the same items (Cohen, 1960).

    None without items, or where both gave one and the same verdict to all: chance alone explains that.

    Raises:
        ValueError: lists of unequal lengths.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} verdicts; give those of both reviewers on the same items.")
    count = len(first)
    if not count:
        return None
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / count
    one, two = Counter(first), Counter(second)
    chance = sum(one[verdict] * two[verdict] for verdict in one) / count**2
    return None if chance == 1 else (observed - chance) / (1 - chance)


def fleiss_kappa(counts: Iterable[Sequence[int]]) -> float | None:
    """Return Fleiss' kappa (1971), for items that may have different numbers of reviewers, two at least.

    Args:
        counts: for every item how many reviewers gave each verdict. Items with fewer than two are passed over.

    Returns:
        None without such items, or where there is one verdict only.
    """
    rows = [row for row in counts if sum(row) >= 2]
    total = sum(sum(row) for row in rows)
    if not rows:
        return None
    observed = sum(sum(n * (n - 1) for n in row) / (sum(row) * (sum(row) - 1)) for row in rows) / len(rows)
    chance = sum((sum(column) / total) ** 2 for column in zip(*rows, strict=True))
    return None if chance == 1 else (observed - chance) / (1 - chance)


@dataclass(frozen=True)
class Agreement:
    """Agreement of all who wrote in a log.

    Attributes:
        pairs: (one, other, items of both, kappa) in the order of names.
        items: with two reviewers at least.
        fleiss: of these.
    """

    pairs: tuple[tuple[str, str, int, float | None], ...]
    items: int
    fleiss: float | None

    def lines(self) -> list[str]:
        """Return it as lines for people."""
        if not self.items:
            return ["no trajectory has two reviewers yet"]
        lines = [f"{one} and {other}: {_number(kappa)} (Cohen, {n} items)" for one, other, n, kappa in self.pairs if n]
        return [*lines, f"all: {_number(self.fleiss)} (Fleiss, {self.items} items)"]


def _number(kappa: float | None) -> str:
    return "not defined, one verdict only" if kappa is None else f"{kappa:.2f}"


def agreement_of(decisions: Iterable[Decision]) -> Agreement:
    """Compute the agreement of the last verdicts; decisions about different contents of a row are different items."""
    by_item: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for decision in latest(decisions).values():
        by_item[decision.id, decision.fingerprint][decision.reviewer] = decision.verdict
    names = sorted({name for item in by_item.values() for name in item})
    pairs = []
    for one, other in combinations(names, 2):
        both = [item for item in by_item.values() if one in item and other in item]
        kappa = cohen_kappa([item[one] for item in both], [item[other] for item in both])
        pairs.append((one, other, len(both), kappa))
    counts = [[list(item.values()).count(verdict) for verdict in VERDICTS] for item in by_item.values()]
    return Agreement(tuple(pairs), sum(sum(row) >= 2 for row in counts), fleiss_kappa(counts))
