"""Hours and memory of a recipe before it runs, by counting: products of matrices, bytes that are held.

    python -m train.estimate stage1a stage1b stage2a stage2b --gpus 32

Counted are the matrix products (all else is below one percent), in a backward pass twice as many where weights learn,
once where gradients only pass through, none below the lowest part that learns.
What cannot be counted is assumed and printed: the share of a GPU's peak that training reaches, and lengths of text.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from processing_elysium.prompts import IMAGE_TASKS, Task

from .config import Recipe, SourceConfig, StageConfig
from .parts import freeze_all_but, trained_counts

__all__ = [
    "ENGINES",
    "Item",
    "Shape",
    "activation_bytes",
    "expected_item",
    "longest_item",
    "main",
    "state_bytes",
    "step_flops",
]

ENGINES = ("none", "zero2", "zero3", "zero3_offload", "fsdp2")
# Tokens of text as LLaMA's tokenizer writes them: "Frame 3: [23,45,46,72], " is 17 (measured), REC's box 13 (paper).
TOKENS_PER_TRACKED_FRAME, TOKENS_PER_BOX, TOKENS_PER_SENTENCE = 17, 13, 25
SYSTEM_TOKENS, QUESTION_TOKENS, FRAME_TOKENS = 40, 30, 6
GB = 1e9


@dataclass(frozen=True)
class Item:
    """What one item is on average: frames F, tokens T (visual ones included), labeled tokens of them."""

    frames: float
    tokens: float
    labels: float


@dataclass(frozen=True)
class Shape:
    """Sizes of a model: layers, widths and their inner widths of tower and language model, and the rest.

    Attributes:
        tower: layers that run, width C, inner width, tokens per frame (class token included).
        patch: numbers of a patch, 3 x its side squared.
        scorer: products of a patch that the selector makes.
        text: layers, width D, inner width, width of keys and values, vocabulary V.
        kept: K, visual tokens per frame.
        patches: N.
        gelu_parts: tensors of inner width that the tower's activation keeps for the backward pass.
    """

    tower: tuple[int, int, int, int]
    text: tuple[int, int, int, int, int]
    kept: int
    patches: int
    patch: int
    scorer: int
    gelu_parts: int = 2

    @classmethod
    def of(cls, config: ElysiumConfig) -> Shape:
        """The sizes that a configuration tells."""
        vision: Any = config.vision_config
        text: Any = config.text_config
        inner = getattr(vision, "intermediate_size", None) or vision.hidden_size * getattr(vision, "mlp_ratio", 4)
        prefix = 0 if vision.model_type.startswith("siglip") else 1
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        keys = head * (getattr(text, "num_key_value_heads", None) or text.num_attention_heads)
        quick = getattr(vision, "hidden_act", "gelu") == "quick_gelu"
        return cls(
            tower=(config.num_vision_layers, vision.hidden_size, int(inner), config.num_patches + prefix),
            text=(text.num_hidden_layers, text.hidden_size, text.intermediate_size, keys, text.vocab_size),
            kept=config.num_image_tokens,
            patches=config.num_patches,
            patch=3 * vision.patch_size**2,
            scorer=_scorer(config),
            gelu_parts=3 if quick else 2,
        )

    def tower_flops(self, item: Item) -> Flops:
        """Of all frames of an item, without the patch embedding."""
        layers, width, inner, tokens = self.tower
        linear = 2 * tokens * (4 * width**2 + 2 * width * inner)
        last = 2 * tokens * width * inner
        return Flops(*(item.frames * layers * value for value in (linear, 4 * tokens**2 * width, last)))

    def text_flops(self, item: Item) -> Flops:
        """Without the head; attention as if it were not causal, as is the custom."""
        layers, width, inner, keys, _ = self.text
        linear = 2 * item.tokens * (2 * width**2 + 2 * width * keys + 3 * width * inner)
        last = 2 * item.tokens * width * inner
        return Flops(*(layers * value for value in (linear, 4 * item.tokens**2 * width, last)))

    def head_flops(self, item: Item) -> float:
        """Forward; logits are made of labeled tokens only."""
        return 2 * item.labels * self.text[1] * self.text[4]

    def between_flops(self, item: Item) -> tuple[float, float, float]:
        """Forward of the patch embedding, the scorer and the projector."""
        width, text = self.tower[1], self.text[1]
        embedding = 2 * item.frames * self.patches * self.patch * width
        scorer = 2 * item.frames * self.patches * self.scorer
        return embedding, scorer, 2 * item.frames * self.kept * (width * text + text**2)


@dataclass(frozen=True)
class Flops:
    """Forward operations of layers: products with weights, products of attention, and the last product of each layer.

    Attention's products have no weights: their gradients cost twice as much whenever a gradient passes. The last
    product is not made again by checkpointing, since nothing of its result is kept.
    """

    linear: float
    attention: float
    last: float

    def trained(self, passed: bool, learns: bool, again: bool) -> float:
        """Forward and backward, where gradients pass, weights learn, layers are run again."""
        forward = self.linear + self.attention
        backward = self.linear * (passed + learns) + 2 * self.attention * passed
        return forward + backward + (forward - self.last) * again


def _scorer(config: ElysiumConfig) -> int:
    """Products that the selector makes of a patch to score it; 0 for compressors without scores."""
    if config.compressor_type != "t_selector":
        return 0
    vision: Any = config.vision_config
    width = vision.hidden_size
    if config.selector_scorer == "positional":
        return width + config.num_patches
    hidden = config.selector_hidden_size or max(width // 2, 1)
    return width * hidden + hidden


def step_flops(shape: Shape, item: Item, train: Any, checkpointing: bool, adapters: bool = False) -> float:
    """Floating-point operations of one item, forward and backward.

    Args:
        shape: of the model.
        item: what it is.
        train: parts that learn.
        checkpointing: whether layers run forward once more in the backward pass.
        adapters: whether the language model learns by adapters, so that its own weights need no gradient.
    """
    tower, between = "vision_tower" in train, bool({"selector", "multi_modal_projector"} & set(train))
    text = "language_model" in train
    weights = text and not adapters
    embedding, scorer, projector = shape.between_flops(item)
    total = embedding * (1 + tower) + shape.tower_flops(item).trained(tower, tower, checkpointing and tower)
    total += scorer * (1 + ("selector" in train or tower) + ("selector" in train))
    total += projector * (1 + (tower or between) + ("multi_modal_projector" in train))
    passed = tower or between or text
    total += shape.text_flops(item).trained(passed, weights, checkpointing and passed)
    return total + shape.head_flops(item) * (2 + weights)


def state_bytes(
    counts: dict[str, tuple[int, int]], engine: str, gpus: int, dtype: str = "float32"
) -> dict[str, float]:
    """Bytes of weights, gradients and the optimizer's state (AdamW) on one GPU.

    DeepSpeed holds bfloat16 weights and gradients and a float32 copy in its optimizer's state; the others hold float32
    weights (or `dtype` where they are frozen) and cast layer by layer.

    Args:
        counts: part -> (parameters that learn, all), see `train.parts.trained_counts`.
        engine: one of `ENGINES`.
        gpus: that share what the engine shares out.
        dtype: of frozen weights, without DeepSpeed.
    """
    learn = sum(pair[0] for pair in counts.values())
    total = sum(pair[1] for pair in counts.values())
    held = 4 * learn + (4 if dtype == "float32" else 2) * (total - learn)
    found = {
        "none": (held, 4 * learn, 8 * learn),
        "zero2": (2 * total, 2 * learn / gpus, 12 * learn / gpus),
        "zero3": (2 * total / gpus, 2 * learn / gpus, 12 * learn / gpus),
        "zero3_offload": (0, 2 * learn / gpus, 0),
        "fsdp2": (held / gpus, 4 * learn / gpus, 8 * learn / gpus),
    }[engine]
    return dict(zip(("weights", "gradients", "optimizer"), map(float, found), strict=True))


def activation_bytes(
    shape: Shape, item: Item, batch: int, train: Any, checkpointing: bool, number_bytes: int = 2
) -> float:
    """Bytes that the backward pass of a batch needs, with an attention that keeps no T x T matrix.

    A layer of the language model that learns keeps 10 D + 4 I numbers of a token (two norms with input, normalized and
    output; queries, keys, values, result; three of the gate and the product), a frozen one 6 D + 3 I (not what only
    the gradients of weights need), one of the tower 8 C + 2 or 3 I. With checkpointing, its input alone, and all of
    these of one layer at a time.

    Args:
        shape: of the model.
        item: what it is.
        batch: items.
        train: parts that learn.
        checkpointing: see `step_flops`.
        number_bytes: of one number: 2 in bfloat16, 4 in float32.
    """
    layers, width, inner, keys, vocabulary = shape.text
    learns = "language_model" in train
    one = item.tokens * ((8 if learns else 4) * width + 2 * keys + (4 if learns else 3) * inner)
    numbers = layers * item.tokens * width + one if checkpointing else layers * one
    if "vision_tower" in train:
        depth, channels, wide, patches = shape.tower
        one = item.frames * patches * (8 * channels + shape.gelu_parts * wide)
        numbers += depth * item.frames * patches * channels + one if checkpointing else depth * one
    if {"vision_tower", "selector", "multi_modal_projector"} & set(train):
        numbers += item.frames * shape.kept * (2 * shape.tower[1] + 2 * width)  # kept tokens, gated; the inner layer
    logits = item.labels * vocabulary * (4 + number_bytes)  # log-probabilities in float32 beside the logits
    return batch * (numbers * number_bytes + logits)


def expected_item(stage: StageConfig, kept: int) -> Item:
    """The mean item of a stage's mixture, with the lengths of text at the top of this file.

    Args:
        stage: its sources, frames and turns are read.
        kept: K, where the stage does not change it.
    """
    total = sum(source.weight for source in stage.sources)
    mean = [0.0, 0.0, 0.0]
    for source in stage.sources:
        frames = 1.0 if _is_images(source) else sum(stage.num_frames) / 2
        of_objects = {"sot", "rsot", "video_reg", "rec", "reg"} & set(source.tasks)
        turns = (1 + stage.turns) / 2 if of_objects else 1.0
        share = sum(source.tasks.values())
        answer = sum(weight * _answer_tokens(Task(task), frames) for task, weight in source.tasks.items()) / share
        item = _item(frames, turns, answer, stage.num_image_tokens or kept)
        for place, value in enumerate((item.frames, item.tokens, item.labels)):
            mean[place] += value * source.weight / total
    return Item(*mean)


def longest_item(stage: StageConfig, kept: int) -> Item:
    """The item that takes most memory: the most frames, questions and words that a stage can give at once."""
    items = []
    for source in stage.sources:
        frames = 1.0 if _is_images(source) else float(stage.num_frames[1])
        answer = max(_answer_tokens(Task(task), frames) for task in source.tasks)
        items.append(_item(frames, stage.turns, answer, stage.num_image_tokens or kept))
    return max(items, key=lambda item: item.tokens)


def _item(frames: float, turns: float, answer: float, kept: int) -> Item:
    text = SYSTEM_TOKENS + frames * FRAME_TOKENS + turns * (QUESTION_TOKENS + answer)
    return Item(frames, frames * kept + text, turns * answer)


def _is_images(source: SourceConfig) -> bool:
    """Whether a source gives single images: only image tasks, or talk without an interval between frames."""
    of_images = {*IMAGE_TASKS, Task.VQA, Task.CHAT}
    has_interval = {"interval", "max_interval"} & set(source.options)
    return all(Task(name) in of_images for name in source.tasks) and not has_interval


def _answer_tokens(task: Task, frames: float) -> float:
    if task in (Task.SOT, Task.RSOT):
        return TOKENS_PER_TRACKED_FRAME * frames
    return TOKENS_PER_BOX if task is Task.REC else TOKENS_PER_SENTENCE


def model_config(recipe: Recipe) -> ElysiumConfig:
    """The configuration of the model that a recipe starts from; the paper's where it names one that is not here."""
    if recipe.build is not None:
        from transformers import CLIPVisionConfig, LlamaConfig

        text = LlamaConfig(vocab_size=recipe.build.vocab_size, **recipe.build.text)
        vision = CLIPVisionConfig(**recipe.build.vision)
        return ElysiumConfig(vision_config=vision, text_config=text, **recipe.build.elysium)
    if recipe.model is not None and (Path(recipe.model) / "config.json").exists():
        return ElysiumConfig.from_pretrained(recipe.model)
    return ElysiumConfig()


def _steps(stage: StageConfig, batch: int, items_per_weight: float) -> int:
    if (steps := stage.arguments.get("max_steps", -1)) > 0:
        return steps
    items = sum(min(s.weight * items_per_weight, s.limit or math.inf) for s in stage.sources)
    return math.ceil(stage.arguments.get("num_train_epochs", 3) * items / batch)


def estimate(stage: StageConfig, config: ElysiumConfig, options: argparse.Namespace) -> dict[str, float]:
    """One row of the table: steps, batch, mean item, hours, and bytes of one GPU by kind.

    Args:
        stage: of the recipe.
        config: of the model.
        options: of the command line.
    """
    with torch.device("meta"):
        model = ElysiumForConditionalGeneration(config)
    freeze_all_but(model, stage.train)
    counts, shape = trained_counts(model), Shape.of(config)
    shape = replace(shape, kept=stage.num_image_tokens or shape.kept)
    item = expected_item(stage, shape.kept)
    checkpointing = bool(stage.arguments.get("activation_checkpointing"))
    per_device = stage.arguments.get("per_device_train_batch_size", 8)
    batch = stage.global_batch_size or per_device * options.gpus * stage.arguments.get(
        "gradient_accumulation_steps", 1
    )
    if stage.lora is not None:
        counts["language_model"] = (_adapter_count(shape, stage.lora.r), counts["language_model"][1])
    flops = step_flops(shape, item, stage.train, checkpointing, stage.lora is not None)
    steps = _steps(stage, batch, options.items_per_weight)
    hours = steps * batch * flops / (options.gpus * options.peak * 1e12 * options.mfu) / 3600
    held = state_bytes(counts, options.engine, options.gpus, stage.dtype)
    share = min(per_device, max(1, batch // options.gpus))
    held["activations"] = activation_bytes(shape, longest_item(stage, shape.kept), share, stage.train, checkpointing)
    if options.engine in ("zero3", "zero3_offload", "fsdp2"):  # the layer that runs and the next one, whole
        layers, width, inner, keys, vocabulary = shape.text
        layer = 2 * width**2 + 2 * width * keys + 3 * width * inner
        held["gathered"] = 2 * (2 * layer + vocabulary * width)
    learn = sum(pair[0] for pair in counts.values())
    row = {"learn": learn, "steps": steps, "batch": batch, "frames": item.frames, "tokens": item.tokens}
    return {**row, "flops": flops, "hours": hours, **held}


def _adapter_count(shape: Shape, rank: int) -> int:
    """Parameters of adapters on all linear layers of the language model."""
    layers, width, inner, keys, _ = shape.text
    return layers * rank * (2 * 2 * width + 2 * (width + keys) + 3 * (width + inner))


def make_parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    parser = argparse.ArgumentParser(
        prog="python -m train.estimate",
        description="Hours of every stage and memory of one GPU, counted from the recipe; nothing is trained or read.",
        epilog="Example: python -m train.estimate stage1a stage1b stage2a stage2b --gpus 32 --engine zero2",
    )
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="file, or name of one in train/recipes")
    parser.add_argument("--gpus", type=int, default=32, help="GPUs (32)")
    parser.add_argument("--engine", choices=ENGINES, default="zero2", help="what shards (zero2)")
    parser.add_argument("--peak", type=float, default=312.0, help="peak TFLOP/s of a GPU in bfloat16 (A100: 312)")
    parser.add_argument(
        "--mfu", type=float, default=0.4, help="assumed share of that peak that training reaches (0.4)"
    )
    parser.add_argument(
        "--items-per-weight",
        type=float,
        default=1000.0,
        help="items of a source per unit of its weight, where a stage counts passes (1000, as in the shipped recipes)",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    from .sft import read_recipes

    options = make_parser().parse_args(arguments)
    try:
        recipe = read_recipes(options.recipes, options.set)
        config = model_config(recipe)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    print(
        f"{options.gpus} GPUs of {options.peak:g} TFLOP/s, of which {options.mfu:.0%} are reached; {options.engine}\n"
    )
    columns = "stage", "learn", "steps", "batch", "frames", "tokens", "PFLOP per step", "hours", "GB: states"
    print("| " + " | ".join((*columns, "activations", "in all")) + " |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for stage in recipe.stages:
        row = estimate(stage, config, options)
        states = sum(row.get(kind, 0.0) for kind in ("weights", "gradients", "optimizer", "gathered"))
        cells = (
            stage.name,
            f"{row['learn'] / 1e6:,.0f} M",
            f"{row['steps']:,}",
            f"{row['batch']}",
            f"{row['frames']:.1f}",
            f"{row['tokens']:,.0f}",
            f"{row['flops'] * row['batch'] / 1e15:,.1f}",
            f"{row['hours']:,.1f}",
            f"{states / GB:.1f}",
            f"{row['activations'] / GB:.1f}",
            f"{(states + row['activations']) / GB:.1f}",
        )
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
