"""Two steps of real training: every parameter of a stage moves, nothing else does, and a run can be resumed."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dataset_scripts.records import ObjectTrack, VideoRecord, write_records
from dataset_scripts.synthetic import SyntheticConfig
from tests.modeling.tiny_models import TEXT, left_padded, tiny_frames, tiny_model, tiny_prompt
from train.collator import IGNORED
from train.config import SourceConfig
from train.data import ConversationSource
from train.miniature.build import build_model
from train.miniature.pretrain_tower import pretrain_tower
from train.parts import PARTS, part_of
from train.sft import main, make_trainer, run_recipe
from train.trainer import ElysiumTrainer

from .tiny_recipe import BUILD, PLAIN, TOWER, recipe, stage, synthetic


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "start"
    for part in build_model(BUILD, 0):
        part.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("parts", [list(PARTS), ["selector", "multi_modal_projector"]])
def test_what_trains_moves_and_the_rest_does_not(tmp_path, parts):
    final = run_recipe(recipe(stage(train=parts)), tmp_path)
    before, after = weights(tmp_path / "start"), weights(final)
    for name, start in before.items():
        moved = not torch.equal(start, after[name])
        assert moved == (part_of(name) in parts), name


def test_loss_is_the_models_loss(tmp_path, start):
    """The trainer's loss on labeled tokens equals the model's own over all logits (the slow twin)."""
    trainer = make_trainer(stage(), recipe(), start, tmp_path, use_cpu=True)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(3)])
    same_loss_and_gradients(trainer, trainer.model, batch)


@pytest.mark.parametrize("text", TEXT)
def test_loss_is_the_models_loss_in_every_text_family(tmp_path, start, text):
    """Some families scale or cap their logits; a loss on the bare head would train another model."""
    trainer = make_trainer(stage(), recipe(), start, tmp_path, use_cpu=True)
    model = tiny_model(text=text)
    batch = left_padded(tiny_prompt(5, 0, 7, 8, 0, 9, 10, 11), tiny_prompt(6, 0, 12, 13))
    batch["pixel_values"] = tiny_frames(3)
    batch["labels"] = batch["input_ids"].clone()
    batch["labels"][:, :-3] = IGNORED
    same_loss_and_gradients(trainer, model, batch)


def same_loss_and_gradients(trainer, model, batch):
    fast = trainer.compute_loss(model, dict(batch))
    slow = model(**batch).loss
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    fast.backward()
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    slow.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-3)


@pytest.fixture
def counted(monkeypatch):
    """Numbers of the optimizer steps that were really taken, in order."""
    steps = []
    step = ElysiumTrainer.training_step

    def counting(self, *args, **kwargs):
        steps.append(self.state.global_step + 1)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(ElysiumTrainer, "training_step", counting)
    return steps


def test_a_killed_run_resumes_to_the_same_weights(tmp_path, counted):
    """Killed in step 4, after the checkpoint of step 2: steps 3 and 4 are taken again, 1 and 2 are not."""
    four = recipe(stage(arguments={"max_steps": 4, "save_steps": 2}))
    whole = run_recipe(four, tmp_path / "whole")
    assert counted == [1, 2, 3, 4]

    class Killed(Exception):
        pass

    source_item = ConversationSource.__getitem__

    def dies_at(self, item):
        if item >= 9:  # in the fourth batch
            raise Killed
        return source_item(self, item)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConversationSource, "__getitem__", dies_at)
        with pytest.raises(Killed):
            run_recipe(four, tmp_path / "killed")
    counted.clear()
    resumed = run_recipe(four, tmp_path / "killed")
    assert counted == [3, 4]
    for name, value in weights(whole).items():
        torch.testing.assert_close(value, weights(resumed)[name], atol=1e-6, rtol=1e-5)


def test_accumulated_batches_train_as_one_large_batch(tmp_path):
    """The loss is a mean over the answers' tokens of all that is accumulated, however they fall on the batches."""
    settings = {"num_frames": (2, 2), "sources": [synthetic(objects=[3, 3])]}
    whole = run_recipe(recipe(stage(batch_size=4, arguments=PLAIN, **settings)), tmp_path / "whole")
    parts = stage(batch_size=1, arguments={**PLAIN, "gradient_accumulation_steps": 4}, **settings)
    accumulated = run_recipe(recipe(parts), tmp_path / "parts")
    for name, value in weights(whole).items():
        torch.testing.assert_close(value, weights(accumulated)[name], atol=1e-6, rtol=1e-4)


def test_records_of_all_kinds_train_and_are_evaluated(tmp_path):
    """A list of image files, one image and questions beside drawn clips: from files to a loss that was taken."""
    for number in range(4):
        pixels = np.full((20, 30, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    track = ObjectTrack(boxes=[[0.1, 0.1, 0.5, 0.5]] * 4, expression="the square")
    talk = [{"role": "user", "content": "Is it dark?"}, {"role": "assistant", "content": "Yes."}]
    rows = [
        VideoRecord(id="frames", source="mine", video=[f"{i}.png" for i in range(4)], objects=[track]),
        VideoRecord(id="image", source="mine", video="0.png", messages=talk),
    ]
    write_records(tmp_path / "mine.jsonl", rows)
    mine = SourceConfig(source=str(tmp_path / "mine.jsonl"), tasks={"sot": 1.0, "rsot": 1.0, "vqa": 1.0})
    mixed = stage(
        sources=[synthetic(), mine],
        eval_sources=[mine],
        eval_items=2,
        arguments={"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "logging_steps": 1},
    )
    run_recipe(recipe(stage(name="a"), mixed), tmp_path / "run")
    final = run_recipe(recipe(stage(name="a"), mixed), tmp_path / "run")
    assert (final / "config.json").exists()


def test_evaluation_is_logged(tmp_path, start):
    one = stage(
        eval_sources=[synthetic(split="val")], eval_items=4, arguments={"eval_strategy": "steps", "eval_steps": 1}
    )
    trainer = make_trainer(one, recipe(), start, tmp_path, use_cpu=True)
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(losses) == 2 and all(np.isfinite(losses)) and losses[0] != losses[1]


def test_stages_follow_each_other_and_tokens_shrink(tmp_path):
    first, second = stage(name="a", num_image_tokens=10), stage(name="b", num_image_tokens=5)
    final = run_recipe(recipe(first, second), tmp_path)
    from modeling_elysium import ElysiumConfig
    from processing_elysium import ElysiumProcessor

    assert ElysiumConfig.from_pretrained(tmp_path / "a/final").num_image_tokens == 10
    assert ElysiumConfig.from_pretrained(final).num_image_tokens == 5
    assert ElysiumProcessor.from_pretrained(final).num_image_tokens == 5
    stamp = (tmp_path / "a/final/model.safetensors").stat().st_mtime_ns
    run_recipe(recipe(first, second), tmp_path)
    assert (tmp_path / "a/final/model.safetensors").stat().st_mtime_ns == stamp  # finished stages are not repeated


def test_tower_learns_and_resumes(tmp_path):
    synthetic = SyntheticConfig(size=56)
    results = []
    for folder in ("a", "b"):
        model, processor = build_model(BUILD, 0)
        tower = model.model.vision_tower
        if folder == "b":  # stop at the checkpoint of step 2, go on with a fresh process' objects
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    "train.miniature.pretrain_tower.save_file", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
                )
                with pytest.raises(KeyboardInterrupt):
                    pretrain_tower(tower, processor.image_processor, synthetic, TOWER, tmp_path / folder, workers=0)
            model, processor = build_model(BUILD, 1)
            tower = model.model.vision_tower
        pretrain_tower(tower, processor.image_processor, synthetic, TOWER, tmp_path / folder, workers=0)
        results.append({k: v.clone() for k, v in tower.state_dict().items()})
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name])
    assert (tmp_path / "a/tower.safetensors").exists() and not (tmp_path / "a/state.pt").exists()


def test_unknown_stage_is_named(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "model: x\nstages: [{name: a, sources: [{source: synthetic, tasks: {sot: 1}}], arguments: {max_steps: 1}}]"
    )
    with pytest.raises(SystemExit, match=r"no stage \['z'\]"):
        main([str(tmp_path / "r.yaml"), "--output", str(tmp_path / "o"), "--only", "z", "--cpu"])
