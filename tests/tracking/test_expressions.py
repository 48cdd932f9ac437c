"""Words that frames are searched for: what the model sees of them, and that each frame passes the tower once."""

import gc
import weakref

import numpy as np
import pytest
import torch

from tests.tracking.oracle import PROCESSOR, tiny_pipeline
from tracking_elysium.answering import ClipAnswerer
from tracking_elysium.drafted_answering import DraftedAnswerer
from tracking_elysium.exchange import ClipRequest, VideoFrame

WORDS = {"reference_similarity": True, "expression_similarity": True, "selector_scorer": "mlp"}


def frames(count):
    rng = np.random.default_rng(0)
    return [VideoFrame(n, None, rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)) for n in range(count)]


def request(shown, words):
    messages = PROCESSOR.build_messages("RSOT", len(shown), expression=words)
    return ClipRequest(messages, shown, expression=words)


@pytest.fixture
def model():
    return tiny_pipeline(**WORDS).model


@pytest.fixture
def tower_frames(model, monkeypatch):
    """Numbers of frames in the passes of the tower."""
    counts, encode = [], model.model.encode_patches

    def counted(pixels, **kwargs):
        counts.append(len(pixels))
        return encode(pixels, **kwargs)

    monkeypatch.setattr(model.model, "encode_patches", counted)
    return counts


def test_features_depend_on_the_words_and_the_tower_runs_once(model, tower_frames):
    shown = frames(2)
    answerer = ClipAnswerer(model, PROCESSOR)
    of_dog, of_car = ([frame.asked(words) for frame in shown] for words in ("the dog", "The Car"))
    answerer.encode_frames([*of_dog, *of_car, *of_dog])
    assert sum(tower_frames) == 2
    again = frames(2)
    answerer.prepare(again)
    pixels = torch.stack([frame.pixels for frame in again])
    for asked, words in ((of_dog, "the dog"), (of_car, "the car")):
        with torch.no_grad():
            ids = PROCESSOR.encode_expressions([words] * 2)
            expected = model.model.get_image_features(pixels, expression_ids=ids).pooler_output
        for frame, tokens in zip(asked, expected, strict=True):
            torch.testing.assert_close(frame.features, tokens)
    assert not torch.allclose(of_dog[0].features, of_car[0].features)
    assert shown[0].asked("the dog") is of_dog[0] and shown[0].pixels is None
    assert of_dog[0].asked("the dog") is of_dog[0]


def test_frames_are_freed_at_once():
    """A frame and what is looked for in it do not keep each other alive."""
    gc.disable()
    try:
        (frame,) = frames(1)
        asked, gone = frame.asked("the dog"), weakref.ref(frame)
        assert asked.shows is frame
        del frame, asked
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", [ClipAnswerer, DraftedAnswerer])
def test_answers_are_those_of_generate(model, kind):
    """By words the engine answers what `generate` answers that is given the words itself."""
    for words in ("the dog", "the red car"):
        shown = frames(2)
        answer = kind(model, PROCESSOR, constrained=False)([request(shown, words)])[0]
        images = [frame.image for frame in frames(2)]
        inputs = PROCESSOR.encode_tracking("RSOT", images, expression=words)
        ids = PROCESSOR.encode_expressions([words] * 2)
        with torch.inference_mode():
            features = model.get_image_features(inputs.pop("pixel_values"), expression_ids=ids)
            given = {"mm_encoder_outputs": {"image": features}, "do_sample": False}
            out = model.generate(**inputs, **given, max_new_tokens=len(answer.logprobs))
        text = PROCESSOR.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert text == answer.text


def test_fast_and_slow_decoding_agree():
    pipe = tiny_pipeline(**WORDS)
    video = [frame.image for frame in frames(6)]
    words = ["the dog", "the red car"]
    plain, drafted = (pipe(video, expression=words, decoding=decoding) for decoding in ("plain", "drafted"))
    assert plain == [
        {**frame, "objects": [{**item, "score": pytest.approx(item["score"], abs=1e-4)} for item in frame["objects"]]}
        for frame in drafted
    ]


def test_other_models_share_frames_between_questions():
    model = tiny_pipeline().model
    shown = frames(1)
    ClipAnswerer(model, PROCESSOR)([request(shown, "the dog"), request(shown, "the car")])
    assert shown[0].features is not None
