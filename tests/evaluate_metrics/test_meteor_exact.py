"""The exact-word METEOR against numbers of METEOR 1.5 itself, run with its exact matcher alone and even weights."""

import itertools
import json
import random
from pathlib import Path

import pytest

from evaluate_metrics.video_reg import meteor_exact
from evaluate_metrics.video_reg.meteor_exact import align, meteor_exact_scores

NUMBERS = json.loads((Path(__file__).parent / "meteor_exact_numbers.json").read_text(encoding="utf-8"))


def test_equals_meteor_with_its_exact_matcher_alone(monkeypatch):
    monkeypatch.setattr(meteor_exact, "DELTA", 0.5)  # content and function words weigh the same: no list of them
    score, items = meteor_exact_scores(NUMBERS["predictions"], [[text] for text in NUMBERS["references"]])
    assert items == pytest.approx(NUMBERS["items"], abs=1e-6)
    assert score == pytest.approx(NUMBERS["corpus"], abs=1e-6)
    assert items[0] == 1.0 and items[1] == 0.0 and len(items) == 80


def every_alignment(said, true):
    """All pairings of equal words, each place used once."""
    options = [[None, *(j for j, word in enumerate(true) if word == candidate)] for candidate in said]
    for choice in itertools.product(*options):
        taken = [j for j in choice if j is not None]
        if len(taken) == len(set(taken)):
            yield [(i, j) for i, j in enumerate(choice) if j is not None]


def quality(pairs):
    runs = sum(b != (a[0] + 1, a[1] + 1) for a, b in itertools.pairwise(pairs)) + bool(pairs)
    return (-len(pairs), runs, sum(abs(i - j) for i, j in pairs))


@pytest.mark.parametrize("seed", range(40))
def test_no_alignment_is_better(seed):
    generator = random.Random(seed)
    said, true = (generator.choices(["a", "b", "c"], k=generator.randint(1, 5)) for _ in range(2))
    assert quality(align(said, true)) == min(quality(pairs) for pairs in every_alignment(said, true))


def test_long_captions_take_no_time_to_speak_of():
    words = ("the man and the dog walk on the road to the house " * 12).split()
    assert len(align(words, list(reversed(words)))) == len(words)
