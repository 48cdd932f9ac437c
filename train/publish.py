"""Turn a finished training run into a checkpoint folder with a model card, ready to ship.

python -m train.publish runs/tiny/2c/final elysium --recipe train/recipes/tiny.yaml
python -m train.publish runs/7b/stage2b/final elysium-7b --push-to-hub me/elysium-7b
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor
from tracking_elysium import VideoTrackingPipeline

from .card import model_card, trained_on
from .config import Recipe, load_recipe
from .finish import METRICS, RECIPE, push_folder

__all__ = ["main", "publish"]


def publish(source: Path, target: Path, recipe: Path | None = None) -> None:
    """Save model, processor, pipeline, code and a model card; what was in `target` goes only when all is written.

    Args:
        source: finished stage of a run.
        target: checkpoint folder.
        recipe: YAML file by which it was trained; the card tells what it says. None takes the one in `source`.
    """
    model = ElysiumForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    processor = ElysiumProcessor.from_pretrained(source)
    by = _up_to(load_recipe(recipe or source / RECIPE), source.parent.name)
    processor.trained_on = trained_on(by) or processor.trained_on
    processor.tracking_defaults = {**processor.tracking_defaults, **by.tracking_defaults}
    metrics = source / METRICS
    numbers = json.loads(metrics.read_text(encoding="utf-8")) if metrics.exists() else None
    temporary = target.with_name(target.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    VideoTrackingPipeline(model=model, processor=processor, task="video-tracking").save_pretrained(temporary)
    for path in (metrics, source / RECIPE):
        if path.exists():
            shutil.copy2(path, temporary / path.name)
    card = model_card(model, by, recipe or Path(RECIPE), target.name, numbers)
    (temporary / "README.md").write_text(card, encoding="utf-8")
    old = target.with_name(target.name + ".old")
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _up_to(recipe: Recipe, stage: str) -> Recipe:
    """The recipe without the stages after `stage`, which had no part in its model."""
    names = [one.name for one in recipe.stages]
    return replace(recipe, stages=recipe.stages[: names.index(stage) + 1]) if stage in names else recipe


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.publish",
        description="Make a shippable checkpoint folder from a finished training run.",
        epilog="Example: python -m train.publish runs/tiny/2c/final elysium",
    )
    parser.add_argument("source", type=Path, help="folder of the finished stage, e.g. runs/tiny/2c/final")
    parser.add_argument("target", type=Path, help="folder to write, e.g. elysium")
    parser.add_argument("--recipe", type=Path, help="by which it was trained (the recipe.yaml of the stage)")
    parser.add_argument("--push-to-hub", metavar="ORG/NAME", help="upload the folder to this (private) repository")
    options = parser.parse_args(arguments)
    if not (options.source / "config.json").exists():
        raise SystemExit(f"{options.source} holds no finished model; train it first: python -m train.sft RECIPE")
    if options.recipe is None and not (options.source / RECIPE).exists():
        raise SystemExit(f"{options.source} holds no {RECIPE}: name the recipe with --recipe train/recipes/tiny.yaml")
    publish(options.source, options.target, options.recipe)
    print(f"wrote {options.target}")
    if options.push_to_hub:
        print(f"uploaded: {push_folder(options.target, options.push_to_hub)}")


if __name__ == "__main__":
    main()
