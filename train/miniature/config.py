"""Settings of what only a miniature needs: a model made from nothing and the pretraining of its tower."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["BuildConfig", "TowerConfig"]


@dataclass(kw_only=True)
class BuildConfig:
    """A model made from nothing: the arguments of `train.miniature.build.build_model`.

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
        data_seed: of the synthetic dataset; its frames have the tower's size.
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

    data_seed: int = 0
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 1e-3
    muon_learning_rate: float = 8e-3
    warmup_steps: int = 100
    min_share: float = 0.15
    box_weight: float = 8.0
    align_steps: int = 0
    save_every: int = 500
