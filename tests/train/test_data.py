"""Training data: the right questions, the right labels, the same on every run."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset_scripts.records import ObjectTrack, VideoRecord, write_records
from dataset_scripts.synthetic import SyntheticConfig, make_clip
from processing_elysium.boxes import parse_boxes
from tests.tracking.tokenizers_of_all_kinds import processor_of
from train.collator import IGNORED, ConversationCollator
from train.config import SourceConfig, load_recipe
from train.data import ConversationSource, conversation, stage_dataset
from train.miniature.build import build_model, build_tokenizer
from train.miniature.patches import PATCH_LABELS, PatchSource

from .tiny_recipe import BATCH, BUILD, TOWER, stage, synthetic

SYNTHETIC = SyntheticConfig(size=56)
HERE = Path(__file__).parent
RECIPES = HERE.parents[1] / "train" / "recipes"


@pytest.fixture(scope="module")
def processor():
    return build_model(BUILD, 0)[1]


def test_the_embedded_checkpoints_recipe_means_what_it_meant():
    """Items of every stage, as they were when the checkpoint was trained: messages by hash, pictures by their mean."""
    recorded = json.loads((HERE / "items_of_tiny.json").read_text())
    stages = {one.name: one for one in load_recipe(RECIPES / "tiny.yaml").stages}
    for name, (messages, shape, mean) in recorded.items():
        one, item = name.split("/")
        source = ConversationSource(stages[one], stages[one].arguments["per_device_train_batch_size"])
        sample = source[int(item)]
        text = json.dumps(sample["messages"], sort_keys=True)
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == messages, name
        frames = np.stack(sample["frames"])
        assert list(frames.shape) == shape and frames.mean() == pytest.approx(mean, abs=0.01), name


def test_tokenizer():
    tokenizer = build_tokenizer(1536)
    for text in ("Frame 12: [5,17,0,99], Frame 13: [1,2,3,100].", "Größe 12345 <b>\n\n ok", "ASSISTANT:[1,2,3,4]"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    prompt, answer = "USER: x ASSISTANT:", "[5,17,20,99]"
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    assert encode(prompt + answer) == encode(prompt) + encode(answer)  # what is trained is what is generated
    assert all(len(encode(str(n))) == 1 for n in range(101))


def test_labels_are_the_answers(processor):
    source = ConversationSource(stage(), BATCH)
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
    record = make_clip(SYNTHETIC, "train", 5, 4).record
    messages = conversation(record, {"sot": 1.0}, np.random.default_rng(0), turns=9)
    assert [m["role"] for m in messages] == ["user", "assistant"] * len(record.objects)
    images = [sum(part["type"] == "image" for part in m["content"]) for m in messages]
    assert images[0] == 4 and not any(images[1:])
    firsts = [parse_boxes(m["content"][0]["text"], 4).boxes[0] for m in messages[1::2]]
    for track in record.objects:
        assert min(np.abs(box - track.clipped_boxes[0]).max() for box in firsts) < 0.011


def test_image_tasks_stay_with_images():
    record = make_clip(SYNTHETIC, "train", 5, 2).record
    for seed in range(5):
        messages = conversation(record, {"rec": 100.0, "rsot": 1e-6}, np.random.default_rng(seed))
        answer = messages[1]["content"][0]["text"]
        assert answer.startswith("Frame 1: ") and "Frame 2: " in answer


def test_jitter_moves_questions_not_answers():
    record = make_clip(SYNTHETIC, "train", 5, 2).record
    asked, answered = set(), set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        question, answer = conversation(record, {"sot": 1.0}, rng, turns=1, box_jitter=0.1)
        asked.add(question["content"][-1]["text"].split("[")[1].split("]")[0])
        answered.add(answer["content"][0]["text"])
    assert len(answered) <= len(record.objects) < len(asked)


def test_a_converted_checkpoint_is_trained_in_its_own_hand():
    """With the released conventions answers round to the nearest cell and tracking answers end with a period."""
    record = make_clip(SYNTHETIC, "train", 5, 2).record
    texts = [
        conversation(record, {"sot": 1.0}, np.random.default_rng(0), writer, turns=1)[1]["content"][0]["text"]
        for writer in (processor_of("released"), processor_of("characters"))
    ]
    boxes = [np.array(re.findall(r"\d+(?=[,\]])", text), int) for text in texts]
    assert texts[0].endswith("].") and texts[1].endswith("]")
    difference = boxes[0] - boxes[1]  # rounded against floored
    assert set(difference) == {0, 1}


BOX, MOVED = [0.1, 0.2, 0.3, 0.4], [0.2, 0.2, 0.4, 0.4]


def record_of(boxes=(BOX, MOVED), absent=None, messages=(), expression="the cat", caption="a cat"):
    tracks = [ObjectTrack(boxes=list(boxes), absent=absent, expression=expression, caption=caption)] if boxes else []
    frames = list(range(len(boxes) or 2))
    return VideoRecord(id="r7", source="s", frame_indices=frames, objects=tracks, messages=list(messages))


ASKED = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A cat."}]
MORE = [*ASKED, {"role": "user", "content": "Where?"}, {"role": "assistant", "content": "On a mat."}]


@pytest.mark.parametrize(
    ("record", "task", "question", "answer"),
    [
        (record_of(), "sot", "[10,20,30,40]", "Frame 1: [10,20,30,40], Frame 2: [20,20,40,40]"),
        (record_of((BOX, [-0.2, 0.2, 0.4, 1.3])), "rsot", "the cat", "Frame 1: [10,20,30,40], Frame 2: [0,20,40,99]"),
        # A frame in which the object is known to be absent has no box in the answer.
        (record_of((BOX, None, MOVED), [0, 1, 0]), "sot", "[10,", "Frame 1: [10,20,30,40], Frame 3: [20,20,40,40]"),
        # Words find an object that comes in later; a description may start from any frame.
        (record_of((None, MOVED), [1, 0]), "rsot", "the cat", "Frame 2: [20,20,40,40]"),
        (record_of((None, MOVED)), "video_reg", "[20,20,40,40] in frame 2", "a cat"),
        (record_of((BOX,)), "rec", "the cat", "[10,20,30,40]"),
        (record_of((BOX,)), "reg", "[10,20,30,40]", "a cat"),
        (record_of((), messages=ASKED), "chat", "What is it?", "A cat."),
        (record_of((), messages=ASKED), "vqa", "What is it?", "A cat."),
    ],
)
def test_what_records_teach(record, task, question, answer):
    for seed in range(4):
        messages = conversation(record, {task: 1.0}, np.random.default_rng(seed))
        assert question in messages[0]["content"][-1]["text"]
        assert [part["text"] for part in messages[1]["content"]] == [answer]
        assert sum(part["type"] == "image" for part in messages[0]["content"]) == record.num_frames


@pytest.mark.parametrize(
    ("record", "task"),
    [
        (record_of((BOX, None)), "sot"),  # nobody knows where it is in frame 2
        (record_of((None, BOX), [1, 0]), "sot"),  # no box to start from
        (record_of(expression=None), "rsot"),  # no words to ask with
        (record_of((None, None), [1, 1]), "rsot"),  # never there
        (record_of(caption=None), "video_reg"),  # no words to answer with
        (record_of(), "rec"),  # two frames
        (record_of(), "vqa"),  # no questions
    ],
)
def test_what_cannot_be_asked_names_the_record(record, task):
    with pytest.raises(ValueError, match="record 'r7': none of the tasks"):
        conversation(record, {task: 1.0}, np.random.default_rng(0))


def test_talk_has_its_frames_once_and_its_share():
    record = record_of(messages=[{"role": "system", "content": "Be kind."}, *MORE])
    messages = conversation(record, {"chat": 1.0}, np.random.default_rng(0))
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert [sum(part["type"] == "image" for part in m["content"]) for m in messages] == [0, 2, 0, 0, 0]
    mixed = {"chat": 3.0, "sot": 1.0}
    talks = [conversation(record, mixed, np.random.default_rng(i))[0]["role"] == "system" for i in range(200)]
    assert np.mean(talks) == pytest.approx(0.75, abs=0.1)


def test_a_batch_has_one_number_of_frames():
    source = ConversationSource(stage(num_frames=(2, 5)), BATCH)
    rows = stage_dataset(source, 12)
    assert len(rows) == 12
    counts = [len(rows[i]["frames"]) for i in range(12)]
    assert all(len(set(counts[i : i + 3])) == 1 for i in range(0, 12, 3)) and len(set(counts)) > 1
    assert rows[4]["messages"] == rows[4]["messages"]
    other = ConversationSource(stage(name="t"), BATCH)
    assert rows[0]["messages"] != other[0]["messages"]  # stages see different clips


@pytest.mark.parametrize("repeats", [1, 2])
def test_each_process_repeats_its_own_clips(repeats):
    """With two processes batches go to them in turn: the first two batches of a process show the same clips."""
    source = ConversationSource(stage(repeats=repeats, num_frames=(1, 1)), BATCH, world_size=2)
    shown = [np.stack(source[batch * BATCH]["frames"]) for batch in range(4)]
    for process in range(2):
        assert np.array_equal(shown[process], shown[process + 2]) == (repeats == 2)
    assert not np.array_equal(shown[0], shown[1])


def pictures(folder, name, count):
    """A source of one-frame records whose red value is their number."""
    from PIL import Image

    rows = []
    for number in range(count):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{name}{number}.png")
        track = ObjectTrack(boxes=[BOX], expression="the cat")
        rows.append(VideoRecord(id=f"{name}{number}", source=name, video=f"{name}{number}.png", objects=[track]))
    write_records(folder / f"{name}.jsonl", rows)
    return str(folder / f"{name}.jsonl")


def test_a_mixture_keeps_its_shares_and_visits_every_record_once(tmp_path):
    few = SourceConfig(source=pictures(tmp_path, "few", 7), tasks={"rec": 1.0}, weight=3.0, limit=5)
    mixed = ConversationSource(stage(sources=[synthetic(), few], num_frames=(2, 2)), BATCH)
    located = [mixed.mixture.locate(item) for item in range(1000)]
    of_few = [index for number, index in located if number == 1]
    assert len(of_few) == 750 and len(mixed.mixture) == 100_000_000 + 5
    for turn in range(3):
        assert sorted(of_few[5 * turn : 5 * turn + 5]) == [0, 1, 2, 3, 4]
    assert of_few[:5] != of_few[5:10] or of_few[:5] != of_few[10:15]  # another order in another pass
    first = [index for number, index in located if number == 0]
    assert len(set(first)) == 250
    one, other = (next(i for i, (number, _) in enumerate(located) if number == n) for n in (0, 1))
    assert len(mixed[one]["frames"]) == 2 and len(mixed[other]["frames"]) == 1
    assert mixed[other]["frames"][0].shape == (8, 8, 3)
    assert mixed[other]["frames"][0][0, 0, 0] == located[other][1]


def test_a_record_that_teaches_nothing_is_named(tmp_path):
    config = SourceConfig(source=pictures(tmp_path, "p", 2), tasks={"chat": 1.0})
    with pytest.raises(ValueError, match="record 'p[01]': none of the tasks"):
        ConversationSource(stage(sources=[config]), BATCH)[0]


def test_frames_must_fit_the_messages(processor):
    sample = ConversationSource(stage(), BATCH)[0]
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
