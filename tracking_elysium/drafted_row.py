"""The state of one answer in drafted decoding: what is certain, what is drafted, what a pass of the model decides."""

from __future__ import annotations

from dataclasses import dataclass, field

from .answer_format import Cursor
from .drafted_guesses import Drafter
from .exchange import ClipRequest


@dataclass(eq=False)
class AnswerRow:
    """One answer, which is one row of the batch while it is being decoded.

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
        options: for each drafted token and for the one after them, the tokens to choose from; () for any token.
        position: position id of the first pending token.
        finished: the answer is complete.
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
    options: list[tuple[int, ...]] = field(default_factory=list)
    position: int = 0
    finished: bool = False

    def prepare(self) -> None:
        """Draft what may follow the pending tokens; cut it after the last token that the model has to choose."""
        room = self.limit - len(self.ids) - 1  # every pass gives one token more than it accepts
        self.draft = self.drafter.draft(room) if self.drafter is not None and room > 0 else []
        self.options = self._options()
        if self.constrained:
            chosen = [step for step, options in enumerate(self.options) if len(options) != 1]
            self.draft = self.draft[: chosen[-1]]
            self.options = self.options[: chosen[-1] + 1]

    def choices(self) -> list[tuple[int, tuple[int, ...]]]:
        """Return what the model has to choose in the next pass.

        Returns:
            (index of the token whose logits decide, counted in the row's tokens of the pass; tokens to choose from or
            () for any).
        """
        last_pending = len(self.pending) - 1
        return [(last_pending + step, options) for step, options in enumerate(self.options) if len(options) != 1]

    def _options(self) -> list[tuple[int, ...]]:
        """Return the tokens to choose from for each drafted token and for the one after them; () for any."""
        if not self.constrained:
            return [()] * (len(self.draft) + 1)
        cursor, options = self.drafter.cursor.copy(), []
        for token in self.draft:
            options.append(cursor.options())
            cursor.feed(token)
        return options if cursor.finished else [*options, cursor.options()]

    def settle(self, chosen: dict[int, tuple[int, float]]) -> tuple[int, int]:
        """Take the tokens that the model chose in a pass.

        Args:
            chosen: index of `choices` -> (token, its log-probability), for every choice.

        Returns:
            Tokens of the pass that stay in the cache, and drafted tokens that were right.
        """
        last_pending = len(self.pending) - 1
        answers = self._with_forced_tokens(chosen, last_pending)
        before = None if self.drafter is None else self.drafter.cursor.copy()
        taken = self._take_until_wrong(answers)
        accepted = sum(a == b for a, b in zip(self.ids[-taken:], self.draft, strict=False))
        self._teach_drafter(before, answers, accepted)
        # The last token taken was never an input of the pass, so it is not in the cache.
        kept = last_pending + taken
        self.pending = self.pending[-1:]
        self.position += kept
        self.take_forced()
        return kept, accepted

    def _with_forced_tokens(self, chosen: dict[int, tuple[int, float]], last_pending: int) -> list[tuple[int, float]]:
        """Return (token, log-probability) along the draft: a token without alternative is certain, others chosen."""
        return [
            (options[0], 0.0) if len(options) == 1 else chosen[last_pending + step]
            for step, options in enumerate(self.options)
        ]

    def _take_until_wrong(self, answers: list[tuple[int, float]]) -> int:
        """Take tokens up to the first that differs from the draft: what follows it was read after a wrong token.

        Returns:
            The number of tokens taken.
        """
        self.pending = []
        for step, (token, logprob) in enumerate(answers):
            self.take(token, logprob)
            if self.finished or step >= len(self.draft) or token != self.draft[step]:
                break
        return len(self.pending)

    def _teach_drafter(self, before: Cursor | None, answers: list[tuple[int, float]], accepted: int) -> None:
        """Tell the drafter how far its draft was right, and what the model said in place of the rest."""
        if self.drafter is None:
            return
        self.drafter.update_trust(len(self.draft), accepted)
        proposed = [token for token, _ in answers[: len(self.draft)]] if accepted < len(self.draft) else []
        self.drafter.note_rejected(before, self.draft[: len(proposed)], proposed)

    def take(self, token: int, logprob: float) -> None:
        """Add one token to the answer."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.pending.append(token)
        if self.drafter is not None:
            self.drafter.feed(token)
        self.finished = token in self.stops or len(self.ids) >= self.limit

    def take_forced(self) -> None:
        """In constrained mode add the tokens that have no alternative."""
        while self.constrained and not self.finished and len(options := self.drafter.cursor.options()) == 1:
            self.take(options[0], 0.0)
