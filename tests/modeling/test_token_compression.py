from typing import get_args

import pytest
import torch

from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from modeling_elysium.token_compression import TSelector, build_compressor, initially_kept
from tests.modeling.tiny_models import tiny_config, tiny_frames, tiny_model, tiny_prompt

F, N, C, K = 3, 16, 32, 6
# For every compressor a number of tokens that it can give of the tiny model's 4 x 4 patches.
TOKEN_COUNTS = {"t_selector": 6, "concat": 4, "cross_attention": 5, "mlp": 16}


def build(**fields) -> torch.nn.Module:
    """Builds a compressor with every parameter away from its start."""
    torch.manual_seed(0)
    compressor = build_compressor(tiny_config(**fields))
    for parameter in compressor.parameters():
        torch.nn.init.normal_(parameter)
    return compressor


def features(seed: int = 1) -> torch.Tensor:
    return torch.randn(F, N, C, generator=torch.Generator().manual_seed(seed))


def plain_selection(selector: TSelector, frames: torch.Tensor) -> list[list[int]]:
    """Equation 2 written out: scores, softmax, the K best, lower index first, in image order."""
    kept = []
    for frame in frames:
        if selector.positional:
            row = torch.stack([selector.pre_proj.weight[0] @ token + selector.pre_proj.bias[0] for token in frame])
            scores = row @ selector.trans_weight + selector.trans_bias
        else:
            hidden = torch.nn.functional.gelu(frame @ selector.score_in.weight.T + selector.score_in.bias)
            scores = (hidden @ selector.score_out.weight.T)[:, 0]
        probabilities = scores.softmax(0).tolist()
        best = sorted(range(len(probabilities)), key=lambda index: (-probabilities[index], index))
        kept.append(sorted(best[: selector.num_kept]))
    return kept


@pytest.mark.parametrize("scorer", ["positional", "mlp"])
@pytest.mark.parametrize("num_kept", [1, K, N])
def test_selector_is_equation_2(scorer, num_kept):
    selector, frames = build(selector_scorer=scorer, num_image_tokens=num_kept), features()
    tokens, kept = selector(frames)
    assert kept.tolist() == plain_selection(selector, frames)
    # Pure selection, bit for bit, although the gate takes part.
    assert torch.equal(tokens, torch.stack([frame[index] for frame, index in zip(frames, kept, strict=True)]))
    with torch.no_grad():
        assert torch.equal(selector(frames)[0], tokens)


def test_equal_scores_go_to_the_lower_index():
    selector = build()
    selector.trans_weight.data.zero_()
    selector.trans_bias.data.zero_()
    assert selector(features())[1].tolist() == [list(range(K))] * F


@pytest.mark.parametrize("scorer", ["positional", "mlp"])
def test_ranking_stays_in_float32(scorer):
    selector = build(selector_scorer=scorer)
    frames = features().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = selector.score(frames)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, selector.score(frames))
    half = build(selector_scorer=scorer).bfloat16()
    assert half.score(frames).dtype == torch.float32
    assert half.score(frames).unique().numel() == F * N  # 16-bit scores would collide
    assert half(frames)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("scorer", ["positional", "mlp"])
def test_gradient_is_that_of_the_log_probability(scorer):
    selector, frames = build(selector_scorer=scorer), features()
    weights = torch.randn(F, K, C)
    tokens, kept = selector(frames)
    (tokens * weights).sum().backward()
    found = {name: parameter.grad.clone() for name, parameter in selector.named_parameters()}
    selector.zero_grad()
    # The gate has value 1, so it passes <gradient, token> on to the log-probability of each kept token.
    gain = (weights * frames.gather(1, kept.unsqueeze(-1).expand(-1, -1, C))).sum(-1)
    (selector.score(frames).log_softmax(-1).gather(1, kept) * gain).sum().backward()
    for name, parameter in selector.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, msg=name)
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("scorer", ["positional", "mlp"])
def test_published_behavior_gives_the_scorer_no_gradient(scorer):
    selector, frames = build(selector_scorer=scorer, selector_gradient=False), features().requires_grad_()
    selector(frames)[0].sum().backward()
    assert all(parameter.grad is None for parameter in selector.parameters())
    assert frames.grad.sum() == F * K * C  # the tower still learns through the kept tokens


def test_untrained_selector_keeps_every_fifth_patch_of_the_paper():
    selector = TSelector(ElysiumConfig())
    torch.nn.init.normal_(selector.pre_proj.weight)
    selector.init_own_weights()
    kept = selector(torch.randn(1, 576, 1024))[1]
    assert kept.tolist() == [list(range(0, 540, 5))]
    assert selector.trans_bias[kept].unique().item() == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("num_patches", "num_kept", "expected"),
    [
        (16, 4, [0, 4, 8, 12]),  # divides
        (16, 6, [0, 2, 4, 6, 8, 10]),  # whole stride, as the authors
        (16, 12, [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14]),  # stride 1 would never see the bottom
        (16, 16, list(range(16))),  # all
    ],
)
def test_initially_kept_patches_are_spread(num_patches, num_kept, expected):
    assert initially_kept(num_patches, num_kept).tolist() == expected


@pytest.mark.parametrize(("num_kept", "window"), [(16, (1, 1)), (8, None), (4, (2, 2)), (1, (4, 4))])
def test_concat_joins_neighbors(num_kept, window):
    compressor = build(compressor_type="concat", num_image_tokens=num_kept)
    frames = features()
    tokens, kept = compressor(frames)
    height, width = compressor.window
    assert window is None or (height, width) == window
    assert kept is None
    assert tokens.shape == (F, num_kept, compressor.output_size) == (F, num_kept, C * 16 // num_kept)
    grid = frames.view(F, 4, 4, C)
    first = grid[:, :height, :width].reshape(F, -1)
    last = grid[:, 4 - height :, 4 - width :].reshape(F, -1)
    assert torch.equal(tokens[:, 0], first)
    assert torch.equal(tokens[:, -1], last)


@pytest.mark.parametrize("num_kept", [1, 5, 16])
def test_cross_attention_takes_any_budget(num_kept):
    compressor = build(compressor_type="cross_attention", num_image_tokens=num_kept)
    frames = features()
    tokens, kept = compressor(frames)
    assert kept is None and tokens.shape == (F, num_kept, C) and compressor.output_size == C
    # Attention has no order: the patches carry their places in themselves.
    torch.testing.assert_close(compressor(frames[:, torch.randperm(N)])[0], tokens, rtol=1e-4, atol=1e-4)
    tokens.pow(2).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in compressor.parameters())


def test_no_compression_hands_everything_on():
    compressor = build(compressor_type="mlp", num_image_tokens=N)
    frames = features()
    assert compressor(frames) == (frames, None)
    assert not list(compressor.parameters())


def test_every_compressor_is_tested():
    assert set(TOKEN_COUNTS) == set(get_args(ElysiumConfig.__dataclass_fields__["compressor_type"].type))


@pytest.mark.parametrize(("kind", "num_kept"), TOKEN_COUNTS.items())
def test_each_compressor_runs_learns_and_is_saved_in_the_model(kind, num_kept, tmp_path):
    model = tiny_model(compressor_type=kind, num_image_tokens=num_kept)
    compressor, frames = model.model.selector, tiny_frames(F)
    tokens, kept = compressor(features())
    assert tokens.shape == (F, num_kept, compressor.output_size)
    assert kept is None or kept.shape == (F, num_kept)
    input_ids = torch.tensor([tiny_prompt(5, 0, 7, 0, 8, 0, 9, 10, num_kept=num_kept)])
    model(input_ids=input_ids, pixel_values=frames, labels=input_ids).loss.backward()
    still = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert still == []
    model.save_pretrained(tmp_path)
    again = ElysiumForConditionalGeneration.from_pretrained(tmp_path)
    for found, tokens in zip(*(m.get_image_features(frames).pooler_output for m in (again, model)), strict=True):
        assert torch.equal(found, tokens)
