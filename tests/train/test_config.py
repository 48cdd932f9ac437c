"""Recipes: what is read, and what is refused with the place named."""

from pathlib import Path

import pytest

from train.config import StageConfig, load_recipe

ROOT = Path(__file__).resolve().parents[2]
STAGE = "{name: a, tasks: {sot: 1}, steps: 1, batch_size: 1, learning_rate: 1}"


def test_shipped_recipes_load():
    paths = sorted((ROOT / "train" / "recipes").glob("*.yaml"))
    assert paths
    for path in paths:
        assert load_recipe(path).stages


def test_types_and_defaults(tmp_path):
    (tmp_path / "r.yaml").write_text(f"model: x\nstages: [{STAGE}]\n")
    stage = load_recipe(tmp_path / "r.yaml").stages[0]
    assert isinstance(stage, StageConfig) and stage.learning_rate == 1.0 and stage.num_frames == (1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: []", "either `build:`"),  # nothing to start from
        ("model: x\nbuild: {vision: {}, text: {}}\nstages: []", "either `build:`"),  # two starts
        ("model: x\nstages: []\nlr: 1", r"unknown key\(s\) \['lr'\]"),  # a slip of the pen
        ("model: x\nstages: [{name: a}]", "missing"),  # a stage without its steps
        ("model: 3\nstages: []", "model: expected str, found 3"),  # wrong type
        ("model: x\nstages: {}", "stages: expected a list"),
        (f"model: x\nstages: [{STAGE[:-1]}, num_frames: [1, 2, 3]}}]", "expected 2 values"),
        (f"model: x\nstages: [{STAGE[:-1]}, train: [vision]}}]", "train names"),  # not a part
        (f"model: x\nstages: [{STAGE[:-1]}, turns: true}}]", "expected int, found True"),
        ("just text", "expected a mapping"),
        ("model: !!python/object/apply:os.getcwd []\nstages: []", "could not determine a constructor"),  # never run
    ],
)
def test_wrong_recipes(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(Exception, match=message):
        load_recipe(tmp_path / "r.yaml")
