"""Presence by hand, and the warning for corners handed in as x, y, w, h."""

import math

import numpy as np
import pytest

from evaluate_metrics.tracking_ope.ope import evaluate_ope

NAN = [math.nan] * 4
A, SHIFTED = [10, 10, 10, 10], [15, 10, 10, 10]


def test_presence_of_six_frames_by_hand():
    # there: frames 0-3. Said to be there: 0, 1 (half of it), 2 and 4.
    truth, said = [A, A, A, A, NAN, A], [A, SHIFTED, A, NAN, A, NAN]
    result = evaluate_ope([said], [truth], [[0, 0, 0, 0, 0, 1]])
    presence = result["presence"]
    assert presence["presence_precision"] == presence["presence_recall"] == presence["presence_f"] == 3 / 4
    assert presence["absence_precision"] == presence["absence_recall"] == presence["absence_f"] == 1 / 2
    assert presence["long_term_precision"] == pytest.approx((1 + 1 / 3 + 1) / 4)
    assert presence["long_term_recall"] == pytest.approx((1 + 1 / 3 + 1) / 4)
    assert (presence["frames_absent"], presence["frames_said_absent"], presence["frames_confused"]) == (2, 2, 2)
    assert result["num_missing"] == 2


def test_what_a_tracker_says_outweighs_its_box():
    presence = evaluate_ope([[A, A]], [[A, NAN]], said_absent=[[0, 1]])["presence"]
    assert presence["presence_f"] == presence["absence_f"] == presence["long_term_f"] == 1.0
    silent = evaluate_ope([[A, A]], [[A, A]])["presence"]
    assert silent["presence_f"] == 1.0 and silent["absence_f"] is None and silent["absence_precision"] is None
    with pytest.raises(ValueError, match="said_absent has shape"):
        evaluate_ope([[A, A]], [[A, A]], said_absent=[[0]])
    with pytest.raises(ValueError, match="said_absent holds 2 videos, references 1"):
        evaluate_ope([[A, A]], [[A, A]], said_absent=[[0, 0], [0, 0]])


def wandering(seed, frames=60):
    generator = np.random.default_rng(seed)
    places = np.cumsum(generator.normal(0, 6, (frames, 2)), axis=0) + [300, 250]
    return np.concatenate([places, generator.uniform(30, 40, (frames, 2))], axis=1)


def corners_of(boxes_xywh_px):
    return np.concatenate([boxes_xywh_px[:, :2], boxes_xywh_px[:, :2] + boxes_xywh_px[:, 2:]], axis=1)


@pytest.mark.parametrize(
    ("wrong", "evidence"),
    [
        ("predictions", r"with predictions read as corners the mean IoU of 180 frames is 1\.00, as given 0\.0"),
        ("references", r"with references read as corners the mean IoU of 180 frames is 1\.00"),
        ("both", r"in 3 of the 3 videos of predictions .*; in 3 of the 3 videos of references"),
    ],
)
def test_corners_are_suspected_with_evidence(wrong, evidence):
    sides = {name: [wandering(seed) for seed in range(3)] for name in ("predictions", "references")}
    for name in sides:
        if wrong in (name, "both"):
            sides[name] = [corners_of(video) for video in sides[name]]
    with pytest.warns(UserWarning, match=evidence) as caught:
        evaluate_ope(**sides)
    assert len(caught) == 1 and "box_format='xyxy'" in str(caught[0].message)


def test_no_suspicion_without_reason(recwarn):
    truth = [wandering(seed) for seed in range(4)]
    near_the_left = np.array([[5.0 + t % 3, 5, 200, 150] for t in range(40)])
    growing = np.array([[100.0 + t, 100 + t, 50 + 3 * t, 50 + 3 * t] for t in range(40)])
    lost = [video + [150, 100, 0, 0] for video in truth]
    for predictions, references in ((truth, truth), (lost, truth), ([near_the_left], [near_the_left])):
        evaluate_ope(predictions, references)
    evaluate_ope([growing, *truth], [growing, *truth])
    assert not recwarn.list
