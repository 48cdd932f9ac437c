"""Train recipes: make or load a model, pretrain its tower if asked, then every stage, each resumable.

    python -m train.sft tiny --output runs/tiny
    accelerate launch --config_file train/accelerate/zero2.yaml -m train.sft stage1a stage1b --output runs/7b

Running the same command again continues where it stopped: finished stages are loaded, the unfinished one resumes
from its last checkpoint.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate.state import AcceleratorState, GradientState
from transformers import set_seed
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor

from .arguments import plan_steps, training_arguments
from .callbacks import PredictionPictures
from .checkpoints import newest_checkpoint
from .collator import ConversationCollator
from .config import Recipe, StageConfig, from_plain
from .data import ConversationSource, stage_dataset
from .engines import check_loaded, join_processes, name_layers, spare_frozen_parts, unsharded
from .finish import FINISHED, push_folder, save_model, stage_metrics, write_card
from .lora import adapted, merged
from .miniature.cpu import prepare_cpu
from .parts import freeze_all_but
from .plain import override, read_yaml, to_plain
from .rope import scale_positions
from .start import make_start
from .trainer import ElysiumTrainer

__all__ = ["find_recipe", "main", "make_trainer", "read_recipes", "run_recipe", "train_stage"]

RECIPES = Path(__file__).with_name("recipes")
POLL_S = 1.0  # seconds between looks for what another process writes


def make_parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    parser = argparse.ArgumentParser(
        prog="python -m train.sft",
        description="Train every stage of one recipe, or of several one after the other. The same command resumes an "
        "interrupted run: finished stages are loaded, the unfinished one goes on from its last checkpoint.",
        epilog="Example: python -m train.sft stage1a stage1b --output runs/7b --set "
        "stages.stage1a.arguments.learning_rate=1e-3",
    )
    parser.add_argument(
        "recipes",
        nargs="+",
        metavar="RECIPE",
        help="YAML file, or the name of one in train/recipes. The first says what to start from; the stages of the "
        "others follow",
    )
    parser.add_argument("--output", type=Path, help="folder for checkpoints and the finished model")
    parser.add_argument(
        "--only", nargs="+", metavar="STAGE", help="train only these stages (all are trained by default)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the recipe, as often as you like; dots go inward, stages by number or name: "
        "stages.1a.num_frames=[1,4]",
    )
    parser.add_argument("--print-config", action="store_true", help="print the whole recipe as it would run, and stop")
    parser.add_argument("--push-to-hub", metavar="ORG/NAME", help="upload the finished model to this (private) repo")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        recipe = read_recipes(options.recipes, options.set)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    names = [stage.name for stage in recipe.stages]
    if unknown := sorted(set(options.only or []) - set(names)):
        raise SystemExit(f"--only: no stage {unknown} in {', '.join(options.recipes)}; it has {names}")
    if options.print_config:
        print(yaml.safe_dump(to_plain(recipe), sort_keys=False, width=119), end="")
        return
    if options.output is None:
        parser.error("--output: give the folder for checkpoints and the finished model")
    use_cpu = options.cpu or not torch.cuda.is_available()
    if use_cpu:
        prepare_cpu()
    final = run_recipe(recipe, options.output, use_cpu, options.only)
    if _is_first_process():
        print(f"finished: {final}")
        if options.push_to_hub:
            print(f"uploaded: {push_folder(final, options.push_to_hub)}")


def read_recipes(names: Sequence[str | Path], overrides: Sequence[str] = ()) -> Recipe:
    """Read recipes as one: the first one's settings and the stages of all.

    Args:
        names: files, or names of files in train/recipes.
        overrides: `key=value`, see `train.plain.override`.

    Raises:
        ValueError: a recipe does not exist, or see `train.plain.from_plain`.
    """
    where = ", ".join(map(str, names))
    first, *others = [read_yaml(find_recipe(name)) for name in names]
    for other in others:
        if isinstance(first, dict) and isinstance(other, dict):
            first["stages"] = [*(first.get("stages") or []), *(other.get("stages") or [])]
    for text in overrides:
        override(first, text, where)
    return from_plain(Recipe, first, where)


def find_recipe(name: str | Path) -> Path:
    """The file that a recipe's name or path means."""
    shipped = RECIPES / f"{name}.yaml"
    return shipped if not Path(name).exists() and shipped.exists() else Path(name)


def run_recipe(recipe: Recipe, output: Path, use_cpu: bool = True, only: Sequence[str] | None = None) -> Path:
    """Train all stages of `recipe` in order.

    Args:
        recipe: what to train.
        output: folder that holds one folder per stage.
        use_cpu: whether to stay on the CPU.
        only: names of the stages to train; None for all. The others are started from where they are finished.

    Returns:
        The folder of the finished model.
    """
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    for stage in recipe.stages:  # a slip in the last stage is told before the first one trains
        training_arguments(stage, recipe, output / stage.name, use_cpu)
    current = output / "start"
    if not (current / "config.json").exists():
        if _is_first_process():
            save_model(*make_start(recipe, output), current)
        _wait_for(current / "config.json")
    for number, stage in enumerate(recipe.stages):
        finished = output / stage.name / FINISHED
        if not (finished / "config.json").exists():
            if only is not None and stage.name not in only:
                continue
            until_here = replace(recipe, stages=recipe.stages[: number + 1])
            train_stage(stage, until_here, current, output / stage.name, use_cpu)
        elif _is_first_process():
            print(f"stage {stage.name}: finished")
        current = finished
    return current


def train_stage(stage: StageConfig, recipe: Recipe, source: Path, output: Path, use_cpu: bool) -> None:
    """Train one stage from the model in `source`; the result is `output/final`.

    Under `torchrun` or `accelerate launch` every process calls this; the first one writes, the others wait for it.

    Args:
        stage: what to train, from what, and how.
        recipe: what was trained so far, this stage included: seed and workers are read, and the card tells it.
        source: folder of the model to start from.
        output: folder of checkpoints; the newest is resumed.
        use_cpu: whether to stay on the CPU.
    """
    trainer = make_trainer(stage, recipe, source, output, use_cpu)
    checkpoint = newest_checkpoint(output)
    if _is_first_process():
        print(f"stage {stage.name}: starts from {checkpoint or source}")
    trainer.train(resume_from_checkpoint=checkpoint)
    accelerator = trainer.accelerator
    state = accelerator.get_state_dict(trainer.model_wrapped)  # every process helps to gather sharded weights
    if accelerator.is_main_process:
        model = accelerator.unwrap_model(trainer.model)
        if stage.lora is not None:
            with unsharded():
                model = adapted(_read_model(stage, source), stage)
                model.load_state_dict(state)
                model, state = merged(model), None
        metrics = stage_metrics(trainer, stage)
        save_model(
            model,
            ElysiumProcessor.from_pretrained(source, num_image_tokens=model.config.num_image_tokens),
            output / FINISHED,
            state,
            lambda folder: write_card(folder, model, recipe, metrics),
        )
    accelerator.wait_for_everyone()


def make_trainer(stage: StageConfig, recipe: Recipe, source: Path, output: Path, use_cpu: bool) -> ElysiumTrainer:
    """Load the model in `source` and make the trainer of a stage; see `train_stage`."""
    set_seed(recipe.seed)
    # The last stage's engine would be taken again, with the last stage's batch sizes.
    AcceleratorState._reset_state()
    GradientState._reset_state()
    arguments = training_arguments(stage, recipe, output, use_cpu)
    join_processes(arguments)
    model = _read_model(stage, source)
    if is_deepspeed_zero3_enabled():
        check_loaded(model, source)
    processor = ElysiumProcessor.from_pretrained(source, num_image_tokens=model.config.num_image_tokens)
    if not (stage.lora is not None and is_deepspeed_zero3_enabled()):  # there TRL has to re-enter
        spare_frozen_parts(model)
    if stage.lora is not None:
        model = adapted(model, stage)
    freeze_all_but(model, stage.train)
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()  # small steps would be lost in 16 bits
    settings = {"seed": recipe.seed, "writer": processor, "world_size": max(1, arguments.world_size)}
    items = ConversationSource(stage, arguments.per_device_train_batch_size, **settings)
    endless = items.mixture.endless or any(
        config.source == "synthetic" and config.limit is None for config in stage.sources
    )
    num_items = plan_steps(arguments, len(items.mixture), endless)
    evaluation = None
    if stage.eval_sources:
        eval_items = ConversationSource(stage, arguments.per_device_eval_batch_size, **settings, evaluation=True)
        evaluation = stage_dataset(eval_items, stage.eval_items)
    context = getattr(model.config.text_config, "max_position_embeddings", None)
    trainer = ElysiumTrainer(
        stage=stage,
        items=items,
        model=model,
        args=arguments,
        train_dataset=stage_dataset(items, num_items),
        eval_dataset=evaluation,
        processing_class=processor,
        data_collator=ConversationCollator(processor, context),
    )
    if evaluation is not None and stage.eval_pictures:
        shown = [eval_items[number] for number in range(min(stage.eval_pictures, stage.eval_items))]
        trainer.add_callback(PredictionPictures(shown, processor))
    return trainer


def _read_model(stage: StageConfig, source: Path) -> ElysiumForConditionalGeneration:
    """The model in `source` with the stage's number of tokens and positions."""
    fields: dict[str, Any] = {} if stage.num_image_tokens is None else {"num_image_tokens": stage.num_image_tokens}
    config = ElysiumConfig.from_pretrained(source, **fields)
    if stage.rope is not None:
        scale_positions(config, stage.rope)
    dtype = getattr(torch, stage.dtype)
    model = ElysiumForConditionalGeneration.from_pretrained(source, config=config, dtype=dtype)
    # ZeRO-3's loader notes renames of older checkpoints even where none was made, and saving would undo them.
    model._weight_conversions = None  # type: ignore[assignment]
    name_layers(model)
    return model


def _is_first_process() -> bool:
    """Whether this is the process that writes, as the launcher numbers them."""
    return int(os.environ.get("RANK", "0")) == 0


def _wait_for(path: Path) -> None:
    """Wait until another process has written `path`. A barrier would give up after half an hour."""
    while not path.exists():
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
