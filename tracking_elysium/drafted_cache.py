"""A key-value cache whose rows have lengths of their own.

Rows of a batch accept different numbers of drafted tokens. A cache of one common length would have to leave holes
where a row rejected tokens, or to move memory to close them; the library's own also copies itself to grow by a token.
Here every row writes after its own last token into a buffer that is there already, and the next pass overwrites what
it rejects: nothing is moved, nothing stays masked, and a row can leave or join while others go on. The price is a
mask of shape (B, 1, T, length), which `sdpa` and `eager` attention take. A slot is the buffer of one row.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_STEP = 64  # buffers grow by so many positions


def states_of(layer: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Return keys and values (B, heads, T, width) of one layer of a cache.

    Raises:
        TypeError: the layer holds none: nothing was written yet, or it is no layer of attention.
    """
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    if not isinstance(keys, torch.Tensor) or not isinstance(values, torch.Tensor):
        raise TypeError(f"a {type(layer).__name__} holds no keys and values; the drafted decoder needs attention.")
    return keys, values


class RowCache(Cache):
    """Keys and values of rows that come and go.

    Args:
        num_layers: layers of the language model.

    Attributes:
        lengths: tokens in each slot in use; slots in use are the first ones.
        num_slots: slots that there are.
        capacity: positions of a slot.
        slots: (B, 1) slots that the pass under way writes to.
        positions: (B, T) positions that it writes to.
        moves: times that the buffers were made anew, elsewhere in memory.
    """

    def __init__(self, num_layers: int) -> None:
        self._row_layers = [_RowLayer(self) for _ in range(num_layers)]
        super().__init__(layers=list(self._row_layers))
        self.num_slots = self.capacity = 0
        self.lengths: list[int] = []
        self.slots = torch.zeros(0, 1, dtype=torch.long)
        self.positions = torch.zeros(0, 0, dtype=torch.long)
        self.count = 0  # B
        self.width = 0  # positions that the pass under way may look at
        self.moves = 0

    def reserve(self, num_slots: int, capacity: int) -> None:
        """Make room for so many slots of `capacity` positions; what is there stays."""
        if num_slots > self.num_slots or capacity > self.capacity:
            self.num_slots = max(num_slots, self.num_slots)
            self.capacity = max(-(-capacity // _STEP) * _STEP, self.capacity)
            self.moves += 1
            for layer in self._row_layers:
                layer.grow()

    def add(self, source: Cache, source_row: int, positions: torch.Tensor) -> int:
        """Copy a row from a cache of the library.

        Args:
            source: its layers hold keys and values (B, heads, T, width).
            source_row: the row of it.
            positions: (n,) indices in [0, T), the tokens to take, in order.

        Returns:
            The slot of the new row.
        """
        slot = len(self.lengths)
        for mine, theirs in zip(self._row_layers, source.layers, strict=True):
            keys, values = states_of(theirs)
            mine.take(slot, keys[source_row], values[source_row], positions)
        self.lengths.append(len(positions))
        return slot

    def remove(self, slot: int) -> None:
        """Free a slot; the last row moves into it."""
        last = len(self.lengths) - 1
        if slot != last:
            for layer in self._row_layers:
                layer.move(last, slot, self.lengths[last])
            self.lengths[slot] = self.lengths[last]
        self.lengths.pop()

    def begin(
        self, num_tokens: int, device: torch.device, dtype: torch.dtype, num_rows: int | None = None
    ) -> torch.Tensor:
        """Prepare a pass that appends `num_tokens` to every row.

        Args:
            num_tokens: T.
            device: of the pass.
            dtype: of the mask.
            num_rows: B, for a pass whose shape must not depend on what the cache holds: at least the slots in use, the
                spare rows being free slots, with all positions there are. None: the slots in use and the positions up
                to the longest.

        Returns:
            Additive mask (B, 1, T, length): each token sees its row up to itself.
        """
        starts = self.lengths + [0] * ((num_rows or 0) - len(self.lengths))
        self.reserve(max(self.num_slots, len(starts)), max(self.lengths) + num_tokens)
        self.slots = torch.arange(len(starts), device=device)[:, None]
        self.positions = torch.tensor(starts, device=device)[:, None] + torch.arange(num_tokens, device=device)
        self.count = len(starts)
        self.width = self.capacity if num_rows else max(self.lengths) + num_tokens
        hidden = torch.arange(self.width, device=device) > self.positions[:, None, :, None]
        return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, torch.finfo(dtype).min)


class _RowLayer(CacheLayerMixin):
    """One layer's buffers, (slots, heads, capacity, width), zero where nothing was written yet."""

    is_sliding = False  # asked by the library for every layer of a cache

    def __init__(self, cache: RowCache) -> None:
        super().__init__()
        self._cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make buffers for states (..., heads, T, width); zeros, because a masked NaN would still be a NaN."""
        for name, states in (("keys", key_states), ("values", value_states)):
            heads, width = states.shape[-3], states.shape[-1]
            setattr(self, name, states.new_zeros(self._cache.num_slots, heads, self._cache.capacity, width))
        self.is_initialized = True

    def grow(self) -> None:
        """Follow the cache's capacity."""
        if self.is_initialized:
            old = states_of(self)
            self.lazy_initialization(*old)
            for states, known in zip(states_of(self), old, strict=True):
                states[: len(known), :, : known.shape[2]] = known

    def take(self, slot: int, keys: torch.Tensor, values: torch.Tensor, positions: torch.Tensor) -> None:
        """Copy tokens of one row, (heads, T, width), to the start of a slot."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        positions = positions.to(keys.device)
        for states, given in zip(states_of(self), (keys, values), strict=True):
            states[slot, :, : len(positions)] = given.index_select(1, positions)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first tokens of a slot to another."""
        for states in states_of(self):
            states[target, :, :length] = states[source, :, :length]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write states (B, heads, T, width) after each row; return all that the pass may look at."""
        cache = self._cache
        slots, positions = cache.slots.to(key_states.device), cache.positions.to(key_states.device)
        keys, values = states_of(self)
        keys[slots, :, positions] = key_states.transpose(1, 2)
        values[slots, :, positions] = value_states.transpose(1, 2)
        return keys[: cache.count, :, : cache.width], values[: cache.count, :, : cache.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of what `update` returns."""
        return self._cache.width, 0

    def get_seq_length(self) -> int:
        """Return the tokens of the longest row."""
        return max(self._cache.lengths, default=0)

    def get_max_length(self) -> int:
        """Return -1: there is no bound."""
        return -1
