"""Words looked for in windows of the frame too: which windows, which box counts, what the session asks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracking.oracle import PROCESSOR, tiny_pipeline, video
from tests.tracking.test_zoom import Looker, run, scene
from tracking_elysium.looks import NEAR, agreed_on, windows_near, windows_over
from tracking_elysium.options import MOST_LOOKS, TrackingOptions
from tracking_elysium.queries import ObjectQuery


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 5))
def test_windows_cover_the_frame_and_overlap_by_half(width, height, finest):
    windows = list(windows_over(width, height, finest))
    assert len(windows) == len(set(windows)) <= sum((2 * n - 1) ** 2 for n in range(2, finest + 1))
    for side in sorted({window.side for window in windows}):
        own = [window for window in windows if window.side == side]
        for length, starts in ((width, {w.left for w in own}), (height, {w.top for w in own})):
            starts = sorted(starts)
            if length <= side:
                assert len(starts) == 1 and starts[0] <= 0 and starts[0] + side >= length
                continue
            assert starts[0] == 0 and starts[-1] + side == length
            assert max(np.diff(starts)) <= side / 2 + 1
    assert {w.side for w in windows} == {-(-max(width, height) // n) for n in range(2, finest + 1)}


def test_wide_frames_take_fewer_windows():
    assert [len(windows_over(640, 360, finest)) for finest in (1, 2, 3)] == [0, 6, 21]
    assert [len(windows_over(1000, 300, finest)) for finest in (2, 3)] == [3, 8]
    assert {window.side: weight for window, weight in windows_over(640, 360, 3).items()} == {320: 0.5, 214: 0.25}
    assert [window.side for window in windows_near(np.array([0.4, 0.4, 0.5, 0.5]), 100, 100)] == [20, 30, 40]


HERE, BESIDE, THERE = [0.1, 0.1, 0.3, 0.3], [0.12, 0.1, 0.3, 0.3], [0.6, 0.6, 0.9, 0.9]


@pytest.mark.parametrize(
    ("boxes", "chosen"),
    [
        ([THERE, HERE, BESIDE], 1),  # two against one
        ([THERE, HERE], 0),  # nobody agrees: the whole frame
        ([THERE, HERE, BESIDE, THERE, THERE], 0),
        ([None, HERE, THERE], None),  # not in the whole frame, and no two agree
        ([None, HERE, THERE, BESIDE], 1),
        ([HERE, None, None], 0),
        ([None, None], None),
        ([[0.5] * 4, [0.5] * 4, HERE, BESIDE], 2),  # boxes without area
    ],
)
def test_the_box_that_most_looks_agree_on(boxes, chosen):
    boxes = [None if box is None else np.array(box) for box in boxes]
    assert agreed_on(boxes, [1.0] * len(boxes)) == chosen


def test_looks_count_by_their_weight():
    boxes = [np.array(box) for box in (THERE, THERE, HERE, BESIDE, HERE)]
    assert agreed_on(boxes, [1.0, 1.0, 1.0, 1.0, 1.0]) == 2
    assert agreed_on(boxes, [1.0, 1.0, 0.5, 0.5, 0.5]) == 0


class Nearsighted(Looker):
    """Sees the object only where the frame is shown large enough; in whole frames it half takes a corner for it."""

    def answer(self, request):
        if len(request.frames) == 1 and request.frames[0].image.shape[1] == 160:
            self.blind = set()
            text = f"Frame 1: {PROCESSOR.format_box([0.8, 0.8, 1.0, 1.0])}"
            said = super().answer(request)
            said.text, said.logprobs, said.token_of_digit = text, [-0.1] * 9, list(range(9))
            said.absent_logprobs = {0: math.log(0.7)}  # it is not sure
            return said
        return super().answer(request)


@pytest.mark.parametrize("stream", [False, True], ids=["list", "stream"])
def test_small_things_are_found_by_closer_looks_and_then_followed(stream):
    frames, boxes = scene(6)
    looker = Nearsighted()
    queries = [ObjectQuery(0, "it", expression="the bright one"), ObjectQuery(1, "b", expression="the same")]
    results = run(iter(frames) if stream else frames, queries, looker, looks=2)
    asked, near = looker.calls[:2]
    assert len(asked) == 2 * (1 + len(windows_over(160, 120, 2))) and len(near) == 2 * len(NEAR)
    assert [len(call) for call in looker.calls[2:]] == [2] * 5
    assert {request.expression for request in (*asked, *near)} == {"the bright one", "the same"}
    assert len({id(request.frames[0]) for request in asked}) == len(asked) // 2  # both objects share what is encoded
    for result, box in zip(results, boxes, strict=True):
        for item in result.objects:
            assert item.present
            np.testing.assert_allclose(item.box, box, atol=0.012)
    alone = run(frames, queries[:1], Nearsighted())
    assert alone[0].objects[0].box[0] > 0.7


def test_boxes_are_not_looked_at_closer_and_nothing_without_windows():
    frames, boxes = scene(4)
    looker = Looker()
    run(frames, [ObjectQuery(0, "it", box=tuple(boxes[0]))], looker, looks=3)
    assert [len(call) for call in looker.calls] == [1, 1, 1]
    pipe = tiny_pipeline()
    words = {"expression": "a dog", "max_new_tokens": 4}
    assert pipe(video(4), looks=3, **words) == pipe(video(4), **words)  # without zoom


def test_frames_as_they_come_are_those_of_the_whole_run():
    pipe = tiny_pipeline()
    how = {"expression": ["a dog", "a cat"], "zoom": True, "looks": 2}
    whole = pipe(video(5), **how)
    assert list(pipe(video(5), stream=True, **how)) == whole
    assert pipe(video(5), decoding="plain", **how)[0]["objects"][0]["box"] == whole[0]["objects"][0]["box"]


@pytest.mark.parametrize("value", [0, MOST_LOOKS + 1, 1.5, True, "2"])
def test_wrong_numbers(value):
    with pytest.raises(ValueError, match="`looks`"):
        TrackingOptions(looks=value)


def test_live_objects_are_looked_for_in_windows_too():
    pipe = tiny_pipeline()
    how = {"zoom": True, "looks": 2}
    whole = pipe(video(4), expression="a dog", **how)
    tracker = pipe.open(expression="a dog", **how)
    assert [tracker.push(frame)[0]["box"] for frame in video(4)] == [frame["objects"][0]["box"] for frame in whole]
    failing, real = [1], tracker._answerer.__class__.__call__

    def fail_at_the_second_call(self, requests):
        failing.append(len(requests))
        if len(failing) == 3:
            raise RuntimeError("out of memory")
        return real(self, requests)

    again = pipe.open(expression="a dog", **how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker._answerer.__class__, "__call__", fail_at_the_second_call)
        with pytest.raises(RuntimeError, match="out of memory"):
            again.push(video(4)[0])
    assert [again.push(frame)[0]["box"] for frame in video(4)] == [frame["objects"][0]["box"] for frame in whole]
