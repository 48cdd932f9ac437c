"""Runs tracking sessions: many videos and objects through one model, each as soon as it can go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from .exchange import ClipAnswer, ClipRequest
from .session import TrackingSession
from .stats import Stats
from .trajectory import FrameResult

_POLL_S = 0.005  # how often cameras are looked at when none of them has a clip


def track_videos(
    sessions: Iterable[TrackingSession],
    answer: Callable[[list[ClipRequest]], list[ClipAnswer]],
    batch_size: int = 16,
    placed: Callable[[], AbstractContextManager[Any]] = nullcontext,
    partial: bool = False,
) -> Iterator[tuple[int, FrameResult]]:
    """Run many sessions side by side, so that the model sees the clips of many videos and objects together.

    An answerer with `submit` and `advance` (`DraftedAnswerer`) is asked as soon as a session can ask: a finished row
    makes room for the next clip of any video. Any other callable is asked in rounds, one clip of every session each.

    Args:
        sessions: taken lazily, a new one as soon as the rows of the running ones leave room.
        answer: turns clip requests into answers; its `stats`, if it has any, are kept.
        batch_size: objects in flight; a session with more objects than that runs alone.
        placed: makes the context in which the model runs.
        partial: frames are wanted before their clip is answered to the end, as soon as the boxes of all objects are
            decided. Needs an answerer with `so_far`; others give whole clips. Worth its reading of unfinished answers
            only where somebody takes the frames as they come.

    Yields:
        (position of the session, frame) as the frames are decided; per session the same frames in the same order.
    """
    stats = getattr(answer, "stats", None) or Stats()
    partial = partial and hasattr(answer, "so_far")
    queue = enumerate(sessions)
    running: dict[int, _Asked] = {}
    upcoming = next(queue, None)
    try:
        while running or upcoming is not None:
            rows = sum(len(item.session.objects) for item in running.values())
            while upcoming is not None and (not running or rows + len(upcoming[1].objects) <= batch_size):
                running[upcoming[0]] = _Asked(upcoming[1])
                rows += len(upcoming[1].objects)
                upcoming = next(queue, None)
            for item in [item for item in running.values() if item.tickets is None]:
                with stats.timed("decode"):  # a camera that is late holds up nobody else
                    requests = item.session.pending(wait=len(running) == 1)
                if requests is not None:
                    item.ask(requests, answer, placed)
            asked = [item for item in running.values() if item.tickets is not None]
            if not asked:
                with stats.timed("decode"):
                    time.sleep(_POLL_S)
                continue
            _collect(asked, answer, placed)
            for position, item in list(running.items()):
                if item.complete:
                    results = item.accept(stats)
                else:
                    results = item.accept_partial(answer, stats) if partial and item.tickets is not None else []
                if item.session.done:
                    del running[position]
                yield from ((position, result) for result in results)
    finally:  # a reader that stops early, or an error: no thread goes on reading
        for item in running.values():
            item.session.close()


@dataclass
class _Asked:
    """A session with what it has asked: nothing yet (or its camera is late) where `tickets` is None."""

    session: TrackingSession
    tickets: list[Any] | None = None
    requests: list[ClipRequest] = field(default_factory=list)
    answers: dict[Any, ClipAnswer] = field(default_factory=dict)

    def ask(self, requests: list[ClipRequest], answer: Any, placed: Callable) -> None:
        """Pass the questions on, or keep them for the round."""
        if hasattr(answer, "submit"):
            with placed():
                self.tickets = answer.submit(requests)
        else:
            self.tickets, self.requests = list(range(len(requests))), requests

    @property
    def complete(self) -> bool:
        """Whether every question is answered."""
        return self.tickets is not None and all(ticket in self.answers for ticket in self.tickets)

    def accept(self, stats: Stats) -> list[FrameResult]:
        """Give the session its answers, in order; it can ask again then."""
        answers = [self.answers[ticket] for ticket in self.tickets]
        self.tickets, self.requests, self.answers = None, [], {}
        return self._decide(self.session.accept, answers, stats)

    def accept_partial(self, answer: Any, stats: Stats) -> list[FrameResult]:
        """Give the session what there is of its answers, once each of them has begun."""
        with stats.timed("parse"):
            open_tickets = [ticket for ticket in self.tickets if ticket not in self.answers]
            begun = {**self.answers, **answer.so_far(open_tickets)}
        if len(begun) < len(self.tickets):
            return []
        return self._decide(self.session.accept_partial, [begun[ticket] for ticket in self.tickets], stats)

    def _decide(self, accept: Callable, answers: list[ClipAnswer], stats: Stats) -> list[FrameResult]:
        before = self.session.num_decided
        with stats.timed("parse"):
            results = accept(answers)
        stats.frames += len(results)
        stats.boxes += self.session.num_decided - before
        return results


def _collect(asked: list[_Asked], answer: Any, placed: Callable) -> None:
    """Let the model work until there is an answer: one step of it, or a round over all questions."""
    if all(not item.tickets for item in asked):
        return
    if hasattr(answer, "submit"):
        with placed():
            done = dict(answer.advance())
        for item in asked:
            item.answers.update({ticket: done[ticket] for ticket in item.tickets if ticket in done})
        return
    with placed():
        answers = iter(answer([request for item in asked for request in item.requests]))
    for item in asked:
        item.answers = {ticket: next(answers) for ticket in item.tickets}
