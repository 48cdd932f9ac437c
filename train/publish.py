"""Turn a finished training run into a checkpoint folder with a model card, ready to ship.

python -m train.publish runs/tiny/2b/final elysium --recipe train/recipes/tiny.yaml
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor
from tracking_elysium import VideoTrackingPipeline

__all__ = ["main", "publish"]

CARD = Path(__file__).with_name("model_card.md")


def publish(source: Path, target: Path, recipe: Path) -> None:
    """Save model, processor, pipeline, code and a model card; what was in `target` goes only when all is written.

    Args:
        source: finished stage of a run.
        target: checkpoint folder.
        recipe: named in the card.
    """
    model = ElysiumForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    processor = ElysiumProcessor.from_pretrained(source)
    temporary = target.with_name(target.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    VideoTrackingPipeline(model=model, processor=processor, task="video-tracking").save_pretrained(temporary)
    config = model.config
    card = CARD.read_text(encoding="utf-8").format(
        parameters=f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M",
        image_size=config.vision_config.image_size,
        patches=config.num_patches,
        kept=config.num_image_tokens,
        recipe=recipe.as_posix(),
    )
    (temporary / "README.md").write_text(card, encoding="utf-8")
    old = target.with_name(target.name + ".old")
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.publish", description="Make a shippable checkpoint folder from a finished training run."
    )
    parser.add_argument("source", type=Path, help="folder of the finished stage, e.g. runs/tiny/2b/final")
    parser.add_argument("target", type=Path, help="folder to write, e.g. elysium")
    parser.add_argument("--recipe", type=Path, default=Path("train/recipes/tiny.yaml"), help="named in the model card")
    options = parser.parse_args(arguments)
    if not (options.source / "config.json").exists():
        raise SystemExit(
            f"{options.source} holds no finished model; train it first: python -m train.sft {options.recipe}"
        )
    publish(options.source, options.target, options.recipe)
    print(f"wrote {options.target}")


if __name__ == "__main__":
    main()
