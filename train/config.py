"""A training run as data: dataclasses read from one YAML recipe, every key checked.

A stage says what is trained, from what, and how: the last is handed to TRL's `SFTConfig` as it stands.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from processing_elysium.prompts import Task

from .feed_config import FeedConfig, LossConfig
from .miniature.config import BuildConfig, TowerConfig

__all__ = ["PARTS", "Recipe", "SourceConfig", "StageConfig", "from_plain", "load_recipe", "load_yaml"]

PARTS = ("vision_tower", "selector", "multi_modal_projector", "language_model")


@dataclass(kw_only=True)
class SourceConfig:
    """One source of a mixture.

    Attributes:
        source: "synthetic", or the path of a file of records (`dataset_scripts.records`), relative to the working
            folder.
        tasks: weight of each task when a question is drawn; image tasks are asked of single frames only. `vqa` and
            `chat` take the records' messages, with one of our wordings around each question or as they are.
        weight: share of the stage's items that come from here, relative to the other sources.
        limit: use only so many clips or records, the first ones.
        options: of the source, see `dataset_scripts.sources`: `objects`, `interval`, `irregular`, `size`, ... of
            synthetic clips, `root` and `max_interval` of records.
    """

    source: str
    tasks: dict[str, float]
    weight: float = 1.0
    limit: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = [task.value for task in Task]
        unknown = sorted(set(self.tasks) - set(known))
        if unknown or not self.tasks:
            raise ValueError(f"source {self.source!r}: tasks names {unknown}; give one or more of {known}.")
        for name, value in (("weight", self.weight), *(("weight of " + t, w) for t, w in self.tasks.items())):
            if not value > 0:
                raise ValueError(f"source {self.source!r}: the {name} is {value}; give a number above 0, or drop it.")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"source {self.source!r}: limit is {self.limit}; give 1 or more, or drop it.")


@dataclass(kw_only=True)
class StageConfig:
    """One stage of supervised fine-tuning (paper, section 4.2 and table of stages).

    Attributes:
        name: of its output folder.

        train: what is trained: parts of the model that learn; the rest is frozen.
        learning_rate_scale: factor on the learning rates by part of the model.
        muon_learning_rate: train the matrices of the hidden layers by Muon with this rate, see `train.optimizer`;
            None trains them like the rest, by the optimizer that `arguments` names.
        num_image_tokens: visual tokens kept per frame in this stage; None leaves the model's.

        sources: from what: the mixture.
        num_frames: fewest and most frames of a clip; 1, 1 for images.
        turns: most questions asked about one clip, each about another object.
        box_jitter: standard deviation, relative to the object's size, of noise on the corners of half of the boxes in
            questions; answers stay exact, so the model learns to correct a box that has drifted.
        repeats: batches in a row that ask different questions about the same clips, which are read once.
        eval_sources: mixture for evaluation, when `arguments` ask for one (`eval_strategy`).
        eval_items: conversations of an evaluation.
        feed: how items become batches.
        loss: what is added to the cross-entropy on the answers.

        arguments: how: fields of `trl.SFTConfig`, such as max_steps or num_train_epochs, per_device_train_batch_size,
            gradient_accumulation_steps, learning_rate, lr_scheduler_type, logging_steps, report_to, eval_strategy,
            activation_checkpointing, deepspeed. `train.arguments` has our defaults and what is refused.
    """

    name: str
    train: list[str] = field(default_factory=lambda: list(PARTS))
    learning_rate_scale: dict[str, float] = field(default_factory=dict)
    muon_learning_rate: float | None = None
    num_image_tokens: int | None = None
    sources: list[SourceConfig]
    num_frames: tuple[int, int] = (1, 1)
    turns: int = 4
    box_jitter: float = 0.0
    repeats: int = 1
    eval_sources: list[SourceConfig] = field(default_factory=list)
    eval_items: int = 64
    feed: FeedConfig = field(default_factory=FeedConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    arguments: dict[str, Any]

    def __post_init__(self) -> None:
        for name, parts in (("train", self.train), ("learning_rate_scale", list(self.learning_rate_scale))):
            unknown = sorted(set(parts) - set(PARTS))
            if unknown:
                raise ValueError(f"stage {self.name!r}: {name} names {unknown}; the parts of the model are {PARTS}.")
        if not self.sources:
            raise ValueError(f"stage {self.name!r}: sources is empty; give one source or more.")
        if not 1 <= self.num_frames[0] <= self.num_frames[1]:
            raise ValueError(
                f"stage {self.name!r}: num_frames is {list(self.num_frames)}; give [fewest, most], from 1."
            )
        for name in ("turns", "repeats", "eval_items"):
            if getattr(self, name) < 1:
                raise ValueError(f"stage {self.name!r}: {name} is {getattr(self, name)}; give 1 or more.")


@dataclass(kw_only=True)
class Recipe:
    """Everything one run needs.

    Attributes:
        seed: of the data order and the initial weights.
        workers: processes that read and tokenise.
        threads: CPU threads of the training process; 0 leaves PyTorch's choice.
        build: the model to make, or None to start from `model`.
        model: folder or Hub id to start from.
        tower: pretraining of the vision tower, or None.
        tracking_defaults: options of tracking that are found to suit the result; published in its processor's
            configuration.
        stages: in order.
    """

    seed: int = 0
    workers: int = 1
    threads: int = 0
    build: BuildConfig | None = None
    model: str | None = None
    tower: TowerConfig | None = None
    tracking_defaults: dict[str, Any] = field(default_factory=dict)
    stages: list[StageConfig]

    def __post_init__(self) -> None:
        if (self.build is None) == (self.model is None):
            raise ValueError("a recipe starts from either `build:` (a new model) or `model:` (a saved one); give one.")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages are named {names}; give each a name of its own, it is its output folder.")


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-3 as a number; YAML 1.1 asks for 1.0e-3 and takes the rest for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a YAML recipe; unknown keys and wrong types raise a ValueError that says where."""
    return load_yaml(Recipe, path)


def load_yaml(kind: type, path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Any:
    """Read a YAML file as the dataclass `kind`.

    Args:
        kind: what the file describes.
        path: the file.
        overrides: `key=value` with YAML values; dots go inward, numbers into lists (`stages.0.turns=2`).

    Raises:
        ValueError: an override has no "=" or leads nowhere, or see `from_plain`.
    """
    value = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ValueError(f"override {override!r} has no '='; write KEY=VALUE.")
        *outer, last = key.split(".")
        target = value
        try:
            for name in outer:
                target = target[int(name)] if isinstance(target, list) else target.setdefault(name, {})
            target[int(last) if isinstance(target, list) else last] = yaml.load(text, Loader=_Loader)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"override {override!r} leads nowhere in {path} ({error}).") from error
    return from_plain(kind, value, str(path))


def from_plain(kind: Any, value: Any, where: str) -> Any:
    """Turn YAML's plain values into the annotated type `kind`.

    Args:
        kind: a dataclass or a type as its fields are annotated with.
        value: mappings, lists, numbers, texts.
        where: named in errors.

    Raises:
        ValueError: an unknown key, a missing one, or a value of another type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if type(None) in arguments:
        if value is None:
            return None
        return from_plain(next(a for a in arguments if a is not type(None)), value, where)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected a mapping, found {value!r}.")
        hints = typing.get_type_hints(kind)
        unknown = sorted(set(value) - set(hints))
        if unknown:
            raise ValueError(f"{where}: unknown key(s) {unknown}; allowed are {sorted(hints)}.")
        plain = {key: from_plain(hints[key], item, f"{where}: {key}") for key, item in value.items()}
        required = [f.name for f in dataclasses.fields(kind) if _is_required(f)]
        if missing := [name for name in required if name not in plain]:
            raise ValueError(f"{where}: the key(s) {missing} are missing.")
        try:
            return kind(**plain)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{where}: expected a list, found {value!r}.")
        return [from_plain(arguments[0], item, f"{where}[{number}]") for number, item in enumerate(value)]
    if origin is tuple:
        if not isinstance(value, list) or len(value) != len(arguments):
            raise ValueError(f"{where}: expected {len(arguments)} values, found {value!r}.")
        return tuple(from_plain(a, item, where) for a, item in zip(arguments, value, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected a mapping, found {value!r}.")
        return {key: from_plain(arguments[1], item, f"{where}: {key}") for key, item in value.items()}
    if kind is Any:
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ValueError(f"{where}: expected {kind.__name__}, found {value!r}.")


def _is_required(item: dataclasses.Field) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
