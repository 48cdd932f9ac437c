"""Train a recipe: build or load a model, pretrain its tower if asked, then every stage, each resumable.

    python -m train.sft train/recipes/tiny.yaml --output runs/tiny

Running the same command again continues where it stopped: finished stages are loaded, the unfinished one resumes
from its last checkpoint.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch
from transformers import set_seed

from dataset_scripts.synthetic import SyntheticConfig
from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor

from .arguments import plan_steps, training_arguments
from .collator import ConversationCollator
from .config import Recipe, StageConfig, load_recipe
from .data import ConversationSource, stage_dataset
from .miniature.alignment import align
from .miniature.build import build_model
from .miniature.cpu import prepare_cpu
from .miniature.pretrain_tower import pretrain_tower
from .trainer import ElysiumTrainer, freeze_all_but

__all__ = ["main", "make_trainer", "run_recipe", "train_stage"]

FINISHED = "final"
POLL_S = 1.0  # seconds between looks for what another process writes


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
    recipe = load_recipe(options.recipe)
    if options.only:
        unknown = sorted(set(options.only) - {stage.name for stage in recipe.stages})
        if unknown:
            raise SystemExit(
                f"--only: no stage {unknown} in {options.recipe}; it has {[s.name for s in recipe.stages]}"
            )
        recipe = replace(recipe, stages=[stage for stage in recipe.stages if stage.name in options.only])
    if use_cpu:
        prepare_cpu()
    final = run_recipe(recipe, options.output, use_cpu)
    if _is_first_process():
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
    for stage in recipe.stages:  # a slip in the last stage is told before the first one trains
        training_arguments(stage, recipe, output / stage.name, use_cpu)
    start = output / "start"
    if not (start / "config.json").exists():
        if _is_first_process():
            _make_start(recipe, output, start)
        _wait_for(start / "config.json")
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
        synthetic = SyntheticConfig(recipe.tower.data_seed, model.config.vision_config.image_size)
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

    Under `torchrun` or `accelerate launch` every process calls this; the first one writes, the others wait for it.

    Args:
        stage: what to train, from what, and how.
        recipe: seed and workers are read.
        source: folder of the model to start from.
        output: folder of checkpoints; the newest is resumed.
        use_cpu: whether to stay on the CPU.
    """
    trainer = make_trainer(stage, recipe, source, output, use_cpu)
    trainer.train(resume_from_checkpoint=_newest_checkpoint(output))
    accelerator = trainer.accelerator
    state = accelerator.get_state_dict(trainer.model)  # every process helps to gather sharded weights
    if accelerator.is_main_process:
        _save(accelerator.unwrap_model(trainer.model), trainer.processing_class, output / FINISHED, state)
    accelerator.wait_for_everyone()


def make_trainer(stage: StageConfig, recipe: Recipe, source: Path, output: Path, use_cpu: bool) -> ElysiumTrainer:
    """Load the model in `source` and make the trainer of a stage; see `train_stage`."""
    set_seed(recipe.seed)
    arguments = training_arguments(stage, recipe, output, use_cpu)
    fields = {} if stage.num_image_tokens is None else {"num_image_tokens": stage.num_image_tokens}
    model = ElysiumForConditionalGeneration.from_pretrained(source, dtype=torch.float32, **fields)
    processor = ElysiumProcessor.from_pretrained(source, num_image_tokens=model.config.num_image_tokens)
    freeze_all_but(model, stage.train)
    settings = {"seed": recipe.seed, "writer": processor, "world_size": max(1, arguments.world_size)}
    items = ConversationSource(stage, arguments.per_device_train_batch_size, **settings)
    endless = any(config.source == "synthetic" and config.limit is None for config in stage.sources)
    num_items = plan_steps(arguments, len(items.mixture), endless)
    evaluation = None
    if stage.eval_sources:
        eval_items = ConversationSource(stage, arguments.per_device_eval_batch_size, **settings, evaluation=True)
        evaluation = stage_dataset(eval_items, stage.eval_items)
    return ElysiumTrainer(
        stage=stage,
        model=model,
        args=arguments,
        train_dataset=stage_dataset(items, num_items),
        eval_dataset=evaluation,
        processing_class=processor,
        data_collator=ConversationCollator(processor),
    )


def _newest_checkpoint(output: Path) -> str | None:
    """The last complete checkpoint of a stage, or None."""
    found = [p for p in output.glob("checkpoint-*") if (p / "trainer_state.json").exists()]
    return str(max(found, key=lambda p: int(p.name.rsplit("-", 1)[1]))) if found else None


def _save(
    model: ElysiumForConditionalGeneration,
    processor: ElysiumProcessor,
    folder: Path,
    state_dict: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a complete model folder; it gets its name only when it is whole. One process calls this."""
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed run left
    model.save_pretrained(temporary, state_dict=state_dict)
    processor.save_pretrained(temporary)
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temporary, folder)


def _is_first_process() -> bool:
    """Whether this is the process that writes, as the launcher numbers them."""
    return int(os.environ.get("RANK", "0")) == 0


def _wait_for(path: Path) -> None:
    """Wait until another process has written `path`. A barrier would give up after half an hour."""
    while not path.exists():
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
