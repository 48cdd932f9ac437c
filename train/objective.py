"""The numbers of boxes among an answer's tokens, and a loss that knows that 51 is nearer to 52 than 7 is.

Cross-entropy treats every wrong number alike. The box that the probabilities of its numbers amount to in the mean has
a loss by its overlap with the true one (ARTrack, arXiv 2303.15233). Shapes: L labeled tokens of a batch, M boxes in
them, P tokens of a number at most, S number tokens of the vocabulary, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from processing_elysium.boxes import GRID

from .feed_config import LossConfig

__all__ = ["AnswerLoss", "BoxPlaces", "NumberTokens", "answer_loss", "pairwise_iou"]

DIGITS_AT_MOST = 3  # "100", which rounding writes at the frame's edge


@dataclass(frozen=True)
class BoxPlaces:
    """Where the boxes of answers are.

    Attributes:
        places: (M, 4, P) their number tokens, as positions among the L labeled tokens (of a conversation or a batch,
            row by row); a shorter number has its first position again.
        scales: (M, 4, P) float, what a digit at the position counts (10, 1); 0 where it fills up.
    """

    places: np.ndarray
    scales: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[BoxPlaces], counts: Sequence[int], width: int) -> BoxPlaces:
        """The boxes of conversations with `counts` labeled tokens each, one after the other; `width` is P."""
        offsets = np.cumsum([0, *counts])
        places = [part.places + offset for part, offset in zip(parts, offsets[:-1], strict=True)]
        empty = np.zeros((0, 4, width))
        return cls(
            np.concatenate([empty.astype(np.int64), *places]), np.concatenate([empty, *(p.scales for p in parts)])
        )


@dataclass(frozen=True)
class NumberTokens:
    """Tokens that numbers are written with: whole numbers, or digits.

    Attributes:
        ids: (S,) int64 token ids.
        values: (S,) the number or digit of each.
        width: P, tokens of a number at most.
        tokenizer: whose they are.
        offset: what is added to a number before it is divided by the grid: 0.5 where numbers are cells.
    """

    ids: np.ndarray
    values: np.ndarray
    width: int
    tokenizer: PreTrainedTokenizerBase
    offset: float

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, rounding: str = "floor") -> NumberTokens | None:
        """Find them; None where numbers are joined with other text or cut in another way.

        Args:
            tokenizer: a fast tokenizer.
            rounding: of the boxes, see `processing_elysium.boxes.format_box`.
        """
        offset = 0.5 if rounding == "floor" else 0.0
        found = [_number_pieces(tokenizer, number) for number in range(GRID)]
        if any("".join(text for _, text in pieces) != str(number) for number, pieces in enumerate(found)):
            return None
        if all(len(pieces) == 1 for pieces in found):
            ids = [pieces[0][0] for pieces in found]
            return cls(np.array(ids), np.arange(GRID), 1, tokenizer, offset)
        if all(len(pieces) == len(str(number)) for number, pieces in enumerate(found)):
            ids = [found[digit][0][0] for digit in range(10)]
            return cls(np.array(ids), np.arange(10), DIGITS_AT_MOST, tokenizer, offset)
        return None

    def locate(self, input_ids: np.ndarray, answers: np.ndarray) -> BoxPlaces:
        """The boxes in the answers of one conversation: "[", four numbers with commas between them, "]".

        Args:
            input_ids: (T,) token ids.
            answers: (T,) bool, true at tokens of answers.
        """
        value_of = dict(zip(self.ids.tolist(), self.values.tolist(), strict=True))
        boxes: list[list[list[int]]] = []
        run: list[list[int]] = []  # numbers of the box that is being read
        before = ""  # text since the last number
        labeled = input_ids[answers].tolist()
        for place, token in enumerate(labeled):
            if token in value_of:
                if before == "" and run and self.width > 1:
                    run[-1].append(place)
                elif before == "," and run:
                    run.append([place])
                else:
                    run = [[place]] if before.endswith("[") else []
                before = ""
                continue
            before += str(self.tokenizer.decode([token])).strip()
            if before.startswith("]") and len(run) == 4 and all(len(number) <= self.width for number in run):
                boxes.append(run)
                run = []
        places = np.zeros((len(boxes), 4, self.width), dtype=np.int64)
        scales = np.zeros((len(boxes), 4, self.width))
        for row, box in enumerate(boxes):
            for column, number in enumerate(box):
                places[row, column] = number[0]
                places[row, column, : len(number)] = number
                scales[row, column, : len(number)] = [10**power for power in reversed(range(len(number)))]
        return BoxPlaces(places, scales)

    def boxes_of(self, tokens: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """(M, 4, P) token ids to (M, 4) boxes in [0, 1]; NaN where a token is no number.

        Args:
            tokens: at the places of the boxes.
            scales: see `BoxPlaces`.
        """
        ids = torch.as_tensor(self.ids, device=tokens.device)
        values = torch.as_tensor(self.values, device=tokens.device, dtype=torch.float32)
        matches = tokens.unsqueeze(-1) == ids  # (M, 4, P, S)
        digits = torch.where(matches.any(-1), (matches * values).sum(-1), torch.nan)
        return self._relative(torch.where(scales > 0, digits, 0.0), scales)

    def mean_boxes(self, logits: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """The boxes that the probabilities amount to in the mean, (M, 4) in [0, 1]; gradients pass.

        Numbers of several digits are read with the true digits before each, as the model is fed them.

        Args:
            logits: (M, 4, P, V) for the tokens at the places of the boxes.
            scales: see `BoxPlaces`.
        """
        ids = torch.as_tensor(self.ids, device=logits.device)
        values = torch.as_tensor(self.values, device=logits.device, dtype=torch.float32)
        return self._relative((logits[..., ids].float().softmax(-1) * values).sum(-1), scales)

    def _relative(self, digits: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        return ((digits * scales).sum(-1) + self.offset) / GRID


def _number_pieces(tokenizer: PreTrainedTokenizerBase, number: int) -> list[tuple[int, str]]:
    """Tokens (id, text) of a number inside of a box."""
    ids = tokenizer.encode(f"[{number},{number}]", add_special_tokens=False)
    texts = [(token, str(tokenizer.decode([token])).strip()) for token in ids]
    comma = next((place for place, (_, text) in enumerate(texts) if text == ","), 0)
    return [pair for pair in texts[:comma] if pair[1] not in ("[", "")]


def pairwise_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """IoU of (M, 4) boxes with their partners, (M,); 0 where a box is NaN or its corners are swapped."""
    a, known = a.nan_to_num(0.0), ~a.isnan().any(-1)
    side = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    overlap = side.prod(-1)
    area = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(-1) + (b[:, 2:] - b[:, :2]).clamp(min=0).prod(-1)
    return torch.where(known, overlap / (area - overlap).clamp(min=1e-6), 0.0)


@dataclass(frozen=True)
class AnswerLoss:
    """Losses of the labeled tokens of a batch.

    Attributes:
        total: scalar, the sum to minimize: weighted cross-entropy and the boxes' overlap.
        entropy: (L,) cross-entropy of each token, without weight or gradient.
        iou: (M,) of the boxes that the model is most likely to write, the true answer before each of its tokens.
    """

    total: torch.Tensor
    entropy: torch.Tensor
    iou: torch.Tensor | None


def answer_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    settings: LossConfig,
    numbers: NumberTokens | None = None,
    places: torch.Tensor | None = None,
    scales: torch.Tensor | None = None,
) -> AnswerLoss:
    """Sum of the losses of labeled tokens; who calls it divides by the number of tokens of the whole batch.

    The overlap of a box counts as much as its number tokens do at one each, so that the sum does not depend on how
    boxes fall on accumulated batches and processes.

    Args:
        logits: (L, V) for the labeled tokens.
        labels: (L,) those tokens.
        settings: weights.
        numbers: of the tokenizer; needed with `places`.
        places: (M, 4, P) see `BoxPlaces`; None where boxes are not known.
        scales: (M, 4, P) see `BoxPlaces`.
    """
    entropy = functional.cross_entropy(logits, labels, reduction="none")
    total, iou = entropy.sum(), None
    if numbers is not None and places is not None and scales is not None and places.numel():
        written = scales > 0
        if settings.number_weight != 1:
            total = total + (settings.number_weight - 1) * entropy[places[written]].sum()
        true = numbers.boxes_of(labels[places], scales)
        iou = pairwise_iou(numbers.boxes_of(logits.detach()[places].argmax(-1), scales), true)
        if settings.iou_weight:
            overlap = pairwise_iou(numbers.mean_boxes(logits[places], scales), true)
            total = total + settings.iou_weight * (written.sum((1, 2)) * (1 - overlap)).sum()
    return AnswerLoss(total, entropy.detach(), iou)
