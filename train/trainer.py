"""TRL's supervised trainer with two additions: a loss that looks at answers only, and learning rates by part."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from trl import SFTTrainer

from .checkpoints import AtomicCheckpoints
from .collator import IGNORED
from .config import StageConfig
from .engines import with_a_frame
from .optimizer import MuonAdamW, is_hidden_matrix
from .parts import part_of

__all__ = ["ElysiumTrainer"]


class ElysiumTrainer(AtomicCheckpoints, SFTTrainer):
    """`SFTTrainer` that computes logits of labelled tokens only and gives each part of the model its learning rate.

    TRL's fused head visits every position, and most of ours are visual tokens, prompts and padding.

    Args:
        stage: its `train` (a factor per part) and `muon_learning_rate` are read.
        **kwargs: passed to `SFTTrainer`.
    """

    def __init__(self, *, stage: StageConfig, **kwargs: Any) -> None:
        self.stage = stage
        super().__init__(**kwargs)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Causal cross-entropy, mean over the labelled tokens of the whole (accumulated, distributed) batch.

        Args:
            model: the model, possibly wrapped for distributed training.
            inputs: a collated batch with `labels` `(B, T)`.
            return_outputs: also return the model's outputs (the logits before labelled tokens only).
            num_items_in_batch: labelled tokens of all micro-batches and devices; None counts those of this batch.
        """
        inputs = with_a_frame(inputs, self.accelerator.unwrap_model(model).config)
        labels = inputs["labels"][:, 1:]
        rest = {name: value for name, value in inputs.items() if name != "labels"}
        asked = labels != IGNORED
        # The model picks the positions itself: outside of its forward, sharded weights are not there.
        outputs = model(**rest, use_cache=False, logits_to_keep=functional.pad(asked, (0, 1)))
        logits = outputs.logits.float()  # (labelled tokens, V)
        total = functional.cross_entropy(logits, labels[asked], reduction="sum")
        count = asked.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch, device=total.device)
        loss = total / count.clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # the gradients are averaged over devices
        if asked.any():
            mode = "train" if model.training else "eval"
            accuracy = (logits.detach().argmax(dim=-1) == labels[asked]).float().mean()
            self._metrics[mode]["mean_token_accuracy"].append(accuracy.item())
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Muon with AdamW where the stage asks for Muon, else the optimizer that the arguments name.

        Each part of the model has its own learning rate; the schedule scales all alike.
        """
        if self.optimizer is None:
            muon, rest = self._parameter_groups(self.model if model is None else model)
            if self.stage.muon_learning_rate is not None:
                betas = (self.args.adam_beta1, self.args.adam_beta2)
                self.optimizer = MuonAdamW(muon, rest, betas)
            else:
                kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
                self.optimizer = kind(rest, **settings)
        return self.optimizer

    def _parameter_groups(self, model: torch.nn.Module) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Groups for Muon and for the other optimizer: one per part of the model and kind of weight decay."""
        decayed = set(self.get_decay_parameter_names(model))
        groups: dict[tuple[bool, str, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                by_muon = self.stage.muon_learning_rate is not None and is_hidden_matrix(name, parameter)
                groups.setdefault((by_muon, part_of(name), name in decayed), []).append(parameter)
        rates = {True: self.stage.muon_learning_rate, False: self.args.learning_rate}
        settings: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for (by_muon, part, decays), parameters in groups.items():
            settings[by_muon].append(
                {
                    "params": parameters,
                    "lr": rates[by_muon] * self.stage.factors[part],
                    "weight_decay": self.args.weight_decay if decays else 0.0,
                }
            )
        return settings[True], settings[False]
