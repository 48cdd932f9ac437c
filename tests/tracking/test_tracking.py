import re
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking_elysium.exchange import ClipAnswer
from tracking_elysium.gap_policy import GAP_POLICIES
from tracking_elysium.options import TrackingOptions
from tracking_elysium.queries import ObjectQuery
from tracking_elysium.scheduling import track_videos
from tracking_elysium.session import TrackingSession

from .oracle import PROCESSOR, Oracle, boxes_of, moving_box, video

SHORT = video(11)


def sot(start=0, direction="forward", number=0, lane=0):
    return ObjectQuery(
        number, f"object {number}", box=tuple(moving_box(start, lane)), start_frame=start, direction=direction
    )


def rsot(expression="the swan", number=0, start=0):
    return ObjectQuery(number, expression, expression=expression, start_frame=start)


def run(frames, queries, oracle=None, **options):
    session = TrackingSession(PROCESSOR.open_video(frames), PROCESSOR, queries, TrackingOptions(**options))
    return [result for _, result in track_videos([session], oracle or Oracle())]


def assert_follows(results, frames, lane=0):
    boxes = boxes_of(results)
    assert sorted(boxes) == list(frames)
    for frame, box in boxes.items():
        np.testing.assert_allclose(box, moving_box(frame, lane), atol=0.0051)  # half a cell


# --------------------------------------------------------------------------------------------------------------
# continuing from clip to clip
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("num_frames", [1, 7, 32, 33, 50, 51])
@pytest.mark.parametrize("query", [sot(), rsot()], ids=["sot", "rsot"])
def test_every_frame_once_in_order(num_frames, query):
    results = run(video(num_frames), [query])
    assert [result.frame for result in results] == list(range(num_frames))
    assert_follows(results, range(num_frames))


def test_a_stream_gives_what_a_list_gives():
    frames = video(45)
    for a, b in zip(run(frames, [sot()]), run(iter(frames), [sot()]), strict=True):
        assert a.frame == b.frame
        np.testing.assert_array_equal(a.objects[0].box, b.objects[0].box)


def test_the_last_box_of_a_clip_starts_the_next():
    oracle = Oracle()
    run(video(40), [sot()], oracle)
    starts = [0, 7, 14, 21, 28, 35]
    for start, question in zip(starts, oracle.questions, strict=True):
        assert PROCESSOR.format_box(moving_box(start)) in question


def test_an_expression_grounds_once_by_default_and_anew_on_request():
    oracle = Oracle()
    run(video(40), [rsot("the black swan")], oracle)
    assert ["the black swan" in question for question in oracle.questions] == [True] + [False] * 5
    oracle = Oracle()
    run(video(40), [rsot("the black swan")], oracle, rsot_continuation="expression")
    assert all("the black swan" in question for question in oracle.questions)


def test_an_expression_that_is_not_found_is_looked_for_again():
    oracle = Oracle(broken=dict.fromkeys(range(8), "nothing here"))
    results = run(video(40), [rsot()], oracle)
    assert ["swan" in question for question in oracle.questions] == [True, True] + [False] * 4
    assert [len(result.objects) for result in results] == [0] * 8 + [1] * 32


def test_prompt_replaces_the_wording_where_it_fits():
    oracle = Oracle()
    run(video(40), [rsot()], oracle, prompt="Watch {expression}!")
    assert oracle.questions[0] == "Watch the swan!" and "Watch" not in oracle.questions[1]
    oracle = Oracle()
    run(video(40), [sot()], oracle, prompt="Watch {box}!")
    assert all(question.startswith("Watch [") for question in oracle.questions)


# --------------------------------------------------------------------------------------------------------------
# gaps
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", ["", "gone", "[1,2,3", "[900,1,950,20]"])
def test_gaps_are_filled_by_the_named_policy(text):
    broken = {10: text, 11: text}
    held = boxes_of(run(video(40), [sot()], Oracle(broken), gap_policy="hold"))
    np.testing.assert_allclose(held[11], held[9])
    moved = boxes_of(run(video(40), [sot()], Oracle(broken), gap_policy="previous_velocity"))
    np.testing.assert_allclose(moved[11], moving_box(11), atol=0.0051)
    results = run(video(40), [sot()], Oracle(broken), gap_policy="none")
    assert [result.frame for result in results if not result.objects] == [10, 11]
    assert len(results) == 40


@pytest.mark.parametrize("policy", ["hold", "previous_velocity", "none"])
def test_a_gap_in_the_shared_frame_does_not_stop_the_track(policy):
    oracle = Oracle({7: "", 14: ""})
    results = run(video(40), [sot()], oracle, gap_policy=policy)
    boxes = boxes_of(results)
    assert len(results) == 40 and (7 in boxes) == (policy != "none")
    start = {"hold": moving_box(6), "previous_velocity": moving_box(7), "none": moving_box(6)}[policy]
    assert PROCESSOR.format_box(start + 0.001) in oracle.questions[1]


def test_a_model_that_says_nothing_useful_keeps_the_start_box():
    oracle = Oracle(broken=dict.fromkeys(range(50), "I cannot see it."))
    boxes = boxes_of(run(video(50), [sot()], oracle))
    assert len(boxes) == 50
    np.testing.assert_allclose(boxes[49], moving_box(0))


@given(
    st.lists(
        st.one_of(st.text(max_size=40), st.from_regex(r"(Frame [0-9]+: \[[0-9,.-]{0,12}\]?,? ?){0,9}")), max_size=9
    ),
    st.sampled_from(GAP_POLICIES),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_whatever_a_model_says_every_frame_comes_once_with_boxes_in_the_frame(texts, policy, by_words):
    said = iter([*texts, *[""] * 9])
    answer = lambda requests: [ClipAnswer(next(said)) for _ in requests]  # noqa: E731
    results = run(SHORT, [rsot() if by_words else sot()], answer, gap_policy=policy, clip_len=3, single_pass_up_to=0)
    assert [result.frame for result in results] == list(range(len(SHORT)))
    for result in results:
        assert len(result.objects) <= 1
        for item in result.objects:
            assert (item.box >= 0).all() and (item.box <= 1).all() and (item.box[2:] > item.box[:2]).all()
            assert 0 <= item.score <= 1


def test_scores():
    results = run(video(12), [sot()], Oracle({5: "?"}))
    scores = [result.objects[0].score for result in results]
    assert scores[0] == 1.0 and scores[5] == 0.0  # given; filled in
    np.testing.assert_allclose([s for i, s in enumerate(scores) if i not in (0, 5)], 0.5)


# --------------------------------------------------------------------------------------------------------------
# start frames, directions, several objects
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("direction", "wanted"),
    [("forward", range(20, 60)), ("backward", range(21)), ("both", range(60))],
)
def test_directions(direction, wanted):
    results = run(video(60), [sot(20, direction)])
    frames = [result.frame for result in results]
    assert sorted(frames) == list(wanted) and len(set(frames)) == len(frames)
    assert_follows(results, wanted)


@pytest.mark.parametrize("direction", ["backward", "both"])
def test_backward_from_the_first_frame(direction):
    assert len(run(video(9), [sot(0, direction)])) == (1 if direction == "backward" else 9)


def test_several_objects_with_different_starts():
    lanes = {PROCESSOR.format_box(moving_box(f, lane)): lane for lane in (0, 1, 2) for f in range(60)}
    queries = [sot(0, number=0), sot(0, number=1, lane=1), sot(30, number=2, lane=2)]
    results = run(video(60), queries, Oracle(lanes=lanes))
    assert [result.frame for result in results] == list(range(60))
    for result in results:
        assert [item.id for item in result.objects] == ([0, 1, 2] if result.frame >= 30 else [0, 1])
        for item in result.objects:
            np.testing.assert_allclose(item.box, moving_box(result.frame, item.id), atol=0.0051)


def test_objects_that_start_together_share_the_frames_of_a_clip():
    oracle = Oracle()
    run(video(40), [sot(), sot(number=1, lane=1)], oracle)
    for first, second in oracle.calls:
        assert first.frames is second.frames


def test_results_in_pixels():
    result = run(video(3), [sot()])[0].to_dict(60, 40)
    assert list(result) == ["frame", "timestamp", "objects"]
    (item,) = result["objects"]
    assert list(item) == ["id", "label", "score", "present", "box"]
    np.testing.assert_allclose(list(item["box"].values()), moving_box(0) * [60, 40, 60, 40])


# --------------------------------------------------------------------------------------------------------------
# many videos
# --------------------------------------------------------------------------------------------------------------
def test_lock_step_asks_for_many_videos_at_once_and_refills():
    lengths = [40, 8, 50, 33, 5]
    oracle = Oracle()
    sessions = [TrackingSession(PROCESSOR.open_video(video(n)), PROCESSOR, [sot()]) for n in lengths]
    results = list(track_videos(iter(sessions), oracle, batch_size=2))
    assert max(len(call) for call in oracle.calls) == 2
    assert sum(len(call) for call in oracle.calls) == 6 + 1 + 7 + 5 + 1
    assert len([call for call in oracle.calls if len(call) == 2]) >= 8  # rows are refilled, not drained
    for position, length in enumerate(lengths):
        own = [result for number, result in results if number == position]
        assert [result.frame for result in own] == list(range(length))
        assert_follows(own, range(length))


def test_sessions_are_taken_lazily():
    opened = []

    def sessions():
        for number in range(6):
            opened.append(number)
            yield TrackingSession(PROCESSOR.open_video(video(40)), PROCESSOR, [sot()])

    stream = track_videos(sessions(), Oracle(), batch_size=2)
    next(stream)
    assert len(opened) <= 3


def test_memory_does_not_grow_with_the_video():
    alive, most = weakref.WeakSet(), 0

    class Watching(Oracle):
        def __call__(self, requests):
            nonlocal most
            alive.update(requests[0].frames)
            most = max(most, len(alive))
            return [self.answer(request) for request in requests]

    assert len(run(iter(video(400)), [sot()], Watching())) == 400
    assert most <= 15  # the clip in hand and the one before it, with one frame in common


# --------------------------------------------------------------------------------------------------------------
# errors
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: run(video(5), []), "`objects` is empty"),
        (lambda: run(video(5), [sot(5)]), "`start_frame`=5 is past the end"),
        (lambda: run(iter(video(5)), [sot(0, "backward")]), "`direction`='backward' needs a video"),
        (lambda: run(iter(video(9)), [sot(0), sot(3, number=1)]), "`start_frame` differs"),
        (lambda: run(video(5), [sot()], gap_policy="guess"), "`gap_policy`='guess' is unknown; use one of 'hold'"),
        (lambda: run(video(5), [sot()], rsot_continuation="x"), "`rsot_continuation`='x' is unknown"),
        (lambda: sot(direction="sideways"), "`direction`='sideways' is unknown"),
        (lambda: ObjectQuery(0, "x"), "needs `box` or `expression`, got neither"),
        (lambda: ObjectQuery(0, "x", box=(0, 0, 1, 1), expression="x"), "got both"),
        (lambda: ObjectQuery(0, "x", expression="x", direction="both"), "`direction`='both' needs `box`"),
    ],
)
def test_errors_name_the_argument(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()
