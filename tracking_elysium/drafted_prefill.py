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
from transformers.cache_utils import Cache, DynamicCache

_PADDING = -1  # owner of padding
_WORTH = 16  # a beginning of fewer tokens saves nothing: a mask has to be made for what follows it


@dataclass
class Layout:
    """A pass over G sequences of at most T tokens, behind P that are in the cache.

    Attributes:
        ids: (G, T), padded on the right.
        positions: (G, T) position ids.
        mask: additive (G, 1, T, P + T), or None where plain causal attention is right.
        rows: for each question the (sequence, places of its tokens in it, those in the cache included).
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
    cached: int = 0,
) -> Layout:
    """Put groups of `group_by_clip` side by side.

    Args:
        groups: see there.
        tokens: of each question: its prompt, and what is to be read behind it.
        positions: position ids of the same tokens.
        device: of the result.
        dtype: of the mask.
        cached: P, tokens that all questions begin with and that the cache has already, see `Beginning`.
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
        mask = mask[:, :, cached:]
    return Layout(
        ids=torch.tensor([_padded(row, longest, 0)[cached:] for row in ids], device=device),
        positions=torch.tensor([_padded(row, longest, row[-1])[cached:] for row in places], device=device),
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


class Beginning:
    """Keys and values of what the prompts of all clips begin with, up to the first frame: the system message.

    They depend on nothing behind them, so later passes go on from them. (The frame that two clips share stands behind
    other frames the first time: its features are used again, its keys and values would be others.)
    """

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._states: list[tuple[torch.Tensor, torch.Tensor]] = []

    def match(self, prompts: Sequence[Sequence[int]]) -> int:
        """Tokens at the start of every prompt that are here; 0 where it is not worth while."""
        length = min(_common(self._ids, prompt) for prompt in prompts)
        return length if length >= _WORTH else 0

    def filled(self, length: int, rows: int) -> Cache:
        """A cache of `rows` sequences that holds the first `length` tokens."""
        cache = DynamicCache()
        for layer, states in enumerate(self._states if length else ()):
            cache.update(*(state[:, :, :length].expand(rows, -1, -1, -1) for state in states), layer)
        return cache

    def keep(self, prompt: Sequence[int], image_token_id: int, filled: Cache) -> None:
        """Take the beginning of the first sequence of a pass, of which `prompt` is the first question."""
        length = prompt.index(image_token_id) if image_token_id in prompt else 0
        if length >= _WORTH:
            self._ids = list(prompt[:length])
            # Cloned, so that the rest of the pass can be freed.
            self._states = [
                (layer.keys[:1, :, :length].clone(), layer.values[:1, :, :length].clone()) for layer in filled.layers
            ]


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = zip(first, second, strict=False)
    shortest = min(len(first), len(second))
    return next((place for place, (a, b) in enumerate(pairs) if a != b), shortest)


def _padded(row: list[int], length: int, value: int) -> list[int]:
    return row + [value] * (length - len(row))
