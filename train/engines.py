"""What sharded training (DeepSpeed, FSDP) needs beyond the trainer: three traps, each closed here.

- Under ZeRO-3 every process must run every module, or all wait for each other: a batch without frames gets one that
  nothing attends to (`with_a_frame`).
- Under ZeRO-3 weights can stay random without a word (huggingface/transformers#45397): `check_loaded` compares every
  parameter with the file.
- A model that one process makes or reads alone must not be sharded while it does: `unsharded`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import distributed
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import (
    deepspeed_config,
    is_deepspeed_zero3_enabled,
    set_hf_deepspeed_config,
    unset_hf_deepspeed_config,
)

from .collator import IGNORED

__all__ = [
    "check_loaded",
    "describe_engine",
    "gathered",
    "join_processes",
    "name_layers",
    "spare_frozen_parts",
    "unsharded",
    "with_a_frame",
]


def with_a_frame(inputs: dict[str, Any], config: Any) -> dict[str, Any]:
    """Give a batch without frames one black frame that changes neither its loss nor its gradients.

    The frame's K placeholders stand left of the first row, where padding stands, and are masked like padding: nothing
    attends to them and nothing is predicted from them, so that the gradients of tower, selector and projector are zero
    instead of missing.

    Args:
        inputs: a collated batch of `input_ids`, `attention_mask` and perhaps `labels` and `position_ids`, `(B, T)`
            each.
        config: the model's configuration.

    Returns:
        The batch itself where it has frames, else one of `(B, K + T)` with `pixel_values` `(1, 3, H, W)`.
    """
    pixels = inputs.get("pixel_values")
    if pixels is not None and len(pixels):
        return inputs
    ids = inputs["input_ids"]
    image_token, kept = config.image_token_id, config.num_image_tokens
    filling = ids.new_full((len(ids), kept), 0 if image_token else 1)
    filling[0] = image_token
    fillings = {"input_ids": filling, "attention_mask": 0, "position_ids": 0, "labels": IGNORED}
    padded = dict(inputs)
    for name, value in fillings.items():
        if name in inputs:
            old = inputs[name]
            new = value if isinstance(value, torch.Tensor) else old.new_full((len(ids), kept), value)
            padded[name] = torch.cat([new, old], dim=1)
    if "labels" in padded:
        padded["labels"][:, kept] = IGNORED  # the first token, which nothing stood before, is not predicted now either
    size = config.vision_config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    padded["pixel_values"] = torch.zeros(1, 3, height, width, device=ids.device)
    return padded


@contextlib.contextmanager
def unsharded() -> Iterator[None]:
    """Make and read models whole inside, even where the launcher asks for ZeRO-3.

    transformers shards every model that is made while a ZeRO-3 configuration is alive, which needs all processes.
    """
    from transformers.integrations import deepspeed

    reference = getattr(deepspeed, "_hf_deepspeed_config_weak_ref", None)
    config = None if reference is None else reference()
    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if config is not None:
            set_hf_deepspeed_config(config)


def join_processes(arguments: Any) -> None:
    """Let DeepSpeed know the processes before a model is sharded; on CPUs accelerate leaves that out.

    Args:
        arguments: `SFTConfig` of the stage.
    """
    if arguments.deepspeed_plugin is not None:
        import deepspeed

        deepspeed.init_distributed(dist_backend=distributed.get_backend(), auto_mpi_discovery=False)


def name_layers(model: PreTrainedModel) -> None:
    """Leave in `_no_split_modules` only layers that the model has.

    FSDP shards by that list and refuses a name that it does not find; CLIP's list names layers of its text half.
    """
    present = {type(module).__name__ for module in model.modules()}
    model._no_split_modules = [name for name in model._no_split_modules or [] if name in present]


def spare_frozen_parts(model: PreTrainedModel) -> None:
    """Let activation checkpointing not ask for gradients of embeddings that nothing below learns from.

    transformers asks for them because checkpointing by re-entering needs them; ours does not re-enter, and a frozen
    tower would be run a second time and backward for nothing.
    """
    setattr(model, "enable_input_require_grads", lambda: None)  # noqa: B010 - replaces a method of this model alone


@contextlib.contextmanager
def gathered(parameters: list[torch.nn.Parameter]) -> Iterator[None]:
    """The whole of parameters that ZeRO-3 has sharded, for reading; nothing to do elsewhere."""
    if not is_deepspeed_zero3_enabled():
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=None):
        yield


def check_loaded(model: PreTrainedModel, folder: str | Path) -> int:
    """Compare every parameter of a model with the file that it was read from.

    Every process calls this. A file may hold more than the model (layers of the tower that are not built), and a tied
    head is held once.

    Args:
        model: loaded from `folder` in any way, sharded or not, in any dtype.
        folder: holds `model.safetensors`, whole or in shards.

    Returns:
        How many parameters were compared.

    Raises:
        ValueError: parameters are missing from the file, or have other values or sizes than it.
    """
    folder = Path(folder)
    where = _files_of_tensors(folder)
    named = dict(model.named_parameters())
    missing = sorted(set(named) - set(where))
    wrong: list[str] = []
    for file in sorted(set(where.values())):
        with safe_open(folder / file, framework="pt") as tensors:
            for name in sorted(set(named) & {key for key, value in where.items() if value == file}):
                with gathered([named[name]]):
                    stored = tensors.get_tensor(name)
                    held = named[name].detach().to("cpu")
                    if held.shape != stored.shape or not torch.equal(held, stored.to(held.dtype)):
                        wrong.append(f"{name} {tuple(held.shape)}")
    if missing or wrong:
        shown = ", ".join((missing + wrong)[:8])
        raise ValueError(
            f"{len(missing)} parameters are not in {folder} and {len(wrong)} have not its values: {shown}. The model "
            "was not read whole; do not train it. Under ZeRO-3 try ZeRO-2 (train/accelerate/zero2.yaml)."
        )
    return len(named)


def _files_of_tensors(folder: Path) -> dict[str, str]:
    """Name of every tensor in a model folder -> its file."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        return dict.fromkeys(tensors.keys(), "model.safetensors")


def describe_engine(accelerator: Any) -> str:
    """What shards the training, in words, for the card: `DeepSpeed ZeRO-3`, `FSDP2`, `2 processes`, `1 process`."""
    config = deepspeed_config()
    if accelerator.distributed_type == "DEEPSPEED" and config is not None:
        return f"DeepSpeed ZeRO-{config.get('zero_optimization', {}).get('stage', 0)}"
    if getattr(accelerator, "is_fsdp2", False):
        return "FSDP2"
    count = distributed.get_world_size() if distributed.is_initialized() else 1
    return f"{count} process{'es' if count > 1 else ''}"
