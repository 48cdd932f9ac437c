"""The plan of a prefill pass: what several questions about one clip have in common is read once.

The frames stand before the question, so all questions about a clip begin with the same tokens, and those are nearly
all there are. They become one sequence: the common prefix, then the rest of every question side by side, each hidden
from the others by the mask and with positions that count on from the common prefix. So there are as many passes as
plain decoding has for its prompts (one), and a clip's frames are read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers.cache_utils import Cache, DynamicCache

from .drafted_cache import states_of

_PADDING = -1  # owner of padding
_MIN_PREFIX = 16  # a prefix of fewer tokens saves nothing: a mask has to be made for what follows it


@dataclass
class PrefillPlan:
    """A pass over G sequences of at most T tokens, after P that are in the cache.

    Attributes:
        ids: (G, T), padded on the right.
        position_ids: (G, T).
        mask: additive (G, 1, T, P + T), or None where plain causal attention is right.
        token_indices: for each question its sequence and the indices of its tokens there, those in the cache included.
        representatives: for each sequence the number of a question that has its frames.
    """

    ids: torch.Tensor
    position_ids: torch.Tensor
    mask: torch.Tensor | None
    token_indices: list[tuple[int, list[int]]]
    representatives: list[int]


def group_by_clip(
    prompts: Sequence[Sequence[int]], clips: Sequence[object], image_token_id: int
) -> list[tuple[list[int], int]]:
    """Find the questions that share a prefix.

    Args:
        prompts: token ids of each question.
        clips: what identifies the frames of each; questions with an equal one show the same frames.
        image_token_id: the placeholder, all of which the common prefix must hold.

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


def plan_prefill(
    groups: list[tuple[list[int], int]],
    tokens: Sequence[Sequence[int]],
    position_ids: Sequence[Sequence[int]],
    device: torch.device,
    dtype: torch.dtype,
    cached: int = 0,
) -> PrefillPlan:
    """Put the questions of each group of `group_by_clip` into one sequence.

    Args:
        groups: see there.
        tokens: of each question: its prompt, and what is to be read after it.
        position_ids: of the same tokens.
        device: of the result.
        dtype: of the mask.
        cached: P, tokens that all questions begin with and that the cache has already, see `SharedPrefix`.
    """
    token_indices: list[tuple[int, list[int]]] = [(0, [])] * len(tokens)
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    owners: list[list[int]] = []
    for sequence, (numbers, common) in enumerate(groups):
        first = numbers[0]
        ids.append(list(tokens[first][:common]))
        positions.append(list(position_ids[first][:common]))
        owners.append([0] * common)
        for owner, number in enumerate(numbers, start=1):
            start, rest = len(ids[-1]), tokens[number][common:]
            token_indices[number] = (sequence, [*range(common), *range(start, start + len(rest))])
            ids[-1].extend(rest)
            positions[-1].extend(position_ids[number][common:])
            owners[-1].extend([owner] * len(rest))
    longest = max(map(len, ids))
    mask = None
    if any(len(numbers) > 1 for numbers, _ in groups):
        padded = [_padded(sequence, longest, _PADDING) for sequence in owners]
        mask = _mask(torch.tensor(padded, device=device), dtype)[:, :, cached:]
    # Padding repeats a position, so that none is past what the model knows.
    padded_positions = [_padded(sequence, longest, sequence[-1])[cached:] for sequence in positions]
    return PrefillPlan(
        ids=torch.tensor([_padded(sequence, longest, 0)[cached:] for sequence in ids], device=device),
        position_ids=torch.tensor(padded_positions, device=device),
        mask=mask,
        token_indices=token_indices,
        representatives=[numbers[0] for numbers, _ in groups],
    )


def _mask(owners: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the additive mask (G, 1, T, T): tokens see those before them that are common (owner 0) or their own."""
    order = torch.arange(owners.shape[1], device=owners.device)
    seen = (owners[:, None, :] == 0) | (owners[:, None, :] == owners[:, :, None])
    seen &= order[None, :] <= order[:, None]
    mask = torch.zeros(seen.shape, dtype=dtype, device=owners.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


class SharedPrefix:
    """Keys and values of what the prompts of all clips begin with, up to the first frame: the system message.

    They depend on nothing after them, so later passes start from them. (The frame that two clips share comes after
    other frames the first time: its features are used again, its keys and values would be others.)
    """

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._states: list[tuple[torch.Tensor, torch.Tensor]] = []

    def match(self, prompts: Sequence[Sequence[int]]) -> int:
        """Return how many tokens at the start of every prompt are kept here; 0 if too few to be worth using."""
        length = min(_common(self._ids, prompt) for prompt in prompts)
        return length if length >= _MIN_PREFIX else 0

    def new_cache(self, length: int, num_sequences: int) -> Cache:
        """Return a cache of so many sequences that holds the first `length` tokens."""
        cache = DynamicCache()
        for layer, states in enumerate(self._states if length else ()):
            keys, values = (state[:, :, :length].expand(num_sequences, -1, -1, -1) for state in states)
            cache.update(keys, values, layer)
        return cache

    def keep(self, prompt: Sequence[int], image_token_id: int, filled: Cache) -> None:
        """Keep the prefix of the first sequence of a pass, of which `prompt` is the first question."""
        length = prompt.index(image_token_id) if image_token_id in prompt else 0
        if length >= _MIN_PREFIX:
            self._ids = list(prompt[:length])
            # Cloned, so that the rest of the pass can be freed.
            self._states = [
                (keys[:1, :, :length].clone(), values[:1, :, :length].clone())
                for keys, values in map(states_of, filled.layers)
            ]


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the longest common prefix."""
    pairs = zip(first, second, strict=False)
    shortest = min(len(first), len(second))
    return next((index for index, (a, b) in enumerate(pairs) if a != b), shortest)


def _padded(values: list[int], length: int, padding: int) -> list[int]:
    return values + [padding] * (length - len(values))
