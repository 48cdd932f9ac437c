"""CIDEr-D over tokenized captions, as pycocoevalcap 1.2 computes it; numpy only, no Java.

Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation" (2015), the variant with clipping and a length
penalty. Document frequencies come from the references that are scored, so one set's numbers belong to that set.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

LONGEST_NGRAM = 4
SIGMA = 6.0  # of the length penalty, in bigrams

Vector = dict[tuple[str, ...], float]


def cider_scores(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Score N candidates; the corpus score is the mean.

    Args:
        candidates: N captions of tokens with white space between.
        references: N lists of such captions, at least one each.

    Returns:
        (N,) float64 from 0 to 10. With N = 1 all are 0: every n-gram occurs in every document.
    """
    counted = [[_ngrams(text) for text in texts] for texts in references]
    documents = Counter(ngram for counts in counted for ngram in set().union(*counts))
    log_size = math.log(len(counted)) if counted else 0.0
    scores = []
    for candidate, counts in zip(candidates, counted, strict=True):
        said = _weighted(_ngrams(candidate), documents, log_size)
        similar = [_similarity(said, _weighted(count, documents, log_size)) for count in counts]
        scores.append(10.0 * float(np.mean(similar)))
    return np.array(scores)


def _ngrams(text: str) -> Counter:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, LONGEST_NGRAM + 1) for i in range(len(words) - n + 1))


def _weighted(counts: Counter, documents: Counter, log_size: float) -> tuple[list[Vector], list[float], int]:
    """TF-IDF vectors by length of n-gram, their norms, and the number of bigrams (the length that is penalized)."""
    vectors: list[Vector] = [{} for _ in range(LONGEST_NGRAM)]
    for ngram, count in counts.items():
        vectors[len(ngram) - 1][ngram] = count * (log_size - math.log(max(1.0, documents[ngram])))
    norms = [math.sqrt(sum(weight**2 for weight in vector.values())) for vector in vectors]
    return vectors, norms, sum(count for ngram, count in counts.items() if len(ngram) == 2)


def _similarity(said: tuple[list[Vector], list[float], int], true: tuple[list[Vector], list[float], int]) -> float:
    """Clipped cosine similarity, the mean over lengths of n-grams, less the penalty for a different length."""
    cosines = []
    for said_vector, true_vector, said_norm, true_norm in zip(said[0], true[0], said[1], true[1], strict=True):
        shared = said_vector.keys() & true_vector.keys()
        product = sum(min(said_vector[ngram], true_vector[ngram]) * true_vector[ngram] for ngram in shared)
        cosines.append(product / (said_norm * true_norm) if said_norm and true_norm else 0.0)
    return math.exp(-((said[2] - true[2]) ** 2) / (2 * SIGMA**2)) * sum(cosines) / LONGEST_NGRAM
