"""Caption scores against numbers computed with pycocoevalcap, by hand, and without Java."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluate_metrics.video_reg import captions as module
from evaluate_metrics.video_reg.captions import evaluate_captions
from evaluate_metrics.video_reg.cider import cider_scores
from evaluate_metrics.video_reg.meteor_exact import meteor_exact_scores
from evaluate_metrics.video_reg.tokens import java_is_usable, tokenize_plain

ROOT = Path(__file__).parents[2]
NUMBERS = json.loads((Path(__file__).parent / "pycocoevalcap_numbers.json").read_text(encoding="utf-8"))
needs_java = pytest.mark.skipif(not java_is_usable(), reason="needs java and pycocoevalcap")


def test_cider_equals_pycocoevalcap():
    scores = cider_scores(NUMBERS["tokens"], NUMBERS["reference_tokens"])
    np.testing.assert_allclose(scores, NUMBERS["cider_items"], atol=1e-6)
    assert scores.mean() == pytest.approx(NUMBERS["cider"], abs=1e-6)


def test_cider_by_hand():
    # every n-gram occurs in one of two documents, so all weigh the same; a copy has a cosine of 1 for n = 1, 2, 3
    assert cider_scores(["a b c", "x"], [["a b c"], ["y"]]) == pytest.approx([7.5, 0.0])
    assert cider_scores(["a"], [["a"]]) == pytest.approx([0.0])
    # unigrams: (min(2, 1) + min(2, 1)) / (sqrt(8) sqrt(2)) = 1/2; bigrams: "a b" once in both, weights 2 and 1 (and
    # "b a", unknown to the references, once): 1 / (sqrt(5) 1); three bigrams against one, so exp(-4 / 72)
    said = cider_scores(["a b a b", "x"], [["a b"], ["y"]])[0]
    assert said == pytest.approx(10 / 4 * (1 / 2 + 1 / math.sqrt(5)) * math.exp(-4 / 72))


@pytest.mark.parametrize("backend", [pytest.param("java", marks=needs_java), "python"])
def test_scores_equal_pycocoevalcap(backend):
    pytest.importorskip("pycocoevalcap")
    result = evaluate_captions(NUMBERS["predictions"], NUMBERS["references"], backend, return_items=True)
    assert [item["tokens"] for item in result["items"]] == NUMBERS["tokens"]
    assert result["cider"] == pytest.approx(NUMBERS["cider"], abs=1e-6)
    assert [result[f"bleu_{n}"] for n in (1, 2, 3, 4)] == pytest.approx(NUMBERS["bleu"], abs=1e-6)
    assert result["rouge_l"] == pytest.approx(NUMBERS["rouge_l"], abs=1e-6)
    assert (result["num_items"], result["num_empty"], result["exact_match"]) == (10, 1, 0.1)
    if backend == "java":
        assert result["meteor"] == pytest.approx(NUMBERS["meteor"], abs=1e-6)
        assert [item["meteor"] for item in result["items"]] == pytest.approx(NUMBERS["meteor_items"], abs=1e-6)
        assert "METEOR 1.5" in result["meteor_matcher"]
    else:
        assert result["meteor"] is None and "not METEOR 1.5" in result["meteor_matcher"]


def test_exact_words_are_what_meteor_counts_where_nothing_else_matches():
    score, items = meteor_exact_scores(NUMBERS["tokens"], NUMBERS["reference_tokens"])
    beside = dict(enumerate(zip(items, NUMBERS["meteor_items"], strict=True)))
    for same in (0, 1, 2, 3, 7, 8, 9):  # captions without stems, synonyms or paraphrases of the reference
        assert beside[same][0] == pytest.approx(beside[same][1], abs=1e-4)
    for lower in (4, 5, 6):
        assert beside[lower][0] < beside[lower][1]
    assert score < NUMBERS["meteor"] and score != pytest.approx(np.mean(items))


def test_without_java_and_without_the_package(monkeypatch):
    monkeypatch.setattr(module, "java_is_usable", lambda: False)
    result = evaluate_captions(["a cat", "dogs"], ["a cat", "a dog"])
    assert result["meteor"] is None and result["meteor_exact"] > 0.2 and "no Java" in result["tokenizer"]
    with pytest.raises(RuntimeError, match="backend='python'"):
        evaluate_captions(["a cat"], ["a cat"], backend="java")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    result = evaluate_captions(["a cat", "dogs"], ["a cat", "a dog"])
    assert result["bleu_4"] is None and result["rouge_l"] is None and result["cider"] > 0


def test_java_that_dies_is_named(monkeypatch, tmp_path):
    pytest.importorskip("pycocoevalcap")
    fake = tmp_path / "java"
    fake.write_text("#!/bin/sh\necho 'Could not reserve enough space' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RuntimeError, match=r"tokenizer \(Java\) failed with status 1: Could not reserve"):
        evaluate_captions(["a cat"], ["a cat"], backend="java")
    monkeypatch.setattr(module, "tokenize_ptb", tokenize_plain)
    with pytest.raises(
        RuntimeError, match=r"METEOR \(Java\) ended before it had scored 1 .*Could not reserve.*python"
    ):
        evaluate_captions(["a cat"], ["a cat"], backend="java")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It's the man's  hat.", "it 's the man 's hat"),
        ("Don't!", "do n't"),
        ("a well-lit room; two cats, one dog", "a well-lit room two cats one dog"),
        ("", ""),
        (" ... ", ""),
    ],
)
def test_plain_tokens(text, tokens):
    assert tokenize_plain([text]) == [tokens]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predictions": ["a"], "references": []}, "1 predictions and 0 references"),
        ({"predictions": [], "references": []}, "give one caption for each reference"),
        ({"predictions": [None], "references": ["a"]}, r"predictions\[0\] = None is no text"),
        ({"predictions": ["a"], "references": [[]]}, r"references\[0\] = \[\]"),
        ({"predictions": ["a"], "references": ["  "]}, "none of them empty"),
        ({"predictions": ["a"], "references": ["a"], "backend": "perl"}, "choose one of auto, java, python"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate_captions(**arguments)


words = st.lists(st.sampled_from(["a", "the", "cat", "dog", "runs"]), max_size=8).map(" ".join)


@given(st.lists(st.tuples(words, words.filter(bool)), min_size=1, max_size=6))
def test_scores_stay_in_range(pairs):
    said, true = [a for a, _ in pairs], [[b] for _, b in pairs]
    assert all(-1e-9 <= value <= 10 + 1e-9 for value in cider_scores(said, true))
    assert all(0 <= value <= 1 for value in meteor_exact_scores(said, true)[1])


def test_loads_as_an_evaluate_module_and_the_card_s_example_runs(monkeypatch, tmp_path):
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.chdir(ROOT)
    metric = evaluate.load("evaluate_metrics/video_reg", cache_dir=str(tmp_path))
    metric.add_batch(predictions=["a cat"], references=[["a cat", "cats"]])
    metric.add_batch(predictions=[""], references=[["a dog"]])
    result = metric.compute(backend="python")
    assert (result["exact_match"], result["num_empty"], result["num_items"]) == (0.5, 1, 2)
    card = (ROOT / "evaluate_metrics/video_reg/README.md").read_text(encoding="utf-8")
    block, names = card.split("```python\n")[1].split("```")[0], {}
    exec(compile(block, "README.md", "exec"), names)
    result = names["result"]
    assert f"# {result['cider']:.2f}, {result['meteor']}, {result['meteor_exact']:.3f}" in block
