"""Publishing: a whole folder, and a card that tells of the model in it and of nothing else."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from dataset_scripts.records import ObjectTrack, VideoRecord, write_records
from processing_elysium import ElysiumProcessor
from train.card import model_card
from train.config import Recipe, load_recipe
from train.finish import push_folder
from train.miniature.build import build_model
from train.plain import from_plain
from train.plain import to_plain as plain
from train.publish import main as publish_main
from train.publish import publish
from train.sft import main, run_recipe

from .tiny_recipe import BUILD, SHIPPED, TOWER, recipe, stage, synthetic


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


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_recipes_have_a_card(path):
    card = model_card(build_model(BUILD, 0)[0], load_recipe(path), path, "elysium")
    assert card.isascii() and "None" not in card
    assert not [word for word in ("{parameters}", "{data}", "{limits}") if word in card]


class RecordedHub:
    """The two calls of `HfApi` that an upload makes; what was sent is looked at as it was sent."""

    def __init__(self):
        self.repos, self.files = {}, {}

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        self.repos.setdefault(repo_id, private)

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        assert repo_id in self.repos and commit_message
        self.files = {p.name: p.read_bytes() for p in Path(folder_path).iterdir()}
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")


@pytest.fixture
def hub(monkeypatch):
    hub = RecordedHub()
    monkeypatch.setattr("train.finish.HfApi", lambda: hub)
    return hub


def test_the_end_of_a_stage_is_a_whole_folder_that_goes_to_the_hub(tmp_path, hub, capsys):
    given = {"eval_strategy": "steps", "eval_steps": 1, "logging_steps": 1, "metric_for_best_model": "loss"}
    one = recipe(
        stage(name="a", eval_sources=[synthetic(split="val")], eval_items=3, arguments=given), stage(name="b")
    )
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(plain(one)))
    command = [str(tmp_path / "r.yaml"), "--output", str(tmp_path / "run"), "--cpu", "--only", "a"]
    main([*command, "--push-to-hub", "me/mine"])
    assert "uploaded: https://huggingface.co/me/mine/commit/1" in capsys.readouterr().out
    assert hub.repos == {"me/mine": True}  # private
    assert {"config.json", "model.safetensors", "processor_config.json", "pipeline_video_tracking.py"} <= set(
        hub.files
    )
    card = hub.files["README.md"].decode()
    metrics = json.loads(hub.files["metrics.json"])
    assert metrics["steps"] == 2 and metrics["evaluation"]["loss"] > 0 and metrics["engine"] == "1 process"
    assert f"| evaluation: loss | {metrics['evaluation']['loss']:.4f} |" in card
    assert f"| loss, mean of the last logs | {metrics['train_loss']:.4f} |" in card
    assert "| a | vision_tower" in card and "| b |" not in card and "None" not in card  # b had no part in it
    (told,) = from_plain(Recipe, yaml.safe_load(hub.files["recipe.yaml"]), "recipe.yaml").stages
    assert told == one.stages[0]


def test_published_numbers_come_from_the_stage(tmp_path, hub, capsys):
    one = recipe(stage(name="a"))
    final = run_recipe(one, tmp_path / "run")
    publish_main([str(final), str(tmp_path / "shipped"), "--push-to-hub", "me/mine"])
    assert "uploaded: https://huggingface.co/me/mine" in capsys.readouterr().out
    assert "| steps | 2 |" in hub.files["README.md"].decode()
    assert hub.files["metrics.json"] == (final / "metrics.json").read_bytes()
    (final / "recipe.yaml").unlink()
    with pytest.raises(SystemExit, match="name the recipe with --recipe"):
        publish_main([str(final), str(tmp_path / "shipped")])


def test_an_unfinished_folder_is_not_uploaded(tmp_path, hub):
    with pytest.raises(ValueError, match="holds no finished model"):
        push_folder(tmp_path, "me/mine", hub)
    assert not hub.repos


def test_a_finished_stage_tracks_where_our_packages_are_not(tmp_path):
    """The folder as it stands, without `train.publish`, loads with its own code."""
    final = run_recipe(recipe(stage(name="a")), tmp_path / "run")
    script = (
        "import sys, numpy as np\n"
        "from transformers import pipeline\n"
        "assert 'tracking_elysium' not in sys.modules\n"
        f"pipe = pipeline('video-tracking', model={str(final)!r}, trust_remote_code=True)\n"
        "frames = [np.zeros((56, 56, 3), np.uint8)] * 2\n"
        "print(len(pipe(frames, box=(5, 5, 20, 20))))\n"
    )
    environment = {**os.environ, "PYTHONPATH": "", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip().endswith("2"), done.stdout + done.stderr[-2000:]
