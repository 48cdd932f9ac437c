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

__all__ = ["greedy_boxes", "grounding_prompts", "tracking_prompts"]


def tracking_prompts(processor: Any, known: np.ndarray) -> list[str]:
    """Ask for the box in the second of two windows, given those (B, 4) in the first, up to where it begins."""
    prompts = []
    for box in known:
        messages = processor.build_messages(Task.SOT, num_frames=2, box=box)
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        prompts.append(f"{text}Frame 1: {format_box(box)}, Frame 2: [")
    return prompts


def grounding_prompts(processor: Any, expressions: list[str]) -> list[str]:
    """Ask for the box of what expressions name in one frame each, up to where it begins."""
    prompts = []
    for expression in expressions:
        messages = processor.build_messages(Task.RSOT, num_frames=1, expression=expression)
        prompts.append(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    return [f"{text}Frame 1: [" for text in prompts]


@torch.no_grad()
def greedy_boxes(model: Any, processor: Any, features: Any, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Write the box that each of B prompts ends with, numbers greedily one after another.

    Args:
        model: the model.
        processor: its processor.
        features: visual tokens of the frames of all prompts.
        prompts: see `tracking_prompts` and `grounding_prompts`.

    Returns:
        Boxes (B, 4) in [0, 1] of the window, and the probability (B,) that a box is written at all.
    """
    token = processor.image_token
    texts = [text.replace(token, token * processor.num_image_tokens) for text in prompts]
    rows = [processor.tokenizer.encode(text, add_special_tokens=False) for text in texts]
    length = max(map(len, rows))
    pad = processor.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (length - len(p)) + p for p in rows])
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in rows])
    numbers = number_token_ids(processor).to(model.device)
    ids, mask = ids.to(model.device), mask.to(model.device)
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
    return (torch.stack(cells, 1).cpu() + 0.5) / GRID, presence.cpu()
