"""Token compression: from the N patch tokens of a frame to the K that the language model sees.

One signature for all: `compressor(features (F, N, C)) -> (tokens (F, K, C'), kept_indices (F, K) or None)`, with
`compressor.output_size` = C'. The projector to the text width follows in the model. `TSelector` is the paper's
(equation 2), the others are the ablations of its Table 7.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers import initialization as init
from transformers.utils.generic import maybe_autocast

from .configuration_elysium import ElysiumConfig, concat_windows
from .image_features import NUM_CHANNELS

CompressorOutput = tuple[torch.Tensor, torch.Tensor | None]

# Value of the authors' initial bias on the patches that an untrained selector takes.
INITIAL_BIAS = 0.02
# Weight of "more like the object than like its surroundings", and of "shows the object" in the reference itself, in an
# untrained selector's score: they decide at first.
INITIAL_REFERENCE_WEIGHT = 2.0


def initially_kept(num_patches: int, num_kept: int) -> torch.Tensor:
    """Return the indices of the evenly spaced patches that an untrained positional selector keeps.

    The authors take every 5th of 576 for 108. A whole stride keeps that; where it would be 1 (more than half kept) the
    patches are spread over the whole frame instead of filling its top.

    Args:
        num_patches: N.
        num_kept: K.

    Returns:
        Ascending indices of shape `(K,)`, dtype int64.
    """
    steps = torch.arange(num_kept)
    stride = num_patches // num_kept
    return steps * stride if stride > 1 else steps * num_patches // num_kept


class ScoreLinear(nn.Module):
    """A linear layer that computes in float32, whatever dtype its weights have.

    No `nn.Linear` on purpose: those are what quantization, adapters for "all-linear" and serving engines replace, and
    the ranking would then be done in fewer bits.

    Args:
        in_features: width of the inputs.
        out_features: width of the outputs.
        std: standard deviation of the initial weights.
        bias: whether there is a bias.
    """

    def __init__(self, in_features: int, out_features: int, std: float, bias: bool = True) -> None:
        super().__init__()
        self.std = std
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None

    @torch.no_grad()
    def init_own_weights(self) -> None:
        """Draw the weights as the library does for `nn.Linear`; the bias is 0."""
        init.normal_(self.weight, mean=0.0, std=self.std)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map `(..., in)` of any float type to float32 `(..., out)`."""
        bias = None if self.bias is None else self.bias.float()
        return functional.linear(inputs.float(), self.weight.float(), bias)


class TSelector(nn.Module):
    """Keeps the K best-scored tokens of each frame in image order (paper section 3.2, equation 2).

    Forward is pure selection. Ranking is done in float32 and equal scores go to the lower index, since 16-bit scores
    leave so few distinct values that ties would decide. Backward reaches the scorer through a gate that is exactly 1:
    `exp(log p - stop_gradient(log p))` with p the softmax over the N scores.

    Args:
        config: model configuration; read are `num_image_tokens`, `selector_scorer`, `selector_gradient`,
            `selector_hidden_size` and the vision shapes.
    """

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__()
        self.num_kept = config.num_image_tokens
        self.gradient = config.selector_gradient
        self.output_size = width = config.vision_config.hidden_size
        self.positional = config.selector_scorer == "positional"
        std = getattr(config.text_config, "initializer_range", 0.02)
        if self.positional:
            self.pre_proj = ScoreLinear(width, 1, std)
            self.trans_weight = nn.Parameter(torch.empty(config.num_patches, config.num_patches))
            self.trans_bias = nn.Parameter(torch.empty(config.num_patches))
        else:
            hidden = config.selector_hidden_size or max(width // 2, 1)
            self.score_in = ScoreLinear(width, hidden, std)
            # Softmax ignores a constant added to every score, so a bias here would never be trained.
            self.score_out = ScoreLinear(hidden, 1, std, bias=False)
        self.by_reference = config.reference_similarity
        if self.by_reference:
            self.reference_weight = nn.Parameter(torch.empty(NUM_CHANNELS))

    @torch.no_grad()
    def init_own_weights(self) -> None:
        """Initialize the mixing matrix to 0 and the bias so that evenly spaced patches are kept at first.

        With a reference, patches that are more like the object than like its surroundings are kept first.
        """
        if self.by_reference:
            init.copy_(
                self.reference_weight, torch.tensor([0.0, 0.0, INITIAL_REFERENCE_WEIGHT, INITIAL_REFERENCE_WEIGHT])
            )
        if self.positional:
            init.zeros_(self.trans_weight)
            bias = torch.zeros_like(self.trans_bias)
            bias[initially_kept(bias.numel(), self.num_kept).to(bias.device)] = INITIAL_BIAS
            init.copy_(self.trans_bias, bias)

    def score(self, features: torch.Tensor, channels: torch.Tensor | None = None) -> torch.Tensor:
        """Score patches before the softmax.

        Args:
            features: patch tokens of shape `(F, N, C)`.
            channels: similarity to the known object, `(F, N, 4)`, where the configuration asks for it.

        Returns:
            float32 scores of shape `(F, N)`.
        """
        with maybe_autocast(device_type=features.device.type, enabled=False):
            if self.positional:
                row = self.pre_proj(features).squeeze(-1)  # (F, N)
                scores = torch.addmm(self.trans_bias.float(), row, self.trans_weight.float())
            else:
                scores = self.score_out(functional.gelu(self.score_in(features))).squeeze(-1)
            if channels is not None:
                scores = scores + channels.float() @ self.reference_weight.float()
            return scores

    def forward(self, features: torch.Tensor, channels: torch.Tensor | None = None) -> CompressorOutput:
        """Select tokens.

        Args:
            features: patch tokens of shape `(F, N, C)`.
            channels: see `score`.

        Returns:
            The kept tokens `(F, K, C)`, equal to rows of `features`, and their ascending patch indices `(F, K)`.
        """
        train_scorer = self.gradient and torch.is_grad_enabled()
        with torch.set_grad_enabled(train_scorer):
            scores = self.score(features, channels)
        ranked = scores.detach().sort(dim=-1, descending=True, stable=True).indices
        kept = ranked[:, : self.num_kept].sort(dim=-1).values  # (F, K)
        tokens = features.gather(1, kept.unsqueeze(-1).expand(-1, -1, features.shape[-1]))
        if train_scorer:
            log_probs = scores.log_softmax(dim=-1).gather(1, kept)
            gate = torch.exp(log_probs - log_probs.detach()).to(tokens.dtype)
            tokens = tokens * gate.unsqueeze(-1)
        return tokens, kept


class ConcatCompressor(nn.Module):
    """Joins the tokens of neighboring patches, window by window (paper Table 7, "concat").

    Args:
        config: model configuration whose `num_image_tokens` can be reached by whole windows.
    """

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__()
        self.grid = config.patch_grid
        self.window = concat_windows(self.grid)[config.num_image_tokens]
        self.output_size = config.vision_config.hidden_size * self.window[0] * self.window[1]

    def forward(self, features: torch.Tensor) -> CompressorOutput:
        """Join windows of h x w patches.

        Args:
            features: patch tokens of shape `(F, N, C)`, N = rows x columns.

        Returns:
            Tokens of shape `(F, K, h * w * C)`, windows in raster order, and None.
        """
        rows, columns = self.grid
        height, width = self.window
        frames, _, channels = features.shape
        tiles = features.view(frames, rows // height, height, columns // width, width, channels)
        return tiles.transpose(2, 3).reshape(frames, -1, self.output_size), None  # (F, K, h*w*C)


class CrossAttentionCompressor(nn.Module):
    """One layer of cross-attention from K learned queries to the patches (paper Table 7, "cross-attention").

    Args:
        config: model configuration; the head count is the vision tower's.
    """

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__()
        self.output_size = width = config.vision_config.hidden_size
        self.num_heads = config.vision_config.num_attention_heads
        self.queries = nn.Parameter(torch.empty(config.num_image_tokens, width))
        self.norm = nn.LayerNorm(width)
        self.q_proj = nn.Linear(width, width)
        # A bias on the keys adds the same number to all scores of a query, so it would never be trained.
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def init_own_weights(self) -> None:
        """Draw the queries at unit scale, so that they differ from the start."""
        init.normal_(self.queries, mean=0.0, std=1.0)

    def forward(self, features: torch.Tensor) -> CompressorOutput:
        """Let every query gather from all patches.

        Args:
            features: patch tokens of shape `(F, N, C)`.

        Returns:
            Tokens of shape `(F, K, C)` and None.
        """
        frames = features.shape[0]
        features = self.norm(features.to(self.queries.dtype))  # the compressor stays in float32 in a float16 model
        queries = self.q_proj(self.queries).unsqueeze(0).expand(frames, -1, -1)
        query, key, value = (
            states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (F, heads, K or N, C / heads)
            for states in (queries, self.k_proj(features), self.v_proj(features))
        )
        gathered = functional.scaled_dot_product_attention(query, key, value)
        return self.out_proj(gathered.transpose(1, 2).flatten(2)), None  # (F, K, C)


class NoCompression(nn.Module):
    """Hands all N tokens on (paper Table 7, "MLP"); the projector is the MLP.

    Args:
        config: model configuration with `num_image_tokens` = N.
    """

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__()
        self.output_size = config.vision_config.hidden_size

    def forward(self, features: torch.Tensor, channels: torch.Tensor | None = None) -> CompressorOutput:
        """Return the features `(F, N, C)` as they are, and None; similarity `channels` change nothing here."""
        return features, None


def build_compressor(config: ElysiumConfig) -> nn.Module:
    """Build the compressor that `config.compressor_type` names.

    Args:
        config: model configuration.

    Returns:
        A module of the signature described at the top of this file.
    """
    compressors = {
        "t_selector": TSelector,
        "concat": ConcatCompressor,
        "cross_attention": CrossAttentionCompressor,
        "mlp": NoCompression,
    }
    return compressors[config.compressor_type](config)


__all__ = [
    "ConcatCompressor",
    "CrossAttentionCompressor",
    "NoCompression",
    "TSelector",
    "build_compressor",
    "initially_kept",
]
