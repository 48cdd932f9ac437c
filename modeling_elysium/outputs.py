"""What the models return; F frames, K kept tokens, C vision width, D text width, B batch, T tokens, V vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, CausalLMOutputWithPast

# The installed library's word for the key-value cache, in arguments and outputs: 5.24 renames `past_key_values`.
CACHE_NAME = "cache" if "cache" in {field.name for field in fields(BaseModelOutputWithPast)} else "past_key_values"


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
    """Hidden states of the language model; the cache under the installed library's name.

    Args:
        image_hidden_states: visual tokens `(F * K, D)` of this call, None without frames.
    """

    image_hidden_states: torch.FloatTensor | None = None


@dataclass
class ElysiumCausalLMOutputWithPast(CausalLMOutputWithPast):
    """Output of the model with its language modeling head; the cache under the installed library's name.

    Args:
        loss: mean causal cross-entropy over the labeled tokens, a scalar.
        logits: `(B, T, V)`, or the positions that `logits_to_keep` asks for.
        cache: the cache, extended by this call; `past_key_values` before transformers 5.24.
        hidden_states: per layer `(B, T, D)` if asked for.
        attentions: per layer `(B, heads, T, T)` if asked for.
        image_hidden_states: visual tokens `(F * K, D)` of this call, None without frames.
    """

    image_hidden_states: torch.FloatTensor | None = None


def one_cache(cache: Any, past_key_values: Any) -> Any:
    """Take the cache from whichever of its two names it was passed under.

    Raises:
        ValueError: both are given.
    """
    if cache is not None and past_key_values is not None:
        raise ValueError(
            "pass the cache once: as `cache`, or under its name before transformers 5.24, `past_key_values`"
        )
    return past_key_values if cache is None else cache


__all__ = ["CACHE_NAME", "ElysiumCausalLMOutputWithPast", "ElysiumImageFeatures", "ElysiumModelOutputWithPast"]
