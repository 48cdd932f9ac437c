"""Killed at any moment, the same command ends with the same loss; no half checkpoint is ever taken."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from train.checkpoints import PART, newest_checkpoint
from train.plain import to_plain
from train.sft import run_recipe
from train.trainer import ElysiumTrainer

from .tiny_recipe import recipe, stage, synthetic

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6
# Runs train.sft and kills itself as `kill -9` does, at the moment that the first argument names.
WORKER = """
import os, signal, sys
sys.path.insert(0, {root!r})
import torch
from train import checkpoints, finish
from train.sft import main
from train.trainer import ElysiumTrainer

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

where, *arguments = sys.argv[1:]
step, save, count = ElysiumTrainer.training_step, torch.save, 0
def training_step(self, *args, **kwargs):
    return die() if self.state.global_step == 4 else step(self, *args, **kwargs)
def torch_save(value, file, *args, **kwargs):  # the optimizer's state of the checkpoint of step 4
    if str(file).endswith("checkpoint-4/optimizer.pt"):
        with open(file, "wb") as half:
            half.write(b"half")
        die()
    return save(value, file, *args, **kwargs)
if where == "step":
    ElysiumTrainer.training_step = training_step
elif where == "save":
    torch.save = torch_save
elif where == "rename":
    checkpoints.os.replace = lambda a, b: die() if "checkpoint-4" in str(a) else os.rename(a, b)
elif where == "rotation":
    checkpoints.rotate_checkpoints = lambda folder, *rest: die() if "checkpoint-4" in os.listdir(folder) else None
elif where == "final":
    finish.write_card = die
    from train import sft
    sft.write_card = die
main(arguments)
"""


def long_recipe():
    arguments = {"max_steps": STEPS, "save_steps": 2, "logging_steps": 1}
    one = stage(arguments=arguments, num_frames=(1, 2), sources=[synthetic(objects=[1, 2])])
    return recipe(one)


def losses(folder):
    state = json.loads((folder / "s" / f"checkpoint-{STEPS}" / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def launch(folder, where):
    path = folder / "worker.py"
    path.write_text(WORKER.format(root=str(ROOT)))
    (folder / "r.yaml").write_text(yaml.safe_dump(to_plain(long_recipe())))
    command = [sys.executable, str(path), where, str(folder / "r.yaml"), "--output", str(folder / "run"), "--cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = launch(folder, "never")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("where", ["step", "save", "rename", "rotation", "final"])
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path, undisturbed, where):
    killed = launch(tmp_path, where)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    run = tmp_path / "run"
    assert not (run / "s/final").exists()
    at = {"step": 4, "save": 2, "rename": 2, "rotation": 4, "final": STEPS}[where]
    assert newest_checkpoint(run / "s").endswith(f"checkpoint-{at}")
    if where == "save":
        assert (run / "s" / PART / "checkpoint-4/optimizer.pt").read_bytes() == b"half"
    done = launch(tmp_path, "never")
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"starts from {run / 's'}/checkpoint-{at}" in done.stdout
    expected, found = losses(undisturbed), losses(run)
    assert len(found) == STEPS and found == pytest.approx(expected, abs=1e-5)
    whole = load_file(undisturbed / "s/final/model.safetensors")
    for name, value in load_file(run / "s/final/model.safetensors").items():
        torch.testing.assert_close(value, whole[name], atol=1e-6, rtol=1e-5)
    assert sorted(p.name for p in (run / "s").iterdir()) == ["README.md", f"checkpoint-{STEPS}", "final"]


def test_torn_and_foreign_folders_are_passed_over(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for name, text in (("checkpoint-2", "{}"), ("checkpoint-30", '{"global_'), ("checkpoint-4.part", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text(text)
    (tmp_path / "checkpoint-9").mkdir()
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-10/trainer_state.json").write_text("{}")
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")  # by number, not by name


def evaluated(limit, load_best):
    arguments = {
        "max_steps": 4, "save_steps": 1, "save_total_limit": limit, "eval_strategy": "steps", "eval_steps": 1,
        "learning_rate": 5.0, "optim": "sgd", "max_grad_norm": 1e9, "metric_for_best_model": "loss",
        "greater_is_better": False, "load_best_model_at_end": load_best,
    }  # fmt: skip
    return stage(arguments=arguments, eval_sources=[synthetic(split="val")], eval_items=3)


def test_the_best_checkpoint_is_kept_and_becomes_the_model(tmp_path):
    """A learning rate that is far too high: an early step is the best, and only that keeps its checkpoint."""
    final = run_recipe(recipe(evaluated(limit=2, load_best=True)), tmp_path)
    metrics = json.loads((final / "metrics.json").read_text())
    best = metrics["best"]["step"]
    kept = sorted(p.name for p in (tmp_path / "s").glob("checkpoint-*"))
    assert best < 4 and kept == sorted({f"checkpoint-{best}", "checkpoint-4"})
    state = json.loads((tmp_path / "s/checkpoint-4/trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / f"s/checkpoint-{best}")
    expected = load_file(tmp_path / f"s/checkpoint-{best}/model.safetensors")
    last = load_file(tmp_path / "s/checkpoint-4/model.safetensors")
    for name, value in load_file(final / "model.safetensors").items():
        torch.testing.assert_close(value, expected[name])
    assert any((expected[name] != last[name]).any() for name in expected)


def test_rotation_keeps_the_newest(tmp_path):
    arguments = {"max_steps": 5, "save_steps": 1, "save_total_limit": 3}
    run_recipe(recipe(stage(arguments=arguments)), tmp_path)
    names = sorted(p.name for p in (tmp_path / "s").iterdir() if p.is_dir())
    assert names == ["checkpoint-3", "checkpoint-4", "checkpoint-5", "final"]


def test_a_full_disk_is_told_and_leaves_earlier_checkpoints(tmp_path, monkeypatch):
    save = ElysiumTrainer._save_optimizer_and_scheduler

    def full(self, folder):
        if "checkpoint-4" in folder:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, folder)

    monkeypatch.setattr(ElysiumTrainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(OSError, match="the disk is full: checkpoint-4 was not written"):
        run_recipe(long_recipe(), tmp_path)
    assert sorted(p.name for p in (tmp_path / "s").glob("*/")) == ["checkpoint-2"]
    monkeypatch.setattr(ElysiumTrainer, "_save_optimizer_and_scheduler", save)
    assert (run_recipe(long_recipe(), tmp_path) / "config.json").exists()
