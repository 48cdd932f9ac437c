"""TRL's supervised trainer with two small additions: learning rates by part of the model, and batches in order."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel
from trl import SFTTrainer

from .config import PARTS, StageConfig

__all__ = ["ElysiumTrainer", "freeze_all_but", "part_of"]


def part_of(name: str) -> str:
    """The part of the model (one of `PARTS`) that the parameter `name` belongs to; the head goes with the text."""
    for part in PARTS:
        if f"{part}." in name:
            return part
    return "language_model"


def freeze_all_but(model: PreTrainedModel, parts: list[str]) -> None:
    """Let only `parts` learn."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) in parts)


class ElysiumTrainer(SFTTrainer):
    """`SFTTrainer` that gives each part of the model its own learning rate.

    Args:
        stage: its `learning_rate_scale` and `weight_decay` are read.
        **kwargs: passed to `SFTTrainer`.
    """

    def __init__(self, *, stage: StageConfig, **kwargs: Any) -> None:
        self.stage = stage
        super().__init__(**kwargs)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over (part, decayed or not) groups; the schedule scales all of them alike."""
        if self.optimizer is None:
            decayed = set(self.get_decay_parameter_names(self.model))
            groups: dict[tuple[str, bool], list[torch.nn.Parameter]] = {}
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    groups.setdefault((part_of(name), name in decayed), []).append(parameter)
            rate = self.args.learning_rate
            self.optimizer = torch.optim.AdamW(
                [
                    {
                        "params": parameters,
                        "lr": rate * self.stage.learning_rate_scale.get(part, 1.0),
                        "weight_decay": self.stage.weight_decay if decays else 0.0,
                    }
                    for (part, decays), parameters in groups.items()
                ],
                lr=rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
            )
        return self.optimizer
