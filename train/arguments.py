"""How a stage is trained: the recipe's `arguments` become TRL's `SFTConfig`, which refuses typos itself."""

from __future__ import annotations

import math
from pathlib import Path

from trl import SFTConfig

from .config import Recipe, StageConfig

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
        "report_to": [],
        "bf16": not use_cpu,
        "activation_checkpointing": False,
        "dataloader_num_workers": recipe.workers,
        "dataloader_pin_memory": not use_cpu,
    }
    merged = {**defaults, **given}
    if merged["dataloader_num_workers"]:
        merged.setdefault("dataloader_prefetch_factor", 4)
    try:
        return SFTConfig(
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
            raise ValueError("arguments give no max_steps, and synthetic clips have no end; give it, or a `limit`.")
        arguments.max_steps = math.ceil(arguments.num_train_epochs * clips_per_pass / per_step)
    return arguments.max_steps * per_step
