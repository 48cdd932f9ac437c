"""Settings of how a stage is fed and what its loss looks at; parts of `train.config.StageConfig`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FeedConfig", "LossConfig"]


@dataclass(kw_only=True)
class FeedConfig:
    """How items become batches.

    Attributes:
        tokens_per_batch: most tokens of one process' batch, padding included; `per_device_train_batch_size` is then
            the most conversations. None: batches have that many conversations always.
        similar_lengths: batches of conversations of similar length, with or without `tokens_per_batch`. The lengths
            are known before anything is decoded.
        window: items among which similar lengths are looked for; more save more padding and cost more memory.
        max_broken: share of items that may be broken (skipped and named) before the run stops.
    """

    tokens_per_batch: int | None = None
    similar_lengths: bool = False
    window: int = 256
    max_broken: float = 0.01

    def __post_init__(self) -> None:
        for name in ("tokens_per_batch", "window"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"feed: {name} is {value}; give 1 or more.")
        if not 0 <= self.max_broken < 1:
            raise ValueError(f"feed: max_broken is {self.max_broken}; give a share from 0 to below 1.")

    @property
    def planned(self) -> bool:
        """Whether batches are planned by length."""
        return self.similar_lengths or self.tokens_per_batch is not None


@dataclass(kw_only=True)
class LossConfig:
    """What is added to the cross-entropy on the answers.

    Attributes:
        number_weight: factor on the cross-entropy of the numbers of boxes.
        iou_weight: weight of 1 - IoU of the box that the probabilities of its numbers amount to in the mean, see
            `train.objective`; it counts as many tokens as the box has numbers.
    """

    number_weight: float = 1.0
    iou_weight: float = 0.0

    def __post_init__(self) -> None:
        if not self.number_weight > 0:
            raise ValueError(f"loss: number_weight is {self.number_weight}; give a number above 0.")
        if not self.iou_weight >= 0:
            raise ValueError(f"loss: iou_weight is {self.iou_weight}; give 0 or more.")
