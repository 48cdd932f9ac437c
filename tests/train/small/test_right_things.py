"""The share of words that are followed: counted by hand on pictures whose answers are known."""

import json

import numpy as np
import pytest
import torch

from train.small import words as words_module
from train.small.build import build_small
from train.small.pool import Shards, quantized, save_shard
from train.small.words import main, right_things

from .test_small_training import ELYSIUM, TEXT

LEFT, RIGHT, FAR = [0.0, 0.0, 0.4, 1.0], [0.6, 0.0, 1.0, 1.0], [0.45, 0.45, 0.55, 0.55]
PICTURES = [
    [("lamp", LEFT), ("cup", RIGHT)],
    [("lamp", RIGHT), ("cup", LEFT)],
    [("lamp", LEFT), ("lamp", RIGHT)],  # one kind: not asked
    [("cup", LEFT)],
    [("lamp", LEFT), ("lamp", FAR), ("cup", RIGHT)],  # the cup alone can be meant
]


@pytest.fixture(scope="module")
def small():
    return build_small(["a lamp", "a cup"], TEXT, {**ELYSIUM, "expression_similarity": True}, vocab_size=900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes") / "00000"
    tokens, scales = quantized(torch.randn(len(PICTURES), 256, 384, generator=torch.Generator().manual_seed(0)))
    objects = [[{"name": name, "box": box, "color": None} for name, box in picture] for picture in PICTURES]
    save_shard(path, [tokens], [scales], {"objects": objects, "open": [True] * len(PICTURES), "row": [0] * 5})
    return path.parent


@pytest.mark.parametrize("answer, right", [("asked", 1.0), ("other", 0.0), ("nothing", 0.0), ("left", None)])
def test_right_things_by_hand(small, folder, monkeypatch, answer, right):
    pictures = iter(picture for picture in PICTURES if len({name for name, _ in picture}) > 1)
    lefts = []

    def boxes(model, processor, features, prompts):
        out = []
        for prompt in prompts:
            picture = next(pictures)
            (asked,) = [name for name in ("lamp", "cup") if f"the {name}" in prompt]
            by_name = dict(picture)
            lefts.append(by_name[asked] == LEFT)
            other = by_name["cup" if asked == "lamp" else "lamp"]
            out.append(
                {"asked": by_name[asked], "other": other, "nothing": [0.41, 0.0, 0.42, 0.1], "left": LEFT}[answer]
            )
        return torch.tensor(out), torch.ones(len(out))

    monkeypatch.setattr(words_module, "greedy_boxes", boxes)
    result = right_things(*small, Shards(folder))
    assert result["pictures"] == 3
    assert result["chance"] == pytest.approx(np.mean([1 / 2, 1 / 2, 1 / 3]), abs=1e-4)
    assert result["right"] == pytest.approx(np.mean(lefts) if right is None else right, abs=1e-4)


def test_the_command_reads_a_checkpoint(small, folder, tmp_path, capsys):
    for part in small:
        part.save_pretrained(tmp_path)
    main([str(tmp_path), "--scenes", str(folder)])
    result = json.loads(capsys.readouterr().out)
    assert result["pictures"] == 3 and 0 <= result["right"] <= 1
