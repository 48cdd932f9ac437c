"""Words of the small model: colors, expressions that fit one object, whole pictures, what the selector keeps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from modeling_elysium.image_features import patches_in_box
from processing_elysium.prompts import Task
from tests.train.small.tiny_data import write_material, write_sprites
from train.small import batches as batches_module
from train.small import expression_loss as expression_loss_module
from train.small import scenes as scenes_module
from train.small.batches import Frames, draw_scenes, draw_windows, joined
from train.small.build import build_small
from train.small.colors import color_name
from train.small.expression_loss import Named, draw_named, expression_loss
from train.small.material import Material
from train.small.objective import number_token_ids, write_sequences
from train.small.paste import Sprites
from train.small.pool import Pool, Shards
from train.small.scenes import MOSAIC, SIDE, draw_scene
from train.small.selector_loss import kept_share, selector_loss
from train.small.wording import expression_for, made_up

from .test_examples import FlatTower
from .test_small_training import ELYSIUM, TEXT

GRID = (16, 16)


@pytest.mark.parametrize(
    "rgb, name",
    [
        ((220, 30, 30), "red"), ((230, 140, 30), "orange"), ((120, 70, 30), "brown"), ((240, 230, 40), "yellow"),
        ((40, 180, 60), "green"), ((40, 80, 220), "blue"), ((150, 60, 220), "purple"), ((240, 90, 200), "pink"),
        ((250, 250, 250), "white"), ((120, 120, 125), "gray"), ((10, 12, 10), "black"),
    ],
)  # fmt: skip
def test_colors_have_their_names(rgb, name):
    plain = np.full((50, 3), rgb, np.uint8)
    assert color_name(plain) == name
    half = np.concatenate([plain, np.full((50, 3), (40, 180, 60) if name != "green" else (220, 30, 30), np.uint8)])
    assert color_name(half) is None


def thing(name, x, y, color=None, size=0.1):
    return {"name": name, "box": [x - size / 2, y - size / 2, x + size / 2, y + size / 2], "color": color}


@pytest.mark.parametrize(
    "objects, allowed",
    [
        ([thing("cup", 0.5, 0.5)], {"cup", "the cup", "a cup"}),
        ([thing("orange", 0.5, 0.5, "orange")], {"orange", "the orange", "an orange"}),
        ([thing("cup", 0.5, 0.5, "red")], {"cup", "the cup", "a cup", "the red cup"}),
        ([thing("cup", 0.2, 0.5), thing("cup", 0.8, 0.5)], {"the cup on the left"}),
        ([thing("cup", 0.5, 0.8), thing("cup", 0.45, 0.2)], {"the cup at the bottom"}),
        ([thing("cup", 0.5, 0.5, "red"), thing("cup", 0.5, 0.5, "blue")], {"the red cup"}),
        ([thing("cup", 0.5, 0.5, "red"), thing("cup", 0.5, 0.5)], None),  # the other's color is not known
        ([thing("cup", 0.5, 0.5, size=0.4), thing("cup", 0.5, 0.5)], {"the large cup"}),
        ([thing("cup", 0.5, 0.5), thing("dog", 0.5, 0.5)], {"cup", "the cup", "a cup"}),
    ],
)
def test_expressions_fit_one_object(objects, allowed):
    written = {expression_for(objects, 0, np.random.default_rng(seed)) for seed in range(60)}
    assert written == (allowed or {None})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = write_material(tmp_path_factory.mktemp("material"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes_module, "SHARD_SCENES", 24)
        (root / "scenes").mkdir()
        scenes_module._write_shard(root / "scenes", 0, Material(root, "train"), FlatTower(), 0, None)
    return root


def test_boxes_of_a_scene_lie_on_its_objects(tmp_path):
    """The material's rectangles are bright yellow: where a box says there is one, most pixels are."""
    material = Material(write_material(tmp_path), "train")
    sprites = Sprites(write_sprites(tmp_path / "sprites"))
    names = set()
    for seed in range(100):
        scene = draw_scene(material, np.random.default_rng(seed), sprites if seed % 2 else None)
        assert scene.picture.shape == (SIDE, SIDE, 3) and scene.objects
        for item in scene.objects:
            names.add(item["name"])
            x1, y1, x2, y2 = (np.asarray(item["box"]) * SIDE).round().astype(int)
            inside = scene.picture[y1:y2, x1:x2].reshape(-1, 3).astype(float).max(-1)
            assert np.median(inside) > 100, (seed, item)
    assert names == {"thing", "lamp", "disc", "bar"}


@pytest.mark.parametrize(
    "box", [[0.2, 0.3, 0.4, 0.5], [0.97, 0.98, 1.0, 1.0], [-0.1, 0.0, 1.1, 1.0], [0.999, 0.2, 1.2, 0.3]]
)
def test_a_part_of_a_picture_lies_within_it(box):
    for seed in range(50):
        part = scenes_module._part_with(np.array(box), np.random.default_rng(seed))
        assert (part >= 0).all() and (part <= 1).all() and (part[2:] > part[:2]).all()


def test_boxes_of_a_mosaic_lie_in_its_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(scenes_module, "MOSAIC_SHARE", 1.0)
    material = Material(write_material(tmp_path), "train")
    parts = set()
    for seed in range(40):
        scene = draw_scene(material, np.random.default_rng(seed))
        assert scene.picture.shape == (SIDE, SIDE, 3) and scene.row == MOSAIC
        parts.add(len(scene.objects))
        for item in scene.objects:
            x1, y1, x2, y2 = (np.asarray(item["box"]) * SIDE).round().astype(int)
            inside = scene.picture[y1:y2, x1:x2].reshape(-1, 3).astype(float).max(-1)
            assert np.median(inside) > 100, (seed, item)
    assert {2, 4} <= parts <= {1, 2, 3, 4}


def test_questions_about_scenes(folder, monkeypatch):
    monkeypatch.setattr(batches_module, "MADE_UP_SHARE", 0.0)
    scenes = Shards(folder / "scenes")
    _, processor = build_small(["a lamp", "thing"], TEXT, ELYSIUM, vocab_size=900)
    tasks = {"rsot": 0.5, "rec": 0.2, "video_reg": 0.2, "reg": 0.1}
    seen = set()
    for seed in range(6):
        frames, items = draw_scenes(scenes, 8, tasks, GRID, np.random.default_rng(seed), processor.encode_expressions)
        assert frames.patches.shape[:2] == (8, 256)
        for n, (task, box, words) in enumerate(items):
            seen.add(task)
            by_box = task in (Task.REG, Task.VIDEO_REG)
            assert frames.own[n] == by_box and torch.isnan(frames.known[n]).all() == (not by_box)
            assert words and (by_box or "lamp" in words or "thing" in words or np.isnan(box).any())
            told = frames.expression_ids[n][frames.expression_ids[n] >= 0].tolist()
            assert told == ([] if by_box else processor.tokenizer.encode(words, add_special_tokens=False))
            target = patches_in_box(torch.tensor(box, dtype=torch.float32), GRID)[0]
            assert by_box or torch.equal(frames.wanted[n], target)  # none where what is named is not there
    assert seen == {Task.RSOT, Task.REC, Task.VIDEO_REG, Task.REG}
    batch = write_sequences(processor, items, np.random.default_rng(0), number_token_ids(processor))
    assert len(batch.boxes) == sum(task in (Task.RSOT, Task.REC) and not np.isnan(box).any() for task, box, _ in items)


def test_windows_and_scenes_go_through_together(folder):
    """Tokens in one batch are those of each part alone, and a description sees its first window only."""
    root = folder
    from train.small import pool as pool_module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_module, "SHARD_EXAMPLES", 8)
        (root / "windows").mkdir(exist_ok=True)
        pool_module._write_shard(root / "windows", 0, Material(root, "train"), FlatTower(), 0, None)
    model, processor = build_small(["a lamp"], TEXT, {**ELYSIUM, "expression_similarity": True}, vocab_size=900)
    windows, asked = draw_windows(
        Pool(root / "windows"), 6, {"sot": 0.5, "video_reg": 0.5}, 1.0, GRID, np.random.default_rng(0)
    )
    counts = [len(boxes) for _, boxes, _ in asked]
    assert {(task, count) for (task, _, _), count in zip(asked, counts)} == {(Task.SOT, 2), (Task.VIDEO_REG, 1)}
    assert len(windows.patches) == sum(counts)
    assert windows.own.nonzero().flatten().tolist() == [sum(counts[:n]) for n in range(6)]
    rng = np.random.default_rng(1)
    scenes, _ = draw_scenes(Shards(root / "scenes"), 3, {"rec": 1.0}, GRID, rng, processor.encode_expressions)
    with torch.no_grad():
        together = torch.stack(joined([windows, scenes]).compressed(model).pooler_output)
        alone = [torch.stack(part.compressed(model).pooler_output) for part in (windows, scenes)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_words_are_learned_from_boxes():
    """Two kinds of patches side by side: the loss teaches which word means which, and the selector keeps by it."""
    options = {**ELYSIUM, "expression_similarity": True}
    model, processor = build_small(["a lamp", "a cup"], TEXT, options, vocab_size=900)
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(2, 384, generator=generator)
    boxes = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]])

    def pictures(swapped):
        left = patches_in_box(boxes[:1], GRID)[0]
        order = torch.tensor([[1, 0] if swap else [0, 1] for swap in swapped])
        shown = torch.where(left, order[:, :1], order[:, 1:])  # (F, N)
        return kinds[shown] + 0.5 * torch.randn(len(swapped), 256, 384, generator=generator)

    def asked(swapped):
        texts = ["the lamp", "the cup"] * len(swapped)
        picture_of = torch.arange(len(swapped)).repeat_interleave(2)
        where = torch.cat([boxes.flip(0) if swap else boxes for swap in swapped])
        elsewhere = picture_of[:, None] != torch.arange(len(swapped))
        return Named(pictures(swapped), processor.encode_expressions(texts), picture_of, where, elsewhere)

    optimizer = torch.optim.AdamW(model.model.expression_similarity.parameters(), lr=3e-3)
    losses = []
    model.train()
    for step in range(15):
        loss = expression_loss(model, asked([step % 2 == 0, step % 3 == 0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    with torch.no_grad():
        shown = pictures([True, True])
        kept = (
            model.eval()
            .model.compress(shown, expression_ids=processor.encode_expressions(["the lamp", "the cup"]))
            .kept_indices
        )
    right = patches_in_box(boxes[1:], GRID)[0]
    assert right[kept[0]].all() and not right[kept[1]].any()


def test_words_that_mean_nothing_lead_to_the_only_thing(folder, monkeypatch):
    for module in (batches_module, expression_loss_module):
        monkeypatch.setattr(module, "MADE_UP_SHARE", 1.0)
    texts = []

    def encode(expressions):
        texts.extend(text for text in expressions if text is not None)
        return torch.full((len(expressions), 1), 3)

    scenes = Shards(folder / "scenes")
    named = draw_named(scenes, 8, np.random.default_rng(0), encode)
    draw_scenes(scenes, 8, {"rec": 1.0}, GRID, np.random.default_rng(0), encode)
    known = [text for text in texts if "lamp" in text or "thing" in text]
    assert len(texts) > len(known) > 0  # of pictures of several things the words are their names
    lone = torch.bincount(named.picture_of) == 1
    for n, picture in enumerate(named.picture_of.tolist()):
        if lone[picture] and texts[n] not in known:
            assert named.elsewhere[n].sum() == 7  # any other picture may show it
    assert len({made_up(np.random.default_rng(seed)) for seed in range(20)}) == 20


def test_named_objects_of_pictures(folder):
    _, processor = build_small(["a lamp", "thing"], TEXT, ELYSIUM, vocab_size=900)
    named = draw_named(Shards(folder / "scenes"), 6, np.random.default_rng(0), processor.encode_expressions)
    count = len(named.boxes)
    assert count and named.patches.shape == (6, 256, 384) and named.elsewhere.shape == (count, 6)
    assert named.expression_ids.shape[0] == len(named.picture_of) == count
    assert torch.bincount(named.picture_of).max() <= 3
    assert not named.elsewhere[torch.arange(count), named.picture_of].any()  # its own picture counts


def test_the_selector_learns_what_to_keep():
    """Patches of one kind are wanted; a few steps make the selector keep them all, with and without a reference."""
    model, _ = build_small(["lamp"], TEXT, ELYSIUM, vocab_size=900)
    torch.manual_seed(0)
    patches = torch.randn(4, 256, 384)
    wanted = torch.zeros(4, 256, dtype=torch.bool)
    wanted[:, 40:52] = True
    patches[wanted] += 1.5 * torch.randn(384, generator=torch.Generator().manual_seed(2))
    own, nothing = torch.zeros(4, dtype=torch.bool), torch.full((4, 1), -1)
    frames = Frames(patches, torch.arange(4), torch.full((4, 4), float("nan")), own, wanted, nothing)
    before, share = selector_loss(model, frames)
    optimizer = torch.optim.AdamW(model.model.selector.parameters(), lr=1e-2)
    for _ in range(12):
        loss, _ = selector_loss(model, frames)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after, learned = selector_loss(model, frames)
    assert after < before and learned > 0.99 > share
    kept = model.model.compress(patches, patches, frames.known, frames.own).kept_indices
    assert wanted.gather(1, kept).sum() / wanted.sum() > 0.99  # the model keeps what the loss counts as kept
    nothing = replace(frames, wanted=torch.zeros_like(wanted))
    assert selector_loss(model, nothing)[0].item() == 0.0


def test_kept_share_by_hand():
    scores = torch.tensor([[0.9, 0.8, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4]])
    wanted = torch.tensor([[True, False, True, False], [False, False, True, True]])
    assert kept_share(scores, wanted, 2) == pytest.approx((0.5 + 1.0) / 2)
