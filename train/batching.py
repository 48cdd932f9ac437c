"""Batches planned by length before anything is decoded, in windows of items that readers share out.

A reader is one worker of one process. Window n of the items belongs to reader n modulo their number; in it, items of
similar length become batches, which are decoded one by one. Where a reader is are a window and a batch within it (and
the places of its streams), so that a run goes on in the middle of a pass without reading anything again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from dataset_scripts.streams import StreamCursor

from .collator import ConversationCollator
from .data import ConversationSource, Sample
from .lengths import Encoded, encode

__all__ = ["BrokenItems", "PlannedBatches", "batches_by_length"]

_COUNTED_FROM = 500  # items that the share of broken ones is a share of at least
_LISTED = 50


def batches_by_length(
    lengths: Sequence[int], most_items: int, most_tokens: int | None, rng: np.random.Generator
) -> list[list[int]]:
    """Group items of similar length.

    Args:
        lengths: tokens of each item.
        most_items: items of a batch.
        most_tokens: tokens of a batch, padding included; None is no limit.
        rng: draws the order of the batches, and of items of equal length.

    Returns:
        Batches of positions in `lengths`, each position once.

    Raises:
        ValueError: an item alone is longer than `most_tokens`.
    """
    if most_tokens is not None and max(lengths, default=0) > most_tokens:
        raise ValueError(f"an item has {max(lengths)} tokens, a batch at most {most_tokens}.")
    order = rng.permutation(len(lengths))
    order = order[np.argsort(-np.asarray(lengths)[order], kind="stable")]
    batches: list[list[int]] = []
    for place in order.tolist():
        # The first item of a batch is its longest.
        full = not batches or len(batches[-1]) == most_items
        if full or (most_tokens is not None and (len(batches[-1]) + 1) * lengths[batches[-1][0]] > most_tokens):
            batches.append([])
        batches[-1].append(place)
    return [batches[number] for number in rng.permutation(len(batches))]


@dataclass
class _Planned:
    sample: Sample
    encoded: Encoded


class PlannedBatches(IterableDataset):
    """Collated batches of a stage, without end, for a `DataLoader` with `batch_size=None`.

    Args:
        items: the stage's items.
        collator: makes the batches; its `context` limits single conversations.
        batch_size: most conversations of a batch.
        rank: number of this process, of `items.world_size`.
        workers: workers of this process; 0 reads in the process itself.
    """

    def __init__(
        self, items: ConversationSource, collator: ConversationCollator, batch_size: int, rank: int, workers: int
    ) -> None:
        super().__init__()
        self.items, self.collator, self.batch_size, self.rank = items, collator, batch_size, rank
        self.readers_here = max(1, workers)
        self.readers = items.world_size * self.readers_here
        self._taken = 0
        self._places: dict[int, dict[str, Any]] = {}

    # ----------------------------------------------------------------------------------------------------------
    # where it is
    # ----------------------------------------------------------------------------------------------------------
    def took(self, place: dict[str, Any]) -> None:
        """Note that a batch, with this `info["place"]`, was handed to the trainer."""
        self._taken += 1
        self._places[place["reader"]] = place

    def state(self) -> dict[str, Any]:
        """Where this process is, in plain values."""
        return {"readers": self.readers, "taken": self._taken, "places": list(self._places.values())}

    def go_on(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; the next batches are those that would have come.

        Raises:
            ValueError: there were more or fewer readers then.
        """
        if state["readers"] != self.readers:
            raise ValueError(
                f"the checkpoint was written with {state['readers']} readers (processes x workers), this run has "
                f"{self.readers}; resume with as many, or start the stage anew."
            )
        self._taken = state["taken"]
        self._places = {place["reader"]: place for place in state["places"]}

    # ----------------------------------------------------------------------------------------------------------
    # batches
    # ----------------------------------------------------------------------------------------------------------
    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        # Workers are asked in turn; the turn goes on where it was.
        number = ((worker.id if worker else 0) + self._taken) % self.readers_here
        reader = self.rank * self.readers_here + number
        place = self._places.get(reader, {"window": 0, "batch": 0, "streams": {}})
        cursors = self.items.cursors(reader, self.readers, place["streams"])
        window, done = place["window"], place["batch"]
        while True:
            streams = {str(number): cursor.position for number, cursor in cursors.items()}
            planned, skipped = self.plan(window * self.readers + reader, cursors)
            for batch, rows in enumerate(self._batches(planned, window * self.readers + reader), start=1):
                taken = [planned[row] for row in rows]
                for row in rows:
                    planned[row] = None  # its frames are freed with the batch
                if batch <= done:
                    skipped = []  # they were told with the window's first batch
                    continue
                samples, broken = self._read(taken)
                skipped = skipped + broken
                if samples:
                    where = {"reader": reader, "window": window, "batch": batch, "streams": streams}
                    collated = self.collator(samples, {"place": where})
                    collated["info"]["skipped"] = skipped
                    skipped = []
                    yield collated
            window, done = window + 1, 0

    def plan(self, window: int, cursors: dict[int, StreamCursor]) -> tuple[list[Any], list[str]]:
        """The items of a window with their tokens, and the reasons of those that cannot be used."""
        feed = self.items.stage.feed
        planned: list[Any] = []
        skipped: list[str] = []
        for item in range(window * feed.window, (window + 1) * feed.window):
            try:
                sample = self.items.sample(item, cursors)
                encoded = encode(self.collator.processor, sample.messages)
                self._check_length(sample, encoded)
                planned.append(_Planned(sample, encoded))
            except ValueError as error:
                skipped.append(str(error))
        if not planned:
            raise ValueError(f"none of {feed.window} items can be used:\n" + "\n".join(skipped[:_LISTED]))
        return planned, skipped

    def _check_length(self, sample: Sample, encoded: Encoded) -> None:
        limits = {"the context": self.collator.context, "tokens_per_batch": self.items.stage.feed.tokens_per_batch}
        for name, most in limits.items():
            if most is not None and len(encoded) > most:
                raise ValueError(
                    f"record {sample.id!r}: its conversation has {len(encoded)} tokens, {name} is {most}; show fewer "
                    "frames, keep fewer tokens per frame, or ask fewer questions (turns)."
                )

    def _batches(self, planned: Sequence[_Planned], window: int) -> list[list[int]]:
        rng = np.random.default_rng([self.items.seed, window, 7])
        most_tokens = self.items.stage.feed.tokens_per_batch
        return batches_by_length([len(one.encoded) for one in planned], self.batch_size, most_tokens, rng)

    def _read(self, rows: Sequence[_Planned]) -> tuple[list[dict[str, Any]], list[str]]:
        """Decode; what is broken is left out."""
        samples, broken = [], []
        for row in rows:
            sample = row.sample
            try:
                frames = list(sample.clip.frames)
            except ValueError as error:
                broken.append(str(error))
                continue
            samples.append(
                {
                    "id": sample.id,
                    "frames": frames,
                    "messages": sample.messages,
                    "tasks": sample.tasks,
                    "encoded": row.encoded,
                }
            )
        return samples, broken


@dataclass
class BrokenItems:
    """Counts what was skipped, and stops a run whose data is not what it should be.

    Attributes:
        most: share of items that may be broken.
        seen: items so far.
        reasons: why items were skipped, each with the record's id.
    """

    most: float
    seen: int = 0
    reasons: tuple[str, ...] = ()

    def count(self, used: int, skipped: Sequence[str]) -> BrokenItems:
        """With so many more items used and skipped.

        Raises:
            ValueError: too many are broken; the message lists them.
        """
        found = replace(self, seen=self.seen + used + len(skipped), reasons=(*self.reasons, *skipped))
        if len(found.reasons) > self.most * max(found.seen, _COUNTED_FROM):
            more = len(found.reasons) - _LISTED
            raise ValueError(
                f"{len(found.reasons)} of {found.seen} items cannot be used, more than the share {self.most:g} that "
                "`feed: {max_broken: ...}` allows; correct or remove them:\n"
                + "\n".join(found.reasons[:_LISTED])
                + (f"\n... and {more} more" if more > 0 else "")
            )
        return found
