"""Training on planned batches: from files to a loss, on from a checkpoint, with text alone, and what is logged."""

import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dataset_scripts.records import ObjectTrack, VideoRecord, write_records
from modeling_elysium import ElysiumConfig
from train.batching import PlannedBatches
from train.collator import IGNORED
from train.config import SourceConfig
from train.estimate import Item, Shape, step_flops
from train.feed_config import FeedConfig, LossConfig
from train.meters import Means, Throughput, spread
from train.miniature.build import build_model
from train.sft import make_trainer, run_recipe

from .tiny_recipe import BUILD, PLAIN, recipe, stage, synthetic

FEED = FeedConfig(similar_lengths=True, window=8)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "start"
    for part in build_model(BUILD, 0):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """Conversations without pictures."""
    folder = tmp_path_factory.mktemp("talk")
    rows = [
        VideoRecord(
            id=f"t{i}",
            source="s",
            messages=[
                {"role": "user", "content": "How many? " * (1 + i)},
                {"role": "assistant", "content": f"{i} of them."},
            ],
        )
        for i in range(6)
    ]
    write_records(folder / "talk.jsonl", rows)
    return SourceConfig(source=str(folder / "talk.jsonl"), tasks={"chat": 1.0})


class Killed(Exception):
    pass


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_goes_on_without_reading_anything_twice(tmp_path, monkeypatch, workers):
    """Killed in step 5, after the checkpoint of step 3: the same weights and losses as undisturbed."""
    arguments = {**PLAIN, "max_steps": 6, "save_steps": 3, "logging_steps": 1, "gradient_accumulation_steps": 2}
    arguments["save_total_limit"] = 2
    one = recipe(stage(feed=FEED, arguments=arguments), workers=workers)
    took, whole_took = [], None
    note = PlannedBatches.took

    def noted(self, place):
        took.append((place["reader"], place["window"], place["batch"]))
        if len(took) == 9 and whole_took is not None and len(whole_took) == 12 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            raise Killed
        note(self, place)

    monkeypatch.setattr(PlannedBatches, "took", noted)
    whole = run_recipe(one, tmp_path / "whole")
    whole_took = list(took)
    assert len(set(whole_took)) == 12
    took.clear()
    with pytest.raises(Killed):
        run_recipe(one, tmp_path / "killed")
    took.clear()
    resumed = run_recipe(one, tmp_path / "killed")
    assert took == whole_took[6:]
    other = load_file(resumed / "model.safetensors")
    for name, value in load_file(whole / "model.safetensors").items():
        torch.testing.assert_close(value, other[name], atol=1e-6, rtol=1e-5)
    losses = [losses_of(tmp_path / name / "s" / "checkpoint-6") for name in ("whole", "killed")]
    np.testing.assert_allclose(*losses, atol=1e-5)
    state = json.loads((tmp_path / "whole/s/checkpoint-3/trainer_state.json").read_text())
    assert len(json.dumps(state["stateful_callbacks"]["FeedProgress"])) < 1000  # a small dictionary


def losses_of(checkpoint):
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def test_another_number_of_workers_cannot_go_on(tmp_path):
    arguments = {"max_steps": 2, "save_steps": 1}
    run_recipe(recipe(stage(feed=FEED, arguments=arguments)), tmp_path)
    final = tmp_path / "s" / "final"
    final.rename(tmp_path / "aside")
    (tmp_path / "s" / "checkpoint-2").rename(tmp_path / "s" / "checkpoint-1")
    longer = recipe(stage(feed=FEED, arguments={**arguments, "max_steps": 3}), workers=2)
    with pytest.raises(ValueError, match=r"written with 1 readers .* this run has 2"):
        run_recipe(longer, tmp_path)


def test_token_budgets_bound_the_batches(tmp_path, start):
    feed = FeedConfig(tokens_per_batch=1400, window=16)
    one = stage(batch_size=16, num_frames=(1, 3), feed=feed, arguments={"max_steps": 3})
    trainer = make_trainer(one, recipe(), start, tmp_path, use_cpu=True)
    sizes = [batch["input_ids"].shape for batch, _ in zip(trainer.get_train_dataloader(), range(12), strict=False)]
    assert all(rows * length <= 1400 for rows, length in sizes)
    assert len({rows for rows, _ in sizes}) > 1 and max(rows for rows, _ in sizes) > 2


def test_text_alone_trains_the_language_model_and_nothing_else(tmp_path, talk):
    arguments = {**PLAIN, "weight_decay": 0.0}
    final = run_recipe(recipe(stage(sources=[talk], num_frames=(1, 1), arguments=arguments)), tmp_path)
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "start", final))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("language_model" in name or "lm_head" in name for name in moved)


def test_text_and_pictures_in_one_planned_mixture(tmp_path, talk, start):
    one = stage(sources=[synthetic(), talk], feed=FEED, arguments={"max_steps": 4, "logging_steps": 4})
    trainer = make_trainer(one, recipe(), start, tmp_path, use_cpu=True)
    trainer.train()
    (entry,) = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert math.isfinite(entry["loss"])


def test_what_is_logged(tmp_path, start):
    """Means by task weigh to the loss, speed and shares are what the steps were."""
    tasks = {"sot": 1.0, "video_reg": 1.0}
    arguments = {**PLAIN, "max_steps": 2, "logging_steps": 2, "learning_rate": 0.0}
    one = stage(tasks=tasks, feed=FEED, arguments=arguments)
    trainer = make_trainer(one, recipe(), start, tmp_path, use_cpu=True)
    seen = []
    loss = trainer.compute_loss
    trainer.compute_loss = lambda model, inputs, *rest, **more: (
        seen.append(dict(inputs)) or loss(model, inputs, *rest, **more)
    )
    trainer.train()
    (entry,) = [entry for entry in trainer.state.log_history if "loss" in entry]
    counts = torch.zeros(7)
    for batch in seen:
        counts += torch.bincount(batch["task_ids"], minlength=7)
    both = (entry["loss_sot"] * counts[0] + entry["loss_video_reg"] * counts[2]) / counts.sum()
    per_batch = [int((batch["labels"] != IGNORED).sum()) for batch in seen]
    assert counts.sum() == sum(per_batch) and set(counts.nonzero().flatten().tolist()) == {0, 2}
    assert abs(float(both) - entry["loss"]) < 0.05 * entry["loss"]  # the loss is a mean of the two steps' means
    real = sum(int(batch["attention_mask"].sum()) for batch in seen)
    assert entry["padding_share"] == pytest.approx(1 - real / sum(batch["input_ids"].numel() for batch in seen))
    seconds = sum(batch["info"]["samples"] for batch in seen) / entry["samples_per_s"]
    assert entry["tokens_per_s"] * seconds == pytest.approx(real)
    assert 0 < entry["waiting_share"] < 1 and entry["memory_gib"] > 0.1 and 0 <= entry["box_iou"] <= 1
    assert 0.5 < entry["kept_token_entropy"] <= 1
    flops = entry["tflops_per_device"] * 1e12 * seconds
    assert flops == pytest.approx(sum(_by_hand(batch) for batch in seen), rel=1e-6)
    assert "mfu" not in entry  # a CPU's peak is not known


def _by_hand(batch):
    shape = Shape.of(build_model(BUILD, 0)[0].config)
    rows, labeled = len(batch["labels"]), int((batch["labels"] != IGNORED).sum())
    parts = dict.fromkeys(("vision_tower", "selector", "multi_modal_projector", "language_model"), 1.0)
    return sum(
        step_flops(shape, Item(batch["info"]["frames"] / rows, tokens, labeled / rows), parts, False)
        for tokens in batch["attention_mask"].sum(1).tolist()
    )


def test_evaluation_draws_fixed_samples_and_tells_tasks(tmp_path):
    arguments = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1, "report_to": ["tensorboard"]}
    one = stage(
        eval_sources=[synthetic({"rsot": 1.0}, split="val")], eval_items=3, eval_pictures=2, arguments=arguments
    )
    run_recipe(recipe(one), tmp_path)
    pictures = sorted((tmp_path / "s" / "pictures").iterdir())
    assert [path.name for path in pictures] == ["step-000001.png", "step-000002.png"]
    with Image.open(pictures[0]) as sheet:
        colors = {tuple(color) for color in np.asarray(sheet).reshape(-1, 3)}
    assert (230, 159, 0) in colors  # the truth is drawn
    history = json.loads(next((tmp_path / "s").glob("checkpoint-*/trainer_state.json")).read_text())["log_history"]
    assert all("eval_loss_rsot" in entry for entry in history if "eval_loss" in entry)
    assert list((tmp_path / "s").glob("runs/*/events.out.tfevents*"))


def test_broken_items_stop_the_run_with_their_list(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    tracks = [ObjectTrack(boxes=[[0.1, 0.2, 0.3, 0.4]], expression="it")]
    names = ["p.png"] * 3 + ["gone.png"]
    rows = [VideoRecord(id=f"r{i}", source="s", video=name, objects=tracks) for i, name in enumerate(names)]
    write_records(tmp_path / "r.jsonl", rows)
    mine = SourceConfig(source=str(tmp_path / "r.jsonl"), tasks={"rec": 1.0})
    for similar in (True, False):
        feed = FeedConfig(similar_lengths=similar, window=8, max_broken=0.0)
        one = stage(sources=[mine], num_frames=(1, 1), feed=feed, arguments={"max_steps": 9})
        with pytest.raises(ValueError, match="items cannot be used.*\n.*record 'r3'"):
            run_recipe(recipe(one), tmp_path / f"run-{similar}")


def test_weighted_losses_train(tmp_path):
    losses = {}
    for name, loss in {"plain": LossConfig(), "weighted": LossConfig(number_weight=2.0, iou_weight=1.0)}.items():
        one = stage(tasks={"rsot": 1.0}, loss=loss, arguments={**PLAIN, "max_steps": 1, "logging_steps": 1})
        run_recipe(recipe(one), tmp_path / name)
        (losses[name],) = losses_of(tmp_path / name / "s" / "checkpoint-1")
    assert losses["weighted"] > 1.2 * losses["plain"]


def test_a_stage_beyond_the_context_is_refused_before_it_trains(tmp_path, start):
    one = stage(name="long", num_frames=(32, 32), turns=4)
    config = ElysiumConfig.from_pretrained(start)
    config.text_config.max_position_embeddings = 600
    folder = tmp_path / "short"
    model, processor = build_model(BUILD, 0)
    model.config.text_config.max_position_embeddings = 600
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    with pytest.raises(ValueError, match="stage 'long': 32 frames x 6 tokens .* knows 600 positions"):
        make_trainer(one, recipe(), folder, tmp_path / "out", use_cpu=True)


# --------------------------------------------------------------------------------------------------------------
# meters
# --------------------------------------------------------------------------------------------------------------
class Alone:
    """An accelerator of one process."""

    num_processes = 1

    @staticmethod
    def reduce(value, reduction):
        return value


def test_means_by_name_and_group():
    means = Means(("a", "b", "c"), "cpu")
    means.add("c", torch.tensor([True, False, True, True]))
    means.add_by(("a", "b"), torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0, 1, 0]))
    assert means.read(Alone) == {"a": 3.5, "b": 2.0, "c": 0.75}
    assert means.read(Alone) == {}


def test_speed_is_empty_before_a_step_and_counts_waiting():
    meter = Throughput(torch.device("cpu"))
    assert meter.read(Alone) == {}
    meter.begin()
    meter.has_data()
    meter.add({"samples": 2, "tokens": 30, "frames": 4, "skipped": ["x"]}, 40, 1e6)
    meter.end()
    found = meter.read(Alone)
    assert found["padding_share"] == 0.25 and found["skipped_items"] == 1
    assert found["tokens_per_s"] / found["samples_per_s"] == pytest.approx(15)
    assert meter.read(Alone) == {}


def test_spread_tells_a_collapsed_selector():
    even, one_choice = torch.ones(64), torch.zeros(64)
    one_choice[:16] = 5
    assert spread(even) == pytest.approx(1)
    assert spread(one_choice) == pytest.approx(math.log(16) / math.log(64))


def test_the_default_logger_is_there():
    from train.arguments import training_arguments

    one = stage()
    one.arguments.pop("report_to")
    given = training_arguments(one, recipe(), Path("out"), use_cpu=True)
    assert given.report_to == ["tensorboard"]
    assert logging.getLogger("tensorboard") is not None


# Trains on planned batches in this process and notes what it read. Run by torchrun, not collected by pytest.
WORKER = """
import json, os, pathlib, sys
import torch
torch.set_num_threads(1)
from tests.train.test_feed import two_processes
from train.batching import PlannedBatches
from train.sft import run_recipe

took = []
note = PlannedBatches.took
def noted(self, place):
    took.append([place[key] for key in ("reader", "window", "batch")])
    note(self, place)
PlannedBatches.took = noted
out = pathlib.Path(sys.argv[1])
run_recipe(two_processes(int(sys.argv[2])), out)
(out / f"took-{sys.argv[2]}-{os.environ['RANK']}.json").write_text(json.dumps(took))
"""


def two_processes(steps):
    arguments = {**PLAIN, "max_steps": steps, "save_steps": 2, "save_total_limit": 2}
    arguments |= {"lr_scheduler_type": "constant"}
    return recipe(stage(feed=FEED, arguments=arguments))


@pytest.mark.slow
def test_two_processes_go_on_where_each_was(tmp_path):
    """Stopped after two steps and gone on to four: each process reads on in windows of its own."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def launch(out, steps):
        options = {"cwd": root, "env": environment, "capture_output": True, "text": True, "timeout": 600}
        done = subprocess.run([*command, str(out), str(steps)], **options)
        assert done.returncode == 0, done.stderr[-3000:]
        return [json.loads((out / f"took-{steps}-{rank}.json").read_text()) for rank in range(2)]

    whole = launch(tmp_path / "whole", 4)
    stopped = launch(tmp_path / "stopped", 2)
    (tmp_path / "stopped/s/final").rename(tmp_path / "aside")
    rest = launch(tmp_path / "stopped", 4)
    for rank in range(2):
        assert stopped[rank] + rest[rank] == whole[rank]
        assert {reader for reader, _, _ in whole[rank]} == {rank}
    weights = [load_file(tmp_path / name / "s/final/model.safetensors") for name in ("whole", "stopped")]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=1e-6, rtol=1e-5)
