"""Guesses of what a tracking answer says next, for the model to check many tokens in one forward pass.

A draft can be wrong, never harmful: `drafted_answering.py` keeps only what the model itself would have said. What
makes drafts good: the text between the numbers is known, boxes change little from frame to frame, and a pass says more
than it decides. Behind a number that it corrects it has read the rest of the draft too, and said what should stand
there. That was said of a text with a wrong number in it, so it decides nothing, but it is the better guess for the
next pass (Jacobi decoding: Santilli et al., arXiv 2305.10427). Where nothing was said, x2 follows x1, y2 follows y1,
and the next frames follow both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .answer_format import AnswerFormat, Cursor, NumberTokens

RULES = ("steady", "velocity", "hold")  # the order settles ties
_STEADY_BOXES = 5
_FORGET = 0.7  # weight of a rule's older misses
_TRUST_AT_FIRST = 0.5
_TRUST_STEP = 0.3
_LOOK_BACK = 3  # tokens that have to be the same where a repetition is looked for
_WORTH = 0.4  # a further frame is drafted while it has this chance to be reached
_FRAMES_AT_LEAST = 3  # more than are decided as a rule: what a pass says of the others is the next draft


class Motion:
    """Guesses the next boxes of one object, in the whole numbers of the text, from the last ones.

    Three rules compete, and the one that missed least lately speaks: `"hold"` repeats the last box, `"velocity"`
    moves it on by its last step, `"steady"` by the mean step of the last boxes (steps are fractions of a cell, so one
    step alone says little).

    Args:
        known: (row, (x1, y1, x2, y2)) of boxes known before the answer, oldest first; rows count frames of the clip
            from 0, earlier frames have negative ones.
    """

    def __init__(self, known: Sequence[tuple[int, Sequence[int]]] = ()) -> None:
        self._boxes: list[tuple[int, tuple[int, ...]]] = [(row, tuple(box)) for row, box in known]
        self._misses = dict.fromkeys(RULES, 0.0)

    def note(self, row: int, box: Sequence[int]) -> None:
        """Take a box of the answer; one of a row that is already known replaces it."""
        for rule in RULES:
            guess = self._by(rule, row)
            if guess is not None:
                miss = sum(abs(round(a) - b) for a, b in zip(guess, box, strict=True))
                self._misses[rule] = _FORGET * self._misses[rule] + miss
        self._boxes = [item for item in self._boxes if item[0] < row][-_STEADY_BOXES:] + [(row, tuple(box))]

    def guess(self, row: int, so_far: Sequence[int] = ()) -> list[float] | None:
        """The four numbers of a frame, of which some may be there already; None as long as nothing is known."""
        best = min(RULES, key=lambda rule: (self._misses[rule], RULES.index(rule)))
        guess = self._by(best, row)
        if guess is None:
            return None
        for place, number in enumerate(so_far):
            shift = number - guess[place]
            guess[place] = number
            if place < 2:
                guess[place + 2] += shift
        return guess

    def _by(self, rule: str, row: int) -> list[float] | None:
        if not self._boxes:
            return None
        last_row, last = self._boxes[-1]
        back = {"hold": 1, "velocity": 2, "steady": _STEADY_BOXES}[rule]
        first_row, first = self._boxes[max(len(self._boxes) - back, 0)]
        ahead = (row - last_row) / (last_row - first_row) if last_row > first_row else 0.0
        return [b + (b - a) * ahead for a, b in zip(first, last, strict=True)]


class Drafter:
    """Drafts one answer and learns from what became of the drafts.

    Args:
        layout: the answer's format.
        tokenizer: the processor's.
        known: boxes known before the answer, see `Motion`.
    """

    def __init__(self, layout: AnswerFormat, tokenizer: Any, known: Sequence[tuple[int, Sequence[int]]] = ()) -> None:
        self.cursor = Cursor(layout, tokenizer)
        self._said: list[int] = []
        self._motion = Motion(known)
        self._heard: dict[tuple[int, int], int] = {}  # (row, coordinate) -> number the model said of a wrong draft
        self._box: list[int] = []  # numbers of the frame under way
        self._row = 0
        self._trust = _TRUST_AT_FIRST  # that a frame comes out as drafted

    def feed(self, token: int) -> None:
        """Take the next token that the answer really has."""
        self._said.append(token)
        closed = self.cursor.feed(token)
        if closed is None:
            return
        row, coordinate, number = closed
        if row != self._row or coordinate != len(self._box):
            self._row, self._box = row, []
        if coordinate == len(self._box):
            self._box.append(number)
        if len(self._box) == 4:
            self._motion.note(row, self._box)
            self._row, self._box = row + 1, []

    def draft(self, most: int) -> list[int]:
        """Up to `most` tokens that may come next; empty where nothing can be guessed.

        As many frames as have a fair chance to be reached, and the text up to the next number. Outside the format what
        followed when the model said the same last: some models go round in circles.
        """
        if self.cursor.lost:
            return self._repeat()[:most]
        cursor, frames, tokens = self.cursor.copy(), self.frames_ahead, []
        box = list(self._box) if self._row == cursor.place // 4 else []
        last = cursor.place // 4 + frames
        while len(tokens) < most and not (cursor.lost or cursor.finished):
            if cursor.in_number:
                row, coordinate = cursor.place // 4, cursor.place % 4
                if row >= last or coordinate != len(box):
                    break
                guess = self._guess(row, coordinate, box)
                number = None if guess is None else cursor.numbers.nearest(guess, cursor.tokens)
                if number is None:
                    break
                rest = [*number[len(cursor.tokens) :], cursor.closing]
            else:
                rest = [cursor.options()[0]]
            for token in rest:
                closed = cursor.feed(token)
                if closed is not None:
                    box = [*box, closed[2]] if closed[1] < 3 else []
            tokens.extend(rest)
        return tokens[:most]

    def _guess(self, row: int, coordinate: int, box: Sequence[int]) -> float | None:
        """What a number may be, behind those of `box` in its frame."""
        if (row, coordinate) in self._heard:
            return self._heard[row, coordinate]
        moved = self._motion.guess(row, box)
        return None if moved is None else moved[coordinate]

    def hear(self, cursor: Cursor, draft: Sequence[int], said: Sequence[int]) -> None:
        """Note what the model said at the places of a draft that it did not accept to the end.

        Args:
            cursor: where the draft began; it is moved along.
            draft: the drafted tokens.
            said: for each, the token that the model would have put there, behind the draft's tokens before it.
        """
        self._heard = {}
        drafted = list(cursor.tokens) if cursor.in_number else []
        instead = list(drafted)
        for token, other in zip(draft, said, strict=True):
            numbers = cursor.numbers
            closed = cursor.feed(token)
            if closed is not None:
                self._heard[closed[:2]] = _heard(numbers, closed[2], drafted, instead)
            if cursor.lost or cursor.finished:
                return
            if closed is not None or not cursor.in_number or not cursor.tokens:
                drafted, instead = [], []
            else:
                drafted.append(token)
                instead.append(other)

    def _repeat(self) -> list[int]:
        """What followed the last few tokens where they stood before."""
        last = self._said[-_LOOK_BACK:]
        for end in range(len(self._said) - 1, _LOOK_BACK - 1, -1):
            if self._said[end - _LOOK_BACK : end] == last:
                return self._said[end : end + round(self.cursor.layout.tokens_per_frame * self.frames_ahead)]
        return []

    @property
    def frames_ahead(self) -> int:
        """Frames, with the one under way, that a draft holds: a further one while it has a fair chance."""
        if self._trust >= 0.99:
            return self.cursor.layout.num_frames
        return max(1 + int(math.log(_WORTH) / math.log(max(self._trust, 0.01))), _FRAMES_AT_LEAST)

    def learn(self, drafted: int, accepted: int) -> None:
        """Note that `accepted` of `drafted` tokens were right, before they are fed."""
        if not drafted:
            return
        for _ in range(round(accepted / self.cursor.layout.tokens_per_frame)):
            self._trust += _TRUST_STEP * (1 - self._trust)
        if accepted < drafted:
            self._trust -= _TRUST_STEP * self._trust


def _heard(numbers: NumberTokens, drafted: int, tokens: list[int], said: list[int]) -> int:
    """The number that the model meant where it said `said` at the places of the tokens of the number `drafted`."""
    if said[:1] != tokens[:1] and len(said) > 1:  # later digits were said behind a first one that it did not want
        fitting = numbers.nearest(drafted, tuple(said[:1]))
        return drafted if fitting is None else numbers.whole[fitting]
    return numbers.whole.get(tuple(said), drafted)
