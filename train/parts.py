"""The parts of the model: which of them learns in a stage, and how fast.

A recipe's `train` is the one table: the parts that learn, each with a factor on the stage's learning rate. What it
does not name is frozen. The trainer, the card and the estimates read it; nothing else says what trains.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

__all__ = ["PARTS", "check_train", "freeze_all_but", "part_of", "trained_counts"]

PARTS = ("vision_tower", "selector", "multi_modal_projector", "language_model")
# Names that peft gives to what it trains: low-rank factors, and whole modules that learn beside them.
_ADDED = ("lora_", "modules_to_save.")


def part_of(name: str) -> str:
    """The part of the model (one of `PARTS`) that the parameter `name` belongs to; the head goes with the text."""
    for part in PARTS:
        if f"{part}." in name:
            return part
    return "language_model"


def check_train(train: Mapping[str, float] | Collection[str]) -> dict[str, float]:
    """Read a recipe's `train`.

    Args:
        train: part -> factor on the stage's learning rate, or a list of parts that all learn at that rate.

    Returns:
        Part -> factor, in the order of `PARTS`.

    Raises:
        ValueError: a name is not a part, a factor is not above 0, or nothing learns.
    """
    table = dict(train) if isinstance(train, Mapping) else dict.fromkeys(train, 1.0)
    if unknown := sorted(set(table) - set(PARTS)):
        raise ValueError(f"train names {unknown}; the parts of the model are {PARTS}.")
    if wrong := {part: factor for part, factor in table.items() if not factor > 0}:
        raise ValueError(f"train has {wrong}; give factors above 0, and leave out a part that is to be frozen.")
    if not table:
        raise ValueError(f"train is empty, so nothing would learn; name one or more of {PARTS}.")
    return {part: float(table[part]) for part in PARTS if part in table}


def freeze_all_but(model: torch.nn.Module, parts: Collection[str]) -> None:
    """Let only `parts` learn; under LoRA only what was added to them, and the copies that learn whole.

    Args:
        model: the model, with adapters or without.
        parts: of `PARTS`.
    """
    added = [name for name, _ in model.named_parameters() if _is_added(name)]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) in parts and (not added or _is_added(name)))


def _is_added(name: str) -> bool:
    return any(mark in name for mark in _ADDED)


def trained_counts(model: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """Part -> (parameters that learn, all parameters), as `--print-config` and the tests look at it.

    Under ZeRO-3, where a process holds a share of each parameter, the whole is counted.
    """
    counts = dict.fromkeys(PARTS, (0, 0))
    for name, parameter in model.named_parameters():
        size = getattr(parameter, "ds_numel", parameter.numel())
        learns, total = counts[part_of(name)]
        counts[part_of(name)] = (learns + size * parameter.requires_grad, total + size)
    return counts
