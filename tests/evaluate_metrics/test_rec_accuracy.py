"""REC accuracy: strict thresholds, groups, malformed answers, errors."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluate_metrics.rec_accuracy.rec import corner_iou, evaluate_rec

ROOT = Path(__file__).parents[2]
BOX, HALF, THIRD = [0, 0, 10, 10], [0, 0, 10, 5], [5, 0, 15, 10]


@pytest.mark.parametrize(
    ("prediction", "iou", "right"),
    [
        (BOX, 1.0, True),
        (HALF, 0.5, False),
        (THIRD, 1 / 3, False),
        ([0, 0, 10, 5.01], 0.501, True),
        ([20, 20, 30, 30], 0, False),
    ],
)
def test_one_answer_by_hand(prediction, iou, right):
    result = evaluate_rec([prediction], [BOX], return_items=True)
    assert result["items"] == [{"iou": pytest.approx(iou), "malformed": False}]
    assert result["accuracy"] == float(right)


@pytest.mark.parametrize("answer", [None, [], [math.nan] * 4, [5, 5, 5, 9], [9, 9, 5, 5], [0, 0, math.inf, 5]])
def test_a_malformed_answer_is_wrong_and_counted(answer):
    result = evaluate_rec([BOX, answer], [BOX, BOX])
    assert (result["accuracy"], result["num_malformed"], result["num_items"]) == (0.5, 1, 2)


def test_thresholds_groups_and_formats():
    groups = {"split": ["a", "a", "b"], "class": ["cat", "dog", "cat"]}
    result = evaluate_rec([BOX, HALF, None], [BOX, BOX, BOX], (0.25, 0.75), groups)
    assert result["accuracy_at"] == {"0.25": pytest.approx(2 / 3), "0.75": pytest.approx(1 / 3)}
    assert result["groups"]["split"]["a"]["accuracy"] == 1.0 and result["groups"]["split"]["b"]["num_malformed"] == 1
    assert result["groups"]["class"]["cat"]["accuracy"] == 0.5
    assert evaluate_rec([[5, 5, 10, 10]], [[5, 5, 10, 10]], box_format="xywh")["mean_iou"] == 1.0
    assert evaluate_rec([[5, 0, 10, 10]], [[0, 0, 10, 10]], box_format="xywh")["mean_iou"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predictions": [BOX], "references": []}, "1 predictions and 0 references"),
        ({"predictions": [], "references": []}, "0 predictions and 0 references"),
        ({"predictions": [BOX], "references": [[5, 5, 4, 4]]}, r"references\[0\] = \[5, 5, 4, 4\] is no box"),
        ({"predictions": ["box"], "references": [BOX]}, r"predictions\[0\] = 'box' must be four numbers"),
        ({"predictions": [[1, 2, 3]], "references": [BOX]}, "must be four numbers"),
        ({"predictions": [BOX], "references": [BOX], "box_format": "cxcywh"}, "choose one of xyxy, xywh"),
        ({"predictions": [BOX], "references": [BOX], "thresholds": [1.0]}, "from 0 to below 1"),
        ({"predictions": [BOX], "references": [BOX], "thresholds": []}, "at least one"),
        ({"predictions": [BOX], "references": [BOX], "groups": {"split": []}}, "0 labels for 1 items"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate_rec(**arguments)


corner = st.integers(0, 20)


@given(st.lists(st.tuples(corner, corner, corner, corner), min_size=1, max_size=8))
def test_iou_equals_counted_cells(rows):
    a = np.array(rows, float)
    b = a[::-1].copy()

    def cells(box):
        return {(x, y) for x in range(int(box[0]), int(box[2])) for y in range(int(box[1]), int(box[3]))}

    for value, p, q in zip(corner_iou(a, b), a, b, strict=True):
        union = cells(p) | cells(q)
        assert value == pytest.approx(len(cells(p) & cells(q)) / len(union) if cells(p) and cells(q) else 0.0)


def test_loads_as_an_evaluate_module_and_the_card_s_example_runs(monkeypatch, tmp_path):
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.chdir(ROOT)
    metric = evaluate.load("evaluate_metrics/rec_accuracy", cache_dir=str(tmp_path))
    metric.add_batch(predictions=[BOX, HALF], references=[BOX, BOX])
    metric.add_batch(predictions=[[], None], references=[BOX, BOX])
    result = metric.compute()
    assert (result["accuracy"], result["num_malformed"], result["num_items"]) == (0.25, 2, 4)
    card = (ROOT / "evaluate_metrics/rec_accuracy/README.md").read_text(encoding="utf-8")
    names = {}
    exec(compile(card.split("```python\n")[1].split("```")[0], "README.md", "exec"), names)
    assert names["result"]["accuracy"] == pytest.approx(1 / 3) and names["result"]["num_malformed"] == 1
    assert names["result"]["groups"]["split"]["testA"]["accuracy"] == 0.5
