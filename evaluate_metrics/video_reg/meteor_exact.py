"""METEOR's formula with exact matches of words only, for machines without Java; plain Python.

This is **not METEOR 1.5**, which also matches stems, WordNet synonyms and paraphrases: scores here are lower for
captions that say the same in other words. Formula and parameters are METEOR 1.5's for English (Denkowski and Lavie,
2014); the list of function words is our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75  # recall against precision, shape and size of penalty, content words

_FUNCTION_WORDS = """
    a an the this that these those and or but if of in on at to for from by with as into over under up down out
    off is are was were be been being has have had do does did will would can could may it its he his she her they
    their them we our you your i my not no there which who what when where
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


@dataclass(frozen=True)
class MatchCounts:
    """Words matched and words there are, weighted by `DELTA`, of one pair or added up over a corpus.

    Args:
        said_matched: Weight of the matched words of the candidate.
        said: Weight of all its words.
        true_matched: Weight of the matched words of the reference.
        true: Weight of all its words.
        matches: Number of matched words.
        chunks: Number of runs of matches that are in one piece in both.
        words: Number of words of both captions.
    """

    said_matched: float = 0.0
    said: float = 0.0
    true_matched: float = 0.0
    true: float = 0.0
    matches: int = 0
    chunks: int = 0
    words: int = 0

    def __add__(self, other: MatchCounts) -> MatchCounts:
        return MatchCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def score(self) -> float:
        """The score in [0, 1]."""
        if not self.matches:
            return 0.0
        precision, recall = self.said_matched / self.said, self.true_matched / self.true
        mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
        identical = 2 * self.matches == self.words and self.chunks == 1
        return mean * (1 - (0.0 if identical else GAMMA * (self.chunks / self.matches) ** BETA))


def match_counts(candidate: str, reference: str) -> MatchCounts:
    """Align equal words of two tokenized captions, keeping runs together."""
    said, true = candidate.split(), reference.split()
    places, free = [], set(range(len(true)))
    for number, word in enumerate(said):
        wanted = places[-1][1] + 1 if places else 0
        options = sorted((p for p in free if true[p] == word), key=lambda p: (p != wanted, p))
        if options:
            places.append((number, options[0]))
            free.remove(options[0])
    runs = sum(b[0] != a[0] + 1 or b[1] != a[1] + 1 for a, b in zip(places, places[1:], strict=False))
    return MatchCounts(
        said_matched=_weight([said[i] for i, _ in places]),
        said=_weight(said),
        true_matched=_weight([true[j] for _, j in places]),
        true=_weight(true),
        matches=len(places),
        chunks=runs + bool(places),
        words=len(said) + len(true),
    )


def meteor_exact_scores(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, list[float]]:
    """Score N tokenized candidates against the best of their references.

    Returns:
        The corpus score, of the added counts as in METEOR (not the mean of the items), and N scores.
    """
    best = [
        max((match_counts(said, text) for text in texts), key=lambda counts: counts.score)
        for said, texts in zip(candidates, references, strict=True)
    ]
    return sum(best, MatchCounts()).score, [counts.score for counts in best]


def _weight(words: Sequence[str]) -> float:
    return sum(1 - DELTA if word in FUNCTION_WORDS else DELTA for word in words)
