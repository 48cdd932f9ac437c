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


def score(prediction, reference, absent=None, convention="pytracking", absent_as=None):
    flags = None if absent is None else [np.array(absent)]
    return evaluate_ope([prediction], [reference], flags, convention, absent_as)


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


def test_a_missing_box_hits_nothing_and_one_without_size_has_a_center():
    for convention in ("pysot", "got10k", "trackingnet"):
        missing = score([A, NAN], [A, A], convention=convention)
        assert missing["precision_curve"][-1] == missing["normalized_precision_curve"][-1] == 0.5
        point = score([A, [15, 15, 0, 0]], [A, A], convention=convention)
        assert point["precision_curve"][-1] == point["normalized_precision_curve"][-1] == 1.0
        assert point["success_curve"][1] == 0.5


@pytest.mark.parametrize(("offset", "hits"), [(19.5, 1.0), (20, 1.0), (20.5, 0.5)])
def test_precision_is_reported_at_twenty_pixels(offset, hits):
    wide = [10, 10, 400, 400]
    assert score([wide, [10 + offset, *wide[1:]]], [wide, wide])["precision"] == hits


@pytest.mark.parametrize(("offset", "hits"), [(19.5, 1.0), (20, 1.0), (20.5, 0.5)])
def test_normalized_precision_is_reported_at_a_fifth(offset, hits):
    wide = [10, 10, 100, 400]
    assert score([wide, [10 + offset, *wide[1:]]], [wide, wide])["normalized_precision"] == hits


def test_a_lost_start_is_not_repaired_with_the_ground_truth():
    assert score([NAN, NAN, NAN], [A, A, A])["auc"] == pytest.approx(20 / 21 / 3)


ABSENT, CORNER = [0, 1], [0, 10, 10, 10]


@pytest.mark.parametrize(
    ("convention", "absent_as", "second", "absent", "success", "precision", "normalized", "num_frames"),
    [
        # what the second frame adds to the one hit of the first: nothing, a hit, or less to divide by
        ("pytracking", None, A, ABSENT, 0.5, 0.5, 0.5, 2),
        ("pytracking", None, NAN, None, 0.5, 0.5, 1.0, 2),  # LaSOT's code: no flag, so a hit when normalized
        ("pytracking", None, NAN, ABSENT, 0.5, 0.5, 0.5, 2),
        ("pytracking", None, CORNER, None, 0.5, 0.5, 1.0, 2),  # x = 0 is no valid ground truth
        ("pytracking", "lasot", CORNER, None, 0.5, 0.5, 1.0, 2),
        ("lasot", None, CORNER, None, 0.5, 1.0, 1.0, 2),  # its toolkit: an error of -1, so a hit in both
        ("lasot", None, A, ABSENT, 0.5, 0.5, 0.5, 2),
        ("pytracking", "uav", NAN, None, 0.5, 1.0, 1.0, 2),
        ("pytracking", "uav", A, ABSENT, 0.5, 1.0, 1.0, 2),
        ("pytracking_uav123", None, NAN, None, 0.5, 1.0, 1.0, 2),
        ("pytracking", "ignore", A, ABSENT, 1.0, 1.0, 2.0, 1),  # OTB's code: a hit of a frame that is not counted
        ("pytracking", "ignore", [10, 10, 0, 10], None, 1.0, 1.0, 2.0, 1),
        ("pytracking_unclipped", None, CORNER, None, 0.5, 1.0, 0.5, 2),
        ("pytracking_unclipped", "ignore", CORNER, ABSENT, 1.0, 1.0, 1.0, 1),
        ("pysot", None, NAN, None, 0.5, 1.0, 1.0, 2),
        ("pysot", None, NAN, ABSENT, 0.5, 0.5, 0.5, 2),
        ("pysot", None, CORNER, None, 0.5, 1.0, 0.5, 2),  # its precisions ask for a positive center
        ("pysot", "ignore", NAN, ABSENT, 1.0, 1.0, 1.0, 1),
        ("got10k", None, NAN, ABSENT, 1.0, 1.0, None, 1),
        ("got10k", None, NAN, None, 1.0, 1.0, None, 1),
        ("trackingnet", None, NAN, ABSENT, None, None, None, 2),
    ],
)
def test_absent_object(convention, absent_as, second, absent, success, precision, normalized, num_frames):
    result = score([A, A], [A, second], absent, convention, absent_as)
    assert result["num_frames"] == num_frames and result["absent_as"] == absent_as
    if success is not None:
        assert result["auc"] == pytest.approx(20 / 21 * success)
        assert result["precision"] == pytest.approx(precision)
    if normalized is not None:
        assert result["normalized_precision"] == pytest.approx(normalized)


def test_a_box_beyond_the_edge_is_present_for_who_measures_without_clipping():
    corner = [-3, 0, 10, 10]
    assert score([corner, corner], [corner, corner], convention="pytracking_unclipped")["auc"] == pytest.approx(
        20 / 21
    )
    assert score([corner, corner], [corner, corner])["auc"] == 0.0


def test_trackingnet_rounds_and_integrates():
    assert score([A, [10.4, 10.4, 9.6, 9.6]], [A, A], convention="trackingnet")["auc"] == 1.0
    result = score([A, SHIFTED], [A, A], convention="trackingnet")
    assert len(result["precision_curve"]) == len(result["normalized_precision_curve"]) == 21
    # IoU 1/3 >= 0, 0.05, ..., 0.3: six full steps and half of the seventh
    assert result["auc"] == pytest.approx((1.0 + 6.5 / 20) / 2)


def test_got10k_averages_the_normalized_curve():
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
        ({"predictions": [[A]], "references": [[A]], "absent": [[1, 1]]}, "one flag per frame"),
        ({"predictions": [[A]], "references": [[A]], "absent": [[2]]}, "1 where the object is absent"),
        ({"predictions": [[A]], "references": [[A]], "absent": [[0], [0]]}, "give the same number"),
        ({"predictions": [[A]], "references": [[A]], "absent_as": "drop"}, "choose one of ignore, lasot, uav"),
        ({"predictions": [[A]], "references": [[NAN]], "convention": "got10k"}, "no video to score"),
        ({"predictions": [], "references": []}, "no video to score"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate_ope(**arguments)


numbers = st.floats(-50, 50, allow_nan=False, allow_subnormal=False).map(lambda v: round(v, 2))
boxes = st.lists(
    st.one_of(st.tuples(numbers, numbers, numbers, numbers).map(list), st.just(NAN)), min_size=1, max_size=9
)


# --------------------------------------------------------------------------------------------------------------
# the toolkits' definitions once more, frame by frame and threshold by threshold, written from what their code does
# --------------------------------------------------------------------------------------------------------------
def no_box(b):
    return any(math.isnan(v) for v in b) or b[2] <= 0 or b[3] <= 0


def all_positive(b):
    return all(v > 0 for v in b)  # False for NaN


def iou_of(p, r):
    if any(math.isnan(v) for v in p) or p[2] <= 0 or p[3] <= 0:
        return 0.0
    w = max(0.0, min(p[0] + p[2], r[0] + r[2]) - max(p[0], r[0]))
    h = max(0.0, min(p[1] + p[3], r[1] + r[3]) - max(p[1], r[1]))
    return w * h / (p[2] * p[3] + r[2] * r[3] - w * h)


def centers_apart(p, r, normalized):
    dx = p[0] + (p[2] - 1) / 2 - r[0] - (r[2] - 1) / 2
    dy = p[1] + (p[3] - 1) / 2 - r[1] - (r[3] - 1) / 2
    return math.hypot(dx / r[2], dy / r[3]) if normalized else math.hypot(dx, dy)


def with_given_start(prediction, reference):
    pred = [list(b) for b in prediction]
    for i in range(1, len(pred)):
        if no_box(pred[i]) and not any(math.isnan(v) for v in reference[i]):
            pred[i] = pred[i - 1]
    pred[0] = list(reference[0])
    return pred


def curves_of(overlaps, errors, normalized_errors, length):
    return {
        "success_curve": [sum(o > t / 20 for o in overlaps) / length for t in range(21)],
        "precision_curve": [sum(e <= t for e in errors) / length for t in range(51)],
        "normalized_precision_curve": [sum(e <= t / 100 for e in normalized_errors) / length for t in range(51)],
    }


def slow_pytracking(prediction, reference, absent, dataset):
    """`dataset` is lasot, uav or otb, as pytracking's code branches."""
    rows = []
    for p, r, gone in zip(with_given_start(prediction, reference), reference, absent, strict=True):
        if all_positive(r) and not gone:
            rows.append((iou_of(p, r), centers_apart(p, r, False), centers_apart(p, r, True)))
        elif dataset == "uav":
            rows.append((-1, -1, -1))
        elif dataset == "lasot" and gone:
            rows.append((-1, math.inf, math.inf))
        else:
            rows.append((-1, math.inf, -1))
    valid = sum(all_positive(r) and not gone for r, gone in zip(reference, absent, strict=True))
    return curves_of(*zip(*rows, strict=True), valid if dataset == "otb" else len(reference))


def slow_lasot(prediction, reference, absent):
    """LaSOT's own toolkit: flagged frames are removed and still divided by, other invalid truth has an error of -1."""
    given = with_given_start(prediction, reference)
    kept = [(p, r) for p, r, gone in zip(given, reference, absent, strict=True) if not gone]
    rows = [
        (iou_of(p, r), centers_apart(p, r, False), centers_apart(p, r, True)) if all_positive(r) else (-1, -1, -1)
        for p, r in kept
    ]
    return curves_of(*zip(*rows, strict=True), len(reference))


def slow_pysot(prediction, reference, absent):
    """Frames flagged absent are taken out of both lists, and stay in the number that is divided by."""
    kept = [(p, r) for p, r, gone in zip(prediction, reference, absent, strict=True) if not gone]
    overlaps = [iou_of(p, r) if all_positive(r) else -1 for p, r in kept]
    centered = [r[0] + (r[2] - 1) / 2 > 0 and r[1] + (r[3] - 1) / 2 > 0 for _, r in kept]
    errors = [centers_apart(p, r, False) if ok else -1 for (p, r), ok in zip(kept, centered, strict=True)]
    normalized = [centers_apart(p, r, True) if ok else -1 for (p, r), ok in zip(kept, centered, strict=True)]
    return curves_of(overlaps, errors, normalized, len(reference))


def slow_got10k(prediction, reference, absent):
    pred = [list(reference[0]), *map(list, prediction[1:])]
    kept = [(p, r) for p, r, gone in zip(pred, reference, absent, strict=True) if not no_box(r) and not gone]
    rows = [(iou_of(p, r), centers_apart(p, r, False), centers_apart(p, r, True)) for p, r in kept]
    return curves_of(*zip(*rows, strict=True), len(rows))


TOOLKITS = [
    ({"convention": "pytracking"}, lambda *video: slow_pytracking(*video, "lasot")),
    ({"convention": "lasot"}, slow_lasot),
    ({"convention": "pytracking", "absent_as": "lasot"}, lambda *video: slow_pytracking(*video, "lasot")),
    ({"convention": "pytracking", "absent_as": "uav"}, lambda *video: slow_pytracking(*video, "uav")),
    ({"convention": "pytracking_uav123"}, lambda *video: slow_pytracking(*video, "uav")),
    ({"convention": "pytracking", "absent_as": "ignore"}, lambda *video: slow_pytracking(*video, "otb")),
    ({"convention": "pysot"}, slow_pysot),
    ({"convention": "got10k"}, slow_got10k),
]


def rough_video(seed):
    """A tracker that drifts, loses the object and says so in three ways; truth that leaves the frame or is missing."""
    generator = np.random.default_rng(seed)
    frames = int(generator.integers(5, 60))
    truth = generator.uniform([1, 1, 5, 5], [80, 80, 60, 60], (frames, 4))
    prediction = truth + generator.normal(0, generator.choice([0.5, 5, 30]), (frames, 4))
    prediction[:, 2:] = np.abs(prediction[:, 2:])
    absent = generator.random(frames) < 0.15
    for rows, share, values in (
        (prediction, 0.1, [np.nan] * 4),
        (prediction, 0.1, [3.0, 4.0, 0.0, 9.0]),
        (prediction, 0.05, [3.0, 4.0, -2.0, 9.0]),
        (truth, 0.1, [np.nan] * 4),
        (truth, 0.05, [0.0, 0.0, 12.5, 7.5]),
        (truth, 0.05, [-4.0, 8.0, 20.0, 10.0]),
    ):
        rows[generator.random(frames) < share] = values
    truth[0], absent[0] = [10.0, 20.0, 30.0, 40.0], False
    return prediction, truth, absent


@pytest.mark.parametrize(("how", "slow"), TOOLKITS, ids=lambda item: "-".join(item.values()) if item is dict else None)
def test_a_convention_equals_the_toolkit(how, slow):
    videos = [rough_video(seed) for seed in range(40)]
    prediction, truth, absent = (list(part) for part in zip(*videos, strict=True))
    result = evaluate_ope(prediction, truth, [flags.astype(int) for flags in absent], **how)
    expected = [slow(*(rows.tolist() for rows in video)) for video in videos]
    for name in expected[0]:
        mean = np.mean([curves[name] for curves in expected], axis=0)
        np.testing.assert_allclose(result[name], mean, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(result["auc"], np.mean(result["success_curve"]), atol=1e-12)
    assert result["precision"] == result["precision_curve"][20]


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


def test_the_card_s_example_gives_what_it_says(monkeypatch, tmp_path):
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path))
    card = (root / "evaluate_metrics/tracking_ope/README.md").read_text(encoding="utf-8")
    block = card.split("```python\n")[1].split("```")[0]
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    scores = [names["result"][key] for key in ("auc", "precision", "normalized_precision")]
    assert [round(value, 3) for value in scores] == [0.643, 1.0, 0.5]
    assert "# 0.643, 1.0, 0.5" in block


def test_arrays_at_once_equal_batches(tmp_path):
    evaluate = pytest.importorskip("evaluate")
    folder = Path(__file__).parents[2] / "evaluate_metrics" / "tracking_ope"
    metric = evaluate.load(str(folder), cache_dir=str(tmp_path))
    videos = [rough_video(seed)[:2] for seed in range(6)]
    predictions, references = (list(part) for part in zip(*videos, strict=True))
    at_once = metric.compute(predictions=predictions, references=references, convention="pysot")
    for start in (0, 2, 4):
        metric.add_batch(
            predictions=[p.tolist() for p in predictions[start : start + 2]],
            references=[r.tolist() for r in references[start : start + 2]],
        )
    assert metric.compute(convention="pysot") == at_once
