"""prompts.py: wordings, slots, messages and their errors."""

import random
import re

import numpy as np
import pytest

from processing_elysium.prompts import (
    NEEDS,
    TEMPLATES,
    TRACKING_TASKS,
    Task,
    build_messages,
    render_answer,
    render_prompt,
)

BOX = [0.1, 0.2, 0.3, 0.4]
ARGUMENT = {"box": BOX, "expression": "the red ring", "question": "What is it?"}
SHOWN = {"box": "[10,20,30,40]", "expression": "the red ring", "question": "What is it?"}


def subject(task: Task) -> dict:
    return {NEEDS[task]: ARGUMENT[NEEDS[task]]}


@pytest.mark.parametrize("task", Task)
def test_wordings(task):
    wordings = TEMPLATES[task]
    assert len(wordings) >= (20 if task in (*TRACKING_TASKS, Task.VIDEO_REG) else 8)
    assert len({re.sub(r"\W+", " ", wording.lower()) for wording in wordings}) == len(wordings), (
        "a wording is repeated"
    )
    for wording in wordings:
        assert re.findall(r"\{\w*\}", wording) == ["{" + NEEDS[task] + "}"], wording
        assert wording == wording.strip() and "  " not in wording and "<" not in wording and wording.isascii()


@pytest.mark.parametrize("task", Task)
def test_evaluation_prompt_is_fixed_and_training_draws_every_wording(task):
    fixed = render_prompt(task, **subject(task))
    assert fixed == render_prompt(task.value, **subject(task)) and SHOWN[NEEDS[task]] in fixed and "{" not in fixed
    for rng in (random.Random(0), np.random.default_rng(0)):
        drawn = {render_prompt(task, **subject(task), rng=rng) for _ in range(600)}
        assert len(drawn) == len(TEMPLATES[task])
    first = [render_prompt(task, **subject(task), rng=random.Random(7)) for _ in range(2)]
    assert first[0] == first[1], "the same seed draws the same wording"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"task": "sot", "box": BOX}, "Track the object at [10,20,30,40] and give its bounding box in every frame."),
        ({"task": "SOT", "box": "[1,2,3,4]", "prompt": "go {box}!"}, "go [1,2,3,4]!"),
        ({"task": "sot", "box": BOX, "frame_of_box": 3, "prompt": "go {box}"}, "go [10,20,30,40] in frame 3"),
        ({"task": "sot", "box": [0, 0, 1, 1], "box_rounding": "round", "prompt": "go {box}"}, "go [0,0,100,100]"),
        ({"task": "rsot", "expression": " the {box} dog ", "prompt": "find {expression}"}, "find the {box} dog"),
        ({"task": "vqa", "question": "Why?"}, "Why?"),
        ({"task": "chat", "question": "Hi {question}", "prompt": "Say: {question}"}, "Say: Hi {question}"),
    ],
)
def test_render_prompt(arguments, text):
    assert render_prompt(**arguments) == text


REFUSED = [
    ({"task": "track", "box": BOX}, "`task`='track' is unknown; use one of 'sot'"),
    ({"task": 3, "box": BOX}, "`task`=3 is unknown"),
    ({"task": "sot"}, "`box` is missing"),
    ({"task": "sot", "box": ""}, "`box` is empty"),
    ({"task": "sot", "box": [1, 2]}, "2 values"),
    ({"task": "rsot"}, "`expression` is missing"),
    ({"task": "rsot", "expression": " \n"}, "`expression` is empty"),
    ({"task": "rsot", "expression": 5}, "`expression` is a int"),
    ({"task": "rsot", "expression": "a", "box": BOX}, "`box` has no place in a rsot prompt"),
    ({"task": "sot", "expression": "a", "box": BOX}, "`expression` has no place"),
    ({"task": "rsot", "expression": "a <image> b"}, "`expression` contains '<image>', which is reserved"),
    ({"task": "vqa", "question": "<video>?"}, "`question` contains '<video>'"),
    ({"task": "rsot", "expression": "a", "prompt": "<image> {expression}"}, "`prompt` contains '<image>'"),
    ({"task": "rsot", "expression": "a", "prompt": "find it"}, r"lacks the slot \{expression\}"),
    ({"task": "rsot", "expression": "a", "prompt": "{expression} {box}"}, r"unknown slot \{box\}"),
    ({"task": "sot", "box": BOX, "frame_of_box": 0}, "frames count from 1"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_render_prompt_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        render_prompt(**arguments)


def test_render_prompt_does_not_swallow_typos():
    with pytest.raises(TypeError):
        render_prompt("sot", boxes=BOX)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"task": "sot", "boxes": [BOX, BOX]}, "Frame 1: [10,20,30,40], Frame 2: [10,20,30,40]"),
        ({"task": "rsot", "boxes": [BOX, BOX], "valid": [False, True]}, "Frame 2: [10,20,30,40]"),
        ({"task": "sot", "boxes": [BOX], "final_period": True}, "Frame 1: [10,20,30,40]."),
        ({"task": "rec", "boxes": [BOX], "final_period": True}, "[10,20,30,40]"),
        ({"task": "rec", "boxes": BOX}, "[10,20,30,40]"),
        ({"task": "video_reg", "text": " a dog "}, "a dog"),
    ],
)
def test_render_answer(arguments, text):
    assert render_answer(**arguments) == text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "sot"}, "`boxes` is missing"),
        ({"task": "rec", "boxes": []}, "`boxes` is missing or empty"),
        ({"task": "reg", "text": " "}, "`text` is missing or empty"),
        ({"task": "reg", "text": "a <image>"}, "reserved"),
    ],
)
def test_render_answer_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        render_answer(**arguments)


def test_build_messages():
    messages = build_messages("sot", 3, box=BOX, answer="Frame 1: [1,2,3,4]", system="Be brief.")
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    assert [part["type"] for part in messages[1]["content"]] == ["image", "image", "image", "text"]
    assert all(part == {"type": "image"} for part in messages[1]["content"][:3])  # no null keys for TRL to stumble on
    assert messages[2]["content"] == [{"type": "text", "text": "Frame 1: [1,2,3,4]"}]
    assert [part["type"] for part in build_messages("chat", 0, question="Hi")[0]["content"]] == ["text"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "sot", "num_frames": 0, "box": BOX}, "pass at least 1"),
        ({"task": "rec", "num_frames": 2, "expression": "a"}, "pass exactly 1"),
        ({"task": "sot", "num_frames": 3, "box": BOX, "frame_of_box": 4}, "past the last frame; pass 1 to 3"),
        ({"task": "sot", "num_frames": 1, "box": BOX, "answer": "<image>"}, "`answer` contains"),
        ({"task": "sot", "num_frames": 1, "box": BOX, "system": "<image>"}, "`system` contains"),
    ],
)
def test_build_messages_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        build_messages(**arguments)
