"""How a stage is trained: the recipe's `arguments` become TRL's `SFTConfig`, which refuses typos itself."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

from transformers.integrations import is_tensorboard_available
from trl import SFTConfig

from .batches import accumulation_steps
from .config import Recipe, StageConfig
from .plain import did_you_mean

__all__ = ["plan_steps", "training_arguments"]

# What a recipe may not set, and what to do instead.
RESERVED = {
    "output_dir": "give --output",
    "seed": "set the recipe's `seed`",
    "data_seed": "set the recipe's `seed`",
    "use_cpu": "give --cpu",
    "train_sampling_strategy": "items are already drawn in the order of their number",
    "remove_unused_columns": "items are made when they are read",
    "dataset_kwargs": "items are made when they are read",
    "max_length": "cutting a prompt would cut its frames: lower `num_frames` or `num_image_tokens`",
    "loss_type": "the loss is cross-entropy on the answers",
    "label_smoothing_factor": "the loss is cross-entropy on the answers",
}


def training_arguments(stage: StageConfig, recipe: Recipe, output: Path, use_cpu: bool) -> SFTConfig:
    """Make the `SFTConfig` of a stage: our defaults, then the recipe's `arguments`.

    Args:
        stage: its `arguments` are read.
        recipe: seed and workers.
        output: folder of checkpoints.
        use_cpu: whether to stay on the CPU.

    Raises:
        ValueError: an argument is unknown or reserved, or `SFTConfig` refuses its value; the stage is named.
    """
    given = stage.arguments
    for name in sorted(set(given) & set(RESERVED)):
        raise ValueError(f"stage {stage.name!r}: arguments may not set {name!r}; {RESERVED[name]}.")
    known = [item.name for item in dataclasses.fields(SFTConfig)]
    for name in sorted(set(given) - set(known)):
        raise ValueError(
            f"stage {stage.name!r}: arguments: {name!r} is no field of trl.SFTConfig{did_you_mean(name, known) or '.'}"
        )
    if stage.muon_learning_rate is not None and "optim" in given:
        raise ValueError(
            f"stage {stage.name!r}: arguments name the optimizer {given['optim']!r}, but muon_learning_rate asks for "
            "Muon with AdamW; drop one of them."
        )
    defaults = {
        "lr_scheduler_type": "cosine",
        "optim": "adamw_torch",
        "adam_beta2": 0.98,
        "weight_decay": 0.01,
        "save_steps": 500,
        "save_total_limit": 1,
        "logging_steps": 10,
        "report_to": ["tensorboard"] if is_tensorboard_available() else [],
        "bf16": not use_cpu,
        "activation_checkpointing": False,
        "dataloader_num_workers": recipe.workers,
        "dataloader_pin_memory": not use_cpu,
    }
    merged = {**defaults, **given, **_accumulation(stage)}
    if merged["dataloader_num_workers"]:
        merged.setdefault("dataloader_prefetch_factor", 4)
    try:
        arguments = SFTConfig(
            **merged,
            output_dir=str(output),
            seed=recipe.seed,
            use_cpu=use_cpu,
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"stage {stage.name!r}: arguments: {error}; they are the fields of trl.SFTConfig.") from error
    if stage.muon_learning_rate is not None and _is_sharded(arguments):
        raise ValueError(
            f"stage {stage.name!r}: muon_learning_rate needs whole matrices, which DeepSpeed and FSDP cut up; drop "
            "it, or train with torchrun alone."
        )
    return arguments


def _is_sharded(arguments: SFTConfig) -> bool:
    """Whether DeepSpeed or FSDP was asked for, in the recipe or by the launcher."""
    launched = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return bool(arguments.deepspeed_plugin or arguments.fsdp_plugin_args or launched)


def _accumulation(stage: StageConfig) -> dict[str, Any]:
    """`gradient_accumulation_steps` where the stage says what one step sees in all.

    The launchers (torchrun, accelerate, deepspeed) tell the number of processes in `WORLD_SIZE`.

    Raises:
        ValueError: both are given, or the product cannot be reached; the stage is named.
    """
    if stage.global_batch_size is None:
        return {}
    if "gradient_accumulation_steps" in stage.arguments:
        raise ValueError(
            f"stage {stage.name!r}: global_batch_size decides gradient_accumulation_steps; drop one of the two."
        )
    per_device = stage.arguments.get("per_device_train_batch_size", 8)
    try:
        steps = accumulation_steps(stage.global_batch_size, per_device, int(os.environ.get("WORLD_SIZE", "1")))
    except ValueError as error:
        raise ValueError(f"stage {stage.name!r}: {error}") from error
    return {"gradient_accumulation_steps": steps}


def plan_steps(arguments: SFTConfig, clips_per_pass: int, endless: bool) -> int:
    """Set `max_steps` where only `num_train_epochs` is given, and count the items that all processes will read.

    Args:
        arguments: `max_steps` may be changed.
        clips_per_pass: clips of all sources.
        endless: whether a source has no end, so that a pass means nothing.

    Returns:
        Items of the whole stage: steps x batch of a process x accumulated batches x processes.

    Raises:
        ValueError: no number of steps is given and a source has no end.
    """
    per_step = (
        arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * max(1, arguments.world_size)
    )
    if arguments.max_steps <= 0:
        if endless:
            raise ValueError(
                "arguments give no max_steps, and synthetic clips and streams have no end; give it, or a `limit`."
            )
        arguments.max_steps = math.ceil(arguments.num_train_epochs * clips_per_pass / per_step)
    return arguments.max_steps * per_step
