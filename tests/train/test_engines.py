"""One process, two, DeepSpeed and FSDP2 train alike; and the traps of sharded training stay closed."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled, set_hf_deepspeed_config

from modeling_elysium import ElysiumForConditionalGeneration
from tests.modeling.tiny_models import tiny_model
from train.collator import ConversationCollator
from train.engines import check_loaded, name_layers, unsharded, with_a_frame
from train.miniature.build import build_model
from train.parts import part_of
from train.plain import to_plain
from train.sft import make_trainer, run_recipe

from .tiny_recipe import BUILD, PLAIN, recipe, stage, synthetic

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["selector", "multi_modal_projector"]
STEPS = 3
ENGINES = ["two_processes", "zero2", "zero3", "zero3_offload", "fsdp2"]
# Largest difference from one process, in float32: of the loss, relative; of weights after six steps.
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 1e-5, 1e-6
# Runs train.sft. accelerate takes FSDP for a matter of GPUs; here it is told that these processes have some.
WORKER = """
import os, sys
sys.path.insert(0, {root!r})
import torch
from tests.train.test_engines import text_only
fsdp, texts, *arguments = sys.argv[1:]
if fsdp == "fsdp2":
    from accelerate.state import DistributedType, PartialState
    PartialState._prepare_backend = lambda *args: ("gloo", DistributedType.MULTI_GPU)
    PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))
    torch.distributed.init_process_group("gloo")
if texts == "texts":
    text_only(lambda call: int(os.environ["RANK"]) == 1)
from train.sft import main
main(arguments)
"""


# DeepSpeed compiles what it needs at its first use: done here beforehand, since a launch that runs out of time in
# the midst of it would leave a lock that the next one waits for.
KERNELS = """
from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder
ShareMemCommBuilder().load()
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}


@cache
def build_kernels():
    """Compile DeepSpeed's kernels for the CPU, unless they are there: some twenty seconds on an idle machine."""
    call([sys.executable, "-c", KERNELS], timeout=1800)


def call(command, timeout):
    """Run a command from the root; a launcher that runs out of time is asked to end its workers, too."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)
    try:
        out, error = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait(60)
        raise
    assert process.returncode == 0, out[-1000:] + error[-4000:]


def text_only(asked):
    """Take the frames out of the batches for which `asked(number of the call)` is true."""
    collate, calls = ConversationCollator.__call__, iter(range(1000))

    def without_frames(self, samples):
        batch = collate(self, samples)
        if not asked(next(calls)):
            return batch
        del batch["pixel_values"]
        stay = batch["input_ids"] != self.processor.image_token_id
        cut = {name: batch[name][stay].view(len(stay), -1) for name in ("input_ids", "attention_mask", "labels")}
        return {**batch, **cut}  # the rest is about labeled tokens, of which none goes

    ConversationCollator.__call__ = without_frames


def two_stages(batch_size, **changes):
    arguments = {**PLAIN, "max_steps": STEPS, "save_steps": 2, "logging_steps": 1}
    sources = [synthetic(objects=[3, 3])]
    settings = {"batch_size": batch_size, "arguments": arguments, "num_frames": (2, 2), "sources": sources}
    settings |= {"global_batch_size": 4, **changes}
    return recipe(stage(name="a", **settings), stage(name="b", train=SMALL, **settings))


def launch(folder, engine, texts="frames"):
    if engine.startswith("zero"):
        if find_spec("deepspeed") is None:
            pytest.skip("DeepSpeed is not installed")
        build_kernels()
    (folder / "worker.py").write_text(WORKER.format(root=str(ROOT)))
    (folder / "r.yaml").write_text(yaml.safe_dump(to_plain(two_stages(2))))
    worker = [
        str(folder / "worker.py"),
        engine,
        texts,
        str(folder / "r.yaml"),
        "--output",
        str(folder / "run"),
        "--cpu",
    ]
    if engine == "two_processes":
        launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    else:
        config = f"train/accelerate/{engine}.yaml"
        launcher = ["accelerate.commands.launch", "--config_file", config, "--num_processes", "2"]
        launcher += ["--main_process_port", "0"]
    call([sys.executable, "-m", *launcher, *worker], timeout=600)
    return folder / "run"


def losses(run):
    states = [json.loads((run / name / f"checkpoint-{STEPS}/trainer_state.json").read_text()) for name in "ab"]
    return [entry["loss"] for state in states for entry in state["log_history"] if "loss" in entry]


def same(run, reference):
    """Largest differences of losses (relative) and of weights; names must be the same."""
    found, expected = losses(run), losses(reference)
    assert len(found) == len(expected) == 2 * STEPS
    loss = max(abs(a - b) / b for a, b in zip(found, expected, strict=True))
    weight = 0.0
    for name in "ab":
        ours, theirs = (load_file(folder / name / "final/model.safetensors") for folder in (run, reference))
        assert ours.keys() == theirs.keys()
        weight = max(weight, *((ours[key] - theirs[key]).abs().max().item() for key in ours))
    return loss, weight


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    run_recipe(two_stages(4), folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_all_engines_train_alike(tmp_path, one_process, engine):
    """Loss and weights of one process; in the second stage the frozen parts stay; the result loads and is told of."""
    run = launch(tmp_path, engine)
    loss, weight = same(run, one_process)
    print(f"{engine}: loss {loss:.1e}, weights {weight:.1e}")
    assert loss < LOSS_TOLERANCE and weight < WEIGHT_TOLERANCE
    before, after = (load_file(run / name / "final/model.safetensors") for name in "ab")
    for name, start in before.items():
        assert torch.equal(start, after[name]) == (part_of(name) not in SMALL), name
    _, report = ElysiumForConditionalGeneration.from_pretrained(run / "b/final", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    told = json.loads((run / "b/final/metrics.json").read_text())
    words = {"two_processes": "2 processes", "zero2": "DeepSpeed ZeRO-2", "fsdp2": "FSDP2"}
    assert told["engine"] == words.get(engine, "DeepSpeed ZeRO-3") and told["global_batch_size"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["two_processes", "zero3", "fsdp2"])
def test_a_process_without_frames_neither_hangs_nor_changes_anything(tmp_path, engine, monkeypatch):
    """Every second batch has no frames: in one process in turn, in two always those of the same process."""
    monkeypatch.setattr(ConversationCollator, "__call__", ConversationCollator.__call__)  # undone afterwards
    text_only(lambda call: call % 2 == 1)
    run_recipe(two_stages(2), tmp_path / "one")
    loss, weight = same(launch(tmp_path, engine, "texts"), tmp_path / "one")
    assert loss < LOSS_TOLERANCE and weight < WEIGHT_TOLERANCE


@pytest.mark.parametrize("mode", ["packed", "original"])
def test_a_masked_frame_changes_neither_loss_nor_gradients(mode):
    model = tiny_model(position_ids_mode=mode)
    torch.manual_seed(0)
    ids = torch.randint(5, 30, (2, 7))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}
    batch["attention_mask"][1, :2] = 0
    batch["labels"][1, :3] = -100
    grown = with_a_frame(batch, model.config)
    assert grown["input_ids"].shape == (2, 7 + model.config.num_image_tokens)
    assert "pixel_values" not in batch  # what was given is as it was
    results = []
    for inputs in (batch, grown):
        model.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        results.append((loss.detach(), {n: p.grad for n, p in model.named_parameters()}))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-6, rtol=1e-6)
    for name, gradient in results[1][1].items():
        if part_of(name) == "language_model":
            torch.testing.assert_close(gradient, results[0][1][name], atol=1e-6, rtol=1e-5)
        else:
            assert results[0][1][name] is None and gradient is not None and not gradient.any(), name


def test_a_batch_with_frames_stays():
    batch = {"input_ids": torch.zeros(1, 3), "pixel_values": torch.zeros(1, 3, 8, 8)}
    assert with_a_frame(batch, tiny_model().config) is batch


def test_the_trainer_takes_a_batch_without_frames(tmp_path):
    for part in build_model(BUILD, 0):
        part.save_pretrained(tmp_path / "start")
    trainer = make_trainer(stage(), recipe(), tmp_path / "start", tmp_path / "out", use_cpu=True)
    ids = torch.randint(5, 30, (2, 7))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}
    trainer.compute_loss(trainer.model, batch).backward()
    assert all(p.grad is not None for p in trainer.model.parameters())


def test_weights_that_were_not_read_are_found(tmp_path):
    model, _ = build_model(BUILD, 0)
    model.save_pretrained(tmp_path / "a")
    loaded = ElysiumForConditionalGeneration.from_pretrained(tmp_path / "a")
    assert check_loaded(loaded, tmp_path / "a") == len(dict(loaded.named_parameters()))
    assert check_loaded(loaded.to(torch.bfloat16), tmp_path / "a")  # another dtype is no other value
    with torch.no_grad():
        loaded.model.vision_tower.embeddings.patch_embedding.weight.normal_()
    with pytest.raises(ValueError, match=r"1 have not its values: model\.vision_tower\.embeddings"):
        check_loaded(loaded, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    tensors = load_file(tmp_path / "a/model.safetensors")
    gone = "model.multi_modal_projector.linear_1.weight"
    save_file({k: v for k, v in tensors.items() if k != gone}, tmp_path / "b/model.safetensors")
    with pytest.raises(ValueError, match="1 parameters are not in .*linear_1"):
        check_loaded(ElysiumForConditionalGeneration.from_pretrained(tmp_path / "a"), tmp_path / "b")


def test_weights_in_shards_are_compared_too(tmp_path):
    model, _ = build_model(BUILD, 0)
    model.save_pretrained(tmp_path, max_shard_size="40kB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert check_loaded(model, tmp_path) == len(dict(model.named_parameters()))


def test_one_process_makes_models_whole():
    class Asks:
        def is_zero3(self):
            return True

    asks = Asks()
    set_hf_deepspeed_config(asks)
    assert is_deepspeed_zero3_enabled()
    with unsharded():
        assert not is_deepspeed_zero3_enabled()
    assert is_deepspeed_zero3_enabled()
    del asks
    assert not is_deepspeed_zero3_enabled()


def test_layers_that_the_model_has_are_named():
    model, _ = build_model(BUILD, 0)
    assert "CLIPTextEmbeddings" in model._no_split_modules  # which FSDP would look for in vain
    name_layers(model)
    assert {"CLIPEncoderLayer", "LlamaDecoderLayer"} <= set(model._no_split_modules)
    assert "CLIPTextEmbeddings" not in model._no_split_modules
