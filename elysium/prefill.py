"""Prompts laid out for one pass: what several questions about one clip have in common is there once.

The frames stand before the question, so all questions about a clip begin with the same tokens, and those are nearly
all there are. They become one sequence: the common beginning, then the rest of every question side by side, each
hidden from the others by the mask and counted on from the common beginning. So the pass is as many as plain decoding
has for its prompts (one), and costs a clip's frames once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

_PADDING = -1  # owner of padding


@dataclass
class Layout:
    """A pass over G sequences of at most T tokens.

    Attributes:
        ids: (G, T), padded on the right.
        positions: (G, T) position ids.
        mask: additive (G, 1, T, T), or None where plain causal attention is right.
        rows: for each question the (sequence, places of its tokens in it).
        firsts: for each sequence the number of a question that has its frames.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor | None
    rows: list[tuple[int, list[int]]]
    firsts: list[int]


def group_by_clip(
    prompts: Sequence[Sequence[int]], clips: Sequence[object], image_token_id: int
) -> list[tuple[list[int], int]]:
    """Which questions share a beginning.

    Args:
        prompts: token ids of each question.
        clips: what stands for the frames of each; questions with an equal one show the same frames.
        image_token_id: the placeholder, all of which the common beginning must hold.

    Returns:
        (numbers of the questions, tokens in common) per sequence. A question alone has all its tokens in common.
    """
    members: dict[object, list[int]] = {}
    for number, clip in enumerate(clips):
        members.setdefault(clip, []).append(number)
    groups = []
    for numbers in members.values():
        first = prompts[numbers[0]]
        # One token at least is a question's own: the one whose logits say how the answer begins.
        common = min(_common(first, prompts[number]) for number in numbers)
        common = min(common, min(len(prompts[number]) for number in numbers) - 1)
        if len(numbers) > 1 and all(image_token_id not in prompts[number][common:] for number in numbers):
            groups.append((numbers, common))
        else:
            groups.extend(([number], len(prompts[number])) for number in numbers)
    return groups


def lay_out(
    groups: list[tuple[list[int], int]],
    tokens: Sequence[Sequence[int]],
    positions: Sequence[Sequence[int]],
    device: torch.device,
    dtype: torch.dtype,
) -> Layout:
    """Put groups of `group_by_clip` side by side.

    Args:
        groups: see there.
        tokens: of each question: its prompt, and what is to be read behind it.
        positions: position ids of the same tokens.
        device: of the result.
        dtype: of the mask.
    """
    rows: list[tuple[int, list[int]]] = [(0, [])] * len(tokens)
    ids: list[list[int]] = []
    places: list[list[int]] = []
    owners: list[list[int]] = []
    for sequence, (numbers, common) in enumerate(groups):
        first = numbers[0]
        ids.append(list(tokens[first][:common]))
        places.append(list(positions[first][:common]))
        owners.append([0] * common)
        for owner, number in enumerate(numbers, start=1):
            start, rest = len(ids[-1]), tokens[number][common:]
            rows[number] = (sequence, [*range(common), *range(start, start + len(rest))])
            ids[-1].extend(rest)
            places[-1].extend(positions[number][common:])
            owners[-1].extend([owner] * len(rest))
    longest = max(map(len, ids))
    mask = None
    if any(len(numbers) > 1 for numbers, _ in groups):
        mask = _mask(torch.tensor([_padded(row, longest, _PADDING) for row in owners], device=device), dtype)
    return Layout(
        ids=torch.tensor([_padded(row, longest, 0) for row in ids], device=device),
        positions=torch.tensor([_padded(row, longest, 0) for row in places], device=device),
        mask=mask,
        rows=rows,
        firsts=[numbers[0] for numbers, _ in groups],
    )


def _mask(owners: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive (G, 1, T, T): tokens see what is before them and common (owner 0) or their own."""
    order = torch.arange(owners.shape[1], device=owners.device)
    seen = (owners[:, None, :] == 0) | (owners[:, None, :] == owners[:, :, None])
    seen &= order[None, :] <= order[:, None]
    mask = torch.zeros(seen.shape, dtype=dtype, device=owners.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = zip(first, second, strict=False)
    shortest = min(len(first), len(second))
    return next((place for place, (a, b) in enumerate(pairs) if a != b), shortest)


def _padded(row: list[int], length: int, value: int) -> list[int]:
    return row + [value] * (length - len(row))
