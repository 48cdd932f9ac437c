"""Tiny models and inputs, built in the process: no download, fractions of a second."""

from __future__ import annotations

from typing import Any

import torch

from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration

IMAGE_TOKEN_ID = 100
VOCAB_SIZE = 101
NUM_KEPT = 6

VISION = {
    "clip": {"model_type": "clip_vision_model", "projection_dim": 32, "intermediate_size": 64},
    "siglip": {"model_type": "siglip_vision_model", "intermediate_size": 64},
    "dinov2": {"model_type": "dinov2", "mlp_ratio": 2},
    "dinov2_registers": {"model_type": "dinov2_with_registers", "mlp_ratio": 2, "num_register_tokens": 3},
}
TEXT = {
    "llama": {"model_type": "llama"},
    "qwen2": {"model_type": "qwen2"},
    "gemma2": {"model_type": "gemma2", "head_dim": 12, "query_pre_attn_scalar": 12, "final_logit_softcapping": 3.0},
    "granite": {"model_type": "granite", "logits_scaling": 4.0},
    "cohere": {"model_type": "cohere", "logit_scale": 0.25},
    "gpt_neox": {"model_type": "gpt_neox"},
}


def tiny_config(vision: str = "clip", text: str = "llama", **overrides: Any) -> ElysiumConfig:
    """Builds a configuration of 16 patches, 6 of them kept.

    Args:
        vision: key of `VISION`.
        text: key of `TEXT`.
        **overrides: fields of `ElysiumConfig`, and `vision_config` / `text_config` dicts merged over the tiny ones.
    """
    vision_config = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 28,
        "patch_size": 7,
        **VISION[vision],
        **overrides.pop("vision_config", {}),
    }
    text_config = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,  # 0.02 is too small at this width to tell positions and frames apart
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **TEXT[text],
        **overrides.pop("text_config", {}),
    }
    fields = {"image_token_id": IMAGE_TOKEN_ID, "num_image_tokens": NUM_KEPT, **overrides}
    return ElysiumConfig(vision_config=vision_config, text_config=text_config, **fields)


def tiny_model(seed: int = 0, **overrides: Any) -> ElysiumForConditionalGeneration:
    """Builds a tiny model in evaluation mode whose selector depends on the picture."""
    torch.manual_seed(seed)
    model = ElysiumForConditionalGeneration(tiny_config(**overrides)).eval()
    scorer = model.model.selector
    if hasattr(scorer, "trans_weight"):
        torch.nn.init.normal_(scorer.trans_weight)
        torch.nn.init.normal_(scorer.pre_proj.weight)
    return model


def tiny_prompt(*frames_and_words: int, num_kept: int = NUM_KEPT) -> list[int]:
    """Writes token ids: each 0 becomes one frame of K placeholders, other numbers stay; `<s>` goes first."""
    ids = [1]
    for item in frames_and_words:
        ids += [IMAGE_TOKEN_ID] * num_kept if item == 0 else [item]
    return ids


def tiny_frames(count: int, seed: int = 0, size: int = 28) -> torch.Tensor:
    """Draws frames of shape `(count, 3, size, size)`."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def left_padded(*prompts: list[int]) -> dict[str, torch.Tensor]:
    """Pads prompts on the left with id 0; returns `input_ids` and `attention_mask`."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return {"input_ids": ids, "attention_mask": mask}
