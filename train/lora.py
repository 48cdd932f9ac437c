"""Adapters (LoRA, Hu et al. 2021) on the language model; the small parts of the model learn whole beside them."""

from __future__ import annotations

import re
from typing import Any

from transformers import PreTrainedModel

from .config import StageConfig

__all__ = ["adapted", "merged"]


def adapted(model: PreTrainedModel, stage: StageConfig) -> Any:
    """Put the adapters of a stage on a model.

    Args:
        model: the whole model.
        stage: its `lora` and `train`; selector and projector learn whole where they are trained.

    Returns:
        peft's model around it, of which only the adapters and those parts are saved in checkpoints.

    Raises:
        ValueError: the stage trains the tower, or not the language model, or no layer has one of the names.
    """
    from peft import LoraConfig, get_peft_model

    settings = stage.lora
    assert settings is not None
    if "vision_tower" in stage.train or "language_model" not in stage.train:
        raise ValueError(
            f"stage {stage.name!r}: lora adapts the language model and leaves the tower frozen, but train names "
            f"{list(stage.train)}; name language_model and, if you like, selector and multi_modal_projector."
        )
    names = "|".join(map(re.escape, settings.target_modules))
    targets = rf"(.*\.)?language_model\..*\.({names})"
    if not any(re.fullmatch(targets, name) for name, _ in model.named_modules()):
        raise ValueError(
            f"stage {stage.name!r}: lora.target_modules {settings.target_modules} name no layer of the language model."
        )
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        modules_to_save=[part for part in stage.train if part != "language_model"] or None,
    )
    return get_peft_model(model, config)


def merged(model: Any) -> PreTrainedModel:
    """The whole model with what its adapters learned; a model without adapters is returned as it is."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
