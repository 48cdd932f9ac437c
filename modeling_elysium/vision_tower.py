"""The two ends of the visual path: the tower that gives patch tokens and the projector to the language model."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.activations import ACT2FN

from .configuration_elysium import ElysiumConfig


def build_vision_tower(config: ElysiumConfig) -> PreTrainedModel:
    """Build the vision tower up to the layer that is read, without what follows it.

    The output of the last layer built is then `last_hidden_state`; no parameter is left that no output depends on.

    Args:
        config: model configuration; its `vision_config` keeps the full depth.

    Returns:
        A CLIP, SigLIP or DINOv2 vision model.
    """
    vision_config = config.vision_config
    depth = vision_config.num_hidden_layers
    # The tower must hold this very object, by which the library finds it (`set_attn_implementation`): so no copy.
    vision_config.num_hidden_layers = config.num_vision_layers
    try:
        tower = AutoModel.from_config(vision_config)
    finally:
        vision_config.num_hidden_layers = depth
    if hasattr(tower, "head"):  # SigLIP's pooling head
        del tower.head
        tower.use_head = False
    for final_norm in ("post_layernorm", "layernorm"):
        if hasattr(tower, final_norm):
            setattr(tower, final_norm, nn.Identity())
    if hasattr(tower.embeddings, "mask_token"):
        tower.embeddings.mask_token = None  # DINOv2's, used in its own pretraining only
    return tower


class ElysiumProjector(nn.Module):
    """Two linear layers from the compressor's width to the language model's (paper: T = MLP(G)).

    Args:
        config: model configuration.
        in_features: width C' of the compressed tokens.
    """

    def __init__(self, config: ElysiumConfig, in_features: int) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        self.linear_1 = nn.Linear(in_features, width, bias=config.projector_bias)
        self.act = ACT2FN[config.projector_hidden_act]
        self.linear_2 = nn.Linear(width, width, bias=config.projector_bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens `(F, K, C')` to `(F, K, D)`."""
        dtype = self.linear_1.weight.dtype
        if dtype.is_floating_point:  # a quantized layer takes any dtype; a float one that of its weights
            tokens = tokens.to(dtype)
        return self.linear_2(self.act(self.linear_1(tokens)))
