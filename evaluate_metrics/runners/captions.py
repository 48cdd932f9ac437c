"""Quick scores of short descriptions without Java: exact match and a METEOR-style overlap of exact words.

These are for the synthetic captions, whose vocabulary is closed; they are not METEOR 1.5 (no stems, synonyms or
paraphrases), and the report says so.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["caption_scores", "meteor_overlap"]

# METEOR's published parameters of 2005 (Banerjee and Lavie): recall counts nine times as much as precision.
_RECALL_WEIGHT = 9.0
_PENALTY, _PENALTY_POWER = 0.5, 3.0


def meteor_overlap(said: str, truth: str) -> float:
    """METEOR with exact matches only.

    Args:
        said: the description to score.
        truth: the reference.

    Returns:
        0 to just below 1: the harmonic mean of precision and recall of words, less a penalty for words out of order.
    """
    said_words, true_words = said.lower().split(), truth.lower().split()
    free = list(range(len(true_words)))
    places: list[int] = []
    for word in said_words:
        # Go on where the last match ended if possible, so that runs of words stay together.
        candidates = [p for p in free if true_words[p] == word]
        if candidates:
            wanted = places[-1] + 1 if places else 0
            place = wanted if wanted in candidates else candidates[0]
            places.append(place)
            free.remove(place)
    if not places:
        return 0.0
    precision, recall = len(places) / len(said_words), len(places) / len(true_words)
    mean = (1 + _RECALL_WEIGHT) * precision * recall / (recall + _RECALL_WEIGHT * precision)
    chunks = 1 + sum(b != a + 1 for a, b in zip(places, places[1:], strict=False))
    return mean * (1 - _PENALTY * (chunks / len(places)) ** _PENALTY_POWER)


def caption_scores(said: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    """Means over all pairs: `exact_match` (after trimming case, white space and a final period) and `overlap`."""
    if len(said) != len(truth) or not truth:
        raise ValueError(f"need as many descriptions as references, at least one; got {len(said)} and {len(truth)}.")
    trimmed = [[text.strip().rstrip(".").lower() for text in texts] for texts in (said, truth)]
    pairs = list(zip(*trimmed, strict=True))
    return {
        "exact_match": sum(a == b for a, b in pairs) / len(pairs),
        "overlap": sum(meteor_overlap(a, b) for a, b in pairs) / len(pairs),
    }
