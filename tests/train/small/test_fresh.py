"""Examples drawn in training: the same as stored ones, the same with workers, and a tower that learns."""

import numpy as np
import pytest
import torch

from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium.prompts import Task
from tests.train.small.tiny_data import write_material, write_sprites
from train.small import run as run_module
from train.small.batches import Frames, draw_windows
from train.small.build import build_small
from train.small.fresh import FreshScenes, FreshWindows, batches_of_steps, encoded, merged, with_lora
from train.small.material import Material
from train.small.objective import number_token_ids
from train.small.ope import _Tower
from train.small.paste import Sprites
from train.small.pool import encode_crops
from train.small.run import SmallRecipe, train
from train.small.views import draw_example

from .test_small_training import ELYSIUM, TEXT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = write_material(tmp_path_factory.mktemp("material"))
    write_sprites(root / "sprites")
    return root


@pytest.fixture
def small():
    return build_small(["a bright thing", "lamp"], TEXT, ELYSIUM, vocab_size=900)


def test_the_number_of_an_example_is_its_seed(folder):
    material, sprites = Material(folder, "train"), Sprites(folder / "sprites")
    windows = FreshWindows(material, sprites, seed=3)
    batch = windows.batch(np.array([7, 2]))
    assert batch["features"].shape == (2, 3, 224, 224, 3) and batch["features"].dtype == torch.uint8
    example = draw_example(material, np.random.default_rng([3, 2]), sprites)
    np.testing.assert_allclose(batch["boxes"][0], example.boxes.astype(np.float32), equal_nan=True)
    other = FreshWindows(material, sprites, seed=4).batch(np.array([7, 2]))
    assert not torch.equal(batch["features"], other["features"])


def test_pictures_are_encoded_as_stored_ones_are(folder, small):
    model, _ = small
    pictures = FreshWindows(Material(folder, "train")).batch(np.arange(2))["features"]
    found = encoded(model, pictures)
    stored = encode_crops(_Tower(model), list(pictures.flatten(0, 1).numpy()))
    torch.testing.assert_close(found.flatten(0, 1), stored, atol=1e-4, rtol=1e-4)
    assert encoded(model, stored) is not None and torch.equal(encoded(model, stored), stored)


@pytest.mark.parametrize("kinds", [("sot",), ("video_reg",), ("sot", "video_reg")])
def test_frames_know_their_reference(folder, kinds):
    """The reference of a searched window is the first window of its own example, also once some were left out."""
    windows = FreshWindows(Material(folder, "train"))
    frames, items = draw_windows(windows, 6, dict.fromkeys(kinds, 1.0), 1.0, (16, 16), np.random.default_rng(0))
    starts, n = [], 0
    for task, _, _ in items:
        count = 2 if task is Task.SOT else 1
        starts += [n] * count
        n += count
    assert frames.reference_of.tolist() == starts and frames.own.tolist() == [i == s for i, s in enumerate(starts)]
    assert torch.equal(frames.reference, frames.patches[starts])


def test_a_frame_is_not_taken_without_its_reference():
    nothing = torch.zeros(2)
    frames = Frames(torch.zeros(2, 4, 3), torch.tensor([0, 0]), nothing, nothing, nothing, nothing)
    assert frames.rows(torch.tensor([True, False])).reference_of.tolist() == [0]
    with pytest.raises(ValueError, match="without its reference"):
        frames.rows(torch.tensor([False, True]))


def test_workers_draw_what_one_process_draws(folder, small):
    _, processor = small
    numbers = number_token_ids(processor)
    windows, scenes = (kind(Material(folder, "train")) for kind in (FreshWindows, FreshScenes))
    recipe = fresh_recipe(folder)

    def draw(step):
        return run_module._step_batch(windows, scenes, recipe, step, processor, numbers)

    alone, ahead = (list(batches_of_steps(draw, range(3, 6), workers)) for workers in (0, 2))
    assert len(alone) == len(ahead) == 3
    for drawn, same in zip(alone, ahead, strict=True):
        for one, two in zip(drawn, same, strict=True):
            for name, value in [] if one is None else vars(one).items():
                torch.testing.assert_close(value, getattr(two, name), equal_nan=True, msg=name)


def test_adapters_learn_and_merge(folder, small):
    model, _ = small
    pictures = FreshScenes(Material(folder, "train")).read(np.arange(2))[0]
    plain = encoded(model, pictures).detach()
    model.model.vision_tower.requires_grad_(False)
    with_lora(model, 2)
    torch.testing.assert_close(encoded(model, pictures), plain)  # they begin as nothing
    encoded(model, pictures).square().mean().backward()
    learning = [n for n, p in model.model.vision_tower.named_parameters() if p.requires_grad]
    assert learning and all("lora_" in name for name in learning)
    with torch.no_grad():
        for name, parameter in model.model.vision_tower.named_parameters():
            if "lora_B" in name:
                assert parameter.grad.abs().max() > 0, name
                parameter.add_(0.05)
    changed = encoded(model, pictures).detach()
    assert (changed - plain).abs().max() > 1e-2
    merged(model)
    assert not any("lora" in name for name, _ in model.named_parameters())
    torch.testing.assert_close(encoded(model, pictures), changed, atol=1e-3, rtol=1e-3)


def fresh_recipe(folder, **changes):
    settings = {
        "data": str(folder), "tower": "", "pool": "", "val_pool": "", "text": TEXT, "elysium": ELYSIUM,
        "vocab_size": 900, "batch_size": 4, "steps": 3, "warmup_steps": 1, "decay_steps": 1, "fresh": True,
        "sprites": str(folder / "sprites"), "tower_lora": 2, "selector_weight": 1.0, **changes,
    }  # fmt: skip
    return SmallRecipe(**settings)


def test_a_fresh_run_trains_the_tower_and_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "build_small", lambda c, t, e, tower, v, s: build_small(c, t, e, None, v, s))
    monkeypatch.setattr(run_module, "validate", lambda *arguments: {"val_iou": 0.0})
    monkeypatch.setattr(run_module, "validate_words", lambda *arguments: {})
    threads = torch.get_num_threads()
    train(fresh_recipe(folder), tmp_path / "whole", threads)
    train(fresh_recipe(folder, steps=2, decay_steps=0), tmp_path / "parts", threads)
    state = torch.load(tmp_path / "parts" / "latest.pt", weights_only=True)
    assert state["step"] == 2 and any("lora_B" in name and value.any() for name, value in state["model"].items())
    train(fresh_recipe(folder), tmp_path / "parts", threads)
    one, two = (torch.load(tmp_path / name / "latest.pt", weights_only=True)["model"] for name in ("whole", "parts"))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=1e-6, rtol=1e-5, msg=name)
    saved = ElysiumForConditionalGeneration.from_pretrained(tmp_path / "whole" / "model")
    built, _ = build_small(["a bright thing", "lamp"], TEXT, ELYSIUM, vocab_size=900)
    tower = dict(built.model.vision_tower.named_parameters())
    moved = [n for n, p in saved.model.vision_tower.named_parameters() if not torch.equal(p, tower[n])]
    assert moved and all("q_proj" in name or "v_proj" in name for name in moved)


def test_a_tower_that_learns_needs_fresh_examples(folder):
    with pytest.raises(ValueError, match="`tower_lora` needs `fresh: true`"):
        fresh_recipe(folder, fresh=False)
