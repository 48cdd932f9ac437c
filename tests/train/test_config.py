"""Recipes: what is read, and what is refused with the place named."""

import dataclasses
import re
from pathlib import Path

import pytest

from train.arguments import plan_steps, training_arguments
from train.config import Recipe, StageConfig, load_recipe, load_yaml
from train.data import ConversationSource, open_source

from .tiny_recipe import SHIPPED, recipe, stage, synthetic

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "{source: synthetic, tasks: {sot: 1}}"
STAGE = f"{{name: a, sources: [{SOURCE}], arguments: {{max_steps: 1, learning_rate: 1}}}}"


def test_shipped_recipes_load():
    assert SHIPPED
    for path in SHIPPED:
        assert load_recipe(path).stages


def test_the_recipe_in_the_docs_loads(tmp_path):
    text = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    (tmp_path / "r.yaml").write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL).group(1))
    one = load_recipe(tmp_path / "r.yaml")
    given = {**one.stages[0].arguments, "report_to": []}
    training_arguments(dataclasses.replace(one.stages[0], arguments=given), one, tmp_path, use_cpu=True)


def test_types_and_defaults(tmp_path):
    (tmp_path / "r.yaml").write_text(f"model: x\nstages: [{STAGE}]\n")
    stage = load_recipe(tmp_path / "r.yaml").stages[0]
    assert isinstance(stage, StageConfig) and stage.sources[0].tasks == {"sot": 1.0}
    assert stage.arguments["learning_rate"] == 1 and stage.num_frames == (1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: []", "either `build:`"),  # nothing to start from
        ("model: x\nbuild: {vision: {}, text: {}}\nstages: []", "either `build:`"),  # two starts
        ("model: x\nstages: []\nlr: 1", r"unknown key\(s\) \['lr'\]"),  # a slip of the pen
        ("model: x\nstages: [{name: a}]", r"\['sources', 'arguments'\] are missing"),  # a stage that trains on nothing
        ("model: 3\nstages: []", "model: expected str, found 3"),  # wrong type
        ("model: x\nstages: {}", "stages: expected a list"),
        (f"model: x\nstages: [{STAGE[:-1]}, num_frames: [1, 2, 3]}}]", "expected 2 values"),
        (f"model: x\nstages: [{STAGE[:-1]}, train: [vision]}}]", "train names"),  # not a part
        (f"model: x\nstages: [{STAGE[:-1]}, turns: true}}]", "expected int, found True"),
        (f"model: x\nstages: [{STAGE}, {STAGE}]", "a name of its own"),  # one would overwrite the other
        ("model: x\nstages: [{name: a, sources: [], arguments: {}}]", "sources is empty"),
        (f"model: x\nstages: [{STAGE.replace('sot: 1', 'sot: 0')}]", "weight of sot is 0"),
        (f"model: x\nstages: [{STAGE.replace('sot: 1', 'track: 1')}]", r"tasks names \['track'\]"),
        (f"model: x\nstages: [{STAGE.replace('{sot: 1}', '{}')}]", "give one or more"),
        (f"model: x\nstages: [{STAGE.replace('synthetic,', 'synthetic, weight: -1,')}]", "the weight is -1"),
        (f"model: x\nstages: [{STAGE.replace('synthetic,', 'synthetic, limit: 0,')}]", "limit is 0"),
        (f"model: x\nstages: [{STAGE[:-1]}, num_frames: [3, 2]}}]", "num_frames"),
        ("just text", "expected a mapping"),
        ("model: !!python/object/apply:os.getcwd []\nstages: []", "could not determine a constructor"),  # never run
    ],
)
def test_wrong_recipes(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(Exception, match=message):
        load_recipe(tmp_path / "r.yaml")


def test_overrides(tmp_path):
    (tmp_path / "r.yaml").write_text(f"model: x\nstages: [{STAGE}]")
    overrides = ["stages.0.arguments.max_steps=9", "stages.0.turns=2", "seed=3", "tower.steps=5"]
    one = load_yaml(Recipe, tmp_path / "r.yaml", overrides)
    assert one.stages[0].arguments["max_steps"] == 9 and one.stages[0].turns == 2 and one.seed == 3
    assert one.tower.steps == 5
    for wrong in ("seed", "stages.7.turns=1", "stages.one.turns=1", "seed.x=1"):
        with pytest.raises(ValueError, match="override"):
            load_yaml(Recipe, tmp_path / "r.yaml", [wrong])
    with pytest.raises(ValueError, match="unknown key"):
        load_yaml(Recipe, tmp_path / "r.yaml", ["sed=1"])


def test_numbers_without_a_point_are_numbers(tmp_path):
    """YAML 1.1 takes 1e-3 for text, which an optimizer would meet hours later."""
    (tmp_path / "r.yaml").write_text(f"model: x\nstages: [{STAGE.replace('rate: 1', 'rate: 1e-3')}]")
    assert load_recipe(tmp_path / "r.yaml").stages[0].arguments["learning_rate"] == 1e-3


def test_arguments_reach_trl(tmp_path):
    given = {
        "gradient_accumulation_steps": 3,
        "logging_steps": 7,
        "eval_strategy": "steps",
        "eval_steps": 5,
        "save_total_limit": 4,
        "lr_scheduler_type": "linear",
        "activation_checkpointing": True,
    }
    arguments = training_arguments(stage(arguments=given), recipe(), tmp_path, use_cpu=True)
    assert {name: getattr(arguments, name) for name in given} == given
    assert arguments.adam_beta2 == 0.98 and arguments.max_length is None and arguments.use_cpu


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arguments": {"learning_rates": 1}}, "stage 's': arguments: .*learning_rates"),  # a slip of the pen
        ({"arguments": {"lr_scheduler_type": "cosin"}}, "stage 's': arguments: .*cosin"),  # no such schedule
        ({"arguments": {"output_dir": "x"}}, "give --output"),  # said elsewhere
        ({"arguments": {"loss_type": "dft"}}, "cross-entropy"),  # would be ignored
        ({"arguments": {"optim": "sgd"}, "muon_learning_rate": 0.1}, "muon_learning_rate asks for Muon"),
    ],
)
def test_arguments_that_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        training_arguments(stage(**changes), recipe(), tmp_path, use_cpu=True)


@pytest.mark.parametrize(
    ("given", "limit", "items", "steps"),
    [
        ({"max_steps": 5}, None, 15, 5),
        ({"max_steps": 5, "gradient_accumulation_steps": 2}, None, 30, 5),
        ({"max_steps": -1, "num_train_epochs": 2}, 10, 21, 7),  # 20 clips in batches of 3
        ({"max_steps": -1, "num_train_epochs": 2, "gradient_accumulation_steps": 2}, 10, 24, 4),
    ],
)
def test_planned_steps(tmp_path, given, limit, items, steps):
    one = stage(sources=[synthetic(limit=limit)], arguments=given)
    arguments = training_arguments(one, recipe(), tmp_path, use_cpu=True)
    assert plan_steps(arguments, len(ConversationSource(one, 3).mixture), limit is None) == items
    assert arguments.max_steps == steps


def test_epochs_of_an_endless_source_are_refused(tmp_path):
    arguments = training_arguments(stage(arguments={"max_steps": -1}), recipe(), tmp_path, use_cpu=True)
    with pytest.raises(ValueError, match="no max_steps"):
        plan_steps(arguments, 10, endless=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"sise": 3}}, r"unknown key\(s\) \['sise'\]"),
        ({"options": {"interval": [1]}}, "expected 2 values"),
        ({"options": {"split": "dev"}}, "split must be one of"),
        ({"source": "nowhere.jsonl"}, "nowhere.jsonl does not exist"),
        ({"source": "nowhere.jsonl", "options": {"max_interval": 0}}, "max_interval=0"),
    ],
)
def test_sources_that_are_refused(changes, message):
    config = synthetic()
    config.options = {}
    for name, value in changes.items():
        setattr(config, name, value)
    with pytest.raises(ValueError, match=message):
        open_source(config)
