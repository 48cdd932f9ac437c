"""A checkpoint that is asked what it was not trained for says so, once."""

import warnings

import numpy as np
import pytest

from .oracle import tiny_pipeline, video

BOX = (10, 10, 30, 30)
SQUARE = [np.zeros((40, 40, 3), np.uint8)] * 3
TAUGHT = {"material": "drawn shapes", "tasks": ["sot"], "aspect_ratio": [1.0, 1.0]}


@pytest.fixture
def taught(monkeypatch):
    pipe = tiny_pipeline()
    monkeypatch.setattr(pipe.processor, "trained_on", TAUGHT)
    return pipe


CALLS = [
    ("sot", lambda pipe, frames: pipe(frames, box=BOX)),
    ("sot", lambda pipe, frames: list(pipe(frames, box=BOX, stream=True))),
    ("rsot", lambda pipe, frames: pipe(frames, expression="a swan")),
    ("video_reg", lambda pipe, frames: pipe(frames, box=BOX, task="describe", max_new_tokens=2)),
    ("vqa", lambda pipe, frames: pipe.ask(frames, "What?", max_new_tokens=2)),
]


@pytest.mark.parametrize(("task", "call"), CALLS, ids=["box", "stream", "words", "describe", "ask"])
@pytest.mark.parametrize("square", [True, False])
def test_one_warning_at_the_line_of_the_user(taught, task, call, square):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            call(taught, SQUARE if square else video(3))
    said = [str(one.message) for one in told]
    if task == "sot":
        assert len(said) == (not square) and all("frames of 60 x 40" in text for text in said)
    else:
        assert len(said) == 1 and f"(task {task})" in said[0]
    assert all(one.filename == __file__ for one in told)


def test_nothing_is_said_of_what_nobody_knows(monkeypatch):
    pipe = tiny_pipeline()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _, call in CALLS:
            call(pipe, video(3))
