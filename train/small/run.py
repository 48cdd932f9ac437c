"""Train the decoder of the small model on pooled features; the same command goes on where the last one stopped.

python -m train.small.run train/recipes/small.yaml --output runs/small
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor

from ..config import load_yaml
from ..miniature.cpu import prepare_cpu
from ..optimizer import MuonAdamW, is_hidden_matrix
from .batches import Frames, draw_scenes, draw_windows, joined
from .build import IMAGE_SIZE, PATCH_SIZE, build_small, hold_edges
from .expression_loss import Named, draw_named, expression_loss
from .fresh import FreshScenes, FreshWindows, batches_of_steps, encoded, merged, with_lora
from .material import Material
from .objective import Sequences, answer_loss, number_token_ids, write_sequences
from .paste import Sprites
from .pool import Pool, Shards
from .selector_loss import selector_loss
from .validation import validate, validate_words
from .vocabulary import captions_of

__all__ = ["SmallRecipe", "main", "train"]

PARTS = ("selector", "multi_modal_projector", "patch_positions", "expression_similarity")  # the rest is "text"


@dataclass(kw_only=True)
class SmallRecipe:
    """One run.

    Attributes:
        data: folder with records.jsonl.
        tower: folder of DINOv2-small.
        pool: folder of the training features.
        val_pool: folder of the validation features.
        scenes: folder of the features of whole pictures, for questions in words; None asks about windows alone.
        val_scenes: those of the validation split.
        text: fields of the LLaMA configuration.
        elysium: fields of `ElysiumConfig`.
        vocab_size: pieces of the tokenizer.
        start: a finished run's folder to take weights and processor from, or None for a new model.
        batch_size: examples per step.
        steps: steps of the whole schedule.
        warmup_steps: linear rise of the rates.
        decay_steps: steps at the end in which the rates fall to zero along a cosine.
        hold_steps: steps in which the heads that start as edge finders stay as they are, see `build.hold_edges`.
        words_weight: weight of the cross-entropy of all other tokens beside that of the boxes.
        learning_rate: AdamW, of everything but hidden matrices.
        muon_learning_rate: Muon, of hidden matrices.
        weight_decay: of both.
        scale: factor on both rates by part of the model.
        tasks: weight of each kind of question about windows.
        scene_tasks: weight of each kind of question about whole pictures.
        scene_share: share of examples that are whole pictures, where there are any.
        selector_weight: of the loss that tells the selector what to keep, see `selector_loss`.
        named_pictures: pictures per step, besides, from which the similarity of words and patches learns what fits,
            see `expression_loss`; needs `scenes` and `expression_similarity`.
        short_share: share of tracking questions about two windows instead of three.
        open_only: only examples whose license allows more than research.
        fresh: draw examples while training instead of reading pools, see `train.small.fresh`; `pool` and the like are
            not read then.
        sprites: folder of cut-outs to paste into fresh examples.
        tower_lora: rank of adapters in the tower, which learns then; needs `fresh`. 0: the tower stays as it is.
        seed: of everything.
        minutes_between_saves: also between validations.
    """

    data: str
    tower: str
    pool: str
    val_pool: str
    text: dict[str, Any]
    elysium: dict[str, Any]
    scenes: str | None = None
    val_scenes: str | None = None
    vocab_size: int = 2048
    start: str | None = None
    batch_size: int = 48
    steps: int = 20_000
    warmup_steps: int = 100
    decay_steps: int = 3000
    hold_steps: int = 0
    words_weight: float = 1.0
    learning_rate: float = 1e-3
    muon_learning_rate: float = 4e-3
    weight_decay: float = 0.02
    scale: dict[str, float] = field(default_factory=dict)
    tasks: dict[str, float] = field(default_factory=lambda: {"sot": 1.0})
    scene_tasks: dict[str, float] = field(default_factory=lambda: {"rsot": 0.6, "rec": 0.2, "video_reg": 0.2})
    scene_share: float = 0.33
    selector_weight: float = 0.0
    named_pictures: int = 0
    short_share: float = 1.0
    open_only: bool = False
    fresh: bool = False
    sprites: str | None = None
    tower_lora: int = 0
    seed: int = 0
    minutes_between_saves: float = 5.0

    def __post_init__(self) -> None:
        if self.tower_lora and not self.fresh:
            raise ValueError("`tower_lora` needs `fresh: true`: what a pool holds was written by the tower as it was.")
        has_words = self.elysium.get("expression_similarity", False) and (self.scenes or self.fresh)
        if self.named_pictures and not has_words:
            raise ValueError("`named_pictures` needs `elysium: {expression_similarity: true}` and `scenes`.")


def _optimizer(model: ElysiumForConditionalGeneration, recipe: SmallRecipe) -> MuonAdamW:
    muon: dict[str, list] = {}
    adamw: dict[str, list] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = next((part for part in PARTS if part in name), "text")
        by = muon if is_hidden_matrix(name, parameter) else adamw
        by.setdefault(part, []).append(parameter)

    def groups(parts: dict[str, list], rate: float) -> list[dict[str, Any]]:
        return [
            {"params": p, "lr": rate * recipe.scale.get(part, 1.0), "weight_decay": recipe.weight_decay}
            for part, p in parts.items()
        ]

    return MuonAdamW(groups(muon, recipe.muon_learning_rate), groups(adamw, recipe.learning_rate))


def rate_at(step: int, recipe: SmallRecipe) -> float:
    """Return the factor on the learning rates at a step: linear rise, constant, cosine fall."""
    rise = min(1.0, (step + 1) / max(recipe.warmup_steps, 1))
    left = recipe.steps - step
    fall = 1.0 if left >= recipe.decay_steps else 0.5 - 0.5 * math.cos(math.pi * max(left, 0) / recipe.decay_steps)
    return rise * fall


def _sources(recipe: SmallRecipe) -> tuple[Any, Any, Any, Any]:
    """Open windows and scenes to train on (scenes may be None), then those of the validation split."""
    if recipe.fresh:
        train_rows, val_rows = Material(recipe.data, "train", recipe.open_only), Material(recipe.data, "val")
        sprites = Sprites(recipe.sprites, recipe.open_only) if recipe.sprites else None
        windows, scenes = (kind(train_rows, sprites, recipe.seed) for kind in (FreshWindows, FreshScenes))
        return windows, scenes, FreshWindows(val_rows), FreshScenes(val_rows)
    scenes, val_scenes = (Shards(f, recipe.open_only) if f else None for f in (recipe.scenes, recipe.val_scenes))
    return Pool(recipe.pool, recipe.open_only), scenes, Pool(recipe.val_pool), val_scenes


def _step_batch(
    pool: Pool | FreshWindows,
    scenes: Shards | FreshScenes | None,
    recipe: SmallRecipe,
    step: int,
    processor: ElysiumProcessor,
    numbers: Any,
) -> tuple[Frames, Sequences, Named | None]:
    """Draw what a step shows and asks; a function of the recipe's seed, the step and the sizes of the pools."""
    rng = np.random.default_rng([recipe.seed, step])
    grid = (IMAGE_SIZE // PATCH_SIZE,) * 2
    of_scenes = 0 if scenes is None else round(recipe.batch_size * recipe.scene_share)
    drawn = [draw_windows(pool, recipe.batch_size - of_scenes, recipe.tasks, recipe.short_share, grid, rng)]
    if of_scenes:
        encode = processor.encode_expressions
        drawn.append(draw_scenes(scenes, of_scenes, recipe.scene_tasks, grid, rng, encode))
    items = [item for _, part in drawn for item in part]
    frames, sequences = joined([frames for frames, _ in drawn]), write_sequences(processor, items, rng, numbers)
    named = None
    if recipe.named_pictures and scenes is not None:
        named = draw_named(scenes, recipe.named_pictures, rng, processor.encode_expressions)
    return frames, sequences, named


def train(
    recipe: SmallRecipe,
    output: Path,
    threads: int,
    minutes: float | None = None,
    bf16: bool = False,
    device: str = "cpu",
    workers: int = 0,
) -> None:
    """Run or go on with a run.

    Args:
        recipe: what to do.
        output: folder of `latest.pt` (continued if it is there), `best.pt` (best validation) and the log. Which
            examples a step sees depends on how many the pool holds then.
        threads: of PyTorch.
        minutes: stop after so many, with a checkpoint; None runs to the end.
        bf16: matrix products in bfloat16 where the processor has them.
        device: where the model runs.
        workers: processes that draw the examples of the next steps.
    """
    torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    pool, scenes, val_pool, val_scenes = _sources(recipe)
    model, processor = _begin(recipe)
    _set_to_train(model.to(device))
    optimizer = _optimizer(model, recipe)
    base = [group["lr"] for group in optimizer.param_groups]
    numbers = number_token_ids(processor)
    step, latest = 0, output / "latest.pt"
    if latest.exists():
        state = torch.load(latest, weights_only=True, map_location=device)
        _load_trained(model, state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    log, began, saved, first = None, time.time(), time.time(), step

    def draw(number: int) -> tuple[Frames, Sequences, Named | None]:
        return _step_batch(pool, scenes, recipe, number, processor, numbers)

    batches = batches_of_steps(draw, range(step, recipe.steps), workers)
    while step < recipe.steps and (minutes is None or time.time() - began < minutes * 60):
        factor = rate_at(step, recipe)
        for group, rate in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = rate * factor
        loss, now = _loss(model, next(batches), numbers, recipe, bf16)
        optimizer.zero_grad()
        loss.backward()
        if step < recipe.hold_steps:
            hold_edges(model)
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        step += 1
        log = _averaged(log, now)
        if time.time() - saved > recipe.minutes_between_saves * 60 or step == recipe.steps:
            saved = time.time()
            _save(latest, model, optimizer, step)
            for growing in filter(None, (pool, scenes)):
                growing.refresh()
            line = {"step": step, "examples": len(pool), "s_per_step": round((saved - began) / (step - first), 2)}
            line |= {k: round(v, 4) for k, v in log.items()}
            _validate(model, processor, (val_pool, val_scenes), bf16, line, latest)
            _set_to_train(model)
    _save(latest, model, optimizer, step)
    merged(model)
    model.to("cpu").save_pretrained(output / "model")
    processor.save_pretrained(output / "model")


def _validate(model: Any, processor: Any, sources: tuple[Any, Any], bf16: bool, line: dict, latest: Path) -> None:
    """Add the validation to a line of the log, write it, and keep the checkpoint if it is the best so far."""
    windows, scenes = sources
    line |= validate(model, processor, windows, bf16)
    if scenes is not None:
        line |= validate_words(model, processor, scenes, bf16)
    best = latest.with_name("best.pt")
    if _note(latest.with_name("log.jsonl"), line) or not best.exists():
        _copy(latest, best)
    print(json.dumps(line), flush=True)


def _set_to_train(model: Any) -> None:
    """Switch to training, but for the tower: the pools were written without what it drops in training."""
    model.train()
    model.model.vision_tower.eval()


def _loss(
    model: Any,
    drawn: tuple[Frames, Sequences, Named | None],
    numbers: torch.Tensor,
    recipe: SmallRecipe,
    bf16: bool,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Loss of a step, and numbers to log."""
    frames, batch, named = drawn
    device = model.device
    frames = frames.to(device)
    batch = Sequences(**{name: value.to(device) for name, value in vars(batch).items()})
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        frames.patches = encoded(model, frames.patches)
        out = model.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            mm_encoder_outputs={"image": frames.compressed(model)},
            use_cache=False,
        )
        loss, now = answer_loss(out.last_hidden_state, model.lm_head, batch, numbers.to(device), recipe.words_weight)
    if recipe.selector_weight:
        chosen, now["kept"] = selector_loss(model, frames)
        loss = loss + recipe.selector_weight * chosen
    if named is not None:
        named = named.to(device)
        named.patches = encoded(model, named.patches)
        fits = expression_loss(model, named)
        loss, now["named"] = loss + fits, fits.item()
    return loss, now


def _averaged(log: dict[str, float] | None, now: dict[str, float]) -> dict[str, float]:
    """Running means of what is logged; steps in which a number is not known (NaN) leave it as it was."""
    now = {name: value for name, value in now.items() if value == value}
    if log is None:
        return now
    return {**now, **log, **{name: 0.97 * log.get(name, value) + 0.03 * value for name, value in now.items()}}


def _begin(recipe: SmallRecipe) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    if recipe.start is None:
        captions = captions_of(recipe.data)
        built = build_small(captions, recipe.text, recipe.elysium, recipe.tower, recipe.vocab_size, recipe.seed)
        model, processor = built
    else:
        model = ElysiumForConditionalGeneration.from_pretrained(recipe.start, dtype=torch.float32)
        processor = ElysiumProcessor.from_pretrained(recipe.start)
    model.model.vision_tower.requires_grad_(False)
    if recipe.tower_lora:
        with_lora(model, recipe.tower_lora)
    return model, processor


def _trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if _is_trained(name)}


def _is_trained(name: str) -> bool:
    return "vision_tower" not in name or "lora_" in name


def _load_trained(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    missing, unexpected = model.load_state_dict(state, strict=False)
    wrong = [name for name in missing if _is_trained(name)] + list(unexpected)
    if wrong:
        raise ValueError(f"the checkpoint does not fit the recipe's model: {wrong[:5]}; use another --output.")


def _save(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    part = path.with_suffix(".part")
    torch.save({"model": _trained(model), "optimizer": optimizer.state_dict(), "step": step}, part)
    os.replace(part, path)


def _note(path: Path, line: dict[str, float]) -> bool:
    """Append a line to the log; whether it has the best validation so far, earlier parts of the run included."""
    earlier = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return all(json.loads(text)["val_iou"] < line["val_iou"] for text in earlier)


def _copy(source: Path, target: Path) -> None:
    part = target.with_suffix(".part")
    shutil.copyfile(source, part)
    os.replace(part, target)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.small.run", description="Train the small model's decoder.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--device", default="cpu", help="such as cuda, for a recipe with `fresh: true`")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw the next steps' examples")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override keys of the recipe")
    options = parser.parse_args(arguments)
    prepare_cpu()
    recipe = load_yaml(SmallRecipe, options.recipe, options.set)
    where = {"device": options.device, "workers": options.workers}
    train(recipe, options.output, options.threads, options.minutes, options.bf16, **where)


if __name__ == "__main__":
    main()
