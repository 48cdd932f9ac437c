"""Muon and AdamW as one optimizer, and the mirror images of the tower's pretraining."""

import numpy as np
import pytest
import torch
from torch import nn

from dataset_scripts.synthetic import SyntheticConfig
from train.miniature.build import build_model
from train.miniature.patches import PatchSource
from train.miniature.pretrain_tower import mirrored
from train.optimizer import MuonAdamW, is_hidden_matrix
from train.parts import PARTS
from train.sft import make_trainer

from .tiny_recipe import BUILD, TOWER, recipe, stage


def network():
    torch.manual_seed(0)
    return nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(4, 6), nn.Linear(6, 4)])})


def optimizer_of(net):
    matrices = [p for p in net.parameters() if p.ndim == 2]
    vectors = [p for p in net.parameters() if p.ndim < 2]
    return MuonAdamW([{"params": matrices, "lr": 0.1}], [{"params": vectors, "lr": 0.01}])


def steps(net, optimizer, numbers):
    layers = net["layers"]
    for number in numbers:
        x = torch.full((3, 4), 0.1 * (number + 1))
        layers[1](layers[0](x)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_equals_the_two_optimizers_one_after_the_other():
    one, two = network(), network()
    steps(one, optimizer_of(one), range(3))
    muon = torch.optim.Muon([p for p in two.parameters() if p.ndim == 2], lr=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([p for p in two.parameters() if p.ndim < 2], lr=0.01, betas=(0.9, 0.98))
    for number in range(3):
        x = torch.full((3, 4), 0.1 * (number + 1))
        two["layers"][1](two["layers"][0](x)).square().sum().backward()
        muon.step()
        adamw.step()
        two.zero_grad()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_schedule_scales_both_and_state_survives(tmp_path):
    """A saved and loaded state goes on as if nothing had happened, schedule included."""
    whole, halves = network(), network()
    optimizer = optimizer_of(whole)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    steps(whole, optimizer, range(4))
    first = optimizer_of(halves)
    torch.optim.lr_scheduler.LambdaLR(first, lambda step: 0.5)
    steps(halves, first, range(2))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = optimizer_of(halves)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [group["lr"] for group in second.param_groups] == [0.05, 0.005] == schedule.get_last_lr()
    steps(halves, second, range(2, 4))
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("model.language_model.layers.0.self_attn.q_proj.weight", True),  # a matrix between hidden layers
        ("model.vision_tower.encoder.layers.0.mlp.fc1.weight", True),  # the tower's too
        ("model.vision_tower.encoder.layers.0.mlp.fc1.bias", False),  # a vector
        ("model.language_model.embed_tokens.weight", False),  # rows of a table, not a map
        ("model.vision_tower.embeddings.position_embedding.weight", False),  # the same
        ("lm_head.weight", False),  # the output head
    ],
)
def test_hidden_matrices(part, expected):
    model, _ = build_model(BUILD, 0)
    assert is_hidden_matrix(part, dict(model.named_parameters(remove_duplicate=False))[part]) is expected


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "start"
    for part in build_model(BUILD, 0):
        part.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("muon", [0.02, None])
def test_each_part_has_its_rate(tmp_path, start, muon):
    one = stage(
        muon_learning_rate=muon,
        train={**dict.fromkeys(PARTS, 1.0), "vision_tower": 0.1},
        arguments={"learning_rate": 0.001, "weight_decay": 0.3, **({} if muon else {"optim": "adafactor"})},
    )
    trainer = make_trainer(one, recipe(), start, tmp_path, use_cpu=True)
    optimizer = trainer.create_optimizer()
    assert type(optimizer).__name__ == ("MuonAdamW" if muon else "Adafactor")
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        rate = muon if muon and is_hidden_matrix(name, parameter) else 0.001
        group = groups[id(parameter)]
        assert group["lr"] == pytest.approx(rate * (0.1 if "vision_tower" in name else 1)), name
        assert group["weight_decay"] == (0.0 if name.endswith("bias") or "norm" in name else 0.3), name


def test_mirror_image():
    """Mirrored twice is the same; mirrored once, each patch's labels and box are those of the patch opposite."""
    frames, labels, boxes = (
        torch.from_numpy(np.stack(column))
        for column in zip(*(PatchSource(SyntheticConfig(size=56), 14, TOWER)[i] for i in range(3)), strict=True)
    )
    once = mirrored(frames, labels, boxes)
    for a, b in zip(mirrored(*once), (frames, labels, boxes), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(once[0][:, :, 0], frames[:, :, -1])
    torch.testing.assert_close(once[1][:, 0], labels[:, 3])  # 4 x 4 patches: the top left is the top right
    x0, y0, x1, y1 = boxes[:, 3].unbind(-1)
    torch.testing.assert_close(once[2][:, 0], torch.stack([1 - x1, y0, 1 - x0, y1], dim=-1))
