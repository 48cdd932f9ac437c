"""Two processes (gloo) train as one does: they share the items out, and one of them writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from train.sft import run_recipe

from .tiny_recipe import PLAIN, recipe, stage, synthetic

ROOT = Path(__file__).resolve().parents[2]
# Trains a recipe in this process and notes which items it read. Run by torchrun, not collected by pytest.
WORKER = """
import json, os, pathlib, sys
import torch
torch.set_num_threads(1)
from tests.train.test_processes import one_recipe
from train.data import ConversationSource
from train.sft import run_recipe
from train.trainer import ElysiumTrainer

read = [[]]  # of each stage; the first list takes what the trainers look at beforehand
item, train = ConversationSource.__getitem__, ElysiumTrainer.train
ConversationSource.__getitem__ = lambda self, number: read[-1].append(number) or item(self, number)
def noted(self, **options):
    read.append([])
    train(self, **options)
    read.insert(0, read.pop())
ElysiumTrainer.train = noted
out, batch_size, accumulated = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
run_recipe(one_recipe(batch_size, accumulated), out)
(out / f"read-{os.environ['RANK']}.json").write_text(json.dumps(read[:-1]))
"""


def one_recipe(batch_size, accumulated):
    arguments = {**PLAIN, "max_steps": 2, "gradient_accumulation_steps": accumulated, "save_steps": 1}
    sources = [synthetic(objects=[3, 3])]
    settings = {"batch_size": batch_size, "arguments": arguments, "num_frames": (2, 2), "sources": sources}
    return recipe(stage(name="a", **settings), stage(name="b", **settings))


def launch(folder, batch_size, accumulated):
    script = folder / "worker.py"
    script.write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = [str(folder / "out"), str(batch_size), str(accumulated)]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "out"


@pytest.mark.slow
@pytest.mark.parametrize("accumulated", [1, 2])
def test_two_processes_train_as_one(tmp_path, accumulated):
    """The same global batch in one process and in two: the same weights after two stages, and no item twice."""
    whole = run_recipe(one_recipe(4, accumulated), tmp_path / "whole")
    out = launch(tmp_path, 2, accumulated)
    read = [json.loads((out / f"read-{rank}.json").read_text()) for rank in range(2)]
    for mine, other in zip(*read, strict=True):  # of each of the two stages
        assert len(mine) == len(other) == 4 * accumulated
        assert sorted(mine + other) == list(range(8 * accumulated))
    shared = load_file(out / "b" / "final" / "model.safetensors")
    for name, value in load_file(whole / "model.safetensors").items():
        torch.testing.assert_close(value, shared[name], atol=1e-6, rtol=1e-4)
    assert sorted(p.name for p in (out / "b").iterdir()) == ["README.md", "checkpoint-2", "final"]
    assert {"config.json", "model.safetensors", "processor_config.json"} <= {
        p.name for p in (out / "b/final").iterdir()
    }
