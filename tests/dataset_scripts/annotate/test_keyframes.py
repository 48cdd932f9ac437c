"""Thinned keyframes draw the track within the stated tolerance, and as few as the shape of the way needs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_scripts.annotate.keyframes import drawn_boxes, thin
from processing_elysium.boxes import iou


def straight(count, step=(0.01, 0.005)):
    """Boxes (F, 4) on a straight line."""
    at = np.arange(count)[:, None] * np.array([*step, *step])
    return np.array([0.1, 0.1, 0.3, 0.2]) + at


def bent(count):
    """A line with a corner in the middle."""
    half = count // 2
    boxes = straight(count)
    boxes[half:, [1, 3]] = boxes[half, [1, 3]] - (np.arange(count - half) * 0.005)[:, None]
    return boxes


@pytest.mark.parametrize(
    ("boxes", "rows"),
    [
        (straight(1), [0]),
        (straight(2), [0, 1]),
        (straight(50), [0, 49]),  # a straight line needs its ends
        (bent(40), [0, 20, 39]),  # and a corner
    ],
)
def test_rows(boxes, rows):
    keys = thin(boxes, np.ones(len(boxes)), 0.0)
    assert [key.frame for key in keys] == rows
    assert [key.carries_on for key in keys] == [True] * (len(rows) - 1) + [False]


def test_gaps_given_rows_and_offset():
    boxes = straight(30)
    boxes[10:13] = np.nan
    keys = thin(boxes, np.linspace(1, 0.5, 30), 0.05, given=frozenset([5]), first=100)
    assert [(k.frame, k.carries_on, k.given) for k in keys] == [
        (100, True, False), (105, True, True), (109, False, False), (113, True, False), (129, False, False),
    ]  # fmt: skip
    assert keys[-1].score == 0.5
    drawn = drawn_boxes(keys, 130)
    assert np.isnan(drawn[:100]).all() and np.isnan(drawn[110:113]).all()
    np.testing.assert_allclose(drawn[100:110], boxes[:10], atol=1e-9)
    assert thin(np.full((4, 4), np.nan), np.ones(4), 0.1) == []


@given(
    seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60), tolerance=st.sampled_from([0.0, 0.02, 0.05, 0.2]),
    step=st.sampled_from([0.0, 0.002, 0.02]), holes=st.sampled_from([0.0, 0.2]),
)  # fmt: skip
def test_drawn_boxes_stay_within_the_tolerance(seed, count, tolerance, step, holes):
    rng = np.random.default_rng(seed)
    left_top = 0.3 + np.cumsum(rng.normal(0, step, (count, 2)), axis=0)
    sides = 0.2 * np.exp(np.cumsum(rng.normal(0, step, (count, 2)), axis=0))
    boxes = np.concatenate([left_top, left_top + sides], axis=1)
    boxes[rng.random(count) < holes] = np.nan
    keys = thin(boxes, rng.random(count), tolerance)
    drawn, seen = drawn_boxes(keys, count), ~np.isnan(boxes).any(axis=1)
    np.testing.assert_array_equal(~np.isnan(drawn).any(axis=1), seen)
    off = np.abs(drawn - boxes)[seen] / np.tile(sides, 2)[seen]
    assert (off <= tolerance + 1e-6).all()
    assert (iou(drawn[seen], boxes[seen]) >= (1 - 2 * tolerance) ** 2 - 1e-6).all()
    for key in keys:
        np.testing.assert_array_equal(key.box, boxes[key.frame])
