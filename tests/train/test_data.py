"""Training data: the right questions, the right labels, the same on every run."""

import re

import numpy as np
import pytest
import torch

from dataset_scripts.synthetic import SyntheticConfig, make_clip
from processing_elysium.boxes import parse_boxes
from tests.tracking.tokenizers_of_all_kinds import processor_of
from train.build import build_model, build_tokenizer
from train.collator import IGNORED, ConversationCollator
from train.data import PATCH_LABELS, ConversationSource, PatchSource, conversation, stage_dataset

from .tiny_recipe import BUILD, TOWER, stage

SYNTHETIC = SyntheticConfig(size=56)


@pytest.fixture(scope="module")
def processor():
    return build_model(BUILD, 0)[1]


def test_tokenizer():
    tokenizer = build_tokenizer(1536)
    for text in ("Frame 12: [5,17,0,99], Frame 13: [1,2,3,100].", "Größe 12345 <b>\n\n ok", "ASSISTANT:[1,2,3,4]"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    prompt, answer = "USER: x ASSISTANT:", "[5,17,20,99]"
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    assert encode(prompt + answer) == encode(prompt) + encode(answer)  # what is trained is what is generated
    assert all(len(encode(str(n))) == 1 for n in range(101))


def test_labels_are_the_answers(processor):
    source = ConversationSource(stage(), SYNTHETIC)
    samples = [source[i] for i in range(3)]
    batch = ConversationCollator(processor)(samples)
    assert batch["pixel_values"].shape == (3 * len(samples[0]["frames"]), 3, 56, 56)
    for row, sample in enumerate(samples):
        kept = batch["labels"][row] != IGNORED
        assert torch.equal(batch["labels"][row][kept], batch["input_ids"][row][kept])
        said = processor.tokenizer.decode(batch["labels"][row][kept])
        answers = [m["content"][0]["text"] for m in sample["messages"] if m["role"] == "assistant"]
        assert said == "".join(answer + "</s>" for answer in answers)


def test_conversation_asks_about_each_object_once():
    clip = make_clip(SYNTHETIC, "train", 5, 4)
    rng = np.random.default_rng(0)
    messages = conversation(clip, stage(tasks={"sot": 1.0}, turns=9), rng)
    assert [m["role"] for m in messages] == ["user", "assistant"] * len(clip.record.objects)
    images = [sum(part["type"] == "image" for part in m["content"]) for m in messages]
    assert images[0] == 4 and not any(images[1:])
    firsts = [parse_boxes(m["content"][0]["text"], 4).boxes[0] for m in messages[1::2]]
    for track in clip.record.objects:
        assert min(np.abs(box - track.boxes[0]).max() for box in firsts) < 0.011


def test_image_tasks_stay_with_images():
    clip = make_clip(SYNTHETIC, "train", 5, 2)
    with_rec = stage(tasks={"rec": 100.0, "rsot": 1e-6})
    for seed in range(5):
        answer = conversation(clip, with_rec, np.random.default_rng(seed))[1]["content"][0]["text"]
        assert answer.startswith("Frame 1: ") and "Frame 2: " in answer


def test_jitter_moves_questions_not_answers():
    clip = make_clip(SYNTHETIC, "train", 5, 2)
    asked, answered = set(), set()
    for seed in range(12):
        one = stage(tasks={"sot": 1.0}, turns=1, box_jitter=0.1)
        question, answer = conversation(clip, one, np.random.default_rng(seed))
        asked.add(question["content"][-1]["text"].split("[")[1].split("]")[0])
        answered.add(answer["content"][0]["text"])
    assert len(answered) <= len(clip.record.objects) < len(asked)


def test_a_converted_checkpoint_is_trained_in_its_own_hand():
    """With the released conventions answers round to the nearest cell and tracking answers end with a period."""
    clip = make_clip(SYNTHETIC, "train", 5, 2)
    one = stage(tasks={"sot": 1.0}, turns=1)
    texts = [
        conversation(clip, one, np.random.default_rng(0), writer)[1]["content"][0]["text"]
        for writer in (processor_of("released"), processor_of("characters"))
    ]
    boxes = [np.array(re.findall(r"\d+(?=[,\]])", text), int) for text in texts]
    assert texts[0].endswith("].") and texts[1].endswith("]")
    difference = boxes[0] - boxes[1]  # rounded against floored
    assert set(difference) == {0, 1}


def test_a_batch_has_one_number_of_frames_and_repeats():
    source = ConversationSource(stage(num_frames=(2, 5), steps=4), SYNTHETIC)
    rows = stage_dataset(source)
    assert len(rows) == 12
    counts = [len(rows[i]["frames"]) for i in range(12)]
    assert all(len(set(counts[i : i + 3])) == 1 for i in range(0, 12, 3)) and len(set(counts)) > 1
    assert rows[4]["messages"] == rows[4]["messages"]
    other = ConversationSource(stage(name="t"), SYNTHETIC)
    assert rows[0]["messages"] != other[0]["messages"]  # stages see different clips


def test_frames_must_fit_the_messages(processor):
    sample = ConversationSource(stage(), SYNTHETIC)[0]
    sample["frames"].append(sample["frames"][0])
    with pytest.raises(ValueError, match="image parts"):
        ConversationCollator(processor)([sample])


def test_patch_labels_point_at_objects():
    source = PatchSource(SYNTHETIC, 14, TOWER)
    for item in range(4):
        image, labels, boxes = source[item]
        assert image.shape == (56, 56, 3) and labels.shape == (16, 4) and boxes.shape == (16, 4)
        shown = labels[:, 0] > 0
        assert shown.any() and ((labels > 0).all(axis=1) == shown).all()
        assert (labels.max(axis=0) <= [len(v) for v in PATCH_LABELS.values()]).all()
        rows, columns = np.divmod(np.arange(16), 4)
        # The patch of a shown object meets the object's box.
        left, top = columns / 4, rows / 4
        meets = (
            (boxes[:, 0] < left + 0.26)
            & (boxes[:, 2] > left - 0.01)
            & (boxes[:, 1] < top + 0.26)
            & (boxes[:, 3] > top - 0.01)
        )
        assert meets[shown].all()
