"""One batch of all sources at once trains: what adapters write is what training reads, whatever the corpus."""

import json
import math

import torch
from safetensors.torch import load_file

from dataset_scripts.adapters import load_adapter
from dataset_scripts.adapters.command import main
from tests.train.tiny_recipe import recipe, stage
from train.config import SourceConfig
from train.data import ConversationSource
from train.sft import run_recipe

from . import my_miniatures
from .contact_sheet import CORPORA

BATCH = 48


def tasks_of(name):
    """The tasks that the adapter names at its top."""
    named = load_adapter(name).__doc__.split("Tasks: ")[1].split(".")[0].replace(";", ",")
    return {task.strip().split(" ")[0]: 1.0 for task in named.split(",")}


def written(folder):
    """A source of every corpus and one of the drawn exports."""
    sources = []
    for name, make in {**CORPORA, "my-boxes": my_miniatures.cvat}.items():
        (folder / name).mkdir()
        path, options = make(folder / name)
        out = folder / f"{name}.jsonl"
        more = ["--extract-to", str(options["extract_to"])] if options else []
        assert main([name, str(path), "--out", str(out), *more]) == 0
        tasks = {"sot": 1.0, "rsot": 1.0} if name == "my-boxes" else tasks_of(name)
        sources.append(SourceConfig(source=str(out), tasks=tasks))
    return sources


def test_one_batch_of_all_sources_trains_two_steps(tmp_path):
    (tmp_path / "data").mkdir()
    mixed = stage(batch_size=BATCH, sources=written(tmp_path / "data"), num_frames=(2, 3))
    source = ConversationSource(stage=mixed, batch_size=BATCH)
    assert {source.mixture.locate(item)[0] for item in range(BATCH)} == set(range(len(mixed.sources)))
    asked = {json.dumps(source[item]["messages"][-1]["content"]) for item in range(BATCH)}
    assert len(asked) > len(mixed.sources)  # the answers of the batch
    final = run_recipe(recipe(mixed), tmp_path / "run")
    before, after = load_file(tmp_path / "run" / "start" / "model.safetensors"), load_file(final / "model.safetensors")
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert all(math.isfinite(float(value.abs().sum())) for value in after.values())
