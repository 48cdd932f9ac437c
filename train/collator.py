"""Conversations and their frames become one padded batch; only answers (with their end token) are labeled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from processing_elysium import ElysiumProcessor
from processing_elysium.prompts import Task

from .lengths import Encoded, encode
from .objective import BoxPlaces, NumberTokens

__all__ = ["IGNORED", "TASKS", "ConversationCollator"]

IGNORED = -100
TASKS = tuple(task.value for task in Task)


@dataclass
class ConversationCollator:
    """Turns `{"id", "frames", "messages", "tasks"}` samples into model inputs and what the trainer logs.

    Attributes:
        processor: writes the prompt and prepares the frames; its `num_image_tokens` must be the model's.
        context: most tokens of a conversation; None is no limit.
    """

    processor: ElysiumProcessor
    context: int | None = None
    numbers: NumberTokens | None = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = NumberTokens.of(self.processor.tokenizer, self.processor.box_rounding)

    def __call__(self, samples: Sequence[dict[str, Any]], info: dict[str, Any] | None = None) -> dict[str, Any]:
        """Collate B samples of F frames in all.

        Args:
            samples: each with frames (H, W, 3) uint8 in the order of the image parts of its messages; `encoded` saves
                tokenizing again; `skipped` has the reasons of items that were passed over.
            info: more to hand to the trainer.

        Returns:
            `input_ids`, `attention_mask`, `labels` `(B, T)`, padded on the left; `pixel_values` `(F, 3, H, W)` unless
            there is no frame; of the L labeled tokens, row by row, `task_ids` `(L,)`, in `TASKS`, and of the M boxes
            among them `box_places` and `box_scales` `(M, 4, P)`, see `BoxPlaces`; `info`.

        Raises:
            ValueError: frames and image parts differ in number, or a conversation is longer than the context.
        """
        rows = [sample.get("encoded") or encode(self.processor, sample["messages"]) for sample in samples]
        for sample, row in zip(samples, rows, strict=True):
            self._check(sample, row)
        frames = [frame for sample in samples for frame in sample["frames"]]
        length = max(map(len, rows))
        batch: dict[str, Any] = {
            "input_ids": _padded([row.input_ids for row in rows], length, self.processor.tokenizer.pad_token_id),
            "attention_mask": _padded([np.ones(len(row), np.int64) for row in rows], length, 0),
            "labels": _padded([np.where(row.answers, row.input_ids, IGNORED) for row in rows], length, IGNORED),
        }
        if frames:
            batch["pixel_values"] = self.processor.image_processor(frames, return_tensors="pt")["pixel_values"]
        if all("tasks" in sample for sample in samples):
            tasks = [_answer_tasks(row, sample["tasks"]) for row, sample in zip(rows, samples, strict=True)]
            batch["task_ids"] = torch.from_numpy(np.concatenate(tasks))
        if self.numbers is not None:
            found = [self.numbers.locate(row.input_ids, row.answers) for row in rows]
            boxes = BoxPlaces.joined(found, [int(row.answers.sum()) for row in rows], self.numbers.width)
            batch["box_places"] = torch.from_numpy(boxes.places)
            batch["box_scales"] = torch.from_numpy(boxes.scales).float()
        batch["info"] = {
            "samples": len(rows),
            "tokens": sum(map(len, rows)),
            "frames": len(frames),
            "skipped": [reason for sample in samples for reason in sample.get("skipped", [])],
            **(info or {}),
        }
        return batch

    def _check(self, sample: dict[str, Any], row: Encoded) -> None:
        parts = [part for message in sample["messages"] for part in message["content"]]
        wanted = sum(part["type"] == "image" for part in parts)
        name = f"record {sample.get('id')!r}"
        if wanted != len(sample["frames"]):
            raise ValueError(f"{name}: the messages have {wanted} image parts for {len(sample['frames'])} frames.")
        if self.context is not None and len(row) > self.context:
            raise ValueError(
                f"{name}: {len(row)} tokens ({wanted} frames x {self.processor.num_image_tokens} and text) do not fit "
                f"the context of {self.context}; show fewer frames, keep fewer tokens, or ask fewer questions (turns)."
            )


def _answer_tasks(row: Encoded, tasks: Sequence[str]) -> np.ndarray:
    """Number of the task (in `TASKS`) of each labeled token."""
    starts = np.diff(row.answers, prepend=False) & row.answers
    assert starts.sum() == len(tasks), (int(starts.sum()), tasks)
    turn = np.cumsum(starts) - 1
    return np.array([TASKS.index(task) for task in tasks], dtype=np.int64)[turn[row.answers]]


def _padded(rows: Sequence[np.ndarray], length: int, value: int) -> torch.Tensor:
    """(B, length) int64, padded on the left as for generation."""
    padded = np.full((len(rows), length), value, dtype=np.int64)
    for number, row in enumerate(rows):
        padded[number, length - len(row) :] = row
    return torch.from_numpy(padded)
