"""A training run as data: dataclasses read from one YAML recipe, every key checked."""

from __future__ import annotations

import dataclasses
import os
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

__all__ = ["BuildConfig", "Recipe", "StageConfig", "TowerConfig", "load_recipe"]

PARTS = ("vision_tower", "selector", "multi_modal_projector", "language_model")


@dataclass(kw_only=True)
class BuildConfig:
    """A model made from nothing: the arguments of `train.build.build_model`.

    Attributes:
        vision: fields of a CLIP vision configuration.
        text: fields of a LLaMA configuration; the vocabulary size comes from the tokenizer.
        elysium: further fields of `ElysiumConfig`.
        vocab_size: pieces of the tokenizer that is made from our prompts and captions.
    """

    vision: dict[str, Any]
    text: dict[str, Any]
    elysium: dict[str, Any] = field(default_factory=dict)
    vocab_size: int = 1024


@dataclass(kw_only=True)
class TowerConfig:
    """Dense pretraining of the vision tower: what lies under each patch, and where its box is.

    Attributes:
        steps, batch_size, learning_rate, warmup_steps: as usual; cosine decay to zero. Every image is used for two
            steps, the second time mirrored.
        muon_learning_rate: of the matrices of the tower's layers, see `train.optimizer`.
        min_share: a patch belongs to the object that fills at least this share of it.
        box_weight: weight of the L1 loss of the box beside the four cross-entropies.
        align_steps: after that, steps in which selector and projector start from the same labels, see `align`. The
            paper's learn from the language model's loss alone, and ours go on doing so in every stage; 0 leaves them
            at random weights.
        save_every: steps between checkpoints.
    """

    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 1e-3
    muon_learning_rate: float = 8e-3
    warmup_steps: int = 100
    min_share: float = 0.15
    box_weight: float = 8.0
    align_steps: int = 0
    save_every: int = 500


@dataclass(kw_only=True)
class StageConfig:
    """One stage of supervised fine-tuning (paper, section 4.2 and table of stages).

    Attributes:
        name: of its output folder.
        train: parts of the model that learn; the rest is frozen.
        tasks: weight of each task when a question is drawn; image tasks are asked of single frames only.
        box_jitter: standard deviation, relative to the object's size, of noise on the corners of half of the boxes in
            questions; answers stay exact, so the model learns to correct a box that has drifted.
        num_frames: fewest and most frames of a clip; 1, 1 for images.
        objects: fewest and most objects in a scene.
        interval: smallest and largest distance between frames in native frames.
        irregular: share of clips in which every distance is drawn anew; with equal distances a model can continue the
            boxes it has written without looking at the frames.
        repeats: batches in a row that ask different questions about the same clips, which are rendered once.
        turns: most questions asked about one clip, each about another object.
        num_image_tokens: visual tokens kept per frame in this stage; None leaves the model's.
        steps, batch_size, learning_rate, warmup_steps: as usual.
        decay_steps: the learning rate stays constant until this many steps before the end, then falls to zero along a
            cosine; None lets it fall from the end of the warm-up.
        muon_learning_rate: train the matrices of the hidden layers by Muon with this rate, see `train.optimizer`;
            None trains them by AdamW like the rest.
        learning_rate_scale: factor on both learning rates by part of the model.
        save_every: steps between checkpoints; a run resumes from the last one.
    """

    name: str
    train: list[str] = field(default_factory=lambda: list(PARTS))
    tasks: dict[str, float]
    num_frames: tuple[int, int] = (1, 1)
    objects: tuple[int, int] = (2, 5)
    interval: tuple[int, int] = (1, 1)
    irregular: float = 0.0
    repeats: int = 1
    turns: int = 4
    box_jitter: float = 0.0
    num_image_tokens: int | None = None
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 50
    decay_steps: int | None = None
    muon_learning_rate: float | None = None
    learning_rate_scale: dict[str, float] = field(default_factory=dict)
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    save_every: int = 500

    def __post_init__(self) -> None:
        for name, parts in (("train", self.train), ("learning_rate_scale", list(self.learning_rate_scale))):
            unknown = sorted(set(parts) - set(PARTS))
            if unknown:
                raise ValueError(f"stage {self.name!r}: {name} names {unknown}; the parts of the model are {PARTS}.")


@dataclass(kw_only=True)
class Recipe:
    """Everything one run needs.

    Attributes:
        seed: of the data order and the initial weights.
        data_seed: of the synthetic dataset.
        frame_size: pixels of the rendered frames.
        workers: processes that render and tokenise.
        threads: CPU threads of the training process; 0 leaves PyTorch's choice.
        build: the model to make, or None to start from `model`.
        model: folder or Hub id to start from.
        tower: pretraining of the vision tower, or None.
        stages: in order.
    """

    seed: int = 0
    data_seed: int = 0
    frame_size: int = 140
    workers: int = 1
    threads: int = 0
    build: BuildConfig | None = None
    model: str | None = None
    tower: TowerConfig | None = None
    stages: list[StageConfig]

    def __post_init__(self) -> None:
        if (self.build is None) == (self.model is None):
            raise ValueError("a recipe starts from either `build:` (a new model) or `model:` (a saved one); give one.")


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a YAML recipe; unknown keys and wrong types raise a ValueError that says where."""
    text = Path(path).read_text(encoding="utf-8")
    return _from_plain(Recipe, yaml.safe_load(text), str(path))


def _from_plain(kind: Any, value: Any, where: str) -> Any:
    """Turn YAML's plain values into the annotated type `kind`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if type(None) in arguments:
        if value is None:
            return None
        return _from_plain(next(a for a in arguments if a is not type(None)), value, where)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected a mapping, found {value!r}.")
        hints = typing.get_type_hints(kind)
        unknown = sorted(set(value) - set(hints))
        if unknown:
            raise ValueError(f"{where}: unknown key(s) {unknown}; allowed are {sorted(hints)}.")
        try:
            return kind(**{key: _from_plain(hints[key], item, f"{where}: {key}") for key, item in value.items()})
        except TypeError as error:
            raise ValueError(f"{where}: {error}") from error
    if origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{where}: expected a list, found {value!r}.")
        return [_from_plain(arguments[0], item, f"{where}[{number}]") for number, item in enumerate(value)]
    if origin is tuple:
        if not isinstance(value, list) or len(value) != len(arguments):
            raise ValueError(f"{where}: expected {len(arguments)} values, found {value!r}.")
        return tuple(_from_plain(a, item, where) for a, item in zip(arguments, value, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected a mapping, found {value!r}.")
        return {key: _from_plain(arguments[1], item, f"{where}: {key}") for key, item in value.items()}
    if kind is Any:
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ValueError(f"{where}: expected {kind.__name__}, found {value!r}.")
