"""What trains in a stage moves, and the rest does not: every stage of the paper, in every way to train it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from train.config import LoraSettings, load_recipe
from train.miniature.build import build_model
from train.parts import PARTS, check_train, freeze_all_but, part_of, trained_counts
from train.sft import make_trainer, run_recipe

from .tiny_recipe import BUILD, recipe, stage

RECIPES = Path(__file__).resolve().parents[2] / "train" / "recipes"
SMALL = ["selector", "multi_modal_projector"]
# Stage of the paper -> the parts that learn (paper, section 4.2).
PUBLISHED = {"stage1a": SMALL, "stage1b": list(PARTS), "stage2a": list(PARTS), "stage2b": list(PARTS)}
WAYS = {
    "plain": {},
    "activation checkpointing": {"arguments": {"activation_checkpointing": True}},
    "bfloat16 base": {"dtype": "bfloat16"},
}
LORA = LoraSettings(r=2, alpha=4, dropout=0.0, target_modules=["q_proj", "down_proj"])


@pytest.mark.parametrize(("name", "parts"), PUBLISHED.items())
def test_the_published_stages_train_these_parts(name, parts):
    (one,) = load_recipe(RECIPES / f"{name}.yaml").stages
    assert list(one.train) == [part for part in PARTS if part in parts]
    assert set(one.train.values()) == {1.0}  # one learning rate for all


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("parts", [SMALL, list(PARTS)], ids=["1a", "all"])
def test_what_trains_moves_and_the_rest_does_not(tmp_path, parts, way):
    one = stage(train=parts, arguments={"max_steps": 3, **WAYS[way].get("arguments", {})})
    one.dtype = WAYS[way].get("dtype", "float32")
    final = run_recipe(recipe(one), tmp_path)
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "start", final))
    assert before.keys() == after.keys()
    for name, start in before.items():
        if one.dtype != "float32" and part_of(name) not in parts:
            start = start.to(torch.bfloat16)
        assert torch.equal(start, after[name]) == (part_of(name) not in parts), name


@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters_move_the_layers_that_they_name_and_are_merged(tmp_path, checkpointing):
    one = stage(
        train={"selector": 1.0, "multi_modal_projector": 0.5, "language_model": 1.0},
        lora=LORA,
        arguments={"max_steps": 3, "activation_checkpointing": checkpointing, "save_steps": 2},
    )
    final = run_recipe(recipe(one), tmp_path)
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "start", final))
    assert before.keys() == after.keys()
    for name, start in before.items():
        adapted = "language_model" in name and ("q_proj" in name or "down_proj" in name)
        moves = adapted or part_of(name) in SMALL
        assert torch.equal(start, after[name]) != moves, name
    # Checkpoints hold what learns, not the base.
    saved = {p.name for p in (tmp_path / "s/checkpoint-3").iterdir()}
    assert "adapter_model.safetensors" in saved and "model.safetensors" not in saved


def test_a_killed_run_with_adapters_resumes_to_the_same_weights(tmp_path):
    def one(steps):
        changes = {"train": [*SMALL, "language_model"], "lora": LORA, "global_batch_size": 3}
        arguments = {"max_steps": steps, "save_steps": 2, "lr_scheduler_type": "constant"}
        return recipe(stage(arguments=arguments, **changes))

    whole = run_recipe(one(4), tmp_path / "whole")
    half = run_recipe(one(2), tmp_path / "half")
    (half / "config.json").unlink()  # as if it had been stopped before the end
    for path in half.iterdir():
        path.unlink()
    half.rmdir()
    resumed = run_recipe(one(4), tmp_path / "half")
    for name, value in load_file(whole / "model.safetensors").items():
        torch.testing.assert_close(value, load_file(resumed / "model.safetensors")[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": list(PARTS)}, "leaves the tower frozen"),
        ({"train": SMALL}, "name language_model"),
        ({"train": ["language_model"], "lora": LoraSettings(target_modules=["qproj"])}, "name no layer"),
    ],
)
def test_adapters_that_are_refused(tmp_path, changes, message):
    run_recipe(recipe(stage(name="a", arguments={"max_steps": 1})), tmp_path)
    with pytest.raises(ValueError, match=message):
        make_trainer(stage(**{"lora": LORA, **changes}), recipe(), tmp_path / "start", tmp_path / "b", True)


def test_counts_of_what_trains():
    model, _ = build_model(BUILD, 0)
    freeze_all_but(model, SMALL)
    counts = trained_counts(model)
    assert sum(total for _, total in counts.values()) == sum(p.numel() for p in model.parameters())
    assert {part: learns == total for part, (learns, total) in counts.items()} == {p: p in SMALL for p in PARTS}
    assert counts["language_model"][0] == 0 and counts["selector"][0] > 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"vision": 1.0}, r"train names \['vision'\]"),
        ({"selector": 0.0}, "leave out a part"),
        ([], "nothing would learn"),
    ],
)
def test_tables_that_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        check_train(table)
