"""What is left to track, and what a result or a correction changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_elysium.demo.objects import (
    MAX_TEXT,
    Followed,
    Run,
    as_results,
    clean_text,
    frames_to_decide,
    remaining,
    take,
)

N = 10
BOX = (1.0, 2.0, 11.0, 12.0)


def found(number, score=0.5, left=1.0):
    box = {"xmin": left, "ymin": 2.0, "xmax": left + 10, "ymax": 12.0}
    return {"id": number, "label": "from the pipeline", "score": score, "present": score > 0, "box": box}


def known(one, frames):
    one.frames = {frame: found(one.id, left=float(frame)) for frame in frames}
    return one


def box_of(frame):
    return (float(frame), 2.0, frame + 10.0, 12.0)


PLANS = [  # object, the calls it needs
    (Followed(4, "a", 3, box=BOX), [Run((4,), (3,), (BOX,))]),  # new, by box
    (Followed(4, "a", 3, box=BOX, direction="both"), [Run((4,), (3,), (BOX,), None, "both")]),
    (Followed(4, "a", 3, expression="the swan"), [Run((4,), (3,), None, ("the swan",))]),  # new, by words
    (known(Followed(4, "a", 0, box=BOX), range(6)), [Run((4,), (5,), (box_of(5),))]),  # stopped in the middle
    (known(Followed(4, "a", 0, expression="the swan"), range(6)), [Run((4,), (5,), (box_of(5),))]),  # goes on by box
    (known(Followed(4, "a", 0, box=BOX), range(N)), []),  # done
    (
        known(Followed(4, "a", 7, box=BOX, direction="backward"), range(2, 8)),
        [Run((4,), (2,), (box_of(2),), None, "backward")],
    ),
    (known(Followed(4, "a", 7, box=BOX, direction="backward"), range(8)), []),
    (
        known(Followed(4, "a", 5, box=BOX, direction="both"), range(3, 8)),
        [Run((4,), (7,), (box_of(7),)), Run((4,), (3,), (box_of(3),), None, "backward")],
    ),
]


@pytest.mark.parametrize("one, runs", PLANS)
def test_what_one_object_needs(one, runs):
    assert remaining([one], N) == runs


def test_objects_asked_alike_share_a_call():
    objects = [
        Followed(0, "a", 0, box=BOX),
        Followed(1, "b", 2, expression="the swan"),
        known(Followed(2, "c", 0, box=BOX), range(4)),
        Followed(5, "d", 4, expression="the goose"),
    ]
    boxes, words = remaining(objects, N)
    assert (boxes.ids, boxes.start_frames) == ((0, 2), (0, 3))
    assert words == Run((1, 5), (2, 4), None, ("the swan", "the goose"))
    assert boxes.words() == {"box": [list(BOX), list(box_of(3))], "start_frame": [0, 3], "direction": "forward"}
    assert words.words()["expression"] == ["the swan", "the goose"]
    assert frames_to_decide([boxes, words], N) == 10 + 7 + 8 + 6


def test_a_correction_forgets_what_came_after_it():
    one = known(Followed(0, "a", 0, box=BOX), range(N))
    one.correct(6, (30, 2, 40, 12))
    assert sorted(one.frames) == list(range(7))
    assert one.box_at(6) == (30, 2, 40, 12) and one.box_at(5) == box_of(5) and one.box_at(7) is None
    assert remaining([one], N) == [Run((0,), (6,), ((30, 2, 40, 12),))]


def test_a_correction_of_what_goes_back_forgets_what_came_before_it():
    one = known(Followed(0, "a", 9, box=BOX, direction="backward"), range(N))
    one.correct(6, (30, 2, 40, 12))
    assert sorted(one.frames) == list(range(6, N))
    assert remaining([one], N)[0].direction == "backward"


def test_results_come_under_the_visitors_numbers_and_names():
    objects = [Followed(3, "cup", 0, box=BOX), Followed(7, "lid", 0, box=BOX)]
    run = remaining(objects, N)[0]
    assert take(objects, run, {"frame": 2, "timestamp": 0.2, "objects": [found(0), found(1, left=5.0)]}) == 2
    (result,) = as_results(objects, lambda frame: frame / 10)
    assert (result["frame"], result["timestamp"]) == (2, 0.2)
    assert [(item["id"], item["label"]) for item in result["objects"]] == [(3, "cup"), (7, "lid")]
    assert objects[1].box_at(2) == box_of(5)


def test_a_box_that_was_given_stays():
    one = Followed(0, "a", 0, box=BOX)
    one.correct(4, (30, 2, 40, 12))
    run = remaining([one], N)[0]
    take([one], run, {"frame": 4, "objects": [found(0, score=0.9)]})
    assert one.box_at(4) == (30, 2, 40, 12)


def test_results_of_a_removed_object_are_dropped():
    one = Followed(0, "a", 0, box=BOX)
    run = remaining([one], N)[0]
    assert take([], run, {"frame": 4, "objects": [found(0)]}) == 0


@given(
    st.sets(st.integers(0, N - 1), min_size=1), st.integers(0, N - 1), st.sampled_from(["forward", "backward", "both"])
)
def test_what_is_left_reaches_the_ends(frames, corrected, direction):
    one = known(Followed(0, "a", corrected, box=BOX, direction=direction), frames)
    one.correct(corrected, BOX)
    spans = [
        range(run.start_frames[0], N) if run.direction == "forward" else range(run.start_frames[0] + 1)
        for run in remaining([one], N)
    ]
    reached = set(one.frames).union(*spans)
    if direction != "backward":
        assert N - 1 in reached
    if direction != "forward":
        assert 0 in reached
    assert all(run.boxes[0] == one.box_at(run.start_frames[0]) for run in remaining([one], N))


@pytest.mark.parametrize(
    "text, line",
    [
        ("  the   black swan ", "the black swan"),
        ("two\nlines\tand\x00nul", "two lines and nul"),
        ("right\u202eleft", "right left"),  # turns the direction of what follows
        (None, ""),
        ("<b>bold</b>", "<b>bold</b>"),  # escaped where it is shown, not changed here
    ],
)
def test_texts_become_one_line(text, line):
    assert clean_text(text, "The name") == line


def test_a_long_text_is_refused():
    with pytest.raises(ValueError, match=f"The name has {MAX_TEXT + 1} characters; at most {MAX_TEXT}"):
        clean_text("x" * (MAX_TEXT + 1), "The name")
