"""The miniature of Table 7: cells train at equal budget from one start, finished ones are passed over, one table."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from modeling_elysium import ElysiumConfig
from train.ablation import runs
from train.ablation.command import main
from train.ablation.config import AblationConfig
from train.ablation.runs import new_adapter, read_results
from train.ablation.table import summarize, write_tables
from train.miniature.build import build_model
from train.parts import part_of
from train.plain import load_yaml, to_plain

from .tiny_recipe import BUILD, recipe, stage, synthetic

SHIPPED = Path(__file__).resolve().parents[2] / "train" / "recipes" / "ablation.yaml"
CELLS = [
    {"name": "selector", "elysium": {"compressor_type": "t_selector", "num_image_tokens": 4}},
    {"name": "concat", "elysium": {"compressor_type": "concat", "num_image_tokens": 4}},
    {"name": "all", "elysium": {"compressor_type": "mlp", "num_image_tokens": 16, "position_ids_mode": "original"}},
]


def plain(**changes):
    one = stage(name="both", tasks={"rec": 1.0, "sot": 1.0}, arguments={"max_steps": 2, "save_steps": 1})
    first = to_plain(recipe(stage(name="start", sources=[synthetic({"rec": 1.0})], num_frames=(1, 1))))
    fields = {
        "start": first,
        "stages": [to_plain(one)],
        "cells": CELLS,
        "tables": {"Compressors": ["selector", "concat", "all"], "Again": ["concat"]},
        "seeds": [0, 1],
        "evaluation": {"images": 3, "clips": 2, "frames": 2, "batch_size": 3, "split": "val"},
    }
    return {**fields, **changes}


def written(folder, **changes):
    path = folder / "ablation.yaml"
    path.write_text(yaml.safe_dump(plain(**changes)), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "start"
    for part in build_model(BUILD, 0):
        part.save_pretrained(folder)
    return folder


class Killed(Exception):
    pass


def test_a_killed_ablation_goes_on_and_the_table_holds_what_has_finished(tmp_path, monkeypatch):
    """Killed in the second run's scoring: the first keeps its result, the second its weights, the rest follows."""
    file, output = written(tmp_path), tmp_path / "out"
    command = [file, "--output", str(output), "--cpu", "--only", "selector", "concat", "--keep-models"]
    score, scored = runs.score_model, []

    def dies_at_the_second(folder, *rest):
        scored.append(folder)
        if len(scored) == 2:
            raise Killed
        return score(folder, *rest)

    monkeypatch.setattr(runs, "score_model", dies_at_the_second)
    with pytest.raises(Killed):
        main(command)
    page = (output / "ablation.md").read_text()
    assert "1 of 6 runs have finished" in page and len(list((output / "results").iterdir())) == 1
    trained = load_file(scored[1] / "model.safetensors")
    monkeypatch.setattr(runs, "score_model", lambda folder, *rest: scored.append(folder) or score(folder, *rest))
    main(command)
    assert len(scored) == 5, "the finished run was not scored again"
    again = load_file(scored[2] / "model.safetensors")
    assert scored[2] == scored[1] and all(torch.equal(value, again[name]) for name, value in trained.items())
    results = read_results(load_yaml(AblationConfig, file), output)
    assert {(row["cell"], row["seed"]) for row in results} == {(c, s) for c in ("selector", "concat") for s in (0, 1)}
    assert all(0 <= row[name] <= 1 for row in results for name in ("rec", "sot", "rsot"))
    page = (output / "ablation.md").read_text()
    assert "4 of 6 runs have finished" in page and "both 2 steps" in page
    assert re.search(r"\| concat \| 4 \(1/4\) \| \d+\.\d ± \d+\.\d \| .* \| 2 \|", page)
    assert "| all | 16 (1) | - | - | - | - | 0 |" in page
    same_start_another_adapter(scored[0], scored[1], output)
    assert json.loads((output / "ablation.json").read_text())["limits"]["ceiling"] > 0.5
    with pytest.raises(SystemExit, match="another stages"):
        main([written(tmp_path, stages=plain()["stages"] * 1 + [to_plain(stage(name="more"))]), *command[1:]])


def same_start_another_adapter(first, second, output):
    """All cells begin with the start's tower and language model and an adapter of their own."""
    trained = load_file(output / "start" / "start" / "final" / "model.safetensors")
    for final in (first, second):
        began = load_file(final.parents[1] / "start" / "model.safetensors")
        for name, value in began.items():
            if part_of(name) in ("vision_tower", "language_model"):
                assert torch.equal(value, trained[name]), name
    assert ElysiumConfig.from_pretrained(second).compressor_type == "concat"


def test_a_new_adapter_is_of_its_seed(start):
    fields = {"compressor_type": "cross_attention", "num_image_tokens": 3}
    (one, processor), (same, _), (other, _) = (new_adapter(start, fields, seed) for seed in (1, 1, 2))
    assert processor.num_image_tokens == one.config.num_image_tokens == 3
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]), name
    moved = {
        part_of(name) for name, value in one.state_dict().items() if not torch.equal(value, other.state_dict()[name])
    }
    assert moved == {"selector", "multi_modal_projector"}


def test_mean_and_spread_by_hand(tmp_path):
    config = load_yaml(AblationConfig, written(tmp_path))
    rows = [
        {"cell": "concat", "seed": seed, "rec": rec, "sot": 0.5, "rsot": 0.25, "train_loss": 1.0, "seconds": None}
        for seed, rec in ((0, 0.4), (1, 0.6))
    ]
    summary = {cell["cell"]: cell for cell in summarize(config, rows)}["concat"]
    assert summary["rec"]["mean"] == pytest.approx(0.5) and summary["rec"]["std"] == pytest.approx(0.02**0.5)
    page = write_tables(config, rows, tmp_path, {"floor": 0.1, "ceiling": 0.9}, "somewhere", 16).read_text()
    line = "| concat | 4 (1/4) | 50.0 ± 14.1 | 50.0 ± 0.0 | 25.0 ± 0.0 | 1.000 ± 0.000 | 2 |"
    assert page.count(line) == 2 and "keeps the first box: 10.0%" in page
    one = write_tables(config, rows[:1], tmp_path, None, "somewhere", 16).read_text()
    assert "| concat | 4 (1/4) | 40.0 | 50.0 | 25.0 | 1.000 | 1 |" in one


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells": []}, "one or more"),
        ({"cells": [CELLS[0], CELLS[0]]}, "name of its own"),
        ({"seeds": []}, "seeds are"),
        ({"stages": []}, "no cell would learn"),
        ({"tables": {"A": ["selektor"]}}, r"names the cells \['selektor'\]"),
        ({"tables": {"A": ["concat", "all"]}}, r"\['selector'\] are in no table"),
        ({"cells": [{"name": "a/b", "elysium": {}}]}, "folder's"),
        ({"cells": [{"name": "a", "elysium": {"num_image_token": 4}}]}, "did you mean 'num_image_tokens'"),
        ({"cells": [{"name": "a", "elysium": {"vision_feature_layer": -1}}]}, "share the rest"),
        (
            {"cells": [{"name": "a", "elysium": {"compressor_type": "concat", "num_image_tokens": 6}}],
             "tables": {"A": ["a"]}},
            "cell 'a': num_image_tokens is 6",
        ),
        ({"evaluation": {"split": "train"}}, "'val' or 'test'"),
        ({"evaluation": {"clips": 0}}, "clips is 0"),
    ],
)  # fmt: skip
def test_slips_are_told_before_anything_trains(tmp_path, changes, message):
    with pytest.raises(SystemExit, match=message):
        main([written(tmp_path, **changes), "--output", str(tmp_path / "out"), "--cpu"])
    assert not (tmp_path / "out" / "start").exists()


def test_the_shipped_ablation_is_the_papers_table():
    config = load_yaml(AblationConfig, SHIPPED)
    vision = config.start.build.vision
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    kept = {config.cell(name).elysium["num_image_tokens"] / patches for name in list(config.tables.values())[1]}
    assert kept == {1 / 16, 1 / 8, 3 / 16, 1 / 2, 1}
    rows = [config.cell(name).elysium for name in list(config.tables.values())[0]]
    ways = {(r["compressor_type"], r.get("selector_scorer"), r.get("selector_gradient")) for r in rows}
    scorers = {("t_selector", scorer, learns) for scorer in ("mlp", "positional") for learns in (True, False)}
    assert ways == scorers | {(kind, None, None) for kind in ("concat", "cross_attention", "mlp")}
    assert {config.cell(n).elysium["position_ids_mode"] for n in list(config.tables.values())[2]} == {
        "packed",
        "original",
    }
    assert len(config.seeds) >= 3 and all("vision_tower" not in one.factors for one in config.stages)
