"""Conversations and their frames become one padded batch; only answers (with their end token) are labeled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from processing_elysium import ElysiumProcessor

__all__ = ["IGNORED", "ConversationCollator"]

IGNORED = -100


@dataclass(frozen=True)
class ConversationCollator:
    """Turns `{"frames": [...], "messages": [...]}` samples into model inputs.

    Attributes:
        processor: writes the prompt and prepares the frames; its `num_image_tokens` must be the model's.
    """

    processor: ElysiumProcessor

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate B samples of F frames in all.

        Args:
            samples: each with frames (H, W, 3) uint8 in the order of the image parts of its messages.

        Returns:
            input_ids, attention_mask and labels `(B, T)`, pixel_values `(F, 3, H, W)`.
        """
        conversations = [_with_frames(sample["messages"], sample["frames"]) for sample in samples]
        batch = self.processor.apply_chat_template(
            conversations,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            processor_kwargs={"padding": True, "return_tensors": "pt"},
        )
        answers = torch.as_tensor(batch["assistant_masks"]).bool()
        labels = batch["input_ids"].masked_fill(~answers, IGNORED)
        return {
            "input_ids": batch["input_ids"],
            "attention_mask": batch["attention_mask"],
            "pixel_values": batch["pixel_values"],
            "labels": labels,
        }


def _with_frames(messages: list[dict[str, Any]], frames: list[Any]) -> list[dict[str, Any]]:
    """A copy of `messages` whose image parts hold the frames, in order."""
    rest = iter(frames)
    filled = [
        {
            **message,
            "content": [
                {"type": "image", "image": next(rest)} if part["type"] == "image" else part
                for part in message["content"]
            ],
        }
        for message in messages
    ]
    left = sum(1 for _ in rest)
    if left:
        raise ValueError(f"the messages have {len(frames) - left} image parts for {len(frames)} frames.")
    return filled
