"""The state of one answer in drafted decoding: what is certain, what is drafted, what a pass of the model decides."""

from __future__ import annotations

from dataclasses import dataclass, field

from .answer_format import Cursor
from .drafted_guesses import Drafter
from .exchange import ClipRequest

Chosen = tuple[int, float, float | None]  # token, its log-probability, that of the token for a frame without a box


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
        absent_tokens: for each of these the token among them that says that the frame has no box, see `Cursor`.
        absent_logprobs: frame_in_clip -> log-probability of that token where it was to be chosen or not.
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
    absent_tokens: list[int | None] = field(default_factory=list)
    absent_logprobs: dict[int, float] = field(default_factory=dict)
    position: int = 0
    finished: bool = False

    def prepare(self) -> None:
        """Draft what may follow the pending tokens; cut it after the last token that the model has to choose."""
        room = self.limit - len(self.ids) - 1  # every pass gives one token more than it accepts
        self.draft = self.drafter.draft(room) if self.drafter is not None and room > 0 else []
        self.options, self.absent_tokens = self._options()
        if self.constrained:
            chosen = [step for step, options in enumerate(self.options) if len(options) != 1]
            self.draft = self.draft[: chosen[-1]]
            self.options = self.options[: chosen[-1] + 1]

    def choices(self) -> list[tuple[int, tuple[int, ...], int | None]]:
        """Return what the model has to choose in the next pass.

        Returns:
            (index of the token whose logits decide, counted in the row's tokens of the pass; tokens to choose from or
            () for any; the one that says that the frame has no box, if any).
        """
        last_pending = len(self.pending) - 1
        steps = zip(self.options, self.absent_tokens, strict=False)
        return [(last_pending + step, *choice) for step, choice in enumerate(steps) if len(choice[0]) != 1]

    def _options(self) -> tuple[list[tuple[int, ...]], list[int | None]]:
        """Return `options` and `absent_tokens` along the draft."""
        if not self.constrained:
            return [()] * (len(self.draft) + 1), [None] * (len(self.draft) + 1)
        cursor, options, absent = self.drafter.cursor.copy(), [], []
        for token in [*self.draft, None]:
            if not cursor.finished:
                options.append(cursor.options())
                absent.append(cursor.presence_token)
            if token is not None:
                cursor.feed(token)
        return options, absent

    def settle(self, chosen: dict[int, Chosen]) -> tuple[int, int]:
        """Take the tokens that the model chose in a pass.

        Args:
            chosen: index of `choices` -> what was chosen, for every choice.

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

    def _with_forced_tokens(self, chosen: dict[int, Chosen], last_pending: int) -> list[Chosen]:
        """Return the tokens along the draft: one without alternative is certain, the others were chosen."""
        return [
            (options[0], 0.0, None) if len(options) == 1 else chosen[last_pending + step]
            for step, options in enumerate(self.options)
        ]

    def _take_until_wrong(self, answers: list[Chosen]) -> int:
        """Take tokens up to the first that differs from the draft: what follows it was read after a wrong token.

        Returns:
            The number of tokens taken.
        """
        self.pending = []
        for step, (token, logprob, absent_logprob) in enumerate(answers):
            if absent_logprob is not None:
                self.absent_logprobs[self.drafter.cursor.frame_in_clip] = absent_logprob
            self.take(token, logprob)
            if self.finished or step >= len(self.draft) or token != self.draft[step]:
                break
        return len(self.pending)

    def _teach_drafter(self, before: Cursor | None, answers: list[Chosen], accepted: int) -> None:
        """Tell the drafter how far its draft was right, and what the model said in place of the rest."""
        if self.drafter is None or before is None:
            return
        self.drafter.update_trust(len(self.draft), accepted)
        proposed = [token for token, *_ in answers[: len(self.draft)]] if accepted < len(self.draft) else []
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
