"""Training of the small model: sequences and their loss, what learns, and a run that is stopped and goes on."""

import numpy as np
import pytest
import torch

from processing_elysium.boxes import GRID
from processing_elysium.prompts import Task
from tests.house.source import ROOT
from tests.train.small.tiny_data import write_material
from train.config import load_yaml
from train.small import ope as ope_module
from train.small import pool as pool_module
from train.small import run as run_module
from train.small.build import EDGE_LAYER, RESERVED, build_small, hold_edges
from train.small.follow import greedy_boxes, tracking_prompts
from train.small.matcher import matched_boxes
from train.small.material import Material
from train.small.objective import answer_loss, box_loss, number_token_ids, pairwise_iou, write_sequences
from train.small.pool import Pool, encode_crops
from train.small.run import SmallRecipe, rate_at, train
from train.small.validation import window_features

from .test_examples import FlatTower, bright_box

TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.05,
}  # fmt: skip
ELYSIUM = {"num_image_tokens": 16, "reference_similarity": True, "patch_position_embedding": True}
BOXES = np.array([[0.2, 0.2, 0.8, 0.8], [0.405, 0.1, 0.62, 0.333]])


@pytest.fixture(scope="module")
def small():
    return build_small(["a bright thing", "lamp"], TEXT, ELYSIUM, vocab_size=900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = write_material(tmp_path_factory.mktemp("material"))
    for split in ("train", "val"):
        (root / "pool" / split).mkdir(parents=True)
        for number in range(2):
            pool_module._write_shard(root / "pool" / split, number, Material(root, split), FlatTower(), 0, None)
    return root


@pytest.fixture(scope="module", autouse=True)
def little_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_module, "SHARD_EXAMPLES", 8)
        yield


@pytest.mark.parametrize("name", ["small.yaml", "small-gpu.yaml"])
def test_the_recipe_loads_and_is_overridden(name):
    path = ROOT / "train" / "recipes" / name
    recipe = load_yaml(SmallRecipe, path, ["steps=7", "elysium.num_image_tokens=32"])
    assert recipe.steps == 7 and recipe.elysium["num_image_tokens"] == 32
    with pytest.raises(ValueError, match="setps"):
        load_yaml(SmallRecipe, path, ["setps=7"])


@pytest.mark.parametrize("step, expected", [(0, 0.1), (9, 1.0), (50, 1.0), (80, 1.0), (90, 0.5), (100, 0.0)])
def test_rates(step, expected):
    recipe = SmallRecipe(
        data="", tower="", pool="", val_pool="", text={}, elysium={}, steps=100, warmup_steps=10, decay_steps=20
    )
    assert rate_at(step, recipe) == pytest.approx(expected)


def test_sequences_mark_the_answer_and_its_numbers(small):
    _, processor = small
    numbers = number_token_ids(processor)
    absent = np.array([BOXES[0], [np.nan] * 4])
    items = [(Task.SOT, BOXES, "x"), (Task.SOT, absent, "x"), (Task.VIDEO_REG, BOXES, "lamp")]
    batch = write_sequences(processor, items, np.random.default_rng(0), numbers)
    texts = [processor.tokenizer.decode(row[mask.bool()]) for row, mask in zip(batch.input_ids, batch.attention_mask)]
    assert "ASSISTANT:Frame 1: [20,20,80,80], Frame 2: [40,10,62,33].</s>" in texts[0]
    assert texts[1].endswith("Frame 2: [].</s>") and texts[2].endswith("ASSISTANT:lamp</s>")
    assert batch.places.shape == (1, 4)  # one box is learned: the first is given, the second of item 2 is absent
    assert processor.tokenizer.convert_ids_to_tokens(batch.input_ids.flatten()[batch.absent]) == ["]"]
    read = batch.input_ids.flatten()[batch.places[0]]
    assert [numbers.tolist().index(int(token)) for token in read] == [40, 10, 62, 33]
    torch.testing.assert_close(batch.boxes, torch.tensor(BOXES[1:], dtype=torch.float32))
    learned = processor.tokenizer.decode(batch.labels[0][batch.labels[0] != -100])
    assert learned == "Frame 1: [20,20,80,80], Frame 2: [40,10,62,33].</s>"


def test_absent_objects_weigh_as_much_as_boxes(small):
    """The loss of "[]" falls with its probability, beside that of one box; alone it is the whole mean."""
    _, processor = small
    numbers = number_token_ids(processor)
    absent = np.array([BOXES[0], [np.nan] * 4])
    batch = write_sequences(
        processor, [(Task.SOT, BOXES, "x"), (Task.SOT, absent, "x")], np.random.default_rng(0), numbers
    )
    size = len(processor.tokenizer)
    head, closing = torch.nn.Identity(), batch.input_ids.flatten()[batch.absent]
    logits = torch.zeros(*batch.input_ids.shape, size)
    plain, log = answer_loss(logits, head, batch, numbers)
    assert log["absent"] == pytest.approx(1 / size, rel=1e-3)
    logits.view(-1, size)[batch.absent - 1, closing] = 30.0
    sure, log = answer_loss(logits, head, batch, numbers)
    assert log["absent"] == pytest.approx(1.0) and (plain - sure).item() == pytest.approx(np.log(size) / 2, rel=1e-3)


def test_box_loss_prefers_near_numbers():
    numbers = torch.arange(GRID)
    true = torch.tensor([[0.105, 0.205, 0.505, 0.605]])

    def loss(cells):
        logits = torch.full((1, 4, GRID), -8.0)
        logits[0, torch.arange(4), torch.tensor(cells)] = 8.0
        entropy, overlap, iou = box_loss(logits, true, numbers)
        return entropy.mean().item(), overlap.item(), iou.item()

    exact, near, far = loss([10, 20, 50, 60]), loss([11, 20, 50, 60]), loss([40, 20, 50, 60])
    assert exact[0] < near[0] < far[0] and exact[1] < near[1] < far[1]
    assert exact[2] > 0.95


def test_pairwise_iou_by_hand():
    a = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.1, 0.1]])
    b = torch.tensor([[0.25, 0.0, 0.75, 0.5], [0.5, 0.5, 0.6, 0.6]])
    torch.testing.assert_close(pairwise_iou(a, b), torch.tensor([1 / 3, 0.0]))


def test_everything_but_the_tower_learns(small, folder):
    model, processor = small
    model.model.vision_tower.requires_grad_(False)
    numbers, pool = number_token_ids(processor), Pool(folder / "pool" / "train")
    batch = pool.batch(np.arange(6))
    known = batch["boxes"][:, 1].isnan().any(-1).logical_not()
    boxes = torch.where(known[:, None, None], batch["boxes"][:, :2], batch["boxes"][:, :1])
    items = [(Task.SOT if i % 2 else Task.VIDEO_REG, boxes[i].numpy(), "lamp") for i in range(6)]
    read = write_sequences(processor, items, np.random.default_rng(0), numbers)
    features = window_features(model, batch["features"][:, :2], batch["boxes"])
    out = model.model(
        input_ids=read.input_ids, attention_mask=read.attention_mask, mm_encoder_outputs={"image": features}
    )
    loss, _ = answer_loss(out.last_hidden_state, model.lm_head, read, numbers)
    model.zero_grad()
    loss.backward()
    silent = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent


def test_greedy_boxes_are_what_generate_writes(small, folder):
    model, processor = small
    model.eval()
    batch = Pool(folder / "pool" / "val").batch(np.arange(2))
    with torch.no_grad():
        features = window_features(model, batch["features"][:, :2], batch["boxes"])
        prompts = tracking_prompts(processor, batch["boxes"][:, 0].numpy())
        found, presence = greedy_boxes(model, processor, features, prompts)
        numbers = number_token_ids(processor)
        for row in range(2):  # one by one, by the library, token after token among the numbers
            box = batch["boxes"][row, 0].numpy()
            messages = processor.build_messages(Task.SOT, num_frames=2, box=box)
            text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            text = text.replace("<image>", "<image>" * 16) + f"Frame 1: {processor.format_box(box)}, Frame 2: ["
            ids, cells = processor.tokenizer.encode(text, add_special_tokens=False), []
            one = window_features(model, batch["features"][row : row + 1, :2], batch["boxes"][row : row + 1])
            for _ in range(4):
                logits = model(input_ids=torch.tensor([ids]), mm_encoder_outputs={"image": one}).logits[0, -1]
                cells.append(int(logits[numbers].argmax()))
                ids += [int(numbers[cells[-1]]), *processor.tokenizer.encode(",", add_special_tokens=False)]
            np.testing.assert_allclose(found[row].numpy(), (np.array(cells) + 0.5) / GRID, atol=1e-6)
    assert ((presence > 0) & (presence < 1)).all()


def test_edge_finders_look_at_the_edges_of_the_object():
    """Untrained, the heads of the first layer attend to the leftmost, uppermost, rightmost and lowest object patch."""
    text = {**TEXT, "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4}
    model, processor = build_small(["lamp"], text, {**ELYSIUM, "num_image_tokens": 64}, vocab_size=900)
    model.eval()
    model.model.language_model.set_attn_implementation("eager")
    patches = torch.randn(2, 16, 16, 384, generator=torch.Generator().manual_seed(0))
    kind = torch.randn(384, generator=torch.Generator().manual_seed(1))
    patches[0, 4:12, 4:12] = patches[1, 3:6, 8:13] = kind  # rows, columns: in the template, and in the window
    batch = patches.flatten(1, 2)[None]
    known = torch.tensor([[[0.25, 0.25, 0.75, 0.75]]])
    boxes = np.array([known[0, 0].numpy(), [8 / 16, 3 / 16, 13 / 16, 6 / 16]])
    read = write_sequences(processor, [(Task.SOT, boxes, "")], np.random.default_rng(0), number_token_ids(processor))
    features = window_features(model, batch, known)
    with torch.no_grad():
        out = model.model(
            input_ids=read.input_ids, mm_encoder_outputs={"image": features}, output_attentions=True, use_cache=False
        )
    columns = (read.input_ids[0] == processor.image_token_id).nonzero().flatten()[64:]  # of the searched window
    kept = features.kept_indices[1]
    places = torch.stack([kept % 16, kept // 16]).float()  # x, y
    for head, (axis, edge) in enumerate([(0, 8), (1, 3), (0, 12), (1, 5)]):
        weights = out.attentions[EDGE_LAYER][0, head, read.places[0, head] - 1, columns]
        assert weights.sum() > 0.6, head  # not on text, nor on the template
        mean = (weights * places[axis]).sum() / weights.sum()
        assert abs(mean - edge) < 1.5, (head, mean)


def test_edge_finders_are_held(small):
    model, _ = small
    attention = model.model.language_model.layers[EDGE_LAYER].self_attn
    before = {name: value.clone() for name, value in attention.state_dict().items()}
    embeddings = model.get_input_embeddings().weight
    reserved = embeddings[:, RESERVED].detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    hold_edges(model)
    with torch.no_grad():
        saved = {name: value.clone() for name, value in model.state_dict().items()}
        optimizer.step()
    for name, value in attention.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(embeddings[:, RESERVED], reserved)
    assert not torch.equal(embeddings, saved["model.language_model.embed_tokens.weight"])  # the rest moved
    model.load_state_dict(saved)
    model.zero_grad()


def test_a_model_without_edge_finders_has_nothing_to_hold():
    plain, _ = build_small(["lamp"], TEXT, {"num_image_tokens": 16}, vocab_size=900)
    for parameter in plain.parameters():
        parameter.grad = torch.ones_like(parameter)
    hold_edges(plain)
    assert all(parameter.grad is not None and parameter.grad.all() for parameter in plain.parameters())


def test_pooled_features_are_those_of_the_model(small):
    """Windows are resized and normalized for the pool as the model's own processor does it."""
    model, processor = small
    crops = [
        np.random.default_rng(n).integers(0, 256, (side, side, 3), dtype=np.uint8) for n, side in ((0, 90), (1, 300))
    ]
    pixels = processor.image_processor(crops, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model.model.patches(model.model.encode_patches(pixels).last_hidden_state)
        found = encode_crops(ope_module._Tower(model), crops)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_rows_are_followed_and_scored(small, folder, monkeypatch):
    """Where the bright rectangle is found in every window it is followed; where nothing is, the first box is kept."""
    model, processor = small
    material, seen = Material(folder, "val"), []

    def encode(tower, crops):
        seen[:] = crops
        return torch.zeros(len(crops), 256, 384)

    def look(model, processor, features, prompts):
        return torch.tensor(np.stack([bright_box(crop) for crop in seen]), dtype=torch.float32), torch.ones(len(seen))

    monkeypatch.setattr(ope_module, "encode_crops", encode)
    monkeypatch.setattr(ope_module, "greedy_boxes", look)
    results = ope_module.follow_all(model, processor, material, [0, 1])
    assert results[0]["boxes"].shape == results[0]["truth"].shape == (6, 4)
    known = ~np.isnan(results[1]["truth"]).any(-1)
    assert known.sum() == 5
    for item in results.values():
        true = ~np.isnan(item["truth"]).any(-1)
        np.testing.assert_allclose(item["boxes"][true], item["truth"][true], atol=0.03)
    good = ope_module.summary(material, results)
    perfect = {n: {**item, "boxes": np.nan_to_num(item["truth"], nan=0.5)} for n, item in results.items()}
    assert good["auc"] > 0.8 > good["static"]
    assert ope_module.summary(material, perfect)["auc"] == pytest.approx(20 / 21, abs=1e-4)
    monkeypatch.setattr(ope_module, "greedy_boxes", lambda *a: (look(*a)[0], torch.zeros(len(seen))))
    lost = ope_module.follow_all(model, processor, material, [0])
    np.testing.assert_array_equal(lost[0]["boxes"], np.repeat(lost[0]["boxes"][:1], 6, 0))


def test_rows_are_grounded_by_their_words(small, folder, monkeypatch):
    """The first frame is asked for by words; the box that is found there is where tracking begins."""
    model, processor = small
    material, asked = Material(folder, "val"), []
    material.videos[1]["description"] = "the brighter thing"

    def look(model, processor, features, prompts):
        asked.extend(prompts)
        return torch.tensor([[0.6, 0.3, 0.4, 0.5]]).repeat(len(prompts), 1), torch.ones(len(prompts))

    monkeypatch.setattr(ope_module, "greedy_boxes", look)
    begin = ope_module.grounded(model, processor, material, [0, 1])
    assert "Find the bright thing and" in asked[0] and "Find the brighter thing and" in asked[1]
    assert asked[0].endswith("Frame 1: [") and asked[0].count("<image>") == 1
    np.testing.assert_allclose(begin[1], [0.4, 0.3, 0.6, 0.5], atol=1e-6)  # corners in order
    results = ope_module.follow_all(model, processor, material, [1], begin=begin)
    np.testing.assert_allclose(results[1]["boxes"][0], begin[1])
    asked.clear()
    ope_module.grounded(model, processor, material, [1], by_class=True)
    assert "Find the bright thing and" in asked[0]


def test_chance_draws_first_boxes_of_another_split(folder):
    material, other = Material(folder, "val"), Material(folder, "train")
    other.videos[1]["boxes"] = [None, [0.1, 0.2, 0.3, 0.4]]
    firsts = {tuple(other.videos[0]["boxes"][0]), (0.1, 0.2, 0.3, 0.4)}
    drawn = [ope_module.by_chance(material, [0, 1], other, seed) for seed in range(8)]
    assert {tuple(box) for boxes in drawn for box in boxes.values()} == firsts
    np.testing.assert_array_equal(drawn[3][1], ope_module.by_chance(material, [0, 1], other, 3)[1])


def test_the_matcher_puts_the_box_where_it_is_most_alike():
    patches = torch.randn(2, 16, 16, 384, generator=torch.Generator().manual_seed(0))
    kind = torch.randn(384, generator=torch.Generator().manual_seed(1))
    patches[0, 4:12, 4:12] = patches[1, 3:7, 8:12] = kind  # rows, columns: in the template, and half as large
    template, searched = patches.flatten(1, 2)[:, None]
    found = matched_boxes(template, np.array([[0.25, 0.25, 0.75, 0.75]]), searched, np.array([[0.25, 0.25]]), (16, 16))
    np.testing.assert_allclose(found[0], [0.5, 3 / 16, 0.75, 7 / 16], atol=0.02)


def test_the_best_validation_is_told(tmp_path):
    log = tmp_path / "log.jsonl"
    assert [run_module._note(log, {"val_iou": value}) for value in (0.2, 0.5, 0.4, 0.6)] == [True, True, False, True]


def recipe(folder, **changes):
    settings = {
        "data": str(folder), "tower": "", "pool": str(folder / "pool/train"), "val_pool": str(folder / "pool/val"),
        "text": TEXT, "elysium": ELYSIUM, "vocab_size": 900, "batch_size": 4, "steps": 6, "warmup_steps": 1,
        "decay_steps": 2, "tasks": {"sot": 0.7, "video_reg": 0.3}, **changes,
    }  # fmt: skip
    return SmallRecipe(**settings)


def test_a_stopped_run_goes_on_to_the_same_weights(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "build_small", lambda c, t, e, tower, v, s: build_small(c, t, e, None, v, s))
    threads, taken = torch.get_num_threads(), []
    step_batch = run_module._step_batch
    monkeypatch.setattr(
        run_module,
        "_step_batch",
        lambda p, s, r, step, *rest: (taken.append(step), step_batch(p, s, r, step, *rest))[1],
    )
    train(recipe(folder), tmp_path / "whole", threads)
    assert taken == list(range(6))
    taken.clear()
    real_save = run_module._save

    def stop(path, model, optimizer, step):
        real_save(path, model, optimizer, step)
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "_save", stop)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(folder, minutes_between_saves=0.0), tmp_path / "parts", threads)
    monkeypatch.setattr(run_module, "_save", real_save)
    train(recipe(folder), tmp_path / "parts", threads)
    assert taken == list(range(6))  # no step twice
    one, two = (torch.load(tmp_path / name / "latest.pt", weights_only=True) for name in ("whole", "parts"))
    assert one["step"] == two["step"] == 6
    for name, value in one["model"].items():
        torch.testing.assert_close(value, two["model"][name], atol=1e-6, rtol=1e-5, msg=name)
    assert not list((tmp_path / "parts").glob("*.part"))
    assert (tmp_path / "parts" / "best.pt").exists()
    assert (tmp_path / "parts" / "model" / "model.safetensors").exists()
