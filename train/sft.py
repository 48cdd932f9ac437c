"""Train a recipe: build or load a model, pretrain its tower if asked, then every stage, each resumable.

    python -m train.sft train/recipes/tiny.yaml --output runs/tiny

Running the same command again continues where it stopped: finished stages are loaded, the unfinished one resumes
from its last checkpoint.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch
from transformers import set_seed
from trl import SFTConfig

from dataset_scripts.synthetic import SyntheticConfig
from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor

from .alignment import align
from .build import build_model
from .collator import ConversationCollator
from .config import Recipe, StageConfig, load_recipe
from .cpu import prepare_cpu
from .data import ConversationSource, stage_dataset
from .pretrain_tower import pretrain_tower
from .trainer import ElysiumTrainer, freeze_all_but

__all__ = ["main", "run_recipe", "train_stage"]

FINISHED = "final"


def make_parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    parser = argparse.ArgumentParser(
        prog="python -m train.sft",
        description="Train every stage of a recipe. The same command resumes an interrupted run.",
        epilog="Example: python -m train.sft train/recipes/tiny.yaml --output runs/tiny",
    )
    parser.add_argument("recipe", type=Path, help="YAML recipe, see train/recipes/")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoints and the finished model")
    parser.add_argument(
        "--only", nargs="+", metavar="STAGE", help="train only these stages (all are trained by default)"
    )
    parser.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    options = make_parser().parse_args(arguments)
    use_cpu = options.cpu or not torch.cuda.is_available()
    if use_cpu:
        prepare_cpu()
    recipe = load_recipe(options.recipe)
    if options.only:
        unknown = sorted(set(options.only) - {stage.name for stage in recipe.stages})
        if unknown:
            raise SystemExit(
                f"--only: no stage {unknown} in {options.recipe}; it has {[s.name for s in recipe.stages]}"
            )
        recipe = replace(recipe, stages=[stage for stage in recipe.stages if stage.name in options.only])
    final = run_recipe(recipe, options.output, use_cpu)
    print(f"finished: {final}")


def run_recipe(recipe: Recipe, output: Path, use_cpu: bool = True) -> Path:
    """Train all stages of `recipe` in order.

    Args:
        recipe: what to train.
        output: folder that holds one folder per stage.
        use_cpu: whether to stay on the CPU.

    Returns:
        The folder of the finished model.
    """
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    start = output / "start"
    if not (start / "config.json").exists():
        _make_start(recipe, output, start)
    current = start
    for stage in recipe.stages:
        finished = output / stage.name / FINISHED
        if not (finished / "config.json").exists():
            train_stage(stage, recipe, current, output / stage.name, use_cpu)
        current = finished
    return current


def _make_start(recipe: Recipe, output: Path, start: Path) -> None:
    """Save the model that the first stage begins with."""
    if recipe.build is not None:
        model, processor = build_model(recipe.build, recipe.seed)
    else:
        model = ElysiumForConditionalGeneration.from_pretrained(recipe.model)
        processor = ElysiumProcessor.from_pretrained(recipe.model)
    if recipe.tower is not None:
        synthetic = SyntheticConfig(recipe.data_seed, recipe.frame_size)
        pretrain_tower(
            model.model.vision_tower,
            processor.image_processor,
            synthetic,
            recipe.tower,
            output / "tower",
            workers=recipe.workers,
        )
        if recipe.tower.align_steps:
            print("alignment:", align(model.model, processor, synthetic, recipe.tower, recipe.workers))
    _save(model, processor, start)


def train_stage(stage: StageConfig, recipe: Recipe, source: Path, output: Path, use_cpu: bool) -> None:
    """Train one stage from the model in `source`; the result is `output/final`.

    Args:
        stage: what to train.
        recipe: seeds, frame size and workers are read.
        source: folder of the model to start from.
        output: folder of checkpoints; the newest is resumed.
        use_cpu: whether to stay on the CPU.
    """
    set_seed(recipe.seed)
    fields = {} if stage.num_image_tokens is None else {"num_image_tokens": stage.num_image_tokens}
    model = ElysiumForConditionalGeneration.from_pretrained(source, dtype=torch.float32, **fields)
    processor = ElysiumProcessor.from_pretrained(source, num_image_tokens=model.config.num_image_tokens)
    freeze_all_but(model, stage.train)
    synthetic = SyntheticConfig(recipe.data_seed, recipe.frame_size, *stage.objects)
    trainer = ElysiumTrainer(
        stage=stage,
        model=model,
        args=_training_arguments(stage, recipe, output, use_cpu),
        train_dataset=stage_dataset(ConversationSource(stage, synthetic, seed=recipe.seed, writer=processor)),
        processing_class=processor,
        data_collator=ConversationCollator(processor),
    )
    trainer.train(resume_from_checkpoint=_newest_checkpoint(output))
    _save(trainer.accelerator.unwrap_model(trainer.model), processor, output / FINISHED)


def _training_arguments(stage: StageConfig, recipe: Recipe, output: Path, use_cpu: bool) -> SFTConfig:
    decay_steps = stage.steps - stage.warmup_steps if stage.decay_steps is None else stage.decay_steps
    return SFTConfig(
        output_dir=str(output),
        max_steps=stage.steps,
        per_device_train_batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": decay_steps},
        warmup_steps=stage.warmup_steps,
        weight_decay=stage.weight_decay,
        max_grad_norm=stage.max_grad_norm,
        adam_beta2=0.98,
        save_steps=stage.save_every,
        save_total_limit=1,
        logging_steps=10,
        report_to=[],
        seed=recipe.seed,
        use_cpu=use_cpu,
        bf16=not use_cpu,
        activation_checkpointing=False,
        train_sampling_strategy="sequential",
        dataloader_num_workers=recipe.workers,
        dataloader_prefetch_factor=4 if recipe.workers else None,
        dataloader_pin_memory=not use_cpu,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
    )


def _newest_checkpoint(output: Path) -> str | None:
    """The last complete checkpoint of a stage, or None."""
    found = [p for p in output.glob("checkpoint-*") if (p / "trainer_state.json").exists()]
    return str(max(found, key=lambda p: int(p.name.rsplit("-", 1)[1]))) if found else None


def _save(model: ElysiumForConditionalGeneration, processor: ElysiumProcessor, folder: Path) -> None:
    """Write a complete model folder; it gets its name only when it is whole."""
    temporary = folder.with_name(folder.name + ".part")
    model.save_pretrained(temporary)
    processor.save_pretrained(temporary)
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temporary, folder)


if __name__ == "__main__":
    main()
