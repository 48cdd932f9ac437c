"""The fast decoder against its slow twin: the same answers, whatever the model says, in no more passes."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from tracking_elysium.answering import ClipAnswerer
from tracking_elysium.drafted_answering import DraftedAnswerer
from tracking_elysium.exchange import ClipRequest, VideoFrame
from tracking_elysium.stats import Stats

from .oracle import fitting_model, video
from .scripted import saying, scripted_model
from .tokenizers_of_all_kinds import KINDS, processor_of

WORDS = [
    "the",
    "a",
    "red",
    "swan",
    "cross",
    "on",
    "left",
    "of",
    "big",
    "moving",
    "12",
    "[3",
    "Frame",
    "2:",
    "],",
    "and",
]


def frames_of(count, seed=0):
    return [VideoFrame(index, None, image) for index, image in enumerate(video(count, seed))]


def tracking(processor, frames, expression="the swan", **fields):
    return ClipRequest(processor.build_messages("rsot", len(frames), expression=expression), frames, **fields)


def fresh(requests):
    """The same requests with frames that nobody has encoded yet, shared as they were."""
    twins = {id(f): VideoFrame(f.index, f.timestamp, f.image) for r in requests for f in r.frames}
    return [replace(request, frames=[twins[id(frame)] for frame in request.frames]) for request in requests]


def answers(kind, model, processor, requests, batch_size=16, **options):
    """Answers of one of the two answerers, and what they cost."""
    stats = Stats()
    options = {"constrained": False, **options}
    return kind(model, processor, batch_size, stats=stats, **options)(fresh(requests)), stats


def assert_same(fast, slow):
    for a, b in zip(fast, slow, strict=True):
        assert a.text == b.text
        assert a.token_of_digit == b.token_of_digit
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=2e-4)


def assert_twins(model, processor, requests, **options):
    fast, fast_stats = answers(DraftedAnswerer, model, processor, requests, **options)
    slow, slow_stats = answers(ClipAnswerer, model, processor, requests, **options)
    assert_same(fast, slow)
    assert fast_stats.row_forwards <= slow_stats.row_forwards
    assert fast_stats.tokens == slow_stats.tokens
    return fast, fast_stats


def random_requests(processor, rng):
    """One to five questions about one or two clips, with and without boxes, with hints that may be wrong."""
    clips = [frames_of(rng.randint(1, 5), seed=rng.randint(0, 99)) for _ in range(rng.randint(1, 2))]
    requests = []
    for _ in range(rng.randint(1, 5)):
        frames = rng.choice(clips)
        box = sorted(rng.random() for _ in range(4))
        known = () if rng.random() < 0.3 else ((0, (box[0], box[1], box[2], box[3])),)
        words = " ".join(rng.choices(WORDS, k=rng.randint(1, 6)))
        fields = {"known_boxes": known, "expects_boxes": rng.random() < 0.8}
        if known:  # after the draws that were there before, so that seeds mean what they meant
            fields["expected_boxes"] = ((1, box), (2, known[0][1]))
        if not fields["expects_boxes"] or rng.random() < 0.3:
            fields["max_new_tokens"] = rng.randint(1, 40)
        requests.append(tracking(processor, frames, words, **fields))
    return requests


def assert_random_prompts(seeds, constrained):
    models = {}
    for seed in seeds:
        rng = random.Random(seed)
        name = (
            rng.choice(KINDS),
            rng.choice(["llama", "qwen2", "gemma2", "gpt_neox"]),
            rng.choice(["packed", "original"]),
        )
        processor = processor_of(name[0])
        if name not in models:
            models[name] = fitting_model(processor, text=name[1], position_ids_mode=name[2], seed=seed)
        requests = random_requests(processor, rng)
        assert_twins(models[name], processor, requests, batch_size=rng.randint(1, 4), constrained=constrained)


@pytest.mark.parametrize("constrained", [False, True])
def test_random_models_say_what_generate_says(constrained):
    assert_random_prompts(range(8 if constrained else 12), constrained)


@pytest.mark.slow
@pytest.mark.parametrize("constrained", [False, True])
def test_random_models_over_200_prompts(constrained):
    assert_random_prompts(range(1000, 1200), constrained)


# --------------------------------------------------------------------------------------------------------------
# models that track, and models that do not
# --------------------------------------------------------------------------------------------------------------
def boxes_text(processor, count, start=(20, 30, 40, 50), step=(1, 0, 1, 0), skip=(), end=None):
    parts = [
        f"Frame {n + 1}: [{','.join(str(a + n * b) for a, b in zip(start, step, strict=True))}]"
        for n in range(count)
        if n not in skip
    ]
    return ", ".join(parts) + (("." if processor.compat else "") if end is None else end)


# name, what the model says about 6 frames; the passes that this takes at most where that is worth a bound.
SAYINGS = [
    ("holds", lambda p: boxes_text(p, 6, step=(0, 0, 0, 0)), 4),  # every draft is right
    ("moves", lambda p: boxes_text(p, 6), 8),  # constant velocity
    ("grows", lambda p: boxes_text(p, 6, step=(0, 0, 3, 2)), 10),  # a wrong x2 does not spoil what is before it
    ("jumps", lambda p: boxes_text(p, 6, step=(9, 7, 5, 8)), 12),  # x2 does not follow x1
    ("skips frames", lambda p: boxes_text(p, 6, skip=(1, 4)), None),  # as training writes frames without the object
    (
        "repeats a frame",
        lambda p: "Frame 1: [1,2,3,4], Frame 1: [1,2,3,4], Frame 1: [1,2,3,4], Frame 2: [5,6,7,8]",
        None,
    ),
    ("prose", lambda p: "Sorry, I see no such thing in 12 frames.", None),
    ("prose, then boxes", lambda p: "Sure! " + boxes_text(p, 6), None),
    ("three digits", lambda p: "Frame 1: [100,234,350,999], Frame 2: [101,234,350,999]", None),
    ("goes on past the last frame", lambda p: boxes_text(p, 9, step=(0, 0, 0, 0)), 8),
    ("goes round in circles", lambda p: "I see it again, " * 99, 30),
    ("never ends", lambda p: "Frame 1: [1,2,3,4], " * 99, None),
    ("digits without end", lambda p: "Frame 1: [" + "12345" * 200, None),
    ("too few numbers", lambda p: "Frame 1: [1,2], Frame 2: [3,4,5,6]", None),
    ("empty", lambda p: "", 1),
    ("ends otherwise", lambda p: boxes_text(p, 6, end="!"), None),
    ("outside", lambda p: boxes_text(p, 6, start=(-9, 90, 3, 101), step=(-3, 1, -3, 3)), None),
]


@pytest.mark.parametrize(("name", "text", "most"), SAYINGS, ids=[row[0] for row in SAYINGS])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_model_says_comes_through(kind, name, text, most):
    processor = processor_of(kind)
    model = scripted_model(processor, saying(processor, lambda question: text(processor)))
    known = ((-1, (0.19, 0.3, 0.39, 0.5)), (0, (0.2, 0.3, 0.4, 0.5)))
    request = tracking(processor, frames_of(6), known_boxes=known)
    (answer,), stats = assert_twins(model, processor, [request])
    if most is not None:
        assert stats.row_forwards <= most
    if not name.startswith(("never ends", "digits without end", "goes")):  # those are cut at their budget
        assert answer.text.strip() == text(processor)


@pytest.mark.parametrize(("name", "text", "most"), SAYINGS, ids=[row[0] for row in SAYINGS])
@pytest.mark.parametrize("kind", KINDS)
def test_constrained_answers_always_have_every_frame(kind, name, text, most):
    processor = processor_of(kind)
    model = scripted_model(processor, saying(processor, lambda question: text(processor)))
    (answer,), stats = assert_twins(model, processor, [tracking(processor, frames_of(6))], constrained=True)
    assert processor.post_process_boxes(answer.text, num_frames=6).valid.all()
    if name in ("holds", "moves", "grows", "jumps"):
        assert answer.text.strip() == text(processor)


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_hints_change_the_passes_and_nothing_else(kind, constrained):
    """An object that motion cannot guess, with right hints, hints for some frames, and wrong ones."""
    processor = processor_of(kind)
    cells = [(34, 40, 51, 67), (12, 71, 30, 93), (60, 5, 88, 41), (21, 22, 43, 47), (70, 60, 95, 77), (3, 50, 18, 90)]
    said = ", ".join(f"Frame {n}: [{','.join(map(str, box))}]" for n, box in enumerate(cells, start=1))
    model = scripted_model(processor, saying(processor, lambda question: said + ("." if processor.compat else "")))
    right = tuple((n, [(v + 0.001) / 100 for v in box]) for n, box in enumerate(cells))
    wrong = tuple((n, (0.8, 0.8, 0.9, 0.9)) for n in range(6))
    frames, passes = frames_of(6), {}
    for name, expected in {"none": (), "right": right, "some": right[:4], "wrong": wrong}.items():
        request = tracking(processor, frames, known_boxes=right[:1], expected_boxes=expected)
        (answer,), stats = assert_twins(model, processor, [request], constrained=constrained)
        passes[name] = stats.row_forwards
        assert answer.text.strip().startswith(said)
    assert passes["right"] <= 4  # as where the object stands still
    assert passes["right"] < passes["some"] < passes["none"]


def test_a_batch_accepts_different_lengths():
    """Rows that hold, move, talk and stop at once; each as if it were alone, more rows than fit at a time."""
    processor = processor_of("characters")
    said = {
        "hold": boxes_text(processor, 4, step=(0, 0, 0, 0)),
        "move": boxes_text(processor, 4, step=(2, 3, 2, 3)),
        "talk": "There is nothing to be seen here, or is there?",
        "stop": "",
    }
    script = saying(processor, lambda question: next(text for word, text in said.items() if word in question))
    model = scripted_model(processor, script)
    one, other = frames_of(4), frames_of(4, seed=1)
    requests = [tracking(processor, frames, word) for frames in (one, other) for word in said]
    for batch_size in (1, 3, 16):
        together, _ = assert_twins(model, processor, requests, batch_size=batch_size)
        assert [answer.text for answer in together] == [*said.values()] * 2
        for request, answer in zip(requests, together, strict=True):
            (alone,), _ = answers(DraftedAnswerer, model, processor, [request])
            assert_same([alone], [answer])


def test_one_prefill_serves_all_questions_of_a_clip():
    processor = processor_of("characters")
    model = fitting_model(processor)
    frames = frames_of(3)
    requests = [
        tracking(processor, frames, words, max_new_tokens=12) for words in ("a swan", "b", "a swan on the lake")
    ]
    requests.append(ClipRequest(processor.build_messages("vqa", 3, question="Why?"), frames, False, 9))
    read = []
    forward = model.model.language_model.forward

    def watching(*args, **kwargs):
        read.append(kwargs["inputs_embeds"].shape[:2])
        return forward(*args, **kwargs)

    model.model.language_model.forward = watching
    together, _ = answers(DraftedAnswerer, model, processor, requests)
    shared = read[0]
    read.clear()
    apart = [answers(DraftedAnswerer, model, processor, [request])[0][0] for request in requests]
    alone = [shape for shape in read if shape[1] > 40]
    assert shared[0] == 1 and shared[1] < 0.7 * sum(length for _, length in alone)
    assert_same(together, apart)


@pytest.mark.parametrize("mode", ["packed", "original"])
def test_what_all_prompts_begin_with_is_read_once(mode):
    """The second clip's pass has the tokens of the system message less, and its answers are the same."""
    processor = processor_of("characters")
    model = fitting_model(processor, position_ids_mode=mode)
    requests = [tracking(processor, frames_of(2, seed), "a swan", max_new_tokens=12) for seed in range(4)]
    # Two questions about one clip in the second pass, so that it also needs a mask of its own.
    requests.append(tracking(processor, requests[-1].frames, "a heron", max_new_tokens=9))
    read = []
    forward = model.model.language_model.forward

    def watching(*args, **kwargs):
        read.append(kwargs["inputs_embeds"].shape[1])
        return forward(*args, **kwargs)

    model.model.language_model.forward = watching
    together, _ = answers(DraftedAnswerer, model, processor, requests, batch_size=2)
    prefills = [length for length in read if length > 20]
    assert prefills[0] - min(prefills[1:]) > 100  # characters of the system message
    apart = [answers(DraftedAnswerer, model, processor, [request])[0][0] for request in requests]
    assert_same(together, apart)


def test_passes_read_logits_only_where_they_are_used():
    processor = processor_of("characters")
    model = fitting_model(processor)
    seen = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[0]))
    answers(DraftedAnswerer, model, processor, [tracking(processor, frames_of(4), max_new_tokens=5)])
    assert max(seen) <= 5


# --------------------------------------------------------------------------------------------------------------
# what cannot be drafted
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "words"),
    [
        # a rule of `generate` that looks back
        (lambda model: setattr(model.generation_config, "repetition_penalty", 1.3), "repetition_penalty"),
        # attention that takes no mask of ours
        (lambda model: setattr(model.config.text_config, "_attn_implementation_internal", "flex_attention"), "sdpa"),
    ],
    ids=["generation config", "attention"],
)
def test_a_model_that_cannot_be_drafted_is_decoded_plainly(change, words):
    processor = processor_of("characters")
    model = fitting_model(processor)
    request = tracking(processor, frames_of(2), max_new_tokens=10)
    before = model.config.text_config._attn_implementation
    change(model)
    with pytest.warns(UserWarning, match=words):
        answerer = DraftedAnswerer(model, processor, constrained=False)
    model.config.text_config._attn_implementation_internal = before
    slow, _ = answers(ClipAnswerer, model, processor, [request])
    assert_same(answerer(fresh([request])), slow)


def test_a_window_shorter_than_the_prompt():
    processor = processor_of("characters")
    model = fitting_model(processor, text="gemma2", text_config={"sliding_window": 24})
    requests = [tracking(processor, frames_of(2), words, max_new_tokens=10) for words in ("a", "a longer one")]
    assert_twins(model, processor, requests)


def test_half_precision_runs_and_its_constrained_answers_parse():
    processor = processor_of("characters")
    model = fitting_model(processor).to(torch.bfloat16)
    frames = frames_of(3)
    requests = [tracking(processor, frames, words) for words in ("a swan", "b")]
    for answer in answers(DraftedAnswerer, model, processor, requests, constrained=True)[0]:
        assert processor.post_process_boxes(answer.text, num_frames=3).valid.all()
    for answer in answers(DraftedAnswerer, model, processor, requests)[0]:
        assert len(answer.logprobs) <= ClipAnswerer(model, processor, constrained=False).budget(requests[0])


@pytest.mark.slow
def test_compiled_passes_say_the_same():
    processor = processor_of("characters")
    model = fitting_model(processor)
    frames = frames_of(3)
    requests = [tracking(processor, frames, words) for words in ("a swan", "b", "a swan on the lake")]
    for constrained in (False, True):
        wanted, _ = answers(DraftedAnswerer, model, processor, requests, constrained=constrained)
        found, _ = answers(DraftedAnswerer, model, processor, requests, constrained=constrained, compile=True)
        assert_same(found, wanted)


def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch):
    def compiling(module, **options):
        def failing(**inputs):
            raise torch._dynamo.exc.TorchDynamoException("no compiler")

        return failing

    monkeypatch.setattr(torch, "compile", compiling)
    processor = processor_of("characters")
    model = fitting_model(processor)
    requests = [tracking(processor, frames_of(2), "a swan", max_new_tokens=9)]
    with pytest.warns(UserWarning, match=r"could not be compiled \(no compiler\)"):
        found, _ = answers(DraftedAnswerer, model, processor, requests, compile=True)
    assert_same(found, answers(DraftedAnswerer, model, processor, requests)[0])


def test_wrong_values():
    processor = processor_of("characters")
    model = fitting_model(processor)
    with pytest.raises(ValueError, match="`batch_size`=0"):
        DraftedAnswerer(model, processor, batch_size=0)


def test_nothing_asked_nothing_answered():
    processor = processor_of("characters")
    assert DraftedAnswerer(fitting_model(processor), processor)([]) == []


def test_too_long_is_an_error_before_anything_runs():
    processor = processor_of("characters")
    answerer = DraftedAnswerer(fitting_model(processor, context=600), processor, constrained=False)
    answerer.model.model.get_image_features = None
    with pytest.raises(ValueError, match="32 frames need .* context holds 600"):
        answerer([tracking(processor, frames_of(32))])
