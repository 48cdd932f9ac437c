"""Guesses of what a tracking answer says next, for the model to check many tokens in one forward pass.

A draft can be wrong, never harmful: `drafted_answering.py` keeps only what the model itself would have said. What
makes drafts good: the text between the numbers is known, boxes change little from frame to frame, and a pass says more
than it decides. After a number that it corrects it has read the rest of the draft too, and said what should stand
there. That was said of a text with a wrong number in it, so it decides nothing, but it is the better guess for the
next pass (Jacobi decoding: Santilli et al., arXiv 2305.10427). Where nothing was said, a caller's hint
(`ClipRequest.expected_boxes`) or the motion so far is the guess; x2 follows x1, and y2 follows y1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .answer_format import AnswerFormat, Cursor, NumberTokens

RULES = ("expected", "steady", "velocity", "hold")  # the order settles ties
_STEADY_BOXES = 5
_ERROR_DECAY = 0.7  # weight of a rule's older errors
_FIRST_TRUST = 0.5
_TRUST_STEP = 0.3
_REPEAT_CONTEXT = 3  # tokens that have to be equal where a repetition is looked for
_MIN_CHANCE = 0.4  # a further frame is drafted while its chance to be reached is at least this
_MIN_FRAMES = 3  # more than are usually decided: what a pass says of the others is the next draft


class Motion:
    """Guesses the next boxes of one object, in the whole numbers of the text, from the last ones.

    Rules compete, and the one with the smallest recent error is used: `"expected"` takes a hint of the caller, where
    there is one, `"hold"` repeats the last box, `"velocity"` moves it on by its last step, `"steady"` by the mean step
    of the last boxes (steps are fractions of a cell, so one step alone says little).

    Args:
        known: (frame_in_clip, (x1, y1, x2, y2)) of boxes known before the answer, oldest first; frames before the
            clip have negative numbers.
        expected: (frame_in_clip, (x1, y1, x2, y2)) that the caller guesses for frames of the answer.
    """

    def __init__(
        self,
        known: Sequence[tuple[int, Sequence[int]]] = (),
        expected: Sequence[tuple[int, Sequence[int]]] = (),
    ) -> None:
        self._boxes: list[tuple[int, tuple[int, ...]]] = [(frame, tuple(box)) for frame, box in known]
        self._expected = dict(expected)
        self._errors = dict.fromkeys(RULES, 0.0)

    def note(self, frame_in_clip: int, box: Sequence[int]) -> None:
        """Take a box of the answer; it replaces one that is known for the same frame."""
        for rule in RULES:
            guess = self._guess_by(rule, frame_in_clip)
            if guess is not None:
                error = sum(abs(round(a) - b) for a, b in zip(guess, box, strict=True))
                self._errors[rule] = _ERROR_DECAY * self._errors[rule] + error
        earlier = [item for item in self._boxes if item[0] < frame_in_clip]
        self._boxes = [*earlier[-_STEADY_BOXES:], (frame_in_clip, tuple(box))]

    def guess(self, frame_in_clip: int, so_far: Sequence[int] = ()) -> list[float] | None:
        """Return the four numbers of a frame, whose first ones may be known; None where no rule has a guess."""
        for rule in sorted(RULES, key=self._errors.__getitem__):
            guess = self._guess_by(rule, frame_in_clip)
            if guess is not None:
                return _shifted(guess, so_far)
        return None

    def _guess_by(self, rule: str, frame_in_clip: int) -> list[float] | None:
        if rule == "expected":
            hint = self._expected.get(frame_in_clip)
            return None if hint is None else [float(number) for number in hint]
        if not self._boxes:
            return None
        last_frame, last = self._boxes[-1]
        back = {"hold": 1, "velocity": 2, "steady": _STEADY_BOXES}[rule]
        first_frame, first = self._boxes[max(len(self._boxes) - back, 0)]
        elapsed = last_frame - first_frame
        ahead = (frame_in_clip - last_frame) / elapsed if elapsed > 0 else 0.0
        return [b + (b - a) * ahead for a, b in zip(first, last, strict=True)]


class Drafter:
    """Drafts one answer and adapts to how much of its drafts was right.

    Args:
        answer_format: the answer's format.
        tokenizer: the processor's.
        known: boxes known before the answer, see `Motion`.
        expected: boxes that the answer may hold, see `Motion`.
    """

    def __init__(
        self,
        answer_format: AnswerFormat,
        tokenizer: Any,
        known: Sequence[tuple[int, Sequence[int]]] = (),
        expected: Sequence[tuple[int, Sequence[int]]] = (),
    ) -> None:
        self.cursor = Cursor(answer_format, tokenizer)
        self._tokens: list[int] = []  # the answer so far
        self._motion = Motion(known, expected)
        self._proposed: dict[tuple[int, int], int] = {}  # (frame_in_clip, coordinate) -> number, see `note_rejected`
        self._proposed_absent: dict[int, bool] = {}  # frame_in_clip -> whether it has no box, see there
        self._box: list[int] = []  # numbers of the frame that is being written
        self._frame = 0  # that frame
        self._trust = _FIRST_TRUST  # estimated chance that a frame comes out as drafted

    def feed(self, token: int) -> None:
        """Take the next token that the answer really has."""
        self._tokens.append(token)
        closed = self.cursor.feed(token)
        if closed is None:
            return
        frame_in_clip, coordinate, number = closed
        if frame_in_clip != self._frame or coordinate != len(self._box):
            self._frame, self._box = frame_in_clip, []
        if coordinate == len(self._box):
            self._box.append(number)
        if len(self._box) == 4:
            self._motion.note(frame_in_clip, self._box)
            self._frame, self._box = frame_in_clip + 1, []

    def draft(self, most: int) -> list[int]:
        """Return up to `most` tokens that may come next; none where nothing can be guessed.

        In the format: as many frames as have a fair chance to be reached, and the text up to the next number. Off the
        format: what followed the last few tokens when the answer had them before, because some models repeat
        themselves.
        """
        if self.cursor.off_format:
            return self._repetition()[:most]
        cursor = self.cursor.copy()
        tokens: list[int] = []
        box = list(self._box) if self._frame == cursor.frame_in_clip else []
        end = cursor.frame_in_clip + self.frames_ahead
        while len(tokens) < most and not (cursor.off_format or cursor.finished):
            following = self._following(cursor, box, end)
            if not following:
                break
            for token in following:
                closed = cursor.feed(token)
                if closed is not None:
                    box = [*box, closed[2]] if closed[1] < 3 else []
            tokens.extend(following)
        return tokens[:most]

    def _following(self, cursor: Cursor, box: Sequence[int], end: int) -> list[int]:
        """Return the tokens to draft at a cursor: the next of a literal, or the rest of a number and what closes it.

        Args:
            cursor: in the format.
            box: numbers of the cursor's frame so far.
            end: frame_in_clip that is not drafted any more.

        Returns:
            No tokens where the draft ends.
        """
        if not cursor.in_number:
            return [cursor.options()[0]]
        if cursor.frame_in_clip >= end or cursor.coordinate != len(box):
            return []
        if cursor.absent_token is not None and self._guess_absent(cursor):
            return [cursor.absent_token]
        guess = self._guess(cursor.frame_in_clip, cursor.coordinate, box)
        number = None if guess is None else cursor.numbers.nearest(guess, cursor.tokens)
        return [] if number is None else [*number[len(cursor.tokens) :], cursor.closing]

    def _guess(self, frame_in_clip: int, coordinate: int, box: Sequence[int]) -> float | None:
        """Return what a number may be, given the numbers before it in its frame."""
        if (frame_in_clip, coordinate) in self._proposed:
            return self._proposed[frame_in_clip, coordinate]
        moved = self._motion.guess(frame_in_clip, box)
        return None if moved is None else moved[coordinate]

    def _guess_absent(self, cursor: Cursor) -> bool:
        """Return whether a frame may be without a box: as the model proposed, else as the frame before it was."""
        frame_in_clip = cursor.frame_in_clip
        return self._proposed_absent.get(frame_in_clip, frame_in_clip - 1 in cursor.absent_frames)

    def note_rejected(self, cursor: Cursor, draft: Sequence[int], proposed: Sequence[int]) -> None:
        """Keep what the model proposed in place of a draft that it did not accept to the end; the next draft uses it.

        Args:
            cursor: at the start of the draft; it is moved along.
            draft: the drafted tokens; none where the whole draft was accepted.
            proposed: for each, the token that the model would have put there, given the draft's tokens before it.
        """
        self._proposed, self._proposed_absent = {}, {}
        drafted = list(cursor.tokens) if cursor.in_number else []
        instead = list(drafted)
        for token, other in zip(draft, proposed, strict=True):
            numbers = cursor.numbers
            if cursor.absent_token is not None:
                self._proposed_absent[cursor.frame_in_clip] = other == cursor.absent_token
            closed = cursor.feed(token)
            if closed is not None:
                self._proposed[closed[:2]] = _proposed_number(numbers, closed[2], drafted, instead)
            if cursor.off_format or cursor.finished:
                return
            if closed is not None or not cursor.in_number or not cursor.tokens:
                drafted, instead = [], []
            else:
                drafted.append(token)
                instead.append(other)

    def _repetition(self) -> list[int]:
        """Return what followed the last few tokens where the answer had them before."""
        last = self._tokens[-_REPEAT_CONTEXT:]
        for end in range(len(self._tokens) - 1, _REPEAT_CONTEXT - 1, -1):
            if self._tokens[end - _REPEAT_CONTEXT : end] == last:
                length = round(self.cursor.answer_format.tokens_per_frame * self.frames_ahead)
                return self._tokens[end : end + length]
        return []

    @property
    def frames_ahead(self) -> int:
        """Frames that a draft holds, the unfinished one included: a further one while it has a fair chance."""
        if self._trust >= 0.99:
            return self.cursor.answer_format.num_frames
        return max(1 + int(math.log(_MIN_CHANCE) / math.log(max(self._trust, 0.01))), _MIN_FRAMES)

    def update_trust(self, drafted: int, accepted: int) -> None:
        """Adapt the length of drafts to the last one, of whose `drafted` tokens `accepted` were right."""
        if not drafted:
            return
        for _ in range(round(accepted / self.cursor.answer_format.tokens_per_frame)):
            self._trust += _TRUST_STEP * (1 - self._trust)
        if accepted < drafted:
            self._trust -= _TRUST_STEP * self._trust


def _shifted(guess: list[float], so_far: Sequence[int]) -> list[float]:
    """Return a guessed box that begins with the numbers `so_far`: x2 follows x1 and y2 follows y1."""
    for coordinate, number in enumerate(so_far):
        shift = number - guess[coordinate]
        guess[coordinate] = number
        if coordinate < 2:
            guess[coordinate + 2] += shift
    return guess


def _proposed_number(numbers: NumberTokens, drafted: int, tokens: list[int], proposed: list[int]) -> int:
    """Return the number that the model meant with `proposed` in place of `tokens`, those of the number `drafted`."""
    if proposed[:1] != tokens[:1] and len(proposed) > 1:  # later digits were said after a first one it did not want
        fitting = numbers.nearest(drafted, tuple(proposed[:1]))
        return drafted if fitting is None else numbers.whole[fitting]
    return numbers.whole.get(tuple(proposed), drafted)
