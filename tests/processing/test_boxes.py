"""boxes.py: the text form both ways, conversions, and the checks of typed boxes."""

import math
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processing_elysium.boxes import (
    clip,
    format_box,
    format_boxes,
    iou,
    parse_boxes,
    px_to_unit,
    unit_to_px,
    validate_box_px,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

NAN = math.nan
# A busy machine must not fail a test: no deadlines, no complaints about slow drawing.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)


def center(*cells: int) -> list[float]:
    """The relative box that floor-ed cells are read as."""
    return [(cell + 0.5) / 100 for cell in cells]


# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("box", "rounding", "text"),
    [
        ([0.34, 0.40, 0.51, 0.67], "floor", "[34,40,51,67]"),
        ([0.29, 0.57, 0.58, 0.99], "floor", "[29,57,58,99]"),  # products that floating point puts just below
        ([0.0, 0.0, 1.0, 1.0], "floor", "[0,0,99,99]"),  # 1.0 belongs to the last cell
        ([-0.2, 0.5, 1.7, 0.509], "floor", "[0,50,99,50]"),  # out of the frame: the edge cells
        ([0.0, 0.0, 1.0, 1.0], "round", "[0,0,100,100]"),
        ([-0.204, 0.5, 1.706, 0.509], "round", "[-20,50,171,51]"),  # the authors do not clamp
        ([0.125, 0.135, 0.345, 0.505], "round", "[12,14,34,50]"),  # halves go to even, as Python's round does
        (np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32), "floor", "[10,20,30,40]"),
    ],
)
def test_format_box(box, rounding, text):
    assert format_box(box, rounding) == text


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([0.1, 0.2, 0.3], "3 values"),
        ([0.1, 0.2, 0.3, NAN], "NaN"),
        ([0.1, 0.2, 0.3, math.inf], "infinity"),
        (["a", 0.2, 0.3, 0.4], "not a number"),
        ("[1,2,3,4]", "four numbers"),
        (None, "NoneType"),
        (7, "four numbers"),
    ],
)
def test_format_box_refuses(box, words):
    with pytest.raises(ValueError, match=words):
        format_box(box)


def test_format_box_refuses_unknown_rounding():
    with pytest.raises(ValueError, match="'floor', 'round'"):
        format_box([0, 0, 1, 1], "ceil")


def test_format_boxes_leaves_out_invalid_frames():
    boxes = [[0.1, 0.2, 0.3, 0.4], [NAN] * 4, [0.5, 0.5, 0.6, 0.6]]
    assert format_boxes(boxes, [True, False, True]) == "Frame 1: [10,20,30,40], Frame 3: [50,50,60,60]"
    assert format_boxes(boxes[:1], first_frame=7) == "Frame 7: [10,20,30,40]"
    assert format_boxes(boxes, [False] * 3) == ""
    with pytest.raises(ValueError, match="1 entries for 3 boxes"):
        format_boxes(boxes, [True])


# --------------------------------------------------------------------------------------------------------------
PARSED = [
    # text, num_frames, {frame: cells or relative box}
    ("Frame 1: [34,40,51,67]", None, {1: (34, 40, 51, 67)}),
    ("Frame 1: [34,40,51,67].", 2, {1: (34, 40, 51, 67)}),  # final period, second frame missing
    (
        "Frame 1: [1,2,3,4], Frame 2: [5,6,7,8], Frame 3: [9,10,11,12]",
        3,
        {1: (1, 2, 3, 4), 2: (5, 6, 7, 8), 3: (9, 10, 11, 12)},
    ),
    ("frame 1 : [ 1 , 2 ,\t3 , 4 ]\nFRAME 2=[5 6 7 8]", 2, {1: (1, 2, 3, 4), 2: (5, 6, 7, 8)}),  # loose spacing
    ("Frame #2: (5;6;7;8)", 2, {2: (5, 6, 7, 8)}),  # other brackets and separators
    ("Frame 1: [1,2,3,4], Frame 3: [9,10,11,12]", 3, {1: (1, 2, 3, 4), 3: (9, 10, 11, 12)}),  # skipped label
    ("Frame 2: [5,6,7,8], Frame 1: [1,2,3,4]", 2, {1: (1, 2, 3, 4), 2: (5, 6, 7, 8)}),  # out of order
    ("Frame 1: [1,2,3,4], Frame 1: [5,6,7,8]", 2, {1: (1, 2, 3, 4)}),  # repeated: the first counts
    ("Frame 1: [1,2,3], Frame 1: [5,6,7,8]", 2, {1: (5, 6, 7, 8)}),  # repeated after an unreadable one
    (
        "Frame 1: [1,2,3,4] [5,6,7,8], Frame 2: [9,9,12,12]",
        2,
        {1: (1, 2, 3, 4), 2: (9, 9, 12, 12)},
    ),  # two in one frame
    ("Frame 1: [1,2,x,4], Frame 2: [5,6,7,8]", 2, {2: (5, 6, 7, 8)}),  # one malformed box loses only itself
    ("Frame 0: [1,2,3,4], Frame 9: [5,6,7,8]", 3, {}),  # frames that were not asked about
    ("Frame 1: not visible. Frame 2: [5,6,7,8]", 2, {2: (5, 6, 7, 8)}),
    ("Frame 1: In this frame the ball is at [5,6,7,8]", 1, {1: (5, 6, 7, 8)}),  # "frame" in prose
    ("Frames 1-2: [1,2,3,4]", 2, {}),  # a range is not tied to one frame
    ("Frame 1-2: [1,2,3,4], Frame 3: [5,6,7,8]", 3, {3: (5, 6, 7, 8)}),
    ("Frame 1: gone. Frames 2 and 3: [1,2,3,4]", 3, {}),  # and is not given to the frame before it
    ("Frame 1.5: [1,2,3,4]", 2, {}),
    ("Frame one: [1,2,3,4]", 1, {1: (1, 2, 3, 4)}),  # no number at all: read as a text without labels
    ("[34,40,51,67]", None, {1: (34, 40, 51, 67)}),  # REC
    ("The dog is at [34,40,51,67].", 1, {1: (34, 40, 51, 67)}),
    ("34,40,51,67", 1, {1: (34, 40, 51, 67)}),  # no brackets at all
    ("[1,2,3,4], [5,6,7,8]", 2, {1: (1, 2, 3, 4)}),  # unlabeled boxes: only the first has a frame
    ("Frame 1: 34,40,51,67, Frame 2: 35,41,52,68]", 2, {1: (34, 40, 51, 67), 2: (35, 41, 52, 68)}),
    ("Frame 1: [34,40,51,67, Frame 2: [35,41,52,68]", 2, {1: (34, 40, 51, 67), 2: (35, 41, 52, 68)}),  # lost bracket
    ("Frame 1: 34,40,51,67] Frame 2: [35,41,52,68]", 2, {1: (34, 40, 51, 67), 2: (35, 41, 52, 68)}),
    # truncated
    ("Frame 1: [1,2,3,4], Frame 2: [5,6,7", 2, {1: (1, 2, 3, 4)}),
    ("Frame 1: [1,2,3,4], Frame 2: [5,6,7,", 2, {1: (1, 2, 3, 4)}),
    ("Frame 1: [1,2,3,4], Frame 2: [15,16,17,1", 2, {1: (1, 2, 3, 4)}),  # 1 may have been 18
    (
        "Frame 1: [1,2,3,4], Frame 2: [15,16,17,18",
        2,
        {1: (1, 2, 3, 4), 2: (15, 16, 17, 18)},
    ),  # no digit can be missing
    ("Frame 1: [0.1,0.2,0.3,0.", 1, {}),
    ("Frame 1: [0.1,0.2,0.3,0.4", 1, {}),
    ("Frame 1: [1,2,3,4], Fra", 2, {1: (1, 2, 3, 4)}),
    ("Frame 1: [1,2,3,4], Frame 2", 2, {1: (1, 2, 3, 4)}),
    ("Frame 1: [1,2,3,4], Frame 2:", 2, {1: (1, 2, 3, 4)}),
    # numbers
    ("[0.1,0.2,0.5,0.4]", 1, {1: [0.1, 0.2, 0.5, 0.4]}),  # decimals up to 1: relative
    ("[0.0,0.0,1.0,1.0]", 1, {1: [0.0, 0.0, 1.0, 1.0]}),
    ("[.1,.2,.5,.4]", 1, {1: [0.1, 0.2, 0.5, 0.4]}),
    ("[10.5,20.0,50.25,40]", 1, {1: [0.105, 0.2, 0.5025, 0.4]}),  # larger decimals: cells
    ("[10%,20%,50%,40%]", 1, {1: [0.1, 0.2, 0.5, 0.4]}),
    ("[51,67,34,40]", 1, {1: (34, 40, 51, 67)}),  # swapped corners
    ("[51,40,34,67]", 1, {1: (34, 40, 51, 67)}),
    ("[-3,40,51,67]", 1, {1: [0.0, 0.405, 0.515, 0.675]}),  # a little outside: cut to the frame
    ("[34,40,120,67]", 1, {1: [0.345, 0.405, 1.0, 0.675]}),
    ("[120,40,140,67]", 1, {}),  # wholly outside
    ("[312,40,551,67]", 1, {}),  # pixels are not cells
    ("[34,40,51,99999999999999999999999999]", 1, {}),
    ("[1,2,3,4,5]", 1, {}),  # five numbers
    ("[]", 1, {}),
    ("[1,2,3,4", 1, {}),
    ("[0.5,0.5,0.5,0.9]", 1, {}),  # a relative box without width
    # nothing
    ("", 3, {}),
    ("\n\n", 1, {}),
    ("I cannot see the object in any of these frames.", 2, {}),
    ("In 1999 there were 12, 13 or 14 of them, 15 at most", 1, {}),  # numbers in prose
    ("nan, inf, [nan,nan,nan,nan]", 1, {}),
    ("Frame 99999999999999999999: [1,2,3,4]", None, {}),
    ("Frame 999999: [1,2,3,4]", None, {}),  # would make a huge array
    ("Frame 1: [\u0661,\u0662,\u0663,\u0664]", 1, {}),  # digits of other scripts
]


@pytest.mark.parametrize(("text", "num_frames", "expected"), PARSED, ids=range(len(PARSED)))
def test_parse_boxes(text, num_frames, expected):
    parsed = parse_boxes(text, num_frames)
    size = num_frames if num_frames is not None else max(expected, default=0)
    assert parsed.boxes.shape == (size, 4) and parsed.valid.shape == (size,) and len(parsed) == size
    assert {int(i) + 1 for i in np.flatnonzero(parsed.valid)} == set(expected)
    assert np.isnan(parsed.boxes[~parsed.valid]).all() and (parsed.spans[~parsed.valid] == -1).all()
    for frame, box in expected.items():
        want = center(*box) if isinstance(box, tuple) and box[0] != box[2] and box[1] != box[3] else box
        np.testing.assert_allclose(parsed.boxes[frame - 1], want, atol=1e-12)


def test_parse_boxes_of_the_authors_rounding():
    parsed = parse_boxes("Frame 1: [0,-4,100,50], Frame 2: [10,20,30,10", 2, rounding="round")
    np.testing.assert_allclose(parsed.boxes[0], [0, 0, 1, 0.5])
    assert not parsed.valid[1]  # "10" may have been 100


def test_parse_boxes_gives_the_characters_of_each_box():
    text = "Frame 1: [1,2,3,4], Frame 2: none, Frame 3: [50,60,70,80]"
    spans = parse_boxes(text, 3).spans
    assert [text[start:stop] for start, stop in spans if start >= 0] == ["1,2,3,4", "50,60,70,80"]


def test_parse_boxes_counts_from_first_frame():
    parsed = parse_boxes("Frame 9: [1,2,3,4]", 2, first_frame=8)
    assert parsed.valid.tolist() == [False, True]


def test_a_thing_within_one_cell_keeps_an_area():
    parsed = parse_boxes("[34,40,34,67]")
    assert parsed.valid.all() and 0.34 < parsed.boxes[0, 0] < parsed.boxes[0, 2] < 0.35


@pytest.mark.parametrize(
    "noise", ["[" * 20000, "1," * 20000, "[1 " * 20000, "Frame " * 20000, "Frame 1: [1,2,3" * 5000]
)
def test_parse_boxes_is_linear(noise):
    start = time.process_time()
    parse_boxes(noise, 8)
    assert time.process_time() - start < 2.0


unit = st.floats(-0.5, 1.5)
boxes_in_order = st.tuples(unit, unit, unit, unit).map(
    lambda v: [min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3])]
)


@patient
@given(st.lists(boxes_in_order, min_size=1, max_size=8))
def test_round_trip_floor(boxes):
    text = format_boxes(boxes)
    parsed = parse_boxes(text, len(boxes))
    assert parsed.valid.all()
    assert np.abs(parsed.boxes - np.minimum(clip(boxes), 0.99999)).max() <= 0.01 + 1e-9  # within the cell
    assert format_boxes(parsed.boxes) == text


@patient
@given(st.lists(boxes_in_order, min_size=1, max_size=8))
def test_round_trip_round(boxes):
    text = format_boxes(boxes, rounding="round")
    parsed = parse_boxes(text, len(boxes), rounding="round")
    for row, box in enumerate(boxes):
        inside = box[0] < 0.995 and box[1] < 0.995 and box[2] > 0.005 and box[3] > 0.005
        assert parsed.valid[row] or not inside
        if parsed.valid[row]:
            assert np.abs(parsed.boxes[row] - clip(box)).max() <= 0.005 + 1 / 600 + 1e-9


@patient
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_round_trip_of_the_mask(valid):
    boxes = [[0.1, 0.2, 0.3, 0.4]] * len(valid)
    assert parse_boxes(format_boxes(boxes, valid), len(valid)).valid.tolist() == valid


pieces = st.sampled_from(
    [
        "Frame ",
        "frame",
        "1",
        "2",
        "99",
        ": ",
        "[",
        "]",
        "(",
        ",",
        " ",
        "34",
        "0.5",
        "-",
        "+",
        ".",
        "%",
        "\n",
        "nan",
        "1e9",
        "é",
    ]
)


@settings(patient, max_examples=200)
@given(
    st.one_of(st.text(max_size=200), st.lists(pieces, max_size=60).map("".join)),
    st.one_of(st.none(), st.integers(0, 9)),
)
def test_parse_never_raises_and_stays_in_the_frame(text, num_frames):
    parsed = parse_boxes(text, num_frames)
    good = parsed.boxes[parsed.valid]
    assert len(parsed) == num_frames or num_frames is None
    assert ((good >= 0) & (good <= 1)).all() and (good[:, 2:] > good[:, :2]).all()
    assert np.isnan(parsed.boxes[~parsed.valid]).all()
    for start, stop in parsed.spans[parsed.valid]:  # never invents: every box stands in the text
        assert sum(char.isdigit() for char in text[start:stop]) >= 4


@patient
@given(st.integers(1, 6), st.integers(0, 120))
def test_a_truncated_answer_only_loses_its_end(num_frames, cut):
    boxes = [[0.1 + 0.05 * i, 0.2, 0.5 + 0.05 * i, 0.66] for i in range(num_frames)]
    text = format_boxes(boxes)
    whole, part = parse_boxes(text, num_frames), parse_boxes(text[:cut], num_frames)
    np.testing.assert_array_equal(part.boxes[part.valid], whole.boxes[part.valid])


def assert_beginnings_stay(text):
    whole, before = parse_boxes(text, 9), np.zeros(9, dtype=bool)
    for cut in range(len(text) + 1):
        part = parse_boxes(text[:cut], 9, partial=True)
        assert part.valid[before].all() and whole.valid[part.valid].all()
        np.testing.assert_array_equal(part.boxes[part.valid], whole.boxes[part.valid])
        np.testing.assert_array_equal(part.spans[part.valid], whole.spans[part.valid])
        before = part.valid


@settings(patient, max_examples=200)
@given(
    st.one_of(
        st.lists(pieces, max_size=60).map("".join),
        st.from_regex(r"\A(Frame [1-9]: [\[(]?([0-9]{1,3}[,)] ?){0,5}[\])]?,? ?){0,6}\Z"),
    )
)
def test_what_a_beginning_says_stays(text):
    assert_beginnings_stay(text)


@pytest.mark.parametrize("text", [row[0] for row in PARSED], ids=range(len(PARSED)))
def test_what_a_beginning_of_a_known_text_says_stays(text):
    assert_beginnings_stay(text)


def test_a_beginning_tells_a_box_with_its_bracket():
    text = format_boxes([[0.1, 0.2, 0.5, 0.66]] * 3)
    told = [parse_boxes(text[:cut], 3, partial=True).valid.sum() for cut in range(len(text) + 1)]
    assert told == [text[:cut].count("]") for cut in range(len(text) + 1)]
    assert not parse_boxes("I see [1,2,3,4], Fr", 3, partial=True).valid.any()  # may get its label yet


# --------------------------------------------------------------------------------------------------------------
def test_conversions():
    np.testing.assert_allclose(xyxy_to_xywh([[1, 2, 4, 8]]), [[1, 2, 3, 6]])
    np.testing.assert_allclose(xywh_to_xyxy([1, 2, 3, 6]), [1, 2, 4, 8])
    np.testing.assert_allclose(px_to_unit([32, 24, 64, 48], 64, 48), [0.5, 0.5, 1, 1])
    np.testing.assert_allclose(unit_to_px([0.5, 0.5, 1, 1], 64, 48), [32, 24, 64, 48])
    with pytest.raises(ValueError, match="last dimension"):
        xyxy_to_xywh([1, 2, 3])
    with pytest.raises(ValueError, match="must both be positive"):
        px_to_unit([1, 2, 3, 4], 0, 10)


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1.0),
        ([0, 0, 2, 2], [1, 0, 3, 2], 1 / 3),
        ([0, 0, 2, 2], [2, 0, 4, 2], 0.0),  # touching
        ([0, 0, 2, 2], [1, 1, 1, 1], 0.0),  # empty
        ([0, 0, 2, 2], [3, 3, 1, 1], 0.0),  # inverted
        ([0, 0, 2, 2], [NAN, 0, 2, 2], 0.0),
        ([0, 0, 0, 0], [0, 0, 0, 0], 0.0),
    ],
)
def test_iou(a, b, value):
    assert iou(a, b) == pytest.approx(value) and iou(b, a) == pytest.approx(value)


def test_iou_broadcasts():
    assert iou(np.ones((5, 1, 4)) * [0, 0, 1, 1], np.ones((3, 4)) * [0, 0, 1, 1]).shape == (5, 3)


# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([10, 20, 30], "3 values"),
        ([10, 20, 30, 40, 50], "5 values"),
        ([10, NAN, 30, 40], "NaN"),
        ("10,20,30,40", "four numbers"),
        ([0.1, 0.2, 0.3, 0.4], r"looks normalized .* multiply x by 112 and y by 80"),
        ([30, 20, 10, 40], "inverted"),
        ([10, 40, 30, 20], "inverted"),
        ([10, 20, 10, 40], "zero area"),
        ([10, 20, 30, 20], "zero area"),
        ([112, 20, 130, 40], "outside the 112 x 80 frame"),
        ([-30, 20, -10, 40], "outside"),
        ([10, 80, 30, 90], "outside"),
    ],
)
def test_validate_box_px_refuses(box, words):
    with pytest.raises(ValueError, match=words):
        validate_box_px(box, 112, 80)


def test_validate_box_px_takes():
    np.testing.assert_array_equal(validate_box_px((10, 20, 30, 40), 112, 80), [10, 20, 30, 40])
    np.testing.assert_array_equal(validate_box_px([0, 0, 112.4, 80], 112, 80), [0, 0, 112, 80])  # within a pixel
    np.testing.assert_array_equal(validate_box_px([0, 0, 1, 1], 1, 1), [0, 0, 1, 1])  # a 1 x 1 frame
    with pytest.warns(UserWarning, match="sticks out .* was cut"):
        np.testing.assert_array_equal(validate_box_px([-9, 20, 30, 99], 112, 80), [0, 20, 30, 80])
