"""Runs tracking sessions: many videos and objects through one model, each as soon as it can go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from .exchange import ClipAnswer, ClipRequest
from .protocols import Answer, Counted, QueuedAnswerer
from .session import TrackingSession
from .stats import Stats
from .trajectory import FrameResult

_POLL_S = 0.005  # how often cameras are looked at when none of them has a clip

Context = Callable[[], AbstractContextManager[Any]]


def track_videos(
    sessions: Iterable[TrackingSession],
    answer: Answer | QueuedAnswerer,
    batch_size: int = 16,
    model_context: Context = nullcontext,
    partial: bool = False,
) -> Iterator[tuple[int, FrameResult]]:
    """Run many sessions side by side, so that the model sees the clips of many videos and objects together.

    A `QueuedAnswerer` (`DraftedAnswerer`) is asked as soon as a session can ask: a finished row makes room for the
    next clip of any video. Any other callable is asked in rounds, one clip of every session each.

    Args:
        sessions: taken lazily, a new one as soon as the rows of the running ones leave room.
        answer: turns clip requests into answers; its `stats`, if it has any, are kept.
        batch_size: objects in flight; a session with more objects than that runs alone.
        model_context: makes the context in which the model runs, a device for example.
        partial: frames are wanted before their clip is answered to the end, as soon as the boxes of all objects are
            decided. Needs a `QueuedAnswerer`; others give whole clips. Reading unfinished answers costs time, so it is
            for callers that take the frames as they come.

    Yields:
        (position of the session, frame) as the frames are decided; per session the same frames in the same order.
    """
    stats = answer.stats if isinstance(answer, Counted) else Stats()
    asker: _Steps | _Rounds
    if isinstance(answer, QueuedAnswerer):
        asker = _Steps(answer, model_context)
    else:
        asker = _Rounds(answer, model_context)
    scheduler = _Scheduler(sessions, asker, batch_size, stats)
    try:
        while scheduler.start_sessions():
            scheduler.ask_idle_sessions()
            if not scheduler.asked:  # all wait for their cameras
                with stats.timed("decode"):
                    time.sleep(_POLL_S)
                continue
            scheduler.collect_answers()
            yield from scheduler.decided_frames(partial)
    finally:  # a caller that stops early, or an error: no thread goes on reading
        scheduler.close()


@dataclass
class _Asked:
    """A session with what it has asked: nothing yet (or its camera is late) unless `has_asked`."""

    session: TrackingSession
    has_asked: bool = False
    tickets: list[int] = field(default_factory=list)
    requests: list[ClipRequest] = field(default_factory=list)
    answers: dict[int, ClipAnswer] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every question is answered."""
        return self.has_asked and all(ticket in self.answers for ticket in self.tickets)


class _Scheduler:
    """The sessions that are running.

    Args:
        sessions: all sessions.
        asker: passes their questions on.
        batch_size: objects in flight.
        stats: where to count.
    """

    def __init__(
        self, sessions: Iterable[TrackingSession], asker: _Rounds | _Steps, batch_size: int, stats: Stats
    ) -> None:
        self._queue = enumerate(sessions)
        self._next = next(self._queue, None)
        self._running: dict[int, _Asked] = {}
        self._asker, self._batch_size, self._stats = asker, batch_size, stats

    def start_sessions(self) -> bool:
        """Start sessions while their objects fit the batch; return whether any is running."""
        rows = sum(len(item.session.objects) for item in self._running.values())
        while self._next is not None:
            position, session = self._next
            rows += len(session.objects)
            if self._running and rows > self._batch_size:
                break
            self._running[position] = _Asked(session)
            self._next = next(self._queue, None)
        return bool(self._running)

    def ask_idle_sessions(self) -> None:
        """Let every session that waits for no answer read its next clip and ask about it.

        A camera that is late delays no other video, so it is waited for only where its session is the only one.
        """
        for item in [item for item in self._running.values() if not item.has_asked]:
            with self._stats.timed("decode"):
                requests = item.session.pending(wait=len(self._running) == 1)
            if requests is not None:
                self._asker.ask(item, requests)

    @property
    def asked(self) -> list[_Asked]:
        """The sessions that have asked."""
        return [item for item in self._running.values() if item.has_asked]

    def collect_answers(self) -> None:
        """Let the model work until there is an answer, unless no session had a question (at the end of its video)."""
        if any(item.tickets for item in self.asked):
            self._asker.collect(self.asked)

    def decided_frames(self, partial: bool) -> Iterator[tuple[int, FrameResult]]:
        """Hand the answers to their sessions; yield (position of the session, frame) for what that decides."""
        for position, item in list(self._running.items()):
            results = []
            if item.complete:
                results = self._accept(item)
            elif partial and item.has_asked:
                results = self._accept_partial(item)
            if item.session.done:
                del self._running[position]
            yield from ((position, result) for result in results)

    def _accept(self, item: _Asked) -> list[FrameResult]:
        """Give a session its answers, in order; it can ask again then."""
        answers = [item.answers[ticket] for ticket in item.tickets]
        item.has_asked, item.tickets, item.requests, item.answers = False, [], [], {}
        return self._decide(item.session, item.session.accept, answers)

    def _accept_partial(self, item: _Asked) -> list[FrameResult]:
        """Give a session what there is of its answers, once each of them has begun."""
        with self._stats.timed("parse"):
            unfinished = [ticket for ticket in item.tickets if ticket not in item.answers]
            begun = {**item.answers, **self._asker.so_far(unfinished)}
        if len(begun) < len(item.tickets):
            return []
        return self._decide(item.session, item.session.accept_partial, [begun[ticket] for ticket in item.tickets])

    def _decide(self, session: TrackingSession, accept: Callable, answers: list[ClipAnswer]) -> list[FrameResult]:
        before = session.num_decided
        with self._stats.timed("parse"):
            results = accept(answers)
        self._stats.frames += len(results)
        self._stats.boxes += session.num_decided - before
        return results

    def close(self) -> None:
        """Stop reading all videos."""
        for item in self._running.values():
            item.session.close()


class _Rounds:
    """Asks a callable about the clips of all sessions together."""

    def __init__(self, answer: Answer, model_context: Context) -> None:
        self._answer, self._model_context = answer, model_context

    def ask(self, item: _Asked, requests: list[ClipRequest]) -> None:
        """Keep the questions for the round."""
        item.has_asked, item.tickets, item.requests = True, list(range(len(requests))), requests

    def collect(self, asked: list[_Asked]) -> None:
        """Answer all questions."""
        with self._model_context():
            answers = iter(self._answer([request for item in asked for request in item.requests]))
        for item in asked:
            item.answers = {ticket: next(answers) for ticket in item.tickets}

    def so_far(self, tickets: list[int]) -> dict[int, ClipAnswer]:
        """Return nothing: answers come whole."""
        return {}


class _Steps:
    """Asks a `QueuedAnswerer`."""

    def __init__(self, answer: QueuedAnswerer, model_context: Context) -> None:
        self._answer, self._model_context = answer, model_context

    def ask(self, item: _Asked, requests: list[ClipRequest]) -> None:
        """Pass the questions on."""
        with self._model_context():
            item.tickets = self._answer.submit(requests)
        item.has_asked = True

    def collect(self, asked: list[_Asked]) -> None:
        """Let the answerer do one step."""
        with self._model_context():
            done = dict(self._answer.advance())
        for item in asked:
            item.answers.update({ticket: done[ticket] for ticket in item.tickets if ticket in done})

    def so_far(self, tickets: list[int]) -> dict[int, ClipAnswer]:
        """Return the unfinished answers that have begun."""
        return self._answer.so_far(tickets)
