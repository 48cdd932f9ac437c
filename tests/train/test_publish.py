"""Publishing: a whole folder, and a card that tells of the model in it and of nothing else."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from dataset_scripts.records import ObjectTrack, VideoRecord, write_records
from processing_elysium import ElysiumProcessor
from train.card import model_card
from train.config import load_recipe
from train.miniature.build import build_model
from train.publish import publish
from train.sft import run_recipe

from .tiny_recipe import BUILD, TOWER, recipe, stage

ROOT = Path(__file__).resolve().parents[2]


def plain(one):
    """A recipe as the mappings, lists and numbers that YAML holds."""
    if dataclasses.is_dataclass(one):
        return {f.name: plain(getattr(one, f.name)) for f in dataclasses.fields(one)}
    if isinstance(one, dict):
        return {key: plain(value) for key, value in one.items()}
    return [plain(item) for item in one] if isinstance(one, list | tuple) else one


def test_publish(tmp_path):
    one = recipe(stage(name="a"), stage(name="later", tasks={"chat": 1.0}), tower=TOWER)
    one.tracking_defaults = {"single_pass_up_to": 8}
    final = run_recipe(dataclasses.replace(one, stages=one.stages[:1]), tmp_path / "run")
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(plain(one)))
    for _ in range(2):  # the second replaces the first
        publish(final, tmp_path / "shipped", tmp_path / "r.yaml")
    names = {p.name for p in (tmp_path / "shipped").iterdir()}
    assert {"config.json", "model.safetensors", "processor_config.json", "chat_template.jinja", "README.md"} <= names
    assert {"modeling_elysium.py", "pipeline_video_tracking.py", "processing_elysium.py"} <= names
    card = (tmp_path / "shipped" / "README.md").read_text()
    assert 'model="shipped"' in card and "| a | vision_tower, selector" in card
    assert "later" not in card and "not taught to" in card  # a stage that came after the published one
    processor = ElysiumProcessor.from_pretrained(tmp_path / "shipped")
    assert processor.tracking_defaults == {"single_pass_up_to": 8}
    taught = sorted({task for source in one.stages[0].sources for task in source.tasks})
    assert sorted(processor.trained_on["tasks"]) == taught and processor.trained_on["material"] == "drawn shapes"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.yaml", "run", "shipped"]


def written(tmp_path, sources, start):
    text = {"stages": [{"name": "s", "sources": sources, "arguments": {"max_steps": 7, "learning_rate": 0.003}}]}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**start, **text}))
    return model_card(build_model(BUILD, 0)[0], load_recipe(path), path, "mine")


def test_a_card_of_real_data_names_corpora_and_licenses(tmp_path):
    corpora = [("cats", "CC BY 4.0"), ("cats", "CC BY 4.0"), ("cats", None), ("dogs", "MIT"), ("left out", "MIT")]
    track = ObjectTrack(boxes=[[0, 0, 1, 1]], expression="the cat")
    rows = [
        VideoRecord(id=f"{i}", source=corpus, license=license, video="a.png", objects=[track])
        for i, (corpus, license) in enumerate(corpora)
    ]
    write_records(tmp_path / "pets.jsonl", rows)
    sources = [{"source": str(tmp_path / "pets.jsonl"), "tasks": {"rec": 1, "rsot": 1}, "limit": 4}]
    card = written(tmp_path, sources, {"model": "some/model"})
    assert "| cats (`pets.jsonl`) | 3 | rec, rsot | CC BY 4.0 (2); none stated (1) |" in card
    assert "| dogs (`pets.jsonl`) | 1 | rec, rsot | MIT (1) |" in card
    assert "license: other" in card and "started from `some/model`" in card
    assert "left out" not in card and "drawn" not in card and "random values" not in card
    assert "track an object from words and find an object in an image from words" in card


def test_a_card_of_the_miniature(tmp_path):
    sources = [{"source": "synthetic", "tasks": {"sot": 1}}, {"source": "gone.jsonl", "tasks": {"sot": 1}}]
    build = {name: getattr(BUILD, name) for name in ("vision", "text", "elysium", "vocab_size")}
    card = written(tmp_path, sources[:1], {"build": build})
    assert "license: apache-2.0" in card and "drawn shapes only" in card and "random values" in card
    parameters = sum(p.numel() for p in build_model(BUILD, 0)[0].parameters())
    assert f"{parameters / 1e6:.1f} million" in card
    assert "clip_vision_model, 56 x 56 pixels per frame, 16 patches" in card and "6 of 16 per frame" in card
    parts = "vision_tower, selector, multi_modal_projector, language_model"
    assert f"| s | {parts} | 1 | 6 | 7 | 8 | 0.003 |" in card
    assert "`gone.jsonl` | the file was not there" in written(tmp_path, sources, {"build": build})


RECIPES = [path for path in sorted((ROOT / "train" / "recipes").glob("*.yaml")) if path.stem != "small"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_shipped_recipes_have_a_card(path):
    card = model_card(build_model(BUILD, 0)[0], load_recipe(path), path, "elysium")
    assert card.isascii() and "None" not in card
    assert not [word for word in ("{parameters}", "{data}", "{limits}") if word in card]
