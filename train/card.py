"""The model card of a published model, written from the model, its recipe and its data."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from dataset_scripts.records import read_records
from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium.boxes import GRID
from processing_elysium.prompts import Task

from .config import Recipe, SourceConfig, StageConfig

__all__ = ["model_card", "trained_on"]

TEMPLATE = Path(__file__).with_name("model_card.md")
ABILITIES = {
    Task.SOT: "track an object from its box",
    Task.RSOT: "track an object from words",
    Task.REC: "find an object in an image from words",
    Task.REG: "describe the object in a box of an image",
    Task.VIDEO_REG: "describe the object in a box of a video",
    Task.VQA: "answer questions",
    Task.CHAT: "talk about what it sees",
}
NO_LICENSE = "none stated"
DRAWN = "synthetic"


def model_card(
    model: ElysiumForConditionalGeneration,
    recipe: Recipe,
    recipe_path: Path,
    folder: str,
    metrics: dict[str, Any] | None = None,
) -> str:
    """Write the card.

    Args:
        model: the model that is published.
        recipe: what it was trained by; its files of records are read for their licenses.
        recipe_path: named in the card.
        folder: name of the published folder, for the example.
        metrics: of its last stage, see `train.finish.stage_metrics`; None where they are not known.

    Returns:
        Markdown with the Hub's header.
    """
    config: Any = model.config
    sources, tasks, drawn_only = _taught(recipe)
    size = config.vision_config.image_size
    text = config.text_config
    return TEMPLATE.read_text(encoding="utf-8").format(
        # Somebody who trains on the pictures of others has to look up what they allow.
        license="apache-2.0" if drawn_only and recipe.build is not None else "other",
        title=f"Elysium, {_millions(model)} parameters" + (", trained on drawn shapes" if drawn_only else ""),
        abilities=_listed([ABILITIES[task] for task in tasks]),
        parameters=_millions(model),
        tower=f"{config.vision_config.model_type}, {size} x {size} pixels per frame, {config.num_patches} patches",
        kept=config.num_image_tokens,
        patches=config.num_patches,
        compressor=_compressor(config),
        language=f"{text.model_type}, {text.num_hidden_layers} layers of width {text.hidden_size}",
        context=getattr(text, "max_position_embeddings", "unlimited"),
        folder=folder,
        expression="the small red ring" if drawn_only else "the black swan",
        start=_start(recipe),
        recipe=recipe_path.as_posix(),
        stages="\n".join(_stage_rows(recipe)),
        data="\n".join(_data_rows(sources)),
        metrics="\n".join(_metric_rows(metrics or {})),
        limits=_limits(config, drawn_only, recipe.build is not None, tasks),
    )


def trained_on(recipe: Recipe) -> dict[str, Any] | None:
    """What `ElysiumProcessor.trained_on` is to say of a model; None where training went on from another one."""
    _, tasks, drawn_only = _taught(recipe)
    if recipe.build is None:
        return None
    drawn = {"material": "drawn shapes", "aspect_ratio": [1.0, 1.0]} if drawn_only else {}  # drawn frames are square
    return {**drawn, "tasks": [task.value for task in tasks]}


def _taught(recipe: Recipe) -> tuple[list[SourceConfig], list[Task], bool]:
    """All sources, the tasks asked of them, and whether all of them are drawn shapes."""
    sources = [source for stage in recipe.stages for source in stage.sources]
    tasks = [task for task in Task if any(task.value in source.tasks for source in sources)]
    return sources, tasks, all(source.source == DRAWN for source in sources)


def _millions(model: ElysiumForConditionalGeneration) -> str:
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{count / 1e9:.1f} billion" if count >= 1e9 else f"{count / 1e6:.1f} million"


def _listed(parts: list[str], word: str = "and") -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f" {word} {parts[-1]}"


def _compressor(config: Any) -> str:
    kind = config.compressor_type
    return f"the T-Selector (scorer `{config.selector_scorer}`)" if "selector" in kind else f"the compressor `{kind}`"


def _metric_rows(metrics: dict[str, Any]) -> list[str]:
    """One row per number of the last stage."""
    rows = [("steps", metrics.get("steps")), ("items of a step", metrics.get("global_batch_size"))]
    rows += [("trained with", metrics.get("engine")), ("loss, mean of the last logs", metrics.get("train_loss"))]
    rows += [(f"evaluation: {name.replace('_', ' ')}", value) for name, value in metrics.get("evaluation", {}).items()]
    if best := metrics.get("best"):
        rows.append((f"best {best['metric'].replace('_', ' ')}, at step {best['step']}", best["value"]))
    shown = [(name, f"{value:.4f}" if isinstance(value, float) else value) for name, value in rows]
    return [f"| {name} | {value} |" for name, value in shown if value is not None] or ["| not recorded | |"]


def _start(recipe: Recipe) -> str:
    if recipe.model is not None:
        return f"Training started from `{recipe.model}`."
    if (halves := recipe.assemble) is not None:
        return (
            f"Training started from the vision tower `{halves.vision}` and the language model `{halves.text}`; "
            "selector and projector were new."
        )
    tower = ""
    if recipe.tower is not None:
        tower = (
            f" The vision tower was pretrained for {recipe.tower.steps} steps on dense patch labels of drawn shapes, "
            "the stand-in for a pretrained CLIP."
        )
    return f"All weights were trained from random values.{tower}"


def _stage_rows(recipe: Recipe) -> list[str]:
    """One row per stage; the number of tokens holds until a later stage changes it."""
    made = recipe.build or recipe.assemble
    tokens = made.elysium.get("num_image_tokens") if made is not None else None
    rows = []
    for stage in recipe.stages:
        tokens = stage.num_image_tokens or tokens
        rows.append(_stage_row(stage, tokens))
    return rows


def _stage_row(stage: StageConfig, tokens: int | None) -> str:
    given = stage.arguments
    low, high = stage.num_frames
    if stage.global_batch_size is not None:
        batch = f"{stage.global_batch_size} in all"
    else:
        batch = f"{given.get('per_device_train_batch_size', 8)}"
        if (accumulated := given.get("gradient_accumulation_steps", 1)) > 1:
            batch += f" x {accumulated}"
    steps = given.get("max_steps") or f"{given.get('num_train_epochs', 3)} epochs"
    rate = f"{given.get('learning_rate', 'default')}"
    if stage.muon_learning_rate is not None:
        rate += f", Muon {stage.muon_learning_rate}"
    cells = (
        stage.name,
        ", ".join(stage.train) + (" (LoRA)" if stage.lora is not None else ""),
        f"{low}" if low == high else f"{low} to {high}",
        tokens or "as it started",
        steps,
        batch,
        rate,
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _data_rows(sources: list[SourceConfig]) -> list[str]:
    """One row per corpus: what it is called, how much of it, what was asked, and under which terms."""
    entries: dict[str, list[SourceConfig]] = {}
    for source in sources:
        entries.setdefault(source.source, []).append(source)
    rows = []
    for name, uses in entries.items():
        words = ", ".join(sorted({task for source in uses for task in source.tasks}))
        limits = [source.limit for source in uses if source.limit is not None]
        limit = max(limits) if len(limits) == len(uses) else None
        if name == DRAWN:
            rows.append(
                f"| drawn shapes (`dataset_scripts/synthetic`) | as many as steps need | {words} | Apache-2.0 |"
            )
            continue
        if not Path(name).is_file():
            rows.append(f"| `{name}` | the file was not there when this card was written | {words} | unknown |")
            continue
        counts: dict[str, Counter[str]] = {}
        for record in islice(read_records(name), limit):
            counts.setdefault(record.source, Counter())[record.license or NO_LICENSE] += 1
        for corpus, licenses in sorted(counts.items()):
            terms = "; ".join(f"{license} ({count})" for license, count in licenses.most_common())
            cells = (f"{corpus} (`{Path(name).name}`)", f"{licenses.total()}", words, terms)
            rows.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return rows


def _limits(config: Any, drawn_only: bool, from_nothing: bool, tasks: list[Task]) -> str:
    size = config.vision_config.image_size
    lines = [
        f"- Frames are squashed to {size} x {size} pixels and boxes are written in steps of 1/{GRID} of the frame: "
        "small objects are lost, and no box is more exact than that.",
    ]
    if drawn_only:
        lines.append("- It always answers with boxes; one for an object that cannot be seen is a guess.")
        lines.insert(
            0,
            "- It has seen drawn shapes only: for tests, examples and development without a GPU or a download. On "
            "real videos it runs, and its boxes mean nothing.",
        )
    if from_nothing:
        lines.append(
            "- Its vocabulary is that of its prompts and captions; other questions get answers of the same kind."
        )
    untaught = [ABILITIES[task] for task in Task if task not in tasks]
    if untaught:
        lines.append(f"- It was not taught to {_listed(untaught, 'or')}.")
    return "\n".join(lines)
