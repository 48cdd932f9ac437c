"""One answer under way: what is certain, what is drafted, and what the model's pass makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .drafted_guesses import Drafter
from .exchange import ClipRequest


@dataclass(eq=False)
class AnswerRow:
    """The state of one answer.

    Attributes:
        ticket: number under which it was asked for.
        request: the question.
        prompt: token ids of the question, placeholders of frames included.
        limit: tokens that the answer may have.
        drafter: guesses what comes next; None where the answer is free text.
        constrained: only tokens that the format allows are taken.
        stops: token ids that end an answer.
        ids: the answer so far.
        logprobs: natural log-probability of each of its tokens.
        pending: tokens that are certain but not in the cache yet; the prompt at first.
        draft: tokens that may follow them.
        along: what may stand in the place of each drafted token and of the one behind them; () for anything.
        position: position id of the first pending token.
        finished: nothing comes any more.
    """

    ticket: int
    request: ClipRequest
    prompt: list[int]
    limit: int
    drafter: Drafter | None
    constrained: bool
    stops: set[int]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    along: list[tuple[int, ...]] = field(default_factory=list)
    position: int = 0
    finished: bool = False

    def prepare(self) -> None:
        """Draft what may follow the pending tokens; cut behind the last token that has to be asked for."""
        room = self.limit - len(self.ids) - 1  # every pass gives one token more than it accepts
        self.draft = self.drafter.draft(room) if self.drafter is not None and room > 0 else []
        self.along = self._along()
        if self.constrained:
            asked = [place for place, options in enumerate(self.along) if len(options) != 1]
            self.draft = self.draft[: asked[-1]]
            self.along = self.along[: asked[-1] + 1]

    def questions(self) -> list[tuple[int, tuple[int, ...]]]:
        """(place in the row's tokens, tokens to choose from or () for any) of every logits row to be read."""
        before = len(self.pending) - 1
        return [(before + place, options) for place, options in enumerate(self.along) if len(options) != 1]

    def _along(self) -> list[tuple[int, ...]]:
        """What may stand in the place of each drafted token and of the one behind them; () for anything."""
        if not self.constrained:
            return [()] * (len(self.draft) + 1)
        cursor, along = self.drafter.cursor.copy(), []
        for token in self.draft:
            along.append(cursor.options())
            cursor.feed(token)
        return along if cursor.finished else [*along, cursor.options()]

    def settle(self, said: dict[int, tuple[int, float]]) -> tuple[int, int]:
        """Take what the model said.

        Args:
            said: place in the row's tokens -> (token, its log-probability), for every question.

        Returns:
            Tokens of the pass that stay in the cache, and drafted tokens that were right.
        """
        before, taken, self.pending = len(self.pending), 0, []
        start = None if self.drafter is None else self.drafter.cursor.copy()
        answers = [
            (options[0], 0.0) if len(options) == 1 else said[before - 1 + place]
            for place, options in enumerate(self.along)
        ]
        for place, (token, logprob) in enumerate(answers):
            self.take(token, logprob)
            taken += 1
            if self.finished or place >= len(self.draft) or token != self.draft[place]:
                break
        accepted = sum(a == b for a, b in zip(self.ids[-taken:], self.draft, strict=False))
        if self.drafter is not None:
            self.drafter.learn(len(self.draft), accepted)
            heard = [token for token, _ in answers[: len(self.draft)]] if accepted < len(self.draft) else []
            self.drafter.hear(start, self.draft[: len(heard)], heard)
        kept = before + taken - 1
        self.pending = self.pending[-1:]
        self.position += kept
        self.skip()
        return kept, accepted

    def take(self, token: int, logprob: float) -> None:
        """Add one token to the answer."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.pending.append(token)
        if self.drafter is not None:
            self.drafter.feed(token)
        self.finished = token in self.stops or len(self.ids) >= self.limit

    def skip(self) -> None:
        """In constrained mode add the tokens that have no alternative."""
        while self.constrained and not self.finished and len(options := self.drafter.cursor.options()) == 1:
            self.take(options[0], 0.0)
