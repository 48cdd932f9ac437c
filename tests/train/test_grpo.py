"""Rewards by hand-worked cases; a run on the model's own answers moves what learns, resumes, and tells of itself."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file

from dataset_scripts.records import ObjectTrack, VideoRecord, write_records
from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor
from processing_elysium.boxes import GRID, iou
from processing_elysium.prompts import Task
from train import greedy
from train.config import SourceConfig, load_yaml
from train.data import ConversationSource
from train.greedy import LOGGED
from train.grpo import ElysiumGrpoTrainer, GrpoRecipe, QuestionSource, grpo_arguments, main, run_grpo
from train.miniature.build import build_model
from train.parts import part_of
from train.plain import to_plain
from train.rewards import REWARDS, Truth, format_value, iou_value, presence_value

from .tiny_recipe import BUILD, stage, synthetic

NOWHERE = [np.nan] * 4
# Two frames: the object fills the left half, then nobody sees it.
SEEN_THEN_GONE = Truth(Task.RSOT, np.array([[0, 0, 0.5, 1], NOWHERE]), np.array([False, True]))
SEEN = Truth(Task.SOT, np.array([[0, 0, 0.5, 1.0], [0.5, 0.5, 1, 1]]), np.array([False, False]))
WORDS = Truth(Task.REC, np.array([[0, 0, 0.5, 1.0]]), np.array([False]))
UNKNOWN = Truth(Task.SOT, np.array([NOWHERE, NOWHERE]), np.array([False, False]))
LEFT, QUARTER = "[0,0,49,99]", "[50,50,99,99]"


def overlap(cells, truth):
    """IoU of a box in cells of the grid (their centers) with a true one, as a person would work it out."""
    return float(iou((np.array([cells]) + 0.5) / GRID, np.array([truth]))[0])


@pytest.mark.parametrize(
    ("text", "truth", "expected"),
    [
        (f"Frame 1: {LEFT}, Frame 2: {QUARTER}", SEEN, "both"),
        (f"Frame 1: {LEFT}", SEEN, "first / 2"),  # a frame without an answer counts 0
        (f"Frame 2: {QUARTER}", SEEN, "second / 2"),
        (f"Frame 1: {QUARTER}, Frame 2: {LEFT}", SEEN, "swapped"),
        ("the left one", SEEN, 0.0),
        ("", SEEN, 0.0),
        (f"Frame 1: {LEFT}, Frame 2: {QUARTER}", SEEN_THEN_GONE, "first"),  # the frame without truth is not judged
        (LEFT, WORDS, "first"),
        (LEFT, UNKNOWN, None),
    ],
)
def test_iou(text, truth, expected):
    first, second = overlap([0, 0, 49, 99], [0, 0, 0.5, 1]), overlap([50, 50, 99, 99], [0.5, 0.5, 1, 1])
    swapped = overlap([50, 50, 99, 99], [0, 0, 0.5, 1]) + overlap([0, 0, 49, 99], [0.5, 0.5, 1, 1])
    worked = {
        "both": (first + second) / 2, "first / 2": first / 2, "second / 2": second / 2, "first": first,
        "swapped": swapped / 2,
    }  # fmt: skip
    value = iou_value(text, truth)
    assert value == (pytest.approx(worked.get(expected, expected)) if expected is not None else None)
    assert first > 0.97 and swapped < 0.1


@pytest.mark.parametrize(
    ("text", "truth", "expected"),
    [
        (f"Frame 1: {LEFT}, Frame 2: {QUARTER}", SEEN, 1),
        (f"Frame 1: {LEFT}, Frame 2: {QUARTER}.", SEEN, 1),  # the released models end with a period
        (f"Frame 1: {LEFT}, Frame 2: []", SEEN_THEN_GONE, 1),
        (f"Frame 1: {LEFT}", SEEN, 0),  # a frame is missing
        (f"Frame 2: {LEFT}, Frame 1: {QUARTER}", SEEN, 0),  # out of order
        (f"Frame 1: {LEFT}, Frame 1: {QUARTER}", SEEN, 0),
        (f"Frame 1: {LEFT}, Frame 2: {QUARTER}, Frame 3: {QUARTER}", SEEN, 0),
        (f"Sure! Frame 1: {LEFT}, Frame 2: {QUARTER}", SEEN, 0),
        (f"Frame 1: {LEFT}, Frame 2: [60,50,50,99]", SEEN, 0),  # corners swapped
        (f"Frame 1: {LEFT}, Frame 2: [50,50,99,200]", SEEN, 0),  # off the grid
        (f"Frame 1: {LEFT}, Frame 2: [0.5,0.5,1,1]", SEEN, 0),
        (LEFT, WORDS, 1),
        (f"Frame 1: {LEFT}", WORDS, 0),
        ("", SEEN, 0),
    ],
)
def test_format(text, truth, expected):
    assert format_value(text, truth) == expected


@pytest.mark.parametrize(
    ("text", "truth", "expected"),
    [
        (f"Frame 1: {LEFT}, Frame 2: []", SEEN_THEN_GONE, 1.0),
        (f"Frame 1: {LEFT}", SEEN_THEN_GONE, 1.0),
        (f"Frame 1: {LEFT}, Frame 2: {QUARTER}", SEEN_THEN_GONE, 0.5),  # a box where nothing is seen
        (f"Frame 2: {LEFT}", SEEN_THEN_GONE, 0.0),
        ("", SEEN, 0.0),
        (f"Frame 1: {LEFT}, Frame 2: {QUARTER}", SEEN, 1.0),
        ("", UNKNOWN, None),
    ],
)
def test_presence(text, truth, expected):
    assert presence_value(text, truth) == expected


def test_rewards_speak_trls_language():
    completions = [[{"role": "assistant", "content": text}] for text in (LEFT, "")]
    for name, reward in REWARDS.items():
        assert reward.__name__ == name  # under which TRL logs it
        good, bad = reward(completions=completions, truth=[WORDS, WORDS], prompts=[], trainer_state=None)
        assert good > 0.9 and bad == 0.0


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "start"
    for part in build_model(BUILD, 0):
        part.save_pretrained(folder)
    return folder


def one_recipe(start, **changes):
    tasks = {"sot": 1.0, "rsot": 1.0}
    arguments = {
        "max_steps": 3, "num_generations": 4, "per_device_train_batch_size": 8, "max_completion_length": 12,
        "learning_rate": 1e-2, "save_steps": 2, "temperature": 1.5,
    }  # fmt: skip
    arguments |= changes.pop("arguments", {})
    fields = {
        "model": str(start), "threads": 1, "sources": [synthetic(tasks)], "num_frames": (2, 2),
        "eval_sources": [synthetic(tasks, split="val")], "eval_items": 5,
    }  # fmt: skip
    return GrpoRecipe(**{**fields, **changes}, arguments=arguments)


def questions(start, **changes):
    one = stage(**{"turns": 1, **changes})
    processor = ElysiumProcessor.from_pretrained(start)
    return QuestionSource(ConversationSource(one, 1, writer=processor), processor, 0)


def test_questions_come_with_the_truth_of_the_object_they_ask_for(start):
    source = questions(start, sources=[synthetic({"sot": 1.0}, objects=[2, 4])], num_frames=(3, 3))
    for item in range(8):
        row = source[item]
        (asked,) = row["prompt"]
        assert asked["role"] == "user" and len(row["images"]) == len(row["truth"].boxes) == 3
        assert sum(part["type"] == "image" for part in asked["content"]) == 3
        # The box in the question is the object's own, which the answer is judged by.
        written = source.processor.format_box(row["truth"].boxes[0])
        assert written in asked["content"][-1]["text"]
        again = source[item]
        assert again["prompt"] == row["prompt"] and np.array_equal(again["truth"].boxes, row["truth"].boxes)


def test_tasks_that_fit_no_object_are_an_error_that_names_the_record(tmp_path, start):
    track = ObjectTrack(boxes=[[0.1, 0.1, 0.5, 0.5]] * 2)
    rows = [VideoRecord(id="no words", source="mine", video=["a.png", "b.png"], objects=[track])]
    write_records(tmp_path / "mine.jsonl", rows)
    for name in "ab":
        Image.new("RGB", (20, 20)).save(tmp_path / f"{name}.png")
    asks = {"tasks": {"rsot": 1.0}, "source": str(tmp_path / "mine.jsonl")}
    source = questions(start, sources=[SourceConfig(**asks)], num_frames=(2, 2))
    with pytest.raises(ValueError, match="'no words': none of the tasks"):
        source[0]


def test_a_run_moves_what_learns_and_resumes_to_the_same_weights(tmp_path, start, monkeypatch):
    # A random model writes no box: what any text earns stands in for what boxes earn.
    def letters(*, completions, **_):
        return [len(set(completion[0]["content"])) / 10 for completion in completions]

    monkeypatch.setitem(REWARDS, "iou", letters)
    whole = run_grpo(one_recipe(start), tmp_path / "whole")
    before, after = (load_file(folder / "model.safetensors") for folder in (start, whole))
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert (value == after[name]).all() or part_of(name) == "language_model", name
    assert any((value != after[name]).any() for name, value in before.items())

    class Killed(Exception):
        pass

    step = ElysiumGrpoTrainer.training_step

    def dies(self, *args, **kwargs):
        if self.state.global_step == 2:
            raise Killed
        return step(self, *args, **kwargs)

    monkeypatch.setattr(ElysiumGrpoTrainer, "training_step", dies)
    with pytest.raises(Killed):
        run_grpo(one_recipe(start), tmp_path / "killed")
    monkeypatch.setattr(ElysiumGrpoTrainer, "training_step", step)
    resumed = load_file(run_grpo(one_recipe(start), tmp_path / "killed") / "model.safetensors")
    for name, value in after.items():
        np.testing.assert_allclose(value, resumed[name], atol=1e-6, rtol=1e-5, err_msg=name)


def test_the_command_writes_a_whole_folder(tmp_path, start, capsys):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(to_plain(one_recipe(start))))
    command = [str(tmp_path / "r.yaml"), "--output", str(tmp_path / "run"), "--cpu", "--set", "arguments.max_steps=1"]
    main(command)
    final = tmp_path / "run/final"
    assert f"finished: {final}" in capsys.readouterr().out
    metrics = json.loads((final / "metrics.json").read_text())
    assert 0 <= metrics["evaluation"]["mean_iou"] <= 1 and metrics["evaluation"]["clips"] == 5
    assert load_yaml(GrpoRecipe, final / "recipe.yaml").arguments["max_steps"] == 1
    card = (final / "README.md").read_text()
    assert "| grpo | language_model |" in card and "evaluation: mean iou before" in card
    history = json.loads((tmp_path / "run/checkpoint-1/trainer_state.json").read_text())["log_history"]
    (logged,) = (entry for entry in history if "rewards/iou/mean" in entry)
    assert {"rewards/format/mean", "rewards/presence/mean"} <= set(logged)


def test_held_out_questions_are_asked_and_drawn_before_the_first_step_and_with_every_checkpoint(
    tmp_path, start, monkeypatch
):
    asked = []

    def overlap(model, processor, items, length):
        asked.append(items)
        return len(asked) / 10

    monkeypatch.setattr(greedy, "greedy_iou", overlap)
    run_grpo(one_recipe(start), tmp_path)  # three steps, a checkpoint after two, and at the end
    history = json.loads((tmp_path / "checkpoint-3/trainer_state.json").read_text())["log_history"]
    assert [(e["step"], e[LOGGED]) for e in history if LOGGED in e] == [(0, 0.1), (2, 0.2), (3, 0.3)]
    assert [e["step"] for e in history if "rewards/iou/mean" in e] == [1, 2, 3]  # none is lost, none told twice
    told = json.loads((tmp_path / "final/metrics.json").read_text())["evaluation"]
    assert (told["mean_iou_before"], told["mean_iou"]) == (0.1, 0.3)
    assert asked[0] is asked[-1] and len(asked[0]) == 5
    sheets = sorted((tmp_path / "pictures").iterdir())
    assert [sheet.name for sheet in sheets] == [f"step-{step:06d}.png" for step in (0, 2, 3)]
    with Image.open(sheets[0]) as sheet:
        width, height = sheet.size
        colors = set(sheet.get_flattened_data())
    assert height > 0 and width == 2 * height / greedy.PICTURES  # two square frames a row
    assert len(colors) > 10  # frames, not an empty sheet


def test_greedy_iou_is_the_mean_over_questions(start, monkeypatch):
    """Answers that are the true ones are worth nearly 1, none are worth 0."""
    source = questions(start, sources=[synthetic({"rsot": 1.0})], num_frames=(2, 2))
    items = [source[item] for item in range(3)]
    model, processor = ElysiumForConditionalGeneration.from_pretrained(start), source.processor
    said = [item["answer"]["content"][0]["text"] for item in items]

    def texts(answers, **_):
        return said

    monkeypatch.setattr(processor, "batch_decode", texts)
    model.train()
    whole = greedy.greedy_iou(model, processor, items, 4)
    assert whole > 0.9 and model.training
    expected = np.mean([iou_value(text, item["truth"]) for text, item in zip(said, items, strict=True)])
    assert whole == pytest.approx(expected)
    said[1] = ""
    assert greedy.greedy_iou(model, processor, items, 4) == pytest.approx(
        (iou_value(said[0], items[0]["truth"]) + iou_value(said[2], items[2]["truth"])) / 3
    )


def test_shipped_recipes_load():

    paths = list((Path(__file__).resolve().parents[2] / "train/recipes/grpo").glob("*.yaml"))
    assert paths
    for path in paths:
        assert load_yaml(GrpoRecipe, path).rewards


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": {"giou": 1.0}}, r"rewards names \['giou'\]"),
        ({"rewards": {"iou": 0.0}}, "a weight above 0"),
        ({"rewards": {}}, "one reward or more"),
        ({"train": {"language_model": 0.5}}, "all parts learn at one rate"),
        ({"sources": [synthetic({"video_reg": 1.0})]}, "no reward judges"),
    ],
)
def test_recipes_that_are_refused(start, changes, message):
    with pytest.raises(ValueError, match=message):
        one_recipe(start, **changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_generation": 4}, "num_generation"),
        ({"num_generations": 3}, "generation"),  # 8 answers are not groups of 3
        ({"seed": 1}, "may not set 'seed'"),
    ],
)
def test_arguments_that_are_refused(tmp_path, start, arguments, message):
    one = one_recipe(start)
    with pytest.raises(ValueError, match=message):
        grpo_arguments(replace(one, arguments={**one.arguments, **arguments}), tmp_path, use_cpu=True)
