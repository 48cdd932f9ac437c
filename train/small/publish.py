"""Turn the trained small model into a checkpoint folder with a model card, ready to ship.

python -m train.small.publish runs/small/model elysium --data DATA
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch

from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor
from processing_elysium.prompts import Task
from tracking_elysium import VideoTrackingPipeline

from ..checkpoint_code import link_code
from .card import examples_per_row, model_card
from .material import Material
from .paste import Sprites

__all__ = ["TRAINED_ON", "main", "publish", "stored_state"]

# Real frames come in every shape: nothing is said of their aspect ratio, so that none is warned of.
TRAINED_ON = {
    "material": "real video",
    "tasks": [task.value for task in (Task.SOT, Task.RSOT, Task.VIDEO_REG, Task.REC, Task.REG)],
    "cautions": {
        Task.RSOT.value: "it knows common things by name; other words point somewhere all the same",
        Task.VIDEO_REG.value: "it gives the name of a kind of thing, no sentence, and often a wrong one",
    },
}
MAX_WEIGHT_MB = 60  # what a clone should carry
TOWER = "model.vision_tower."


def stored_state(model: ElysiumForConditionalGeneration) -> dict[str, torch.Tensor]:
    """Weights as they go to disk: the frozen tower, three quarters of them, in bfloat16, the rest in float32.

    The configuration says float32, so that all of them are loaded as that.
    """
    return {
        name: value.to(torch.bfloat16 if name.startswith(TOWER) and value.is_floating_point() else torch.float32)
        for name, value in model.state_dict().items()
    }


def publish(source: Path, target: Path, data: Path, **card: Any) -> None:
    """Save model, processor, pipeline, code and a model card; what was in `target` goes only when all is written.

    Args:
        source: folder of the trained model, `model` in that of the run.
        target: checkpoint folder. Code files that are links in it, as in a clone, are links again.
        data: folder of the material, for the card.
        **card: `open_only`, `features`, `sprites` and `results`, see `main`.

    Raises:
        ValueError: the weights are larger than a clone should carry, or see `model_card`.
    """
    model = ElysiumForConditionalGeneration.from_pretrained(source, dtype=torch.float32).eval()
    processor = ElysiumProcessor.from_pretrained(source)
    processor.trained_on = TRAINED_ON
    processor.absent_boxes = True
    processor.tracking_defaults = {"zoom": True, "looks": 3, "gap_policy": "hold"}
    text = _card(model, target.name, data, **card)
    temporary = target.with_name(target.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    pipe = VideoTrackingPipeline(model=model, processor=processor, task="video-tracking")
    pipe.save_pretrained(temporary, state_dict=stored_state(model))
    size = sum(path.stat().st_size for path in temporary.glob("*.safetensors"))
    if size > MAX_WEIGHT_MB * 10**6:
        raise ValueError(f"the weights in {str(temporary)!r} have {size / 1e6:.0f} MB; at most {MAX_WEIGHT_MB} MB.")
    (temporary / "README.md").write_text(text, encoding="utf-8")
    if any(path.is_symlink() for path in target.glob("*.py")):
        link_code(temporary)
    _replace(target, temporary)


def _card(
    model: ElysiumForConditionalGeneration,
    folder: str,
    data: Path,
    open_only: bool = False,
    features: tuple[Path, ...] = (),
    sprites: Path | None = None,
    results: Path | None = None,
) -> str:
    material = Material(data, "train", open_only)
    examples = examples_per_row(features, open_only) if features else None
    return model_card(model, material, folder, examples, Sprites(sprites, open_only).rows if sprites else (), results)


def _replace(target: Path, temporary: Path) -> None:
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.small.publish",
        description="Make a shippable checkpoint folder from the trained small model.",
        epilog="Example: python -m train.small.publish runs/small/model elysium --data data/real --pool "
        "runs/real/pool/train --scenes runs/real/scenes/train --sprites runs/real/sprites",
    )
    parser.add_argument("source", type=Path, help="folder of the trained model, e.g. runs/small/model")
    parser.add_argument("target", type=Path, help="folder to write, e.g. elysium; replaced when all is written")
    parser.add_argument("--data", type=Path, required=True, help="folder with records.jsonl, for the card's table")
    parser.add_argument("--pool", type=Path, help="features of windows it was trained on, to count examples by source")
    parser.add_argument("--scenes", type=Path, help="the same of whole pictures")
    parser.add_argument("--sprites", type=Path, help="cut-outs that were pasted")
    parser.add_argument("--results", type=Path, help="JSON of measured numbers; without it the card says none")
    parser.add_argument("--open-only", action="store_true", help="it was trained with `open_only: true`")
    options = parser.parse_args(arguments)
    if not (options.source / "config.json").exists():
        raise SystemExit(f"{options.source} holds no model; train it first: python -m train.small.run --help")
    if not (options.data / "records.jsonl").exists():
        raise SystemExit(f"--data {options.data} holds no records.jsonl; pass the folder of docs/small_model.md")
    features = tuple(folder for folder in (options.pool, options.scenes) if folder is not None)
    publish(
        options.source,
        options.target,
        options.data,
        open_only=options.open_only,
        features=features,
        sprites=options.sprites,
        results=options.results,
    )
    print(f"wrote {options.target}")


if __name__ == "__main__":
    main()
