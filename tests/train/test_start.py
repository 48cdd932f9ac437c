"""What a small model starts from: standardized features, a fitted projector, look-up heads, clips asked twice."""

import pytest
import torch

from dataset_scripts.synthetic import SyntheticConfig
from train.data import ConversationSource
from train.miniature.alignment import align
from train.miniature.build import build_model
from train.miniature.pretrain_tower import standardize_features

from .tiny_recipe import BATCH, BUILD, TOWER, stage


@pytest.fixture
def built():
    return build_model(BUILD, 0)


def test_standardized_features_are_the_same_up_to_scale_and_shift(built):
    """The slow twin: standardize the output instead of the weights."""
    tower = built[0].model.vision_tower
    pixels = torch.randn(8, 3, 56, 56)
    with torch.no_grad():
        before = tower(pixels).last_hidden_state[:, 1:]
        standardize_features(tower, pixels)
        after = tower(pixels).last_hidden_state[:, 1:]
    centered = before - before.mean(dim=(0, 1))
    torch.testing.assert_close(after, centered / centered.std(), atol=2e-3, rtol=1e-3)


def test_alignment_fits_better_than_the_mean(built):
    """A random tower knows little of the objects, yet the fitted projector must beat a constant on object patches."""
    model, processor = built
    embeddings = model.get_input_embeddings().weight.clone()
    tower = {name: p.clone() for name, p in model.model.vision_tower.named_parameters()}
    report = align(model.model, processor, SyntheticConfig(size=56), TOWER, workers=0)
    assert 0 <= report["recall"] <= 1
    assert report["error"] < 1
    torch.testing.assert_close(model.get_input_embeddings().weight, embeddings, atol=0, rtol=0)
    for name, parameter in model.model.vision_tower.named_parameters():
        torch.testing.assert_close(parameter, tower[name], atol=0, rtol=0)


def test_every_second_head_looks_up_and_copies(built):
    for layer in built[0].model.language_model.layers:
        attention = layer.self_attn
        size = attention.head_dim
        query, key = attention.q_proj.weight, attention.k_proj.weight
        for head in range(attention.config.num_attention_heads):
            rows = slice(head * size, (head + 1) * size)
            assert torch.equal(query[rows], key[rows]) == (head % 2 == 0)
            value, output = attention.v_proj.weight[rows], attention.o_proj.weight[:, rows]
            parallel = torch.nn.functional.cosine_similarity(value.T.flatten(), output.flatten(), dim=0)
            assert (parallel > 0.999) == (head % 2 == 0)


@pytest.mark.parametrize("repeats", [1, 2])
def test_repeated_batches_show_the_same_clips_and_ask_anew(repeats):
    source = ConversationSource(stage(repeats=repeats), BATCH)
    rows = [source[item] for item in range(6)]  # two batches of three
    for first, second in zip(rows[:3], rows[3:], strict=True):
        same = len(first["frames"]) == len(second["frames"]) and all(
            (a == b).all() for a, b in zip(first["frames"], second["frames"], strict=True)
        )
        assert same == (repeats == 2)
    assert [row["messages"] for row in rows[:3]] != [row["messages"] for row in rows[3:]]


def test_a_batch_has_one_number_of_frames_and_objects():
    source = ConversationSource(stage(num_frames=(1, 4)), BATCH)
    shapes = set()
    for group in range(40):
        clips = [source.clip(group, row)[1] for row in range(2)]
        found = {(len(clip.frames), len(clip.scene.objects)) for clip in clips}
        assert len(found) == 1
        shapes |= found
    assert {frames for frames, _ in shapes} == {1, 2, 3, 4}
    assert {objects for _, objects in shapes} == {2, 3, 4, 5}
