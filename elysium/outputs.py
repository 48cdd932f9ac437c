"""What the models return; F frames, K kept tokens, C vision width, D text width, B batch, T tokens, V vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling
from transformers.utils import ModelOutput


@dataclass
class ElysiumImageFeatures(BaseModelOutputWithPooling):
    """Visual tokens of F frames.

    Args:
        last_hidden_state: what the vision tower gave, `(F, prefix + N, C)`, before its final norm.
        pooler_output: one `(K, D)` tensor per frame, ready to take the place of its K placeholders.
        kept_indices: `(F, K)` patch indices of the kept tokens, None where a token is no single patch.
    """

    kept_indices: torch.LongTensor | None = None


@dataclass
class ElysiumModelOutputWithPast(BaseModelOutputWithPast):
    """Hidden states of the language model.

    Args:
        image_hidden_states: visual tokens `(F * K, D)` of this call, None without frames.
    """

    image_hidden_states: torch.FloatTensor | None = None


@dataclass
class ElysiumCausalLMOutputWithPast(ModelOutput):
    """Output of the model with its language modelling head.

    Args:
        loss: mean causal cross-entropy over the labelled tokens, a scalar.
        logits: `(B, T, V)`, or the positions that `logits_to_keep` asks for.
        past_key_values: the cache, extended by this call.
        hidden_states: per layer `(B, T, D)` if asked for.
        attentions: per layer `(B, heads, T, T)` if asked for.
        image_hidden_states: visual tokens `(F * K, D)` of this call, None without frames.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    image_hidden_states: torch.FloatTensor | None = None


__all__ = ["ElysiumCausalLMOutputWithPast", "ElysiumImageFeatures", "ElysiumModelOutputWithPast"]
