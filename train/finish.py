"""The end of a stage: a whole folder with model, processor, code, recipe, metrics and card, ready for the Hub."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import HfApi

from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor
from tracking_elysium import VideoTrackingPipeline

from .card import model_card
from .config import Recipe, StageConfig
from .engines import describe_engine
from .plain import to_plain

__all__ = ["FINISHED", "METRICS", "RECIPE", "push_folder", "save_model", "stage_metrics", "write_card"]

FINISHED = "final"
METRICS, RECIPE = "metrics.json", "recipe.yaml"
LAST = 10  # logged losses whose mean is the stage's last loss


def save_model(
    model: ElysiumForConditionalGeneration,
    processor: ElysiumProcessor,
    folder: Path,
    state_dict: dict[str, torch.Tensor] | None = None,
    add: Callable[[Path], None] | None = None,
) -> None:
    """Write a complete model folder; it gets its name only when it is whole. One process calls this.

    Args:
        model: may be sharded where `state_dict` is given.
        processor: its processor.
        folder: to write; it must not be there.
        state_dict: gathered weights; None takes the model's.
        add: writes more files into the folder before it gets its name.
    """
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed run left
    if type(model) is not ElysiumForConditionalGeneration:  # FSDP makes a class of its own, which would be saved
        with torch.device("meta"):
            whole = ElysiumForConditionalGeneration(model.config)
        whole.generation_config = model.generation_config
        model = whole
    if state_dict is not None and model.config.tie_word_embeddings:  # some engines copy what is one tensor
        tied = model._tied_weights_keys or {}
        state_dict = {name: value for name, value in state_dict.items() if name not in tied}
    pipeline = VideoTrackingPipeline(model=model, processor=processor, task="video-tracking", device=model.device)
    pipeline.save_pretrained(temporary, state_dict=state_dict)
    if add is not None:
        add(temporary)
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temporary, folder)


def stage_metrics(trainer: Any, stage: StageConfig) -> dict[str, Any]:
    """What a trained stage says of itself: steps, loss, the last evaluation, the best one.

    Args:
        trainer: after training.
        stage: its name is taken.
    """
    history, state, arguments = trainer.state.log_history, trainer.state, trainer.args
    losses = [entry["loss"] for entry in history if "loss" in entry]
    found: dict[str, Any] = {
        "stage": stage.name,
        "steps": state.global_step,
        "global_batch_size": trainer.accelerator.num_processes
        * arguments.per_device_train_batch_size
        * arguments.gradient_accumulation_steps,
        "engine": describe_engine(trainer.accelerator),
    }
    if losses:
        found["train_loss"] = sum(losses[-LAST:]) / len(losses[-LAST:])
    evaluations = [entry for entry in history if any(key.startswith("eval_") for key in entry)]
    if evaluations:
        left_out = ("runtime", "per_second")
        found["evaluation"] = {
            key.removeprefix("eval_"): value
            for key, value in evaluations[-1].items()
            if key.startswith("eval_") and not key.endswith(left_out)
        }
    if state.best_metric is not None:
        found["best"] = {
            "metric": arguments.metric_for_best_model,
            "value": state.best_metric,
            "step": state.best_global_step,
        }
    return found


def write_card(
    folder: Path, model: ElysiumForConditionalGeneration, recipe: Recipe, metrics: dict[str, Any] | None
) -> None:
    """Write the recipe, the metrics and the card into a model folder.

    Args:
        folder: to write to.
        model: its sizes are told.
        recipe: by which it was trained, up to the stage that it is of.
        metrics: see `stage_metrics`; None where they are not known.
    """
    (folder / RECIPE).write_text(yaml.safe_dump(to_plain(recipe), sort_keys=False, width=119), encoding="utf-8")
    if metrics is not None:
        (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    card = model_card(model, recipe, Path(RECIPE), folder.name.removesuffix(".part"), metrics)
    (folder / "README.md").write_text(card, encoding="utf-8")


def push_folder(folder: Path, repo_id: str, api: HfApi | None = None) -> str:
    """Upload a finished model folder to the Hub; a repository that is not there is made, private.

    Args:
        folder: whole, as `save_model` wrote it.
        repo_id: `organization/name`.
        api: the Hub's client; None makes one, with the token of `hf auth login`.

    Returns:
        The address of the commit.

    Raises:
        ValueError: the folder is not a finished model.
    """
    if not (folder / "config.json").exists():
        raise ValueError(f"{folder} holds no finished model; pass the `final` folder of a trained stage.")
    api = api or HfApi()
    api.create_repo(repo_id, private=True, exist_ok=True)
    info = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=f"Upload {folder.parent.name}")
    return str(info.commit_url)
