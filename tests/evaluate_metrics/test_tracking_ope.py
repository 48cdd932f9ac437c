"""The OPE metric: hand-worked cases, the conventions' corner cases, and a plain-loop twin of the default."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate_metrics.tracking_ope.ope import (
    CONVENTIONS,
    average_overlap,
    box_iou,
    evaluate_ope,
    frame_errors,
    repeat_previous,
)

NAN = [math.nan] * 4
A, SHIFTED, FAR = [10, 10, 10, 10], [15, 10, 10, 10], [400, 300, 10, 10]


def score(prediction, reference, visible=None, convention="pytracking"):
    flags = None if visible is None else [np.array(visible)]
    return evaluate_ope([prediction], [reference], flags, convention)


def test_a_perfect_tracker_scores_twenty_of_twenty_one():
    result = score([A, SHIFTED, FAR], [A, SHIFTED, FAR])
    assert result["auc"] == pytest.approx(20 / 21)
    assert result["precision"] == result["normalized_precision"] == 1.0
    assert result["ao"] == result["sr_75"] == 1.0


def test_hand_worked_two_frames():
    # frame 2: IoU 1/3 is above 0, 0.05, ..., 0.3 (7 of 21); center off by 5 px = half the width
    result = score([A, A], [A, SHIFTED])
    assert result["auc"] == pytest.approx((20 + 7) / 2 / 21)
    assert result["precision"] == 1.0
    assert result["normalized_precision"] == 0.5
    assert result["precision_curve"][4:6] == [0.5, 1.0]
    assert result["normalized_precision_curve"][49:51] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("convention", "auc", "precision"),
    [
        ("pytracking", 20 / 21, 1.0),  # the first frame is given, the second repeats nothing
        ("pytracking_uav123", 20 / 21, 1.0),
        ("pysot", 10 / 21, 0.5),  # the first frame as predicted: a miss
        ("got10k", 20 / 21, 1.0),
        ("trackingnet", 1.0, 1.0),  # IoU >= 1 counts, so the area is 1
    ],
)
def test_first_frame(convention, auc, precision):
    result = score([FAR, A], [A, A], convention=convention)
    assert result["auc"] == pytest.approx(auc)
    assert result["precision"] == pytest.approx(precision)


@pytest.mark.parametrize("missing", [NAN, [10, 10, 0, 10], [10, 10, 10, -1]])
def test_a_missing_box_repeats_the_one_before_only_in_pytracking(missing):
    assert score([A, A, missing], [A, A, A])["auc"] == pytest.approx(20 / 21)
    for convention in ("pysot", "got10k"):
        assert score([A, A, missing], [A, A, A], convention=convention)["auc"] == pytest.approx(20 / 21 * 2 / 3)
    assert score([A, NAN, NAN], [A, FAR, FAR])["precision"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("nothing", [NAN, [15, 15, 0, 0]])
def test_what_is_no_box_hits_nothing(nothing):
    for convention in ("pysot", "got10k", "trackingnet"):
        result = score([A, nothing], [A, A], convention=convention)
        assert result["precision_curve"][-1] == result["normalized_precision_curve"][-1] == 0.5


def test_a_lost_start_is_not_repaired_with_the_ground_truth():
    assert score([NAN, NAN, NAN], [A, A, A])["auc"] == pytest.approx(20 / 21 / 3)


@pytest.mark.parametrize(
    ("convention", "visible", "auc", "precision", "num_frames"),
    [
        ("pytracking", [True, False], 10 / 21, 0.5, 2),  # absent frames stay in the denominator
        ("pytracking", None, 10 / 21, 0.5, 2),
        ("pytracking_uav123", None, 10 / 21, 1.0, 2),  # a NaN frame is a hit in precision
        ("pysot", None, 10 / 21, 1.0, 2),
        ("pysot", [True, False], 10 / 21, 0.5, 2),
        ("got10k", [True, False], 20 / 21, 1.0, 1),  # dropped
        ("trackingnet", [True, False], 0.5, 0.5, 2),
    ],
)
def test_absent_object(convention, visible, auc, precision, num_frames):
    result = score([A, A], [A, NAN], visible, convention)
    assert result["auc"] == pytest.approx(auc)
    assert result["precision"] == pytest.approx(precision)
    assert result["num_frames"] == num_frames


def test_a_visible_flag_hides_a_box_too():
    assert score([A, A], [A, A], [True, False])["auc"] == pytest.approx(10 / 21)


def test_a_box_at_the_image_corner_is_present():
    corner = [0, 0, 10, 10]
    assert score([corner, corner], [corner, corner])["auc"] == pytest.approx(20 / 21)


def test_trackingnet_rounds_and_integrates():
    assert score([A, [10.4, 10.4, 9.6, 9.6]], [A, A], convention="trackingnet")["auc"] == 1.0
    result = score([A, SHIFTED], [A, A], convention="trackingnet")
    assert len(result["precision_curve"]) == len(result["normalized_precision_curve"]) == 21
    # IoU 1/3 >= 0, 0.05, ..., 0.3: six full steps and half of the seventh
    assert result["auc"] == pytest.approx((1.0 + 6.5 / 20) / 2)


def test_got10k_averages_the_normalised_curve():
    result = score([A, SHIFTED], [A, A], convention="got10k")
    assert result["normalized_precision"] == pytest.approx(np.mean(result["normalized_precision_curve"]))


def test_legacy_clamp_lets_disjoint_boxes_agree():
    pred, ref = [[300, 200, 300, 300]], [[900, 500, 200, 200]]
    assert score(pred, ref, convention="elysium_legacy")["auc"] == pytest.approx(20 / 21)
    assert score(pred, ref, convention="pysot")["auc"] == 0.0
    with_empty = evaluate_ope([np.array(pred), np.array([NAN])], [np.array(ref)] * 2, convention="elysium_legacy")
    assert with_empty["num_videos"] == 1 and with_empty["per_video"][1] is None


def test_got10k_overlap_drops_the_first_and_the_absent_frames():
    overlaps = average_overlap(np.array([FAR, A, A, NAN], float), np.array([A, SHIFTED, NAN, A], float))
    assert overlaps == pytest.approx([1 / 3, 0.0])


def test_videos_weigh_the_same_whatever_their_length():
    result = evaluate_ope([[A], [FAR] * 9], [[A], [A] * 9], convention="pysot")
    assert result["auc"] == pytest.approx(10 / 21)
    assert result["per_video"][1]["auc"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predictions": [[A]], "references": [[A, A]]}, "prediction has 1 boxes, reference has 2"),
        ({"predictions": [[A], [A]], "references": [[A]]}, "give the same number"),
        ({"predictions": [[A]], "references": [[A]], "convention": "otb"}, "choose one of pytracking"),
        ({"predictions": [[[1, 2, 3]]], "references": [[A]]}, "must be"),
        ({"predictions": [[]], "references": [[]]}, "must be"),
        ({"predictions": [["box"]], "references": [[A]]}, "must be rows of four numbers"),
        ({"predictions": [[A]], "references": [[A]], "visible": [[True, True]]}, "one flag per frame"),
        ({"predictions": [[A]], "references": [[NAN]], "convention": "got10k"}, "no video to score"),
        ({"predictions": [], "references": []}, "no video to score"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate_ope(**arguments)


numbers = st.floats(-50, 50, allow_nan=False).map(lambda v: round(v, 2))
boxes = st.lists(
    st.one_of(st.tuples(numbers, numbers, numbers, numbers).map(list), st.just(NAN)), min_size=1, max_size=9
)


def slow_default(prediction, reference, visible, slack):
    """The default convention once more, frame by frame and threshold by threshold, each moved by `slack`."""

    def box(b):
        return not any(math.isnan(v) for v in b) and b[2] > 0 and b[3] > 0

    pred = [list(b) for b in prediction]
    for i in range(1, len(pred)):
        if not box(pred[i]):
            pred[i] = pred[i - 1]
    pred[0] = reference[0]
    success, precision, normalized = [0] * 21, [0] * 51, [0] * 51
    for p, r, seen in zip(pred, reference, visible, strict=True):
        if not (box(r) and seen and box(p)):
            continue
        w = max(0.0, min(p[0] + p[2], r[0] + r[2]) - max(p[0], r[0]))
        h = max(0.0, min(p[1] + p[3], r[1] + r[3]) - max(p[1], r[1]))
        iou = w * h / (p[2] * p[3] + r[2] * r[3] - w * h)
        dx, dy = p[0] + (p[2] - 1) / 2 - r[0] - (r[2] - 1) / 2, p[1] + (p[3] - 1) / 2 - r[1] - (r[3] - 1) / 2
        success = [n + (iou > t / 20 - slack) for t, n in enumerate(success)]
        precision = [n + (math.hypot(dx, dy) <= t + slack) for t, n in enumerate(precision)]
        normalized = [n + (math.hypot(dx / r[2], dy / r[3]) <= t / 100 + slack) for t, n in enumerate(normalized)]
    return [np.array(curve) / len(pred) for curve in (success, precision, normalized)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_default_equals_its_slow_twin(data):
    reference = data.draw(boxes)
    size = len(reference)
    prediction = data.draw(st.lists(boxes.map(lambda b: b[0]), min_size=size, max_size=size))
    visible = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    result = score(prediction, reference, visible)
    # An error that lies exactly on a threshold may be rounded to either side of it.
    most, least = (slow_default(prediction, reference, visible, slack) for slack in (1e-6, -1e-6))
    for name, low, high in zip(("success", "precision", "normalized_precision"), least, most, strict=True):
        curve = np.array(result[f"{name}_curve"])
        assert ((low - 1e-9 <= curve) & (curve <= high + 1e-9)).all()


@settings(max_examples=100, deadline=None)
@given(boxes, st.sampled_from(sorted(CONVENTIONS)))
def test_scores_are_shares(reference, convention):
    prediction = reference[::-1]
    try:
        result = score(prediction, reference, convention=convention)
    except ValueError as error:
        assert "no video to score" in str(error)
        return
    for key in ("auc", "precision", "normalized_precision"):
        assert 0.0 <= result[key] <= 1.0
    assert np.all(np.diff(result["success_curve"]) <= 0) and np.all(np.diff(result["precision_curve"]) >= 0)


@given(boxes)
def test_iou_is_symmetric_and_repeating_is_idempotent(video):
    array = np.array(video, float)
    np.testing.assert_array_equal(box_iou(array, array[::-1]), box_iou(array[::-1], array))
    once = repeat_previous(array)
    np.testing.assert_array_equal(repeat_previous(once), once)
    assert frame_errors(array, array).num_frames == len(array)


def test_loads_as_an_evaluate_module(tmp_path):
    evaluate = pytest.importorskip("evaluate")
    folder = Path(__file__).parents[2] / "evaluate_metrics" / "tracking_ope"
    metric = evaluate.load(str(folder), cache_dir=str(tmp_path))
    metric.add_batch(predictions=[[A, A]], references=[[A, SHIFTED]])
    metric.add_batch(predictions=[[A, A, NAN]], references=[[A, A, A]])
    result = metric.compute()
    assert result["auc"] == pytest.approx(((20 + 7) / 2 / 21 + 20 / 21) / 2)
    corners = [[[10, 10, 20, 20]]]
    assert metric.compute(predictions=corners, references=corners, box_format="xyxy")["auc"] == pytest.approx(20 / 21)
    with pytest.raises(ValueError, match="choose xywh or xyxy"):
        metric.compute(predictions=corners, references=corners, box_format="cxcywh")
