"""Publishing the small model: what is stored how, what is loaded, and a card that holds measured numbers only."""

import json
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import pipeline

from tests.train.small.tiny_data import CC, RESEARCH, write_material, write_sprites
from train.small import pool as pool_module
from train.small.build import build_small
from train.small.card import examples_per_row, model_card
from train.small.material import Material
from train.small.publish import TRAINED_ON, main

from .test_examples import FlatTower
from .test_small_training import ELYSIUM, TEXT

BOX = (20, 20, 60, 60)
FRAMES = [np.random.default_rng(n).integers(0, 255, (90, 160, 3), dtype=np.uint8) for n in range(3)]


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "model"
    model, processor = build_small(["a bright thing", "lamp"], TEXT, ELYSIUM, vocab_size=900)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory, source, material):
    folder = tmp_path_factory.mktemp("out") / "mine"
    folder.mkdir()
    (folder / "stale.txt").write_text("")
    main([str(source), str(folder), "--data", str(material)])
    return folder


def test_the_tower_is_stored_in_half_and_all_is_loaded_in_full(published, source):
    names = {path.name for path in published.iterdir()}
    assert "stale.txt" not in names and {"README.md", "pipeline_video_tracking.py", "zoom.py"} <= names
    assert [path.name for path in published.parent.iterdir()] == ["mine"]
    with safe_open(published / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            wanted = "BF16" if "vision_tower." in name else "F32"
            assert file.get_slice(name).get_dtype() == wanted, name
    pipe = pipeline("video-tracking", model=str(published), device="cpu")
    before = pipeline("video-tracking", model=str(source), device="cpu").model.state_dict()
    for name, value in pipe.model.state_dict().items():
        was = before[name].to(torch.bfloat16).float() if "vision_tower." in name else before[name]
        assert value.dtype == torch.float32 and torch.equal(value, was), name


def test_boxes_are_those_of_the_model_before_but_for_the_towers_rounding(published, source):
    before = pipeline("video-tracking", model=str(source), device="cpu")
    for name, value in before.model.state_dict().items():
        if "vision_tower." in name:
            value.copy_(value.to(torch.bfloat16).float())
    before.processor.absent_boxes = True
    after = pipeline("video-tracking", model=str(published), device="cpu")
    assert after(FRAMES, box=BOX) == before(FRAMES, box=BOX, zoom=True, gap_policy="hold")


def test_the_processor_says_what_it_was_taught(published):
    pipe = pipeline("video-tracking", model=str(published), device="cpu")
    assert pipe.processor.absent_boxes and pipe.processor.tracking_defaults == {
        "zoom": True,
        "looks": 3,
        "gap_policy": "hold",
    }
    assert pipe.processor.trained_on == TRAINED_ON
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe(FRAMES, box=BOX)
        pipe(FRAMES, box=BOX, task="describe", max_new_tokens=2)
    with pytest.warns(UserWarning, match="not trained to answer questions"):
        pipe.ask(FRAMES, "What?", max_new_tokens=2)


def header(card):
    return yaml.safe_load(card.split("---")[1])


def test_the_card_names_every_row_and_its_terms(published):
    card = (published / "README.md").read_text()
    rows = [line for line in card.splitlines() if line.startswith("| drawn |")]
    assert sorted(rows) == sorted(
        [f"| drawn | image | 3 | {CC} |", f"| drawn | video | 1 | {CC} |", f"| drawn | video | 1 | {RESEARCH} |"]
    )
    about = header(card)
    assert (about["license"], about["pipeline_tag"]) == ("other", "video-text-to-text")
    assert about["base_model"] == "facebook/dinov2-small" and "video-tracking" in about["tags"]
    assert "Research use only" in card and "No numbers came with this card" in card and 'model="mine"' in card
    assert "{" not in card.replace("{sources}", "").split("```")[0]


def test_open_rows_alone_are_free(source, material, tmp_path):
    main([str(source), str(tmp_path / "free"), "--data", str(material), "--open-only"])
    card = (tmp_path / "free" / "README.md").read_text()
    assert header(card)["license"] == "apache-2.0"
    assert RESEARCH not in card and "Research use only" not in card


def test_the_card_counts_examples_and_tells_numbers_of_the_file(material, tmp_path, monkeypatch):
    monkeypatch.setattr(pool_module, "SHARD_EXAMPLES", 8)
    (tmp_path / "pool").mkdir()
    sprites = [json.loads(line) for line in (write_sprites(tmp_path / "s") / "sprites.jsonl").read_text().splitlines()]
    train = Material(material, "train")
    pool_module._write_shard(tmp_path / "pool", 0, train, FlatTower(), 0, None)
    counts = examples_per_row([tmp_path / "pool"])
    assert counts.total() == 8 > examples_per_row([tmp_path / "pool"], open_only=True).total()
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"measured": "now", "tables": [{"title": "OPE", "rows": [{"AUC": 0.5}]}]}))
    model, _ = build_small(["lamp"], TEXT, ELYSIUM, vocab_size=900)
    card = model_card(model, train, "mine", counts + Counter({("pasted", 0): 3}), sprites, results)
    assert f"| drawn | image | 3 | {sum(counts['image', i] for i in range(3))} | {CC} |" in card
    assert "(3 of the examples): 0 emoji" in card and "and 2 objects cut out" in card
    assert "Measured: now.\n\nOPE\n\n| AUC |\n| --- |\n| 0.5 |" in card
    results.write_text(json.dumps({"auc": 0.5}))
    with pytest.raises(ValueError, match="lacks 'measured'; its form is"):
        model_card(model, train, "mine", results=results)


@pytest.mark.parametrize("wrong, says", [(0, "holds no model; train it first"), (1, "holds no records.jsonl")])
def test_what_is_missing_is_named(source, material, tmp_path, wrong, says):
    given = [str(source), str(material)]
    given[wrong] = str(tmp_path)
    with pytest.raises(SystemExit, match=says):
        main([given[0], str(tmp_path / "out"), "--data", given[1]])
