"""Lengths without decoding equal those with frames; what does not fit is said before training, with what would."""

import re

import numpy as np
import pytest

from tests.tracking.tokenizers_of_all_kinds import KINDS, processor_of
from train.collator import IGNORED, ConversationCollator
from train.data import ConversationSource
from train.lengths import check_context, encode, longest_conversation, padding_share

from .tiny_recipe import BATCH, stage, synthetic

TALK = [
    {"role": "user", "content": [{"type": "text", "text": "Hi."}]},
    {"role": "assistant", "content": [{"type": "text", "text": "Yes, [1,2,3,4]."}]},
]


def with_frames(processor, samples):
    """The slow twin: the processor writes and tokenizes the conversations together with their frames."""
    conversations = []
    for sample in samples:
        frames = iter(sample["frames"])
        conversations.append(
            [
                {**m, "content": [{**p, "image": next(frames)} if p["type"] == "image" else p for p in m["content"]]}
                for m in sample["messages"]
            ]
        )
    return processor.apply_chat_template(
        conversations,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        processor_kwargs={"padding": True, "return_tensors": "pt"},
    )


@pytest.mark.parametrize("kind", KINDS)
def test_ids_without_frames_are_those_with_them(kind):
    processor = processor_of(kind)
    source = ConversationSource(stage(num_frames=(1, 4)), BATCH, writer=processor)
    samples = [source[item] for item in (0, 1, 2, BATCH, BATCH + 1)]
    slow = with_frames(processor, samples)
    fast = ConversationCollator(processor)(samples)
    for name in ("input_ids", "attention_mask", "pixel_values"):
        assert np.array_equal(fast[name], slow[name]), name
    answers = np.asarray(slow["assistant_masks"]).astype(bool)
    assert np.array_equal(fast["labels"], np.where(answers, slow["input_ids"], IGNORED))
    assert fast["info"]["tokens"] == int(slow["attention_mask"].sum())


def test_a_conversation_without_frames():
    processor = processor_of("characters")
    batch = ConversationCollator(processor)([{"id": "t", "frames": [], "messages": TALK, "tasks": ["chat"]}])
    assert "pixel_values" not in batch and batch["info"]["frames"] == 0
    assert processor.tokenizer.decode(batch["labels"][batch["labels"] != IGNORED]) == "Yes, [1,2,3,4].</s>"


def test_padding_share():
    assert padding_share([[4, 4], [2, 1]]) == pytest.approx(1 / 12)


def test_the_longest_conversation_bounds_what_is_drawn():
    processor = processor_of("characters")
    one = stage(num_frames=(4, 4), turns=2)
    source = ConversationSource(one, BATCH, writer=processor)
    drawn = max(len(encode(processor, source[item]["messages"])) for item in range(9))
    longest = longest_conversation(processor, one, 4)
    assert drawn <= 1.5 * longest  # wordings of questions and expressions differ
    assert longest > 4 * processor.num_image_tokens


def test_what_does_not_fit_the_context_comes_with_ways_out():
    processor = processor_of("characters")
    one = stage(name="long", num_frames=(32, 32), turns=2, sources=[synthetic({"sot": 1.0})])
    longest = longest_conversation(processor, one, 32)
    assert check_context(processor, one, longest) == longest == check_context(processor, one, None)
    with pytest.raises(ValueError, match="stage 'long': 32 frames x 4 tokens") as told:
        check_context(processor, one, longest - 1)
    text = str(told.value)
    frames = int(re.search(r"show (\d+) frames", text)[1])
    assert longest_conversation(processor, one, frames) < longest <= longest_conversation(processor, one, frames + 1)
    kept = int(re.search(r"keep (\d+) tokens", text)[1])
    assert longest - 32 * (4 - kept) <= longest - 1
    assert "factor: 1.25" in text and "fewer than 2 questions" in text


def test_a_conversation_beyond_the_context_is_named():
    processor = processor_of("characters")
    sample = {"id": "r9", "frames": [], "messages": TALK, "tasks": ["chat"]}
    with pytest.raises(ValueError, match="record 'r9': .* do not fit the context of 10"):
        ConversationCollator(processor, context=10)([sample])
