"""Two steps of real training: every parameter of a stage moves, nothing else does, and a run can be resumed."""

import pytest
import torch
from safetensors.torch import load_file

from dataset_scripts.synthetic import SyntheticConfig
from train.build import build_model
from train.collator import ConversationCollator
from train.config import PARTS
from train.data import ConversationSource, stage_dataset
from train.pretrain_tower import pretrain_tower
from train.publish import publish
from train.sft import main, run_recipe
from train.trainer import ElysiumTrainer, part_of

from .tiny_recipe import BUILD, TOWER, recipe, stage


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("parts", [list(PARTS), ["selector", "multi_modal_projector"]])
def test_what_trains_moves_and_the_rest_does_not(tmp_path, parts):
    final = run_recipe(recipe(stage(train=parts)), tmp_path)
    before, after = weights(tmp_path / "start"), weights(final)
    for name, start in before.items():
        moved = not torch.equal(start, after[name])
        assert moved == (part_of(name) in parts), name


def test_loss_is_the_models_loss(tmp_path):
    """The trainer's loss on labelled tokens equals the model's own over all logits (the slow twin)."""
    model, processor = build_model(BUILD, 0)
    from train.sft import _training_arguments

    one, settings = stage(), recipe()
    source = ConversationSource(one, SyntheticConfig(size=56))
    collator = ConversationCollator(processor)
    trainer = ElysiumTrainer(
        stage=one,
        model=model,
        args=_training_arguments(one, settings, tmp_path, use_cpu=True),
        train_dataset=stage_dataset(source),
        processing_class=processor,
        data_collator=collator,
    )
    batch = collator([source[i] for i in range(3)])
    fast = trainer.compute_loss(model, dict(batch))
    slow = model(**batch).loss
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    fast.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    slow.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-3)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    whole = run_recipe(recipe(stage(steps=4, save_every=2)), tmp_path / "whole")

    class Killed(Exception):
        pass

    source_item = ConversationSource.__getitem__

    def dies_at(self, item):
        if item >= 9:  # in the fourth batch, after the checkpoint of step 2
            raise Killed
        return source_item(self, item)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConversationSource, "__getitem__", dies_at)
        with pytest.raises(Killed):
            run_recipe(recipe(stage(steps=4, save_every=2)), tmp_path / "killed")
    resumed = run_recipe(recipe(stage(steps=4, save_every=2)), tmp_path / "killed")
    for name, value in weights(whole).items():
        torch.testing.assert_close(value, weights(resumed)[name], atol=1e-6, rtol=1e-5)


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
                patch.setattr("train.pretrain_tower.save_file", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
                with pytest.raises(KeyboardInterrupt):
                    pretrain_tower(tower, processor.image_processor, synthetic, TOWER, tmp_path / folder, workers=0)
            model, processor = build_model(BUILD, 1)
            tower = model.model.vision_tower
        pretrain_tower(tower, processor.image_processor, synthetic, TOWER, tmp_path / folder, workers=0)
        results.append({k: v.clone() for k, v in tower.state_dict().items()})
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name])
    assert (tmp_path / "a/tower.safetensors").exists() and not (tmp_path / "a/state.pt").exists()


def test_publish(tmp_path):
    final = run_recipe(recipe(tower=TOWER), tmp_path / "run")
    for _ in range(2):  # the second replaces the first
        publish(final, tmp_path / "shipped", tmp_path / "r.yaml")
    names = {p.name for p in (tmp_path / "shipped").iterdir()}
    assert {"config.json", "model.safetensors", "processor_config.json", "chat_template.jinja", "README.md"} <= names
    assert {"modeling_elysium.py", "pipeline_video_tracking.py", "processing_elysium.py"} <= names
    assert "{" not in (tmp_path / "shipped/README.md").read_text().split("```")[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "shipped"]


def test_unknown_stage_is_named(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "model: x\nstages: [{name: a, tasks: {sot: 1}, steps: 1, batch_size: 1, learning_rate: 1}]"
    )
    with pytest.raises(SystemExit, match=r"no stage \['z'\]"):
        main([str(tmp_path / "r.yaml"), "--output", str(tmp_path / "o"), "--only", "z", "--cpu"])
