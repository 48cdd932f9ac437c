"""An ablation as data: one start, cells that differ in the configuration of the model, the budget that all get."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from transformers import CLIPVisionConfig

from modeling_elysium import ElysiumConfig

from ..config import Recipe, StageConfig
from ..plain import did_you_mean

__all__ = ["AblationConfig", "CellConfig", "EvaluationConfig"]

# What a cell may change: only what the new compressor and projector, and the positions of their tokens, depend on.
VARIED = (
    "compressor_type", "num_image_tokens", "selector_scorer", "selector_gradient", "selector_hidden_size",
    "projector_hidden_act", "projector_bias", "position_ids_mode",
)  # fmt: skip


@dataclass(kw_only=True)
class CellConfig:
    """One way to build the adapter (compressor and projector).

    Attributes:
        name: in the tables and of its folders.
        elysium: fields of `ElysiumConfig`, of `VARIED`.
    """

    name: str
    elysium: dict[str, Any]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9-]+", self.name):
            raise ValueError(f"cell {self.name!r}: the name is a folder's too; give letters, digits and hyphens.")
        for key in sorted(set(self.elysium) - set(VARIED)):
            raise ValueError(
                f"cell {self.name!r}: elysium may not set {key!r}{did_you_mean(key, VARIED) or '.'} Cells share the "
                f"rest of the model; they may set {list(VARIED)}."
            )


@dataclass(kw_only=True)
class EvaluationConfig:
    """What a trained cell is asked: drawn scenes that no stage has seen.

    Attributes:
        split: of the drawn data, "val" or "test".
        images: single frames, each with one expression (REC).
        clips: clips of `frames` frames, each followed by box (SOT) and by words (RSOT).
        frames: of a clip.
        interval: smallest and largest distance between frames, drawn per clip.
        batch_size: clips that the model answers at once.
    """

    split: str = "test"
    images: int = 200
    clips: int = 100
    frames: int = 8
    interval: tuple[int, int] = (3, 6)
    batch_size: int = 25

    def __post_init__(self) -> None:
        if self.split not in ("val", "test"):
            raise ValueError(f"evaluation: split is {self.split!r}; give 'val' or 'test'.")
        for name in ("images", "clips", "frames", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"evaluation: {name} is {getattr(self, name)}; give 1 or more.")


@dataclass(kw_only=True)
class AblationConfig:
    """Everything one ablation needs.

    Attributes:
        start: trained once. Cells take its tower and language model; selector and projector start anew in each.
        stages: the budget of every cell, the same steps on the same items.
        cells: what is compared.
        tables: title -> names of the cells in its rows.
        seeds: of the new weights, the order of the items, the questions. One run per cell and seed.
        evaluation: what is scored.
    """

    start: Recipe
    stages: list[StageConfig]
    cells: list[CellConfig]
    tables: dict[str, list[str]]
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        names = [cell.name for cell in self.cells]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"cells are named {names}; give one or more, each with a name of its own.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds are {self.seeds}; give one or more, each once.")
        if not self.stages:
            raise ValueError("stages is empty, so no cell would learn; give one or more.")
        for title, rows in self.tables.items():
            if unknown := [row for row in rows if row not in names]:
                raise ValueError(f"tables: {title!r} names the cells {unknown}; there are {names}.")
        if unseen := sorted(set(names) - {row for rows in self.tables.values() for row in rows}):
            raise ValueError(f"tables: the cells {unseen} are in no table; put them into one, or drop them.")
        self._check_models()

    def cell(self, name: str) -> CellConfig:
        """The cell of a name."""
        return next(cell for cell in self.cells if cell.name == name)

    def shared(self) -> dict[str, Any]:
        """What all runs have in common, in plain values; results of other values are not comparable."""
        found: dict[str, Any] = {
            "start": dataclasses.asdict(self.start),
            "evaluation": dataclasses.asdict(self.evaluation),
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
        }
        for name in ("workers", "threads"):  # change nothing but the time
            del found["start"][name]
        return found

    def _check_models(self) -> None:
        """Refuse a cell whose model cannot be built, before anything trains (of a start that is assembled, later)."""
        if self.start.build is not None:
            vision = CLIPVisionConfig(**self.start.build.vision)
            base = {"vision_config": vision.to_dict(), **self.start.build.elysium}
        elif self.start.model is not None:
            base = ElysiumConfig.from_pretrained(self.start.model).to_dict()
        else:
            return
        for cell in self.cells:
            try:
                ElysiumConfig.from_dict({**base, **cell.elysium})
            except (TypeError, ValueError) as error:
                raise ValueError(f"cell {cell.name!r}: {error}") from error
