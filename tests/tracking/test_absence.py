"""`[]` in place of a box: constrained answers choose between a box and none, fast and slow alike."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from processing_elysium import ElysiumImageProcessor, ElysiumProcessor
from tests.processing.tiny_processor import tiny_processor
from tracking_elysium.answer_format import AnswerFormats, Cursor, options_of_presence
from tracking_elysium.answering import ClipAnswerer
from tracking_elysium.drafted_answering import DraftedAnswerer
from tracking_elysium.exchange import ClipAnswer

from .oracle import fitting_model
from .scripted import answer_ids, saying, scripted_model
from .test_decoding import answers, assert_same, frames_of, tracking
from .tokenizers_of_all_kinds import KINDS, merging_tokenizer, processor_of


def absent_processor(kind):
    """A processor of a kind whose model was taught to leave boxes out; the shared ones stay as they are."""
    if kind == "characters":
        processor = tiny_processor()
    elif kind == "numbers":
        processor = ElysiumProcessor(
            ElysiumImageProcessor(size={"height": 28, "width": 28}), merging_tokenizer(), num_image_tokens=4
        )
    else:
        processor = processor_of.__wrapped__(kind)
    processor.absent_boxes = True
    return processor


def assert_twins(model, processor, requests, **options):
    fast, fast_stats = answers(DraftedAnswerer, model, processor, requests, constrained=True, **options)
    slow, slow_stats = answers(ClipAnswerer, model, processor, requests, constrained=True, **options)
    assert_same(fast, slow)
    assert fast_stats.row_forwards <= slow_stats.row_forwards
    for a, b in zip(fast, slow, strict=True):
        assert sorted(a.absent_logprobs) == sorted(b.absent_logprobs)
        for frame, logprob in a.absent_logprobs.items():
            assert logprob == pytest.approx(b.absent_logprobs[frame], abs=2e-4)
    return fast, fast_stats


BOX = "[34,40,51,67]"
# boxes of six frames, frames without one; at most so many passes
SAID = [
    ("all there", [BOX] * 6, (), 6),
    ("gone in the middle", [BOX, BOX, "[]", "[]", BOX, BOX], (2, 3), 9),
    ("gone at the end", [BOX, BOX, BOX, BOX, "[]", "[]"], (4, 5), 8),
    ("gone from the second on", [BOX, "[]", "[]", "[]", "[]", "[]"], (1, 2, 3, 4, 5), 6),
    ("to and fro", [BOX, "[]", BOX, "[]", BOX, "[]"], (1, 3, 5), 12),
]


@pytest.mark.parametrize(("name", "boxes", "absent", "most"), SAID, ids=[row[0] for row in SAID])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_without_a_box_come_through(kind, name, boxes, absent, most):
    processor = absent_processor(kind)
    text = ", ".join(f"Frame {n}: {box}" for n, box in enumerate(boxes, start=1)) + ("." if processor.compat else "")
    model = scripted_model(processor, saying(processor, lambda question: text))
    request = tracking(processor, frames_of(6), known_boxes=((0, (0.345, 0.405, 0.515, 0.675)),))
    (answer,), stats = assert_twins(model, processor, [request])
    assert answer.text.strip() == text
    assert stats.row_forwards <= most
    parsed = processor.post_process_boxes(answer.text, 6)
    assert [int(n) for n in np.flatnonzero(~parsed.valid)] == list(absent)
    assert answer.presence(0) is None  # the first frame always has a box
    chances = {frame_in_clip: answer.presence(frame_in_clip) for frame_in_clip in range(1, 6)}
    assert all(0 <= chance <= 1 for chance in chances.values())
    # The scripted model gives what it says a logit higher by more than what it does not say can have.
    there = [chance for frame_in_clip, chance in chances.items() if frame_in_clip not in absent]
    assert max((chances[frame_in_clip] for frame_in_clip in absent), default=0) < min(there, default=1)


@pytest.mark.parametrize("by_words", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_random_models_leave_boxes_out_alike(seed, by_words):
    rng = random.Random(seed)
    processor = absent_processor(KINDS[seed % 3])
    model = fitting_model(processor, seed=seed)
    # Random weights hardly ever close a bracket at once, so the head is made to like it.
    closing = {ids[0] for ids in AnswerFormats(processor, {processor.tokenizer.eos_token_id}).of(4).literals[4::4]}
    embedding = model.get_output_embeddings()
    for token in closing:
        embedding.weight.data[token] *= 40
    clips = [frames_of(rng.randint(2, 5), seed=n) for n in range(2)]
    said = ("a swan", "the red cross", "b", "on top")
    requests = [
        replace(tracking(processor, rng.choice(clips), words), expression=words if by_words else None)
        for words in said
    ]
    fast, _ = assert_twins(model, processor, requests, batch_size=3)
    for request, answer in zip(requests, fast, strict=True):
        valid = processor.post_process_boxes(answer.text, len(request.frames)).valid
        assert valid[0] and sorted(answer.absent_logprobs) == list(range(not by_words, len(request.frames)))
        written = answer.text.count("[]")
        assert written == (~valid).sum()


@pytest.mark.parametrize(
    ("probability", "left"),
    [(0.81, [7]), (0.79, [1, 2, 3]), (0.3, [1, 2, 3]), (1.0, [7])],  # at 0.3 no single number need be as probable
)
def test_a_frame_has_no_box_where_that_is_all_but_certain(probability, left):
    assert options_of_presence((1, 2, 7, 3), 7, math.log(probability)) == left
    assert options_of_presence((1, 2, 3), 7, math.log(probability)) == [1, 2, 3]  # there has to be one


@pytest.mark.parametrize("answerer", [ClipAnswerer, DraftedAnswerer])
@pytest.mark.parametrize(("share", "absent"), [(0.7, False), (0.9, True)])
def test_the_most_probable_token_is_not_yet_an_absent_object(answerer, share, absent):
    """`[]` has more probability than all numbers; it is written where it is all but certain."""
    processor = absent_processor("numbers")
    model = fitting_model(processor, seed=0)
    tokenizer, head = processor.tokenizer, model.get_output_embeddings()
    formats = AnswerFormats(processor, {tokenizer.eos_token_id}).of(2)
    plain = model.compute_logits

    def fixed(hidden):
        logits = torch.full((*hidden.shape[:-1], head.weight.shape[0]), -30.0)
        numbers = [tokenizer.encode(str(n), add_special_tokens=False)[0] for n in range(100)]
        logits[..., numbers] = math.log((1 - share) / 100)
        logits[..., formats.literals[-1][0]] = math.log(share)
        return logits

    model.compute_logits = fixed
    try:
        asked, alone = tracking(processor, frames_of(2)), tracking(processor, frames_of(1))
        requests = [asked, alone, replace(alone, expression="the swan")]
        answer, by_box, by_words = answers(answerer, model, processor, requests, constrained=True)[0]
    finally:
        model.compute_logits = plain
    assert ("[]" in answer.text) == absent and answer.presence(0) is None
    assert answer.presence(1) == pytest.approx(1 - share, abs=1e-3)
    # A box has to be written in the first frame; where words are looked for it is known how likely there is one.
    assert by_box.text == by_words.text and "[]" not in by_words.text
    assert by_box.presence(0) is None and by_words.presence(0) == pytest.approx(1 - share, abs=1e-3)


def test_random_models_do_leave_boxes_out():
    """Else the test above would say nothing."""
    found = 0
    for seed in range(6):
        processor = absent_processor(KINDS[seed % 3])
        model = fitting_model(processor, seed=seed)
        literals = AnswerFormats(processor, {processor.tokenizer.eos_token_id}).of(4).literals[4::4]
        for token in {ids[0] for ids in literals}:
            model.get_output_embeddings().weight.data[token] *= 40
        (answer,), _ = answers(
            DraftedAnswerer, model, processor, [tracking(processor, frames_of(4))], constrained=True
        )
        found += answer.text.count("[]")
    assert 0 < found < 18


def test_a_processor_that_does_not_say_so_has_a_box_in_every_frame():
    processor = tiny_processor()
    assert processor.absent_boxes is False
    text = f"Frame 1: {BOX}, Frame 2: []"
    model = scripted_model(processor, saying(processor, lambda question: text))
    (answer,), _ = assert_twins(model, processor, [tracking(processor, frames_of(2))])
    assert processor.post_process_boxes(answer.text, 2).valid.all()
    assert answer.absent_logprobs == {} and answer.presence(1) is None


def test_a_tokenizer_that_joins_the_brackets_is_told_from_one_that_does_not():
    tokenizer = merging_tokenizer()
    tokenizer.add_tokens(["[]"])
    processor = ElysiumProcessor(
        ElysiumImageProcessor(size={"height": 28, "width": 28}), tokenizer, num_image_tokens=4, absent_boxes=True
    )
    with pytest.warns(UserWarning, match="joins the brackets"):
        answer_format = AnswerFormats(processor, {tokenizer.eos_token_id}).of(3)
    assert answer_format.absent is False


@pytest.mark.parametrize("kind", KINDS)
def test_the_cursor_follows_free_answers_with_empty_brackets(kind):
    processor = absent_processor(kind)
    answer_format = AnswerFormats(processor, {processor.tokenizer.eos_token_id}).of(4, spare=2)
    cursor = Cursor(answer_format, processor.tokenizer)
    ids = answer_ids(processor, f"Frame 1: {BOX}, Frame 2: [], Frame 3: [], Frame 4: [3")
    for token in ids[: ids.index(processor.tokenizer.eos_token_id)]:
        cursor.feed(token)
    assert not cursor.off_format and (cursor.frame_in_clip, cursor.coordinate) == (3, 0)
    assert cursor.absent_frames == (1, 2)


def test_presence_is_what_the_closing_bracket_leaves():
    answer = ClipAnswer("Frame 1: [1,2,3,4], Frame 2: []", absent_logprobs={1: np.log(0.75), 2: 1e-9})
    assert answer.presence(1) == pytest.approx(0.25)
    assert answer.presence(2) == 0.0  # rounding goes past certainty
    assert answer.presence(0) is None


def test_saved_with_the_processor(tmp_path):
    processor = absent_processor("characters")
    processor.save_pretrained(tmp_path)
    assert ElysiumProcessor.from_pretrained(tmp_path).absent_boxes is True
    with pytest.raises(ValueError, match="`absent_boxes`='yes'"):
        ElysiumProcessor(processor.image_processor, processor.tokenizer, absent_boxes="yes")
