"""Descriptions and questions: which frames are shown, and what is asked."""

import numpy as np

from tracking_elysium.zoom import TEMPLATE_FACTOR, window_around

from .oracle import PROCESSOR, question_of, video
from .test_pipeline import px


def test_describe_shows_frames_from_the_start_frame_on(pipe, oracle):
    results = pipe(video(40), box=[px(5), px(5)], start_frame=5, task="describe", num_frames=4, frame_interval=3)
    (requests,) = oracle.calls
    assert [frame.index for frame in requests[0].frames] == [5, 8, 11, 14]
    assert requests[0].frames is requests[1].frames
    assert [set(item) for item in results] == [{"id", "label", "frame", "box", "description"}] * 2
    batch = pipe([video(3), video(4)], box=px(0), task="describe")
    assert [len(items) for items in batch] == [1, 1]


def test_describe_with_zoom_shows_each_object_in_its_own_window(pipe, oracle):
    frames = video(10)
    pipe(frames, box=[px(5), px(5, 1)], start_frame=5, task="describe", zoom=True)
    (requests,) = oracle.calls
    for request, box in zip(requests, (px(5), px(5, 1)), strict=True):
        (shown,) = request.frames
        height, width = frames[5].shape[:2]
        window = window_around(np.array(box) / [width, height, width, height], width, height, TEMPLATE_FACTOR)
        np.testing.assert_array_equal(shown.image, window.crop(frames[5]))
        inside = window.from_frame(np.array(box) / [width, height, width, height], width, height).clip(0, 1)
        np.testing.assert_allclose(shown.reference_box, inside)
        assert shown.reference is shown and PROCESSOR.format_box(inside) in question_of(request)


def test_ask(pipe, oracle):
    assert isinstance(pipe.ask(video(40), "What is it?"), str)
    assert len(oracle.calls[-1][0].frames) == 16
    assert len(pipe.ask(video(4), ["What?", "Where?"])) == 2
    assert oracle.calls[-1][0].frames is oracle.calls[-1][1].frames
    answers = pipe.ask([video(4), video(5)], ["What?", "Where?"])
    assert [len(group) for group in answers] == [2, 2]
    assert len(pipe.ask([video(4), video(5)], "What?")) == 2
    pipe.ask(video(2), "Where?", prompt="Answer me: {question}")
    assert "Answer me: Where?" in oracle.questions[-1]
