"""The answer format: what a tracking answer looks like in tokens, and where in it an unfinished answer is.

An answer about F frames is 4F numbers with fixed text between them. `AnswerFormat` holds both as the tokens that the
processor's own text becomes after its own prompt, so nothing here knows how a box is written. Any tokenizer works that
keeps numbers apart from the text around them: one that splits digits, merges them, or merges `],`.
`Cursor` follows an answer token by token, whatever the model says, and knows which tokens the format allows next.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .protocols import Processor

_NUMBER = re.compile(r"-?\d+")
_FEW_DIGITS = re.compile(r"-?\d{1,6}")  # a model may write digits without end
_SAMPLE_BOX = (0.345, 0.405, 0.515, 0.675)  # a box whose text does not occur in a frame's label
# A box too many is put right in the next frame, a false `[]` can end a track: none is written only with certainty
# (docs/LOG.md, 2026-11-25).
_LOG_ABSENT = math.log(0.8)
_BOXES_PER_TEXT = 100  # boxes in one text when numbers are tokenized


@dataclass(frozen=True)
class NumberTokens:
    """The numbers that one coordinate may be, as tokens.

    Attributes:
        tokens: number -> its tokens.
        options: first tokens of a number -> tokens that may come next in it, ascending.
        whole: tokens -> number.
    """

    tokens: dict[int, tuple[int, ...]]
    options: dict[tuple[int, ...], tuple[int, ...]]
    whole: dict[tuple[int, ...], int]

    @classmethod
    def of(cls, tokens: dict[int, tuple[int, ...]]) -> NumberTokens:
        """Index the numbers by their first tokens."""
        following: dict[tuple[int, ...], set[int]] = {}
        for ids in tokens.values():
            for length in range(len(ids)):
                following.setdefault(ids[:length], set()).add(ids[length])
        options = {start: tuple(sorted(ids)) for start, ids in following.items()}
        return cls(tokens, options, {ids: number for number, ids in tokens.items()})

    def nearest(self, wanted: float, start: tuple[int, ...] = ()) -> tuple[int, ...] | None:
        """Return the tokens of the number nearest to `wanted` among those that begin with `start`; None if none."""
        if not start:  # the numbers have no gaps
            return self.tokens[min(max(round(wanted), min(self.tokens)), max(self.tokens))]
        fitting = [number for number, ids in self.tokens.items() if ids[: len(start)] == start]
        return self.tokens[min(fitting, key=lambda number: (abs(number - wanted), number))] if fitting else None


@dataclass(frozen=True)
class AnswerFormat:
    """The tokens of an answer about F frames.

    Attributes:
        num_frames: F.
        literals: 4E + 1 token sequences: before the first number, between the numbers, after the last (with the token
            that ends the answer). E is F, or more for following models that do not stop after F frames. Literal i is
            followed by coordinate i % 4 of frame i // 4 (frame_in_clip, from 0).
        coordinates: the numbers that x1, y1, x2 and y2 may be.
        absent: `[]` may stand in place of a box in every frame but the first. It is written as the literal before the
            box and then, at once, the literal after it.
        grounds: the first frame's box is looked for by words; it has to be written, but how probable `[]` would have
            been there is known, too.
    """

    num_frames: int
    literals: tuple[tuple[int, ...], ...]
    coordinates: tuple[NumberTokens, ...]
    absent: bool = False
    grounds: bool = False

    @property
    def most_tokens(self) -> int:
        """Tokens of the longest answer that has every label once, its end included."""
        longest = sum(max(map(len, numbers.whole)) for numbers in self.coordinates)
        return sum(map(len, self.literals)) + len(self.literals) // 4 * longest

    @property
    def tokens_per_frame(self) -> float:
        """Tokens of a frame with long numbers, on average."""
        return self.most_tokens / (len(self.literals) // 4)

    def expected_literal(self, index: int) -> int:
        """Return the index of the literal that the format wants at `index`: after frame F it is the last one."""
        return len(self.literals) - 1 if index == 4 * self.num_frames else index


class AnswerFormats:
    """Answer formats of a processor, by number of frames.

    Args:
        processor: see `Processor`.
        stops: token ids that end an answer.
    """

    def __init__(self, processor: Processor, stops: set[int]) -> None:
        self._processor, self._stops = processor, stops
        self._coordinates: tuple[NumberTokens, ...] | None = None
        self._formats: dict[tuple[int, int, bool], AnswerFormat | None] = {}
        self._usable = bool(stops)
        self._absent: bool | None = None if processor.absent_boxes else False  # None: not looked at yet

    def of(self, num_frames: int, spare: int = 0, grounds: bool = False) -> AnswerFormat | None:
        """Return the format of an answer about F frames, with labels for `spare` more; `grounds`: by words.

        Returns:
            None for a tokenizer that joins numbers with the text around them.
        """
        key = (num_frames, spare, grounds)
        if key not in self._formats:
            made = self._make(num_frames, num_frames + spare) if self._usable else None
            self._formats[key] = None if made is None else replace(made, grounds=grounds and made.absent)
        return self._formats[key]

    def _make(self, num_frames: int, num_labels: int) -> AnswerFormat | None:
        if self._coordinates is None:
            self._coordinates = self._read_numbers()
        if self._coordinates is None:
            self._usable = False
            return None
        parts = self._read([(34, 40, 51, 67)] * num_labels)
        if parts is None:
            return None
        literals = [tuple(literal) for literal in parts[0]]
        end = next((index for index, token in enumerate(literals[-1]) if token in self._stops), None)
        tail = (*literals[-1], min(self._stops)) if end is None else literals[-1][: end + 1]
        if self._absent is None:
            self._absent = self._can_write_absence()
        return AnswerFormat(num_frames, (*literals[:-1], tail), self._coordinates, self._absent)

    def _can_write_absence(self) -> bool:
        """Return whether `[]` becomes the tokens that end one literal and begin the next; warn if it does not.

        Looked at where it stands between boxes, after another one and at the end.
        """
        box, absent = (34, 40, 51, 67), ()
        shown = [box, absent, absent, box, absent]
        written, parts = _write(self._processor, shown), self._read([box] * len(shown))
        tokens = None if written is None or parts is None else _tokens(self._processor, written[0])
        if tokens is not None:
            literals, numbers = parts
            expected = list(literals[0])
            for frame_in_clip, numbers_of_frame in enumerate(shown):
                for index in range(4 * frame_in_clip, 4 * frame_in_clip + len(numbers_of_frame)):
                    expected += numbers[index] + (literals[index + 1] if index % 4 < 3 else [])
                expected += literals[4 * frame_in_clip + 4]
            if [token for token, _, _ in tokens] == expected:
                return True
        warnings.warn(
            "`absent_boxes=True`: this tokenizer joins the brackets of `[]`, so constrained answers cannot choose "
            "between a box and none, and have a box for every frame; pass constrained=False, or `absent_boxes=False`.",
            stacklevel=2,
        )
        return False

    def _read_numbers(self) -> tuple[NumberTokens, ...] | None:
        """Return the tokens of every number that an answer may hold, as they are written inside an answer.

        Text written with rounding goes past the frame for objects that leave it. Left and top end before the frame's
        right and bottom edge, right and bottom begin after its left and top edge: so every box has an area in the
        frame, and reading the text always gives it.
        """
        grid = self._processor.box_grid
        if self._processor.box_rounding != "round":
            return self._read_range(range(grid), range(grid))
        # A tokenizer that joins a bracket with a minus cannot be made to write one.
        beyond = self._read_range(range(1 - grid, grid), range(1, 2 * grid))
        return beyond or self._read_range(range(grid), range(1, grid + 1))

    def _read_range(self, low: range, high: range) -> tuple[NumberTokens, ...] | None:
        """Return the tokens of the numbers that left and top (`low`), and that right and bottom (`high`) may be."""
        found: list[dict[int, tuple[int, ...]]] = [{}, {}, {}, {}]
        boxes: list[tuple[int, ...]] = [(a, a, b, b) for a, b in zip(low, high, strict=True)]
        for first in range(0, len(boxes), _BOXES_PER_TEXT):
            chunk = boxes[first : first + _BOXES_PER_TEXT]
            parts = self._read(chunk)
            if parts is None:
                return None
            for index, tokens in enumerate(parts[1]):
                box, coordinate = divmod(index, 4)
                found[coordinate][chunk[box][coordinate]] = tuple(tokens)
        return tuple(NumberTokens.of(numbers) for numbers in found)

    def _read(self, boxes: list[tuple[int, ...]]) -> tuple[list[list[int]], list[list[int]]] | None:
        """Return literals and numbers of an answer with these boxes, as tokens; None if they cannot be told apart."""
        written = _write(self._processor, boxes)
        tokens = None if written is None else _tokens(self._processor, written[0])
        if tokens is None:
            return None
        spans = written[1]
        literals: list[list[int]] = [[]]
        numbers: list[list[int]] = []
        for token, start, stop in tokens:
            count = len(numbers)
            continues = count and _within(start, stop, spans[count - 1])
            opens = count < len(spans) and _within(start, stop, spans[count])
            if continues and not literals[-1]:
                numbers[-1].append(token)
            elif opens:
                numbers.append([token])
                literals.append([])
            elif any(start < end and begin < stop for begin, end in spans[max(count - 1, 0) : count + 1]):
                return None  # a token that is part number, part text
            else:
                literals[-1].append(token)
        return (literals, numbers) if len(numbers) == len(spans) else None


def numbers_in(text: str) -> list[int]:
    """Return the whole numbers of a text, in order."""
    return [int(number) for number in _NUMBER.findall(text)]


def _within(start: int, stop: int, span: tuple[int, int]) -> bool:
    """Return whether a token's characters are all in a span; tokens without characters are in none."""
    return start < stop and span[0] <= start and stop <= span[1]


def _write(processor: Processor, boxes: list[tuple[int, ...]]) -> tuple[str, list[tuple[int, int]]] | None:
    """Return an answer with these numbers (none: `[]`) in the processor's format, and each number's character span."""
    box = processor.format_box(_SAMPLE_BOX)
    between = processor.render_answer("sot", boxes=[_SAMPLE_BOX] * len(boxes)).split(box)
    inside = _NUMBER.split(box)
    if len(between) != len(boxes) + 1 or len(inside) != 5:
        return None
    text, spans = "", []
    for lead, numbers in zip(between, boxes, strict=False):
        text += lead if numbers else lead + inside[0]
        for before, number in zip(inside, numbers, strict=False):
            text += before
            spans.append((len(text), len(text) + len(str(number))))
            text += str(number)
        text += inside[4]
    return text + between[-1], spans


def _tokens(processor: Processor, answer: str) -> list[tuple[int, int, int]] | None:
    """Return the tokens of an answer after its prompt, as (id, start, stop) in characters of the answer."""
    tokenizer = processor.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        return None
    messages = processor.build_messages("chat", 0, question="?", answer=answer)
    whole = processor.apply_chat_template(messages, tokenize=False)
    prompt = processor.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
    start = whole.rfind(answer)
    if start < 0:
        return None
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    first = len(asked)
    if ids[:first] != asked:  # the answer's first letters join the prompt's last: take it from its first own token
        first = next((index for index, (_, stop) in enumerate(offsets) if stop > start), len(ids))
    return [(ids[index], offsets[index][0] - start, offsets[index][1] - start) for index in range(first, len(ids))]


def options_of_presence(options: Sequence[int], absent_token: int, logprob: float) -> list[int]:
    """Decide between a box and none, where a constrained answer may have either.

    A box is many numbers, of which each may be less probable than `[]` although together they are more so. The
    frame has no box where `[]` has more than 80 % of all probability.

    Args:
        options: tokens that the format allows; without `absent_token` there has to be a box.
        absent_token: the one that says that the frame has no box.
        logprob: its natural log-probability among all tokens.

    Returns:
        `absent_token` alone, or the others.
    """
    if logprob > _LOG_ABSENT and absent_token in options:
        return [absent_token]
    return [token for token in options if token != absent_token]


class Cursor:
    """Where in its format an answer is, token by token.

    In free mode (`feed` any token) it follows answers that skip or repeat frames, is off the format in anything else,
    and returns to it at the next `Frame i: [`. Fed only what `options` allows it never leaves the format.

    Args:
        answer_format: the format.
        tokenizer: says which tokens are digits.

    Attributes:
        literal: index of the literal that is being written or, in a number, of the literal before it.
        tokens: tokens of that literal or number so far.
        in_number: a number is being written, not a literal.
        off_format: the answer has left the format.
        finished: the answer has ended.
        absent_frames: frames (frame_in_clip) that were written as `[]`.
    """

    def __init__(self, answer_format: AnswerFormat, tokenizer: Any) -> None:
        self.answer_format, self._tokenizer = answer_format, tokenizer
        self.literal = 0
        self.tokens: tuple[int, ...] = ()
        self.in_number = False
        self.off_format = False
        self.finished = False
        self.absent_frames: tuple[int, ...] = ()
        self._recent: tuple[int, ...] = ()  # the last tokens while off the format

    def copy(self) -> Cursor:
        """Return an independent cursor at the same position."""
        twin = Cursor.__new__(Cursor)
        twin.__dict__.update(self.__dict__)
        return twin

    @property
    def frame_in_clip(self) -> int:
        """The frame that is being written, from 0."""
        return self.literal // 4

    @property
    def coordinate(self) -> int:
        """The coordinate that is being written, 0 to 3."""
        return self.literal % 4

    @property
    def numbers(self) -> NumberTokens:
        """The numbers that this coordinate may be."""
        return self.answer_format.coordinates[self.coordinate]

    def options(self) -> tuple[int, ...]:
        """Return the tokens that may come next in the format; none if off the format or finished."""
        if self.off_format or self.finished:
            return ()
        if not self.in_number:
            return (self.answer_format.literals[self.literal][len(self.tokens)],)
        inside = self.numbers.options.get(self.tokens, ())
        if self.absent_token is not None:
            return (*inside, self.absent_token)
        return (*inside, self.closing) if self.tokens in self.numbers.whole else inside

    @property
    def closing(self) -> int:
        """The token that comes after the number that is being written."""
        return self.answer_format.literals[self.answer_format.expected_literal(self.literal + 1)][0]

    @property
    def absent_token(self) -> int | None:
        """The token that closes the bracket here and so says that the frame has no box; None where none may."""
        return self.presence_token if self.frame_in_clip > 0 else None

    @property
    def presence_token(self) -> int | None:
        """The token whose probability says how likely there is no box; None where it says nothing."""
        opens_box = self.in_number and not self.tokens and self.coordinate == 0
        if not (opens_box and self.answer_format.absent and (self.frame_in_clip or self.answer_format.grounds)):
            return None
        return self.answer_format.literals[self.answer_format.expected_literal(self.literal + 4)][0]

    def feed(self, token: int) -> tuple[int, int, int] | None:
        """Take the next token of the answer.

        Returns:
            (frame_in_clip, coordinate 0 to 3, number) when the token closed a number.
        """
        if self.finished:
            return None
        if self.off_format:
            self._look_for_label(token)
            return None
        if not self.in_number:
            self._enter_literal(self.literal, (*self.tokens, token))
            return None
        if token == self.absent_token:
            self.absent_frames = (*self.absent_frames, self.frame_in_clip)
            self._enter_literal(self.literal + 4, (token,))
            return None
        closes = self.tokens and self._find_literal(self.literal + 1, (token,)) is not None
        allowed = self.numbers.options.get(self.tokens, ())
        if token in allowed or not closes:
            if token not in allowed and not re.fullmatch(r"-?\d*", self._text((*self.tokens, token))):
                self._leave_format(token)
            else:
                self.tokens = (*self.tokens, token)
            return None
        number, frame_in_clip, coordinate = self._number(), self.frame_in_clip, self.coordinate
        self._enter_literal(self.literal + 1, (token,))
        return None if number is None else (frame_in_clip, coordinate, number)

    def _number(self) -> int | None:
        """Return the number written so far, None if it is none or has too many digits."""
        known = self.numbers.whole.get(self.tokens)
        if known is not None:
            return known
        text = self._text(self.tokens)
        return int(text) if _FEW_DIGITS.fullmatch(text) else None

    def _text(self, tokens: tuple[int, ...]) -> str:
        return self._tokenizer.decode(list(tokens)).strip()

    def _enter_literal(self, index: int, tokens: tuple[int, ...]) -> None:
        """Move into the literal that begins with `tokens`, the one at `index` if it does."""
        found = self._find_literal(index, tokens)
        if found is None:
            self.literal = index
            self._leave_format(tokens[-1])
            return
        complete = len(tokens) == len(self.answer_format.literals[found])
        self.literal, self.tokens = found, () if complete else tokens
        self.in_number = complete and found < len(self.answer_format.literals) - 1
        self.finished = complete and not self.in_number

    def _find_literal(self, index: int, tokens: tuple[int, ...]) -> int | None:
        """Return the literal at `index` if it begins with `tokens`; of frame labels the next that does, then any."""
        literals = self.answer_format.literals
        candidates = [index]
        if index % 4 == 0 and index:
            expected = self.answer_format.expected_literal(index)
            candidates = [expected, *range(index, len(literals), 4), *range(4, index, 4)]
        return next((at for at in candidates if literals[at][: len(tokens)] == tokens), None)

    def _leave_format(self, token: int) -> None:
        self.off_format, self.in_number, self._recent = True, False, (token,)

    def _look_for_label(self, token: int) -> None:
        """Return to the format if the last tokens are a frame's label; how labels end is read off the first one."""
        literals = self.answer_format.literals
        longest = max(len(literals[at]) for at in range(0, len(literals) - 1, 4))
        self._recent = (*self._recent, token)[-longest:]
        if token != literals[0][-1]:
            return
        here = self.literal - self.coordinate
        for at in (*range(here, len(literals) - 1, 4), *range(0, here, 4)):
            label = literals[at] if at == 0 else literals[at][1:]  # the box before it may have ended in another way
            if label and self._recent[-len(label) :] == label:
                self.literal, self.tokens, self.in_number, self.off_format = at, (), True, False
                return
