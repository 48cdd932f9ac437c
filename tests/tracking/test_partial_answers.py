"""Frames before their clip is answered to the end: the same frames in the same order as from whole answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking_elysium.drafted_answering import DraftedAnswerer
from tracking_elysium.exchange import ClipAnswer
from tracking_elysium.options import TrackingOptions
from tracking_elysium.queries import ObjectQuery
from tracking_elysium.scheduling import track_videos
from tracking_elysium.session import TrackingSession
from tracking_elysium.stats import Stats

from .oracle import PROCESSOR, Oracle, fitting_model, moving_box, video
from .scripted import saying, scripted_model

FRAMES = video(11)
# (start frame, direction) of each object
OBJECTS = {
    "one": [(0, "forward")],
    "two": [(0, "forward"), (0, "forward")],
    "different starts": [(0, "forward"), (5, "forward"), (0, "forward")],
    "backward": [(9, "backward")],
    "both": [(4, "both")],
    "both ways from one frame": [(4, "backward"), (4, "forward")],
    "toward each other": [(1, "forward"), (9, "backward")],
    "everything": [(2, "both"), (0, "forward"), (8, "backward")],
}


class Writer:
    """Writes answers a few characters per step, so many rows at a time."""

    def __init__(self, text_of, pace=7, rows_at_once=2):
        self.text_of, self.pace, self.rows_at_once = text_of, pace, rows_at_once
        self.stats, self.rows, self.steps, self.tickets = Stats(), {}, 0, 0

    def submit(self, requests):
        new = list(range(self.tickets, self.tickets + len(requests)))
        self.tickets += len(requests)
        self.rows.update({ticket: [self.text_of(item), 0] for ticket, item in zip(new, requests, strict=True)})
        return new

    def advance(self):
        self.steps += 1
        done = []
        for ticket in list(self.rows)[: self.rows_at_once]:
            self.rows[ticket][1] += self.pace + ticket % 3
            text, written = self.rows[ticket]
            if written > len(text):
                done.append((ticket, answer(text)))
                del self.rows[ticket]
        return done

    def so_far(self, tickets):
        begun = list(self.rows)[: self.rows_at_once]
        return {ticket: answer(self.rows[ticket][0][: self.rows[ticket][1]]) for ticket in tickets if ticket in begun}


def answer(text):
    digits = [index for index, char in enumerate(text) if char.isdecimal()]
    return ClipAnswer(text, [-0.001 * index for index in range(len(text))], digits)


def queries_of(objects):
    return [
        ObjectQuery(number, str(number), box=tuple(moving_box(start)), start_frame=start, direction=direction)
        for number, (start, direction) in enumerate(objects)
    ]


def results(engine, queries, partial, frames=FRAMES, **options):
    """Frames in the order they come, as plain values, with the steps of the engine at which they came."""
    options = TrackingOptions(**{"clip_len": 4, "single_pass_up_to": 0, **options})
    session = TrackingSession(PROCESSOR.open_video(frames), PROCESSOR, queries, options)
    found, steps = [], []
    for _, item in track_videos([session], engine, batch_size=4, partial=partial):
        found.append((item.frame, [(o.id, o.score, tuple(o.box)) for o in item.objects]))
        steps.append(engine.steps if hasattr(engine, "steps") else engine.stats.forwards)
    return found, steps


TEXTS = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"\A(Frame [0-9]: [\[(]?([0-9]{1,3}[,)] ?){0,5}[\])]?,? ?){0,6}\Z"),
    st.from_regex(r"\A(Frame [1-4]: \[[0-9]{2},[0-9]{2},[0-9]{2},[0-9]{2}\], ){0,6}\Z"),
)


@given(
    st.lists(TEXTS, min_size=1, max_size=9),
    st.sampled_from(sorted(OBJECTS)),
    st.sampled_from(["hold", "previous_velocity", "none"]),
    st.integers(1, 9),
    st.integers(1, 4),
)
@settings(max_examples=150, deadline=None)
def test_whatever_a_model_says_the_same_frames_come_in_the_same_order(texts, objects, policy, pace, rows_at_once):
    def run(partial):
        said = iter(texts * 99)
        engine = Writer(lambda request: next(said), pace, rows_at_once)
        return results(engine, queries_of(OBJECTS[objects]), partial, gap_policy=policy)[0], engine.stats

    (early, early_stats), (whole, whole_stats) = run(True), run(False)
    assert early == whole
    assert (early_stats.frames, early_stats.boxes) == (whole_stats.frames, whole_stats.boxes)


@pytest.mark.parametrize("objects", sorted(OBJECTS))
def test_frames_come_while_the_clip_is_being_answered(objects):
    """With an answerer that knows; the frames that wait for nothing else come before the answer is complete."""
    oracle = Oracle()
    (early, first), (whole, last) = (
        results(
            Writer(lambda request: oracle.answer(request).text, rows_at_once=9), queries_of(OBJECTS[objects]), partial
        )
        for partial in (True, False)
    )
    assert early == whole
    assert all(a <= b for a, b in zip(first, last, strict=True))
    apart = objects in ("both ways from one frame", "toward each other")  # the first frame waits for both lanes
    assert apart or first[0] < last[0]
    if objects in ("one", "two", "backward"):
        assert all(b > a for a, b in zip(first[:4], first[1:4], strict=False))  # one by one


def test_a_given_box_comes_with_the_first_pass():
    engine = Writer(lambda request: Oracle().answer(request).text)
    assert results(engine, queries_of(OBJECTS["one"]), partial=True)[1][0] == 1


def test_a_skipped_frame_waits_for_the_end_of_the_answer():
    text = "Frame 1: [1,2,3,4], Frame 3: [5,6,7,8], Frame 4: [5,6,7,8], Frame 2: [2,3,4,5], and that is all of it."
    expression = [ObjectQuery(0, "a", expression="a")]
    early, steps = results(Writer(lambda request: text), expression, partial=True, frames=FRAMES[:4])
    assert [frame for frame, _ in early] == [0, 1, 2, 3]
    np.testing.assert_allclose(early[1][1][0][2], [0.025, 0.035, 0.045, 0.055])
    assert steps[0] < steps[1] == steps[2] == steps[3]


def test_whole_answers_are_not_read_before_they_are_there():
    class Private(Writer):
        def so_far(self, tickets):
            raise AssertionError("nobody takes the frames as they come")

    engine = Private(lambda request: Oracle().answer(request).text)
    assert len(results(engine, queries_of(OBJECTS["two"]), partial=False)[0]) == 11


def test_an_answerer_that_cannot_tell_gives_whole_clips():
    oracle = Oracle()
    oracle.stats = Stats()
    assert len(results(oracle, queries_of(OBJECTS["two"]), partial=True)[0]) == 11


# --------------------------------------------------------------------------------------------------------------
# the real decoder
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("objects", ["two", "both"])
def test_a_random_model(objects, constrained):
    model = fitting_model()
    early, whole = (
        results(
            DraftedAnswerer(model, PROCESSOR, constrained=constrained),
            queries_of(OBJECTS[objects]),
            partial,
            frames=FRAMES[:7],
            constrained=constrained,
        )
        for partial in (True, False)
    )
    assert early[0] == whole[0]
    assert early[1][0] < whole[1][0]  # the given box at least


@pytest.mark.parametrize("constrained", [True, False])
def test_a_model_that_tracks(constrained):
    cells = [(11, 12, 21, 22), (14, 9, 24, 25), (23, 31, 40, 50), (2, 3, 4, 5), (9, 9, 20, 20)]
    text = ", ".join(f"Frame {number}: [{','.join(map(str, box))}]" for number, box in enumerate(cells, start=1))
    model = scripted_model(PROCESSOR, saying(PROCESSOR, lambda question: text))
    query = [ObjectQuery(0, "a", expression="a")]
    early, whole = (
        results(DraftedAnswerer(model, PROCESSOR, constrained=constrained), query, partial, FRAMES[:5], clip_len=5)
        for partial in (True, False)
    )
    assert early[0] == whole[0]
    assert len(set(early[1])) > 2 and early[1][0] < whole[1][0] == whole[1][-1]
