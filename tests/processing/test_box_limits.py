"""The edges of what counts as a box: how far outside the frame, what one cell becomes, when a cut is told."""

import warnings

import numpy as np
import pytest

from processing_elysium.boxes import parse_boxes, validate_box_px


@pytest.mark.parametrize(
    ("text", "box"),
    [
        # Up to one frame outside is cut to the frame; a cell more is no box.
        ("[-100,40,51,67]", [0.0, 0.405, 0.515, 0.675]),
        ("[-101,40,51,67]", None),
        ("[34,-100,51,67]", [0.345, 0.0, 0.515, 0.675]),
        ("[34,-101,51,67]", None),
        ("[34,40,199,67]", [0.345, 0.405, 1.0, 0.675]),
        ("[34,40,200,67]", None),
        ("[34,40,51,199]", [0.345, 0.405, 0.515, 1.0]),
        ("[34,40,51,200]", None),
        # Both corners in one cell: its middle third, in one direction or in both.
        ("[34,40,34,40]", [34.5 - 1 / 6, 40.5 - 1 / 6, 34.5 + 1 / 6, 40.5 + 1 / 6]),
        ("[34,40,34,67]", [34.5 - 1 / 6, 40.5, 34.5 + 1 / 6, 67.5]),
        ("[0,99,0,99]", [0.5 - 1 / 6, 99.5 - 1 / 6, 0.5 + 1 / 6, 99.5 + 1 / 6]),
    ],
)
def test_what_a_text_says(text, box):
    parsed = parse_boxes(text, 1)
    assert parsed.valid.tolist() == [box is not None]
    if box is not None:
        wanted = np.array(box) / (100 if max(box) > 1 else 1)
        np.testing.assert_allclose(parsed.boxes[0], wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("box", "is_told"),
    [
        ((-1, 5, 30, 30), False),  # a pixel is rounding
        ((-1.1, 5, 30, 30), True),
        ((10, -1, 30, 30), False),
        ((10, -1.1, 30, 30), True),
        ((10, 5, 65, 30), False),
        ((10, 5, 65.1, 30), True),
        ((10, 5, 30, 49), False),
        ((10, 5, 30, 49.1), True),
    ],
)
def test_a_cut_is_told_from_a_pixel_on(box, is_told):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cut = validate_box_px(box, 64, 48)
    assert len(told) == is_told
    np.testing.assert_allclose(cut, np.clip(box, 0, [64, 48, 64, 48]))
