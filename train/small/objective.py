"""Clips of windows as token sequences, and a loss that knows that numbers are near each other.

Cross-entropy treats 51 for 52 as wrong as 7 for 52. With few examples it pays to say otherwise: number tokens have
targets smoothed over their neighbors (compare DIST2Loss, arXiv 2503.02379), and the box that the probabilities of its
four numbers amount to in the mean has a loss by its overlap with the true one (ARTrack, arXiv 2303.15233).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from processing_elysium import ElysiumProcessor
from processing_elysium.boxes import GRID, format_box
from processing_elysium.prompts import TRACKING_TASKS, Task

from ..objective import pairwise_iou

__all__ = ["Item", "Sequences", "box_loss", "number_token_ids", "write_sequences"]

# Task, boxes (F, 4), and the class name or, where the question is asked in words, the expression.
Item = tuple[Task, np.ndarray, str]
IGNORED = -100
SMOOTHING_CELLS = 1.2


@dataclass
class Sequences:
    """B conversations, padded on the left.

    Attributes:
        input_ids: (B, T).
        attention_mask: (B, T).
        labels: (B, T), -100 where nothing is learned.
        places: (M, 4) positions in the flattened (B * T) of the four number tokens of M boxes.
        boxes: (M, 4) those boxes, unrounded, in [0, 1].
        absent: (A,) positions in the flattened (B * T) of the tokens that close the "[]" of absent objects.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    places: torch.Tensor
    boxes: torch.Tensor
    absent: torch.Tensor


def number_token_ids(processor: ElysiumProcessor) -> torch.Tensor:
    """Return ids of the tokens of the numbers 0 to 99, shape (100,); each must be one token."""
    pieces = [processor.tokenizer.encode(str(n), add_special_tokens=False) for n in range(GRID)]
    if any(len(ids) != 1 for ids in pieces):
        raise ValueError("the tokenizer splits numbers; this loss needs one token per number.")
    return torch.tensor([ids[0] for ids in pieces])


def tracking_answer(boxes: np.ndarray) -> str:
    """Return the answer to a tracking question; "[]" where the object (NaN) is absent."""
    parts = [f"Frame {i + 1}: {'[]' if np.isnan(box).any() else format_box(box)}" for i, box in enumerate(boxes)]
    return ", ".join(parts) + "."


def conversation(
    processor: ElysiumProcessor, task: Task, boxes: np.ndarray, label: str, rng: np.random.Generator
) -> tuple[str, str, list[np.ndarray]]:
    """Write prompt and answer, and tell which boxes in the answer have numbers to learn.

    Args:
        processor: writes the prompt.
        task: SOT, RSOT, VIDEO_REG, REC or REG.
        boxes: (F, 4) of the frames, NaN where the object is absent.
        label: class name; for RSOT and REC the expression.
        rng: draws a wording; the first one of a task, which evaluation uses, half of the time.
    """
    wording = None if rng.random() < 0.5 else rng
    asked = {"expression": label} if task in (Task.REC, Task.RSOT) else {"box": boxes[0]}
    messages = processor.build_messages(task, num_frames=len(boxes), rng=wording, **asked)
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    if task in TRACKING_TASKS:
        return prompt, tracking_answer(boxes), [box for box in boxes if not np.isnan(box).any()]
    if task is Task.REC:
        return prompt, format_box(boxes[0]), [boxes[0]]
    return prompt, label, []


def write_sequences(
    processor: ElysiumProcessor,
    items: Sequence[Item],
    rng: np.random.Generator,
    numbers: torch.Tensor,
    first_learned: int = 1,
) -> Sequences:
    """Tokenize conversations.

    Args:
        processor: the model's.
        items: what is asked of each; the number of frames may differ.
        rng: draws wordings.
        numbers: see `number_token_ids`.
        first_learned: boxes of an SOT answer before this frame are given, not learned by overlap.
    """
    tokenizer, token = processor.tokenizer, processor.image_token
    rows, labels, found, missing = [], [], [], []
    is_number = {int(i) for i in numbers}
    for task, boxes, label in items:
        prompt, answer, true = conversation(processor, task, boxes, label, rng)
        prompt = prompt.replace(token, token * processor.num_image_tokens)
        start = tokenizer.encode(prompt, add_special_tokens=False)
        rest = tokenizer.encode(answer, add_special_tokens=False) + [tokenizer.eos_token_id]
        rows.append(start + rest)
        labels.append([IGNORED] * len(start) + rest)
        pieces = tokenizer.convert_ids_to_tokens(rest)
        closing = [i for i in range(1, len(rest)) if pieces[i - 1].endswith("[") and pieces[i].startswith("]")]
        missing.append([len(start) + i for i in closing])
        spots = []
        if true:
            spots = [
                len(start) + i for i, t in enumerate(rest) if t in is_number
            ]  # " 1" of "Frame 1" is another token than "1"
            spots = [spots[i : i + 4] for i in range(0, len(spots), 4)]
            assert len(spots) == len(true), (answer, len(spots))
        learned = first_learned if task is Task.SOT else 0
        found.append((spots[learned:], true[learned:]))
    length = max(map(len, rows))
    pad = tokenizer.pad_token_id
    places = [
        [number * length + length - len(rows[number]) + i for i in spot]
        for number, (spots, _) in enumerate(found)
        for spot in spots
    ]
    boxes = [box for _, true in found for box in true]
    absent = [n * length + length - len(rows[n]) + i for n, spots in enumerate(missing) for i in spots]
    return Sequences(
        input_ids=torch.tensor([[pad] * (length - len(row)) + row for row in rows]),
        attention_mask=torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows]),
        labels=torch.tensor([[IGNORED] * (length - len(row)) + row for row in labels]),
        places=torch.tensor(places, dtype=torch.long).view(-1, 4),
        boxes=torch.tensor(np.array(boxes), dtype=torch.float32).view(-1, 4),
        absent=torch.tensor(absent, dtype=torch.long),
    )


def box_loss(
    logits: torch.Tensor, boxes: torch.Tensor, numbers: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the loss of the four numbers of M boxes.

    Args:
        logits: (M, 4, V) at the tokens before the numbers.
        boxes: (M, 4) true boxes in [0, 1], unrounded.
        numbers: (100,) token ids.

    Returns:
        Smoothed cross-entropy per number (M, 4), 1 - IoU of the mean box (M,), and that IoU (M,).
    """
    over_all = logits.float().log_softmax(-1)[..., numbers]  # (M, 4, 100)
    cells = boxes.clamp(0, 1 - 1e-6) * GRID - 0.5
    distance = torch.arange(GRID, device=boxes.device) - cells.unsqueeze(-1)
    target = (-0.5 * (distance / SMOOTHING_CELLS).square()).softmax(-1)
    entropy = -(target * over_all).sum(-1)
    centers = (torch.arange(GRID, device=boxes.device) + 0.5) / GRID
    mean = (over_all.softmax(-1) * centers).sum(-1)
    iou = pairwise_iou(mean, boxes)
    return entropy, 1 - iou, iou.detach()


def answer_loss(
    hidden: torch.Tensor,
    head: torch.nn.Module,
    batch: Sequences,
    numbers: torch.Tensor,
    words_weight: float = 1.0,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the total loss of a batch from the last hidden states.

    Args:
        hidden: (B, T, D).
        head: maps hidden states to logits.
        batch: what was read.
        numbers: (100,) token ids.
        words_weight: of the cross-entropy of tokens that are no number of a learned box.

    Returns:
        The loss to minimize, and numbers to log: cross-entropy of the boxes' numbers, of other tokens, IoU, and
        the probability of "[]" where the object is absent. That choice weighs as much as a box does: among all other
        words it would hardly be learned.
    """
    flat = hidden.flatten(0, 1)
    labels = batch.labels.flatten().clone()
    labels[batch.places.flatten()] = IGNORED  # these have their own loss, as have absent objects
    closing = labels[batch.absent]
    labels[batch.absent] = IGNORED
    spots = (labels != IGNORED).nonzero().squeeze(-1)
    words = functional.cross_entropy(head(flat[spots - 1]).float(), labels[spots])
    log = {"words": words.item(), "numbers": float("nan"), "iou": float("nan"), "absent": float("nan")}
    loss = words_weight * words
    if len(batch.places):
        entropy, overlap, iou = box_loss(head(flat[batch.places - 1]), batch.boxes, numbers)
        loss = loss + entropy.mean() + overlap.mean()
        log |= {"numbers": entropy.mean().item(), "iou": iou.mean().item()}
    if len(batch.absent):
        entropy = functional.cross_entropy(head(flat[batch.absent - 1]).float(), closing, reduction="none")
        loss = loss + entropy.sum() / (len(batch.absent) + len(batch.places))
        log["absent"] = entropy.neg().exp().mean().item()
    return loss, log
