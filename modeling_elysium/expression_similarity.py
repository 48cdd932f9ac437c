"""How well each patch of a frame fits the words of a question.

A small language model that is trained from nothing does not learn to match words with patches: asked for one of
several things it names the most prominent one (docs/LOG.md). Here words and patches meet before the language model, in
one learned space, and what comes of it takes the place of the similarity to a known object
(`image_features.expression_channels`). Off for the paper's model (`ElysiumConfig.expression_similarity`).

Shapes: F frames, N patches per frame, C vision width, L tokens of the longest expression, E width of the space.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import initialization as init
from transformers.utils.generic import maybe_autocast

from .configuration_elysium import ElysiumConfig
from .token_compression import ScoreLinear

# E, and the hidden width of the patches' side.
WIDTH, HIDDEN = 256, 512
# Standard deviation of the initial word vectors: scores of an untrained model are then small.
INITIAL_WORDS = 0.3


class ExpressionSimilarity(nn.Module):
    """Scores the patches of frames by expressions: the product of a vector of the words and one of the patch.

    The words' vector is a function of the sum of their tokens' embeddings, the patch's one of its features and its
    place, so that "the person on the left" can be told. Everything is computed in float32, since the selector ranks
    patches by it.

    Args:
        config: model configuration; read are the vocabulary and the vision shapes.
    """

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__()
        vision: Any = config.vision_config
        text: Any = config.text_config
        width = vision.hidden_size
        self.words = nn.Embedding(text.vocab_size, WIDTH)
        self.words_in = ScoreLinear(WIDTH, WIDTH, WIDTH**-0.5)
        self.words_out = ScoreLinear(WIDTH, WIDTH, WIDTH**-0.5)
        self.patches_in = ScoreLinear(width, HIDDEN, width**-0.5)
        self.patches_out = ScoreLinear(HIDDEN, WIDTH, HIDDEN**-0.5)
        self.places = nn.Parameter(torch.empty(config.num_patches, WIDTH))

    @torch.no_grad()
    def init_own_weights(self) -> None:
        """Draw the words' vectors; places make no difference at first."""
        init.normal_(self.words.weight, std=INITIAL_WORDS)
        init.zeros_(self.places)

    def of_words(self, expression_ids: torch.Tensor) -> torch.Tensor:
        """Map expressions (F, L), token ids with -1 as padding, to float32 vectors (F, E)."""
        with maybe_autocast(device_type=expression_ids.device.type, enabled=False):
            known = (expression_ids >= 0).unsqueeze(-1)
            vectors = self.words(expression_ids.clamp(min=0)).float() * known
            summed = vectors.sum(1) / known.sum(1).clamp(min=1).sqrt()
            return summed + self.words_out(functional.gelu(self.words_in(summed)))

    def of_patches(self, patches: torch.Tensor) -> torch.Tensor:
        """Map patches (F, N, C) to float32 vectors (F, N, E)."""
        with maybe_autocast(device_type=patches.device.type, enabled=False):
            return self.patches_out(functional.gelu(self.patches_in(patches))) + self.places.float()

    def all_pairs(self, patches: torch.Tensor, expression_ids: torch.Tensor) -> torch.Tensor:
        """Score the patches of all frames by all of Q expressions, for training: float32 (Q, F, N)."""
        words, places = self.of_words(expression_ids), self.of_patches(patches)
        with maybe_autocast(device_type=patches.device.type, enabled=False):
            products = words @ places.flatten(0, 1).mT
        return products.unflatten(-1, places.shape[:2]) / WIDTH**0.5

    def forward(self, patches: torch.Tensor, expression_ids: torch.Tensor) -> torch.Tensor:
        """Score every frame's patches by that frame's expression.

        Args:
            patches: patch tokens of shape `(F, N, C)`.
            expression_ids: token ids of shape `(F, L)`, -1 as padding.

        Returns:
            float32 scores of shape `(F, N)`; whatever they are where a frame has no expression.
        """
        with maybe_autocast(device_type=patches.device.type, enabled=False):
            products = self.of_patches(patches) @ self.of_words(expression_ids).unsqueeze(-1)
            return products.squeeze(-1) / WIDTH**0.5


__all__ = ["ExpressionSimilarity"]
