"""A training run as data: dataclasses read from one YAML recipe, every key checked.

A stage says what is trained, from what, and how: the last is handed to TRL's `SFTConfig` as it stands.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from processing_elysium.prompts import Task

from .feed_config import FeedConfig, LossConfig
from .miniature.config import BuildConfig, TowerConfig
from .parts import PARTS, check_train
from .plain import from_plain, load_yaml
from .rope import RopeConfig

__all__ = [
    "PARTS",
    "AssembleConfig",
    "LoraSettings",
    "Recipe",
    "SourceConfig",
    "StageConfig",
    "from_plain",
    "load_recipe",
    "load_yaml",
]

DTYPES = ("float32", "bfloat16")


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
class LoraSettings:
    """Low-rank adapters (LoRA) for the language model's layers; they are merged into the weights when a stage ends.

    Attributes:
        r: rank.
        alpha: scale; the update counts alpha / r.
        dropout: share of inputs dropped before the adapters.
        target_modules: linear layers of the language model that get an adapter, by the end of their name.
    """

    r: int = 64
    alpha: int = 128
    dropout: float = 0.05
    target_modules: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )

    def __post_init__(self) -> None:
        if self.r < 1 or self.alpha < 1 or not 0 <= self.dropout < 1 or not self.target_modules:
            raise ValueError(f"lora is {self}; give r and alpha from 1, dropout in [0, 1), and target_modules.")


@dataclass(kw_only=True)
class StageConfig:
    """One stage of supervised fine-tuning (paper, section 4.2 and table of stages).

    Attributes:
        name: of its output folder.

        train: what is trained: part of the model -> factor on the learning rates (a list of parts: 1 each); the rest
            is frozen.
        lora: the language model learns by adapters of these settings; None trains its weights.
        dtype: of weights that are held; those that learn and are not float32 should be adapters' bases only.
        muon_learning_rate: train the matrices of the hidden layers by Muon with this rate, see `train.optimizer`;
            None trains them like the rest, by the optimizer that `arguments` names.
        num_image_tokens: visual tokens kept per frame in this stage; None leaves the model's.
        rope: more positions for the language model from this stage on, see `train.rope`; None leaves the model's.

        sources: from what: the mixture.
        num_frames: fewest and most frames of a clip; 1, 1 for images.
        turns: most questions asked about one clip, each about another object.
        box_jitter: standard deviation, relative to the object's size, of noise on the corners of half of the boxes in
            questions; answers stay exact, so the model learns to correct a box that has drifted.
        repeats: batches in a row that ask different questions about the same clips, which are read once.
        eval_sources: mixture for evaluation, when `arguments` ask for one (`eval_strategy`).
        eval_items: conversations of an evaluation.
        eval_pictures: of these, the first so many whose boxes and answers are drawn after each evaluation, into
            `pictures/` of the stage's folder; 0 draws none.
        feed: how items become batches.
        loss: what is added to the cross-entropy on the answers.

        global_batch_size: items of an optimizer step over all processes; `gradient_accumulation_steps` then follows,
            see `train.batches`. None takes what `arguments` say.
        arguments: how: fields of `trl.SFTConfig`, such as max_steps or num_train_epochs, per_device_train_batch_size,
            gradient_accumulation_steps, learning_rate, lr_scheduler_type, logging_steps, report_to, eval_strategy,
            activation_checkpointing, deepspeed. `train.arguments` has our defaults and what is refused.
    """

    name: str
    train: dict[str, float] | list[str] = field(default_factory=lambda: dict.fromkeys(PARTS, 1.0))
    lora: LoraSettings | None = None
    dtype: str = "float32"
    muon_learning_rate: float | None = None
    num_image_tokens: int | None = None
    rope: RopeConfig | None = None
    sources: list[SourceConfig]
    num_frames: tuple[int, int] = (1, 1)
    turns: int = 4
    box_jitter: float = 0.0
    repeats: int = 1
    eval_sources: list[SourceConfig] = field(default_factory=list)
    eval_items: int = 64
    eval_pictures: int = 4
    feed: FeedConfig = field(default_factory=FeedConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    global_batch_size: int | None = None
    arguments: dict[str, Any]

    @property
    def factors(self) -> dict[str, float]:
        """Part that learns -> factor on the learning rates."""
        return check_train(self.train)

    def __post_init__(self) -> None:
        try:
            self.train = self.factors
        except ValueError as error:
            raise ValueError(f"stage {self.name!r}: {error}") from None
        if self.dtype not in DTYPES:
            raise ValueError(f"stage {self.name!r}: dtype is {self.dtype!r}; give one of {DTYPES}.")
        if self.lora is not None and self.muon_learning_rate is not None:
            raise ValueError(
                f"stage {self.name!r}: Muon is for whole matrices, not for adapters; drop one of the two."
            )
        if not self.sources:
            raise ValueError(f"stage {self.name!r}: sources is empty; give one source or more.")
        if not 1 <= self.num_frames[0] <= self.num_frames[1]:
            raise ValueError(
                f"stage {self.name!r}: num_frames is {list(self.num_frames)}; give [fewest, most], from 1."
            )
        for name in ("turns", "repeats", "eval_items", "global_batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"stage {self.name!r}: {name} is {getattr(self, name)}; give 1 or more.")


@dataclass(kw_only=True)
class AssembleConfig:
    """A model put together from a pretrained vision tower and a pretrained language model; the rest starts anew.

    Attributes:
        vision: folder or Hub id of a CLIP, SigLIP or DINOv2 model.
        text: folder or Hub id of a decoder-only language model with its tokenizer. With `gguf_file`, the folder of it.
        gguf_file: name of a GGUF file in that folder, which is read in place of safetensors.
        image_size: side of the frames in pixels; position embeddings are interpolated to it. None keeps the tower's.
        system: system message of the chat template in place of Vicuna's; None keeps it.
        elysium: further fields of `ElysiumConfig`.
    """

    vision: str
    text: str
    gguf_file: str | None = None
    image_size: int | None = None
    system: str | None = None
    elysium: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Recipe:
    """Everything one run needs.

    Attributes:
        seed: of the data order and the initial weights.
        workers: processes that read and tokenize.
        threads: CPU threads of the training process; 0 leaves PyTorch's choice.
        build: the model to make, or None to start from `model`.
        assemble: pretrained halves to put together, or None.
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
    assemble: AssembleConfig | None = None
    model: str | None = None
    tower: TowerConfig | None = None
    tracking_defaults: dict[str, Any] = field(default_factory=dict)
    stages: list[StageConfig]

    def __post_init__(self) -> None:
        if sum(start is not None for start in (self.build, self.assemble, self.model)) != 1:
            raise ValueError(
                "a recipe starts from either `build:` (a new model), `assemble:` (pretrained halves) or `model:` (a "
                "saved one); give one."
            )
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages are named {names}; give each a name of its own, it is its output folder.")


def load_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe; unknown keys and wrong types raise a ValueError that says where.

    Args:
        path: the file.
        overrides: `key=value`, see `train.plain.override`.
    """
    return load_yaml(Recipe, path, overrides)
