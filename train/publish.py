"""Turn a finished training run into a checkpoint folder with a model card, ready to ship.

python -m train.publish runs/tiny/2c/final elysium --recipe train/recipes/tiny.yaml
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor
from tracking_elysium import VideoTrackingPipeline

from .card import model_card, trained_on
from .config import Recipe, load_recipe

__all__ = ["main", "publish"]


def publish(source: Path, target: Path, recipe: Path) -> None:
    """Save model, processor, pipeline, code and a model card; what was in `target` goes only when all is written.

    Args:
        source: finished stage of a run.
        target: checkpoint folder.
        recipe: YAML file by which it was trained; the card tells what it says.
    """
    model = ElysiumForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    processor = ElysiumProcessor.from_pretrained(source)
    by = _up_to(load_recipe(recipe), source.parent.name)
    processor.trained_on = trained_on(by) or processor.trained_on
    processor.tracking_defaults = {**processor.tracking_defaults, **by.tracking_defaults}
    temporary = target.with_name(target.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    VideoTrackingPipeline(model=model, processor=processor, task="video-tracking").save_pretrained(temporary)
    card = model_card(model, by, recipe, target.name)
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
        prog="python -m train.publish", description="Make a shippable checkpoint folder from a finished training run."
    )
    parser.add_argument("source", type=Path, help="folder of the finished stage, e.g. runs/tiny/2c/final")
    parser.add_argument("target", type=Path, help="folder to write, e.g. elysium")
    parser.add_argument("--recipe", type=Path, default=Path("train/recipes/tiny.yaml"), help="by which it was trained")
    options = parser.parse_args(arguments)
    if not (options.source / "config.json").exists():
        raise SystemExit(
            f"{options.source} holds no finished model; train it first: python -m train.sft {options.recipe}"
        )
    publish(options.source, options.target, options.recipe)
    print(f"wrote {options.target}")


if __name__ == "__main__":
    main()
