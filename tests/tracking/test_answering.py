import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tracking_elysium.answering import ClipAnswerer
from tracking_elysium.exchange import ClipAnswer, ClipRequest, VideoFrame
from tracking_elysium.frame_encoding import frames_per_pass, resize

from .oracle import PROCESSOR, fitting_model, video


@pytest.fixture(scope="module")
def model():
    return fitting_model()


def frames_of(count, seed=0):
    return [VideoFrame(index, None, image) for index, image in enumerate(video(count, seed))]


def request(frames, expression="the swan", **fields):
    messages = PROCESSOR.build_messages("rsot", len(frames), expression=expression)
    return ClipRequest(messages, frames, **{"max_new_tokens": 12, **fields})


# --------------------------------------------------------------------------------------------------------------
# scores
# --------------------------------------------------------------------------------------------------------------
def test_score_is_the_geometric_mean_over_the_tokens_that_wrote_digits():
    # "Frame 1: [12,3" with "12" as one token: its probability counts once.
    answer = ClipAnswer("F 1: [12,3]", np.log([0.9, 0.5, 0.25, 0.8]).tolist(), token_of_digit=[0, 1, 1, 2])
    start = answer.text.index("12")
    assert answer.score(start, start + 4) == pytest.approx((0.5 * 0.25) ** 0.5)
    assert answer.score(0, 3) == pytest.approx(0.9)
    assert answer.score(4, 5) == 0.0  # no digit
    assert ClipAnswer("[1]").score(0, 3) == 1.0  # probabilities unknown


def test_recorded_probabilities_are_those_of_the_chosen_tokens(model):
    frames = frames_of(2)
    answerer = ClipAnswerer(model, PROCESSOR, constrained=False)
    (answer,) = answerer([request(frames)])
    batch = PROCESSOR.encode([request(frames).messages], [[frame.image for frame in frames]])
    out = model.generate(**batch, max_new_tokens=12, do_sample=False, return_dict_in_generate=True, output_logits=True)
    new = out.sequences[0, batch["input_ids"].shape[1] :]
    logits = torch.stack(out.logits)[:, 0].float()
    logits[:, PROCESSOR.image_token_id] = -torch.inf  # suppressed
    wanted = logits.log_softmax(-1).gather(1, new[:, None])[:, 0]
    np.testing.assert_allclose(answer.logprobs, wanted[: len(answer.logprobs)], atol=1e-5)
    text = PROCESSOR.tokenizer.decode(new, skip_special_tokens=True)
    assert answer.text == text
    assert len(answer.token_of_digit) == sum(char.isdecimal() for char in text)


# --------------------------------------------------------------------------------------------------------------
# resizing
# --------------------------------------------------------------------------------------------------------------
def test_frames_are_resized_alike_wherever_it_is_done():
    images = [*video(2), np.zeros((9, 7, 3), np.uint8), *video(2, seed=1)]  # of videos of different sizes
    apart, together = ([VideoFrame(n, None, image) for n, image in enumerate(images)] for _ in range(2))
    for frame in apart:
        resize([frame], PROCESSOR)
    resize(together, PROCESSOR, torch.device("cpu"))
    for one, other in zip(apart, together, strict=True):
        assert torch.equal(one.pixels, other.pixels)


# --------------------------------------------------------------------------------------------------------------
# batches, features
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["packed", "original"])
def test_a_batch_gives_what_single_rows_give(mode):
    answerer = ClipAnswerer(fitting_model(position_ids_mode=mode), PROCESSOR, batch_size=3, constrained=False)
    shared = frames_of(3, seed=1)
    make = [
        lambda: request(frames_of(1), "a"),
        lambda: request(frames_of(5, seed=2), "the long description of a thing", max_new_tokens=30),
        lambda: request(shared, "b"),
        lambda: request(shared, "something else"),
    ]
    together = answerer([build() for build in make])
    for build, answer in zip(make, together, strict=True):
        (alone,) = answerer([build()])
        assert alone.text == answer.text
        np.testing.assert_allclose(alone.logprobs, answer.logprobs, atol=1e-4)


def test_a_frame_is_encoded_once(model, monkeypatch):
    seen = []
    encode = model.model.get_image_features

    def counting(pixel_values, **kwargs):
        seen.append(len(pixel_values))
        return encode(pixel_values, **kwargs)

    monkeypatch.setattr(model.model, "get_image_features", counting)
    answerer = ClipAnswerer(model, PROCESSOR, constrained=False)
    answerer.max_images = 4
    frames = frames_of(6)
    answerer([request(frames, "a"), request(frames, "b")])
    assert seen == [4, 2]
    answerer([request([frames[-1], *frames_of(2, seed=3)])])  # the next clip shares one frame
    assert seen == [4, 2, 2]


def test_a_model_that_never_stops_is_stopped(model):
    answerer = ClipAnswerer(model, PROCESSOR, constrained=False)
    frames = frames_of(2)
    budget = answerer.budget(request(frames, max_new_tokens=None))
    skeleton = len("Frame 1: [88,88,89,89], Frame 2: [88,88,89,89]")
    assert skeleton <= budget <= 1.25 * skeleton + 8
    (answer,) = answerer([request(frames, max_new_tokens=None)])
    assert len(answer.logprobs) <= budget


def test_digits_of_a_byte_level_tokenizer_are_found():
    from tracking_elysium.answering import _token_of_digit

    class Merging:  # writes "34" and "]," as single tokens and drops the first space, as sentencepiece does
        all_special_ids = (0,)
        pieces = {0: "</s>", 1: " [", 2: "34", 3: ",", 4: "5", 5: "],"}

        def decode(self, ids):
            return "".join(self.pieces[i] for i in ids)

    assert _token_of_digit([1, 2, 3, 4, 5, 0], "[34,5],", Merging()) == [1, 1, 3]
    assert _token_of_digit([1, 2], "[345", Merging()) == []  # cannot be told: no scores rather than wrong ones


# --------------------------------------------------------------------------------------------------------------
# errors
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["packed", "original"])
def test_more_frames_than_the_context_holds(mode):
    answerer = ClipAnswerer(fitting_model(context=600, position_ids_mode=mode), PROCESSOR, constrained=False)
    answerer.model.model.get_image_features = None  # nothing may run
    with pytest.raises(ValueError, match="32 frames need .* context holds 600, about (.*) frames") as error:
        answerer([request(frames_of(32), max_new_tokens=None)])
    most = int(re.search("about ([0-9]+) frames", str(error.value)).group(1))
    assert 0 < most < 32
    answerer.check_fits([request([None] * most, max_new_tokens=None)])


@pytest.mark.parametrize(
    ("config", "memory_mb", "expected"),
    [
        ({"intermediate_size": 3072, "image_size": 336}, None, 2),  # CLIP-B at 336: 577 x 3072 floats are 6.8 MiB
        ({"intermediate_size": 3072, "image_size": 336}, 100, 14),
        ({"intermediate_size": 4096, "image_size": 336}, 1, 1),  # less than one frame needs is still one frame
        ({"intermediate_size": 64, "image_size": 28}, None, 64),  # never more than this
    ],
)
def test_frames_per_pass_follow_from_memory(config, memory_mb, expected):
    patches = (config["image_size"] // 14) ** 2
    vision = SimpleNamespace(intermediate_size=config["intermediate_size"])
    shape = SimpleNamespace(vision_config=vision, num_patches=patches)
    stand_in = SimpleNamespace(config=shape, device=torch.device("cpu"), dtype=torch.float32)
    assert frames_per_pass(stand_in, memory_mb) == expected


def test_plain_decoding_tells_prompts_and_steps_apart(model):
    answerer = ClipAnswerer(model, PROCESSOR, constrained=False)
    answerer([request(frames_of(2), max_new_tokens=12)])
    assert answerer.stats.seconds["prefill"] > 0
    assert answerer.stats.seconds["llm"] > 0


@pytest.mark.parametrize("name", ["batch_size", "vision_memory_mb"])
def test_impossible_limits(model, name):
    with pytest.raises(ValueError, match=f"`{name}`=0"):
        ClipAnswerer(model, PROCESSOR, **{name: 0})
