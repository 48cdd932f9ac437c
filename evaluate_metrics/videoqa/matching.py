"""Answers compared as words, without a judge: exact, normalized, and contained; plain Python.

The normalization follows the custom of VQA: case, punctuation and articles do not matter, small numbers may be words.
"""

from __future__ import annotations

import re
import unicodedata

ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS)}


def normalized_words(answer: str) -> list[str]:
    """Words of an answer without case, punctuation and articles; zero to ten as digits.

    Args:
        answer: Any text.

    Returns:
        The words, in order; `A man, two dogs.` gives `["man", "2", "dogs"]`.
    """
    text = unicodedata.normalize("NFKC", answer).lower().replace("\u2019", "'")
    text = re.sub(r"(?<=\d),(?=\d)", "", text.replace("'s", "").replace("'", ""))
    words = re.findall(r"\w+", text)
    return [DIGITS.get(word, word) for word in words if word not in ARTICLES]


def match_answer(prediction: str, reference: str) -> dict[str, bool]:
    """Compare one answer with the true one in three ways.

    Args:
        prediction: What the model said.
        reference: The true answer.

    Returns:
        `exact_match` (the same text, white space at the ends aside), `normalized_match` (the same normalized words),
        `contained_match` (the true answer's normalized words follow each other somewhere in the prediction: for models
        that answer in sentences; lenient, as "not a dog" contains "dog").
    """
    said, true = normalized_words(prediction), normalized_words(reference)
    places = range(len(said) - len(true) + 1)
    return {
        "exact_match": prediction.strip() == reference.strip(),
        "normalized_match": said == true and bool(true or prediction.strip() == reference.strip()),
        "contained_match": bool(true) and any(said[place : place + len(true)] == true for place in places),
    }
