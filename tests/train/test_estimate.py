"""The counted operations and bytes are those of a real step of a small model."""

import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from modeling_elysium import ElysiumForConditionalGeneration
from train.batches import accumulation_steps
from train.config import BuildConfig
from train.engines import spare_frozen_parts
from train.estimate import (
    ENGINES,
    Item,
    Shape,
    activation_bytes,
    expected_item,
    longest_item,
    main,
    model_config,
    state_bytes,
    step_flops,
)
from train.parts import PARTS, freeze_all_but, trained_counts
from train.sft import read_recipes

from .tiny_recipe import recipe

SMALL = ("selector", "multi_modal_projector")
FRAMES, TEXT, LABELS = 3, 40, 24
# Wide enough that matrix products are what counts, as in a real model.
WIDE = BuildConfig(
    vocab_size=1200,
    vision={
        "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 2,
        "image_size": 112, "patch_size": 14, "projection_dim": 16, "hidden_act": "gelu",
    },
    text={
        "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    elysium={"num_image_tokens": 16, "selector_scorer": "mlp"},
)  # fmt: skip


def step(train, checkpointing, attention, frames=FRAMES, items=2):
    """A model that learns `train`, its loss on a batch as a function, and what an item of the batch is."""
    torch.manual_seed(0)
    model = ElysiumForConditionalGeneration(model_config(recipe(build=WIDE)))
    model.set_attn_implementation(attention)
    freeze_all_but(model, train)
    model.train()
    if checkpointing:
        spare_frozen_parts(model)
        model.activation_checkpointing_enable()
    kept, image = model.config.num_image_tokens, model.config.image_token_id
    torch.manual_seed(0)
    ids = torch.randint(10, 900, (items, frames * kept + TEXT))
    ids[:, : frames * kept] = image
    keep = torch.zeros_like(ids, dtype=torch.bool)
    keep[:, -LABELS - 1 : -1] = True
    pixels = torch.randn(items * frames, 3, 112, 112)

    def loss():
        logits = model(input_ids=ids, pixel_values=pixels, use_cache=False, logits_to_keep=keep).logits
        return torch.nn.functional.cross_entropy(logits, ids[:, -LABELS:].flatten())

    return model, loss, Item(frames, ids.shape[1], LABELS)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("train", [PARTS, SMALL, ("language_model",)], ids=["all", "1a", "text"])
def test_counted_operations_are_those_of_a_step(train, checkpointing):
    model, loss, item = step(train, checkpointing, "eager")
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    counted = 2 * step_flops(Shape.of(model.config), item, train, checkpointing)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_counted_states_are_those_after_a_step():
    model, loss, _ = step(SMALL, False, "sdpa")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    loss().backward()
    optimizer.step()

    def held(tensors):
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)

    found = {
        "weights": held(model.parameters()),
        "gradients": held(p.grad for p in model.parameters()),
        "optimizer": held(value for state in optimizer.state.values() for k, value in state.items() if k != "step"),
    }
    assert state_bytes(trained_counts(model), "none", 1) == found


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("train", [PARTS, SMALL], ids=["all", "1a"])
def test_counted_activations_are_those_that_a_step_keeps(train, checkpointing):
    model, loss, item = step(train, checkpointing, "sdpa")
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss()
    found = sum(size for size, _ in kept.values())
    counted = activation_bytes(Shape.of(model.config), item, 2, train, checkpointing, number_bytes=4)
    if checkpointing:  # the one layer that is run again comes in the backward pass
        without = activation_bytes(Shape.of(model.config), item, 2, train, False, number_bytes=4)
        assert found < counted < 0.6 * without
    else:
        assert counted == pytest.approx(found, rel=0.15)


@pytest.mark.slow
def test_a_measured_case_predicts_another():
    """Seconds per operation of one case give the time of one with five times the frames."""

    def seconds(frames):
        _, loss, item = step(PARTS, False, "sdpa", frames, items=4)
        times = []
        for _ in range(8):
            start = time.perf_counter()
            loss().backward()
            times.append(time.perf_counter() - start)
        return min(times), item

    model, _, _ = step(PARTS, False, "sdpa")
    shape = Shape.of(model.config)
    short, few = seconds(4)
    long, many = seconds(20)
    predicted = short * step_flops(shape, many, PARTS, False) / step_flops(shape, few, PARTS, False)
    assert predicted == pytest.approx(long, rel=0.4)


def test_the_papers_model_has_the_published_sizes():
    config = model_config(read_recipes(["stage1a"]))
    with torch.device("meta"):
        model = ElysiumForConditionalGeneration(config)
    counts = trained_counts(model)
    assert 6.7e9 < counts["language_model"][1] < 6.8e9  # Vicuna-7B
    assert 0.28e9 < counts["vision_tower"][1] < 0.31e9  # CLIP ViT-L/14 without its last layer
    shape = Shape.of(config)
    assert shape.tower == (23, 1024, 4096, 577) and shape.text == (32, 4096, 11008, 4096, 32064)
    # Forward and backward of a token cost six operations per weight, beside attention.
    item = Item(frames=0, tokens=1, labels=0)
    layers = counts["language_model"][1] - 2 * 32064 * 4096
    assert step_flops(shape, item, ["language_model"], False) == pytest.approx(6 * layers, rel=0.01)


def test_the_mean_item_of_the_published_stages():
    items = {name: expected_item(read_recipes([name]).stages[0], 108) for name in ("stage1a", "stage2a", "stage2b")}
    assert items["stage1a"].frames == 1
    assert 1 < items["stage2a"].frames < 5  # one video in seven items: the others are images
    long = read_recipes(["stage2b"])
    long.stages[0].sources = [s for s in long.stages[0].sources if s.source == "data/elysium_track_1m.jsonl"]
    only_video = expected_item(long.stages[0], 108)
    assert only_video.frames == 32 and 32 * 108 < only_video.tokens < 4400
    clip = longest_item(read_recipes(["stage2a"]).stages[0], 108)
    assert clip.frames == 8 and clip.tokens > items["stage2a"].tokens  # four questions about eight frames


def test_more_gpus_share_more():
    counts = {"language_model": (1000, 1000), "selector": (0, 50)}
    by = {engine: {n: sum(state_bytes(counts, engine, n).values()) for n in (1, 8)} for engine in ENGINES}
    assert by["none"][1] == by["none"][8] and all(by[e][8] < by[e][1] for e in ENGINES if e != "none")
    assert by["zero3_offload"][8] < by["zero3"][8] < by["zero2"][8] < by["none"][8]
    assert by["zero2"][8] == 2 * 1050 + (2 + 12) * 1000 / 8


def test_the_table(capsys):
    main(["stage1a", "stage2a", "--gpus", "32"])
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| stage")]
    header, first, second = ([cell.strip() for cell in row] for row in rows)
    assert header[1:5] == ["stage", "learn", "steps", "batch"]
    assert first[1] == "stage1a" and first[3] == "2,180"  # 558 000 items in batches of 256
    assert second[3:5] == ["20,000", "512"]
    hours = {}
    for gpus in (8, 32):
        main(["stage2a", "--gpus", str(gpus)])
        hours[gpus] = float(capsys.readouterr().out.splitlines()[-1].split("|")[8].replace(",", ""))
        assert accumulation_steps(512, 16, gpus) == 32 // gpus
    assert hours[8] == pytest.approx(4 * hours[32], rel=0.01)
    with pytest.raises(SystemExit, match="does not exist"):
        main(["stage9"])


def test_new_models_are_counted_from_their_recipe():
    one = recipe()
    assert model_config(one).text_config.hidden_size == one.build.text["hidden_size"]
