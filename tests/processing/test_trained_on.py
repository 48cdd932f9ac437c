"""What a processor's configuration says of its checkpoint: how it wants to be run, and what it has seen."""

import re

import pytest

from processing_elysium import ElysiumProcessor

from .tiny_processor import tiny_processor

DRAWN = {"material": "drawn shapes", "tasks": ["sot", "rsot"], "aspect_ratio": [1.0, 1.5]}


def processor(**options):
    plain = tiny_processor()
    return ElysiumProcessor(plain.image_processor, plain.tokenizer, num_image_tokens=plain.num_image_tokens, **options)


def test_it_is_saved(tmp_path):
    processor(tracking_defaults={"clip_len": 4}, trained_on=DRAWN).save_pretrained(tmp_path)
    again = ElysiumProcessor.from_pretrained(tmp_path)
    assert (again.tracking_defaults, again.trained_on) == ({"clip_len": 4}, DRAWN)
    processor().save_pretrained(tmp_path)
    again = ElysiumProcessor.from_pretrained(tmp_path)
    assert (again.tracking_defaults, again.trained_on) == ({}, None)


def test_what_to_expect_of_a_task_that_it_does_badly():
    careful = processor(trained_on={**DRAWN, "cautions": {"rsot": "It knows ten words."}})
    assert [careful.caution(task) for task in ("RSOT", "sot", "vqa")] == ["It knows ten words.", None, None]
    assert processor().caution("sot") is None and processor(trained_on=DRAWN).caution("sot") is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tracking_defaults": [8]}, r"`tracking_defaults`=\[8\]"),
        ({"trained_on": "shapes"}, "`trained_on`='shapes' must be a mapping"),
        ({"trained_on": {"colour": "red"}}, "material, tasks, aspect_ratio, cautions"),
        ({"trained_on": {"cautions": ["sot"]}}, r"`cautions`=\['sot'\] must be a mapping"),
        ({"trained_on": {"cautions": {"sot": 7}}}, "`cautions`={'sot': 7} must be a mapping"),
        ({"trained_on": {"cautions": {"dance": "Badly."}}}, "'dance' is unknown"),
        ({"trained_on": {"material": 7}}, "`material`=7"),
        ({"trained_on": {"tasks": "sot"}}, "`tasks`='sot' must be a list"),
        ({"trained_on": {"tasks": ["dance"]}}, "'dance' is unknown; use one of 'sot'"),
        ({"trained_on": {"aspect_ratio": 1.0}}, "`aspect_ratio`=1.0"),
        ({"trained_on": {"aspect_ratio": [2.0, 1.0]}}, "`aspect_ratio`"),
        ({"trained_on": {"aspect_ratio": [0, 1]}}, "`aspect_ratio`"),
        ({"trained_on": {"aspect_ratio": ["1", 2]}}, "`aspect_ratio`"),
    ],
)
def test_wrong_values(options, words):
    with pytest.raises(ValueError, match=words):
        processor(**options)


@pytest.mark.parametrize(
    ("trained_on", "task", "size", "words"),
    [
        (None, "vqa", (640, 360), None),  # nothing is known
        ({}, "vqa", (640, 360), None),
        (DRAWN, "sot", (280, 280), None),
        (DRAWN, "RSOT", (281, 280), None),  # a pixel more
        (DRAWN, "rsot", (420, 280), None),
        (DRAWN, "sot", (640, 360), "trained on drawn shapes only, and frames of 640 x 360"),
        (DRAWN, "sot", (360, 640), "frames of 360 x 640"),
        (DRAWN, "vqa", (280, 280), r"not trained to answer questions \(task vqa\).* drawn shapes for sot, rsot"),
        (DRAWN, "video_reg", (640, 360), "not trained to describe"),
        ({"tasks": ["vqa"]}, "vqa", (640, 360), None),
        ({"aspect_ratio": [1.7, 1.8]}, "vqa", (280, 280), "frames of 280 x 280"),
    ],
)
def test_what_speaks_against_asking(trained_on, task, size, words):
    sentence = processor(trained_on=trained_on).untaught(task, *size)
    if words is None:
        assert sentence is None
    else:
        assert re.search(words, sentence), sentence


@pytest.mark.parametrize("argument", ["expression", "prompt"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a </s> swan", "contains '</s>', a special token"),
        ("<s>a swan", "contains '<s>', a special token"),
        ("a <image> swan", "contains '<image>', which is reserved"),
        ("a \ud83d swan", "no valid Unicode"),
    ],
)
def test_texts_that_would_break_a_conversation(argument, text, words):
    given = {"expression": "a swan", argument: text + ("{expression}" if argument == "prompt" else "")}
    with pytest.raises(ValueError, match=f"^`{argument}`.*{words}"):
        tiny_processor().build_messages("rsot", 2, **given)
    tiny_processor().build_messages("rsot", 2, expression="a swan <3 \U0001f9a2 </p>")
