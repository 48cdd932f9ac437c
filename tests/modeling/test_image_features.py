"""References: which patches show the known object, how alike others are to it, and what the model makes of that."""

import math

import numpy as np
import pytest
import torch

from modeling_elysium.image_features import NUM_CHANNELS, expression_channels, patches_in_box, reference_channels
from tests.modeling.tiny_models import tiny_model

GRID = (4, 4)
NAN = float("nan")


@pytest.mark.parametrize(
    "box, expected",
    [
        ([0.0, 0.0, 1.0, 1.0], range(16)),
        ([0.0, 0.0, 0.5, 0.5], [0, 1, 4, 5]),
        ([0.5, 0.25, 1.0, 0.5], [6, 7]),
        ([0.3, 0.3, 0.32, 0.32], [5]),  # between centers: the patch that holds the middle
        ([0.99, 0.99, 1.0, 1.0], [15]),
        ([NAN] * 4, []),
    ],
)
def test_patches_in_box(box, expected):
    inside = patches_in_box(torch.tensor([box]), GRID)
    assert inside.shape == (1, 16)
    assert inside[0].nonzero().flatten().tolist() == list(expected)


def test_channels_by_hand():
    """Two kinds of patches at right angles: those like the object have cosine 1, those like its surroundings 0."""
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    reference = torch.stack([b] * 5 + [a] * 3 + [b] * 8).unsqueeze(0)
    inside = torch.zeros(1, 16, dtype=torch.bool)
    inside[0, 5:8] = True
    patches = torch.stack([a] + [b] * 15).unsqueeze(0) * 7  # length does not matter
    channels = reference_channels(patches, reference, inside, torch.tensor([False]))
    assert channels.shape == (1, 16, NUM_CHANNELS)
    torch.testing.assert_close(channels[0, 0], torch.tensor([3.0, 3.0, 3.0, 0.0]))
    torch.testing.assert_close(channels[0, 1], torch.tensor([0.0, 0.0, -3.0, 0.0]))
    own = reference_channels(reference, reference, inside, torch.tensor([True]))
    torch.testing.assert_close(own[0, :, 3], 2.0 * inside[0] - 1)
    assert not own[0, :, :3].any()
    nothing = reference_channels(patches, reference, torch.zeros_like(inside), torch.tensor([False]))
    assert not nothing.any()


def test_channels_of_words_by_hand():
    scores = torch.tensor([[0.0, 0.0, 0.0, 20.0], [1.0, 1.0, 1.0, 1.0]])
    channels = expression_channels(scores, torch.tensor([[5, -1], [3, 7]]))
    assert channels.shape == (2, 4, NUM_CHANNELS)
    likely = 1.5 * math.tanh(math.log(4) / 2)  # all of the probability against a quarter of it
    torch.testing.assert_close(channels[0, 3], torch.tensor([1.5, 1.5, likely, 0.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(channels[0, 0], torch.tensor([0.0, 0.0, -1.5, 0.0]), atol=1e-4, rtol=0)
    even = 1.5 * math.tanh(0.5)
    torch.testing.assert_close(channels[1], torch.tensor([[even, even, 0.0, 0.0]] * 4))
    assert not expression_channels(scores, torch.full((2, 2), -1)).any()


@pytest.fixture(scope="module")
def words_model():
    options = {"reference_similarity": True, "expression_similarity": True, "selector_scorer": "mlp"}
    return tiny_model(**options, vision_feature_norm=True)


def test_words_count_where_no_box_is_known(words_model):
    model = words_model.model
    pixels, which = frames(words_model, 4), torch.tensor([0, 0, 2, 3])
    boxes = torch.tensor([[0.2, 0.2, 0.7, 0.8]] * 2 + [[NAN] * 4] * 2)
    words, nothing = torch.tensor([[3, 4], [3, 4], [3, 4], [-1, -1]]), torch.full((4, 1), -1)
    with torch.no_grad():
        told, untold = (model.get_image_features(pixels, which, boxes, w).pooler_output for w in (words, nothing))
        alone = model.get_image_features(pixels[2:3], expression_ids=torch.tensor([[3, 4, -1]])).pooler_output
    for n in (0, 1, 3):
        torch.testing.assert_close(told[n], untold[n])
    assert not torch.allclose(told[2], untold[2])
    torch.testing.assert_close(told[2], alone[0])  # padding says nothing


def test_pairs_are_scored_as_one_by_one(words_model):
    similarity = words_model.model.expression_similarity
    patches = torch.randn(3, words_model.config.num_patches, words_model.config.vision_config.hidden_size)
    words = torch.tensor([[3, 4, -1], [5, -1, -1]])
    with torch.no_grad():
        pairs = similarity.all_pairs(patches, words)
        for q in range(2):
            torch.testing.assert_close(pairs[q], similarity(patches, words[q].expand(3, -1)))


def test_every_weight_of_the_words_gets_a_gradient(words_model):
    words_model.zero_grad()
    features = words_model.model.get_image_features(frames(words_model, 1), expression_ids=torch.tensor([[3, 4]]))
    features.pooler_output[0].square().sum().backward()
    for name, parameter in words_model.model.expression_similarity.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_words_need_the_channels_of_references():
    with pytest.raises(ValueError, match="reference_similarity=True"):
        tiny_model(expression_similarity=True)


@pytest.fixture(scope="module")
def model():
    return tiny_model(
        reference_similarity=True, patch_position_embedding=True, vision_feature_norm=True, selector_scorer="mlp"
    )


def frames(model, count, seed=0):
    size = model.config.vision_config.image_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_whole_path_is_its_parts(model):
    pixels = frames(model, 3)
    which, boxes = torch.tensor([0, 0, 2]), torch.tensor([[0.2, 0.2, 0.7, 0.8]] * 2 + [[NAN] * 4])
    with torch.no_grad():
        at_once = model.model.get_image_features(pixels, which, boxes)
        patches = model.model.patches(model.model.encode_patches(pixels).last_hidden_state)
        own = torch.tensor([True, False, True])
        parts = model.model.compress(patches, patches[which], boxes, own)
        unlinked = model.model.get_image_features(pixels)
    for a, b in zip(at_once.pooler_output, parts.pooler_output, strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(at_once.kept_indices, parts.kept_indices)
    # A reference changes what is kept or said of a frame; without one, or with an unknown box, nothing changes.
    assert not torch.allclose(at_once.pooler_output[1], unlinked.pooler_output[1])
    torch.testing.assert_close(at_once.pooler_output[2], unlinked.pooler_output[2])


def test_patches_alike_to_the_object_are_kept_first(model):
    """An untrained selector keeps the patches that look like the known object."""
    num, kept = model.config.num_patches, model.config.num_image_tokens
    generator = torch.Generator().manual_seed(1)
    width = model.config.vision_config.hidden_size
    reference = torch.randn(1, num, width, generator=generator)
    inside_box = torch.tensor([[0.0, 0.0, 0.5, 0.5]])
    inside = patches_in_box(inside_box, model.config.patch_grid)[0]
    searched = torch.randn(1, num, width, generator=generator)
    shown = torch.arange(num)[-min(kept, int(inside.sum())) :]  # the object now stands at the end
    reference[0, inside] = searched[0, shown] = torch.randn(width, generator=generator)
    with torch.no_grad():
        out = model.model.compress(searched, reference, inside_box, torch.tensor([False]))
    assert set(shown.tolist()) <= set(out.kept_indices[0].tolist())


def test_every_new_weight_gets_a_gradient(model):
    pixels = frames(model, 2)
    which, boxes = torch.tensor([0, 0]), torch.tensor([[0.2, 0.2, 0.7, 0.8]] * 2)
    model.zero_grad()
    features = model.model.get_image_features(pixels, which, boxes)
    sum((tokens**2).sum() for tokens in features.pooler_output).backward()
    for name in ("selector.reference_weight", "patch_positions.weight", "multi_modal_projector.linear_1.weight"):
        assert model.model.get_parameter(name).grad.abs().sum() > 0, name


def test_norm_is_a_layer_norm_without_weights(model):
    with torch.no_grad():
        patches = model.model.patches(model.model.encode_patches(frames(model, 1)).last_hidden_state).numpy()
    np.testing.assert_allclose(patches.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(patches.std(-1), 1, atol=1e-2)


@pytest.mark.parametrize(
    "given", [{"reference_frames": torch.tensor([0])}, {"reference_boxes": torch.zeros(1, 4)}], ids=["frame", "box"]
)
def test_half_a_reference_is_an_error(model, given):
    with pytest.raises(ValueError, match="together, or neither"):
        model.model.get_image_features(frames(model, 1), **given)


@pytest.mark.parametrize("option", ["reference_similarity", "patch_position_embedding"])
def test_options_need_tokens_of_one_patch(option):
    with pytest.raises(ValueError, match="one patch each"):
        tiny_model(compressor_type="cross_attention", **{option: True})


def test_saved_and_loaded_it_says_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    which, boxes = torch.tensor([0, 0]), torch.tensor([[0.2, 0.2, 0.7, 0.8]] * 2)
    with torch.no_grad():
        a, b = (m.model.get_image_features(frames(m, 2), which, boxes).pooler_output for m in (model, again))
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other)
