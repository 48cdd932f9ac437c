"""Boxes that the model writes itself, read from the numbers' probabilities in batches: for trials during training.

The pipeline gives the same boxes one session at a time; this is for validating dozens of sequences side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from processing_elysium.boxes import GRID, format_box
from processing_elysium.prompts import Task

from .objective import number_token_ids

__all__ = ["greedy_boxes"]


@torch.no_grad()
def greedy_boxes(
    model: Any, processor: Any, features: Any, known: np.ndarray, more: list[np.ndarray] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The box that is written for the last of W windows, numbers greedily one after another.

    Args:
        model: the model.
        processor: its processor.
        features: visual tokens of B x W windows.
        known: (B, 4) box in the first window.
        more: boxes (B, 4) of the windows between, as answered before.

    Returns:
        Boxes (B, 4) in [0, 1] of the window, and the probability (B,) that a box is written at all.
    """
    given = [known, *(more or [])]
    count = len(given) + 1
    prompts = []
    for row in range(len(known)):
        messages = processor.build_messages(Task.SOT, num_frames=count, box=known[row])
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        text = text.replace(processor.image_token, processor.image_token * processor.num_image_tokens)
        boxes = [format_box(b[row]) if np.isfinite(b[row]).all() else "[]" for b in given]
        text += ", ".join(f"Frame {i + 1}: {box}" for i, box in enumerate(boxes)) + f", Frame {count}: ["
        prompts.append(processor.tokenizer.encode(text, add_special_tokens=False))
    length = max(map(len, prompts))
    pad = processor.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (length - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts])
    numbers = number_token_ids(processor)
    comma = processor.tokenizer.encode(",", add_special_tokens=False)[0]
    out = model.model(input_ids=ids, attention_mask=mask, mm_encoder_outputs={"image": features}, use_cache=True)
    cells, presence = [], None
    for coordinate in range(4):
        probabilities = model.lm_head(out.last_hidden_state[:, -1]).float().softmax(-1)
        if presence is None:
            presence = probabilities[:, numbers].sum(-1)
        cell = probabilities[:, numbers].argmax(-1)
        cells.append(cell)
        if coordinate < 3:
            new = torch.stack([numbers[cell], torch.full_like(cell, comma)], 1)
            mask = torch.cat([mask, torch.ones_like(new)], 1)
            out = model.model(input_ids=new, attention_mask=mask, past_key_values=out.past_key_values, use_cache=True)
    return (torch.stack(cells, 1) + 0.5) / GRID, presence
