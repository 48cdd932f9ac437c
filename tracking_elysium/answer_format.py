"""What a tracking answer looks like in tokens, and where in it an answer under way is.

An answer about F frames is 4F numbers with fixed text between them. `AnswerFormat` holds both as the tokens that the
processor's own text becomes behind its own prompt, so nothing here knows how a box is written, and any tokenizer does
that keeps numbers apart from what surrounds them: one that splits digits, merges them, or merges `],`.
`Cursor` follows an answer token by token, whatever the model says, and knows what the format allows next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor

_NUMBER = re.compile(r"-?\d+")
_SHORT = re.compile(r"-?\d{1,6}")  # a model may write digits without end
_PROBE = (0.345, 0.405, 0.515, 0.675)  # a box whose text does not occur in a frame's label
_MANY = 100  # boxes in one text when numbers are tokenized


@dataclass(frozen=True)
class NumberTokens:
    """Numbers of one coordinate as tokens.

    Attributes:
        tokens: number -> its tokens.
        options: tokens already there -> tokens that may follow inside a number, ascending.
        whole: tokens -> number.
    """

    tokens: dict[int, tuple[int, ...]]
    options: dict[tuple[int, ...], tuple[int, ...]]
    whole: dict[tuple[int, ...], int]

    @classmethod
    def of(cls, tokens: dict[int, tuple[int, ...]]) -> NumberTokens:
        """Index the numbers by what they begin with."""
        following: dict[tuple[int, ...], set[int]] = {}
        for ids in tokens.values():
            for length in range(len(ids)):
                following.setdefault(ids[:length], set()).add(ids[length])
        options = {start: tuple(sorted(ids)) for start, ids in following.items()}
        return cls(tokens, options, {ids: number for number, ids in tokens.items()})

    def nearest(self, wanted: float, start: tuple[int, ...] = ()) -> tuple[int, ...] | None:
        """Tokens of the number nearest to `wanted` among those that begin with `start`; None if none does."""
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
            that ends the answer). E is F, or more for following models that do not stop after F frames.
        coordinates: the numbers that x1, y1, x2 and y2 may be.
    """

    num_frames: int
    literals: tuple[tuple[int, ...], ...]
    coordinates: tuple[NumberTokens, ...]

    @property
    def most_tokens(self) -> int:
        """Tokens of the longest answer that has every label once, its end included."""
        longest = sum(max(map(len, numbers.whole)) for numbers in self.coordinates)
        return sum(map(len, self.literals)) + len(self.literals) // 4 * longest

    @property
    def tokens_per_frame(self) -> float:
        """Tokens of a frame with long numbers, on average."""
        return self.most_tokens / (len(self.literals) // 4)

    def after(self, place: int) -> int:
        """Place of the literal that is due where the one at `place` might stand: behind frame F the end."""
        return len(self.literals) - 1 if place == 4 * self.num_frames else place


class AnswerFormats:
    """Answer formats of a processor, by number of frames.

    Args:
        processor: an `ElysiumProcessor`.
        stops: token ids that end an answer.
    """

    def __init__(self, processor: Any, stops: set[int]) -> None:
        self._processor, self._stops = processor, stops
        self._coordinates: tuple[NumberTokens, ...] | None = None
        self._formats: dict[tuple[int, int], AnswerFormat | None] = {}
        self._usable = bool(stops)

    def of(self, num_frames: int, spare: int = 0) -> AnswerFormat | None:
        """The format of an answer about F frames, with the labels of some more; None if it cannot be told.

        That is so for a tokenizer that joins numbers with what surrounds them.
        """
        key = (num_frames, spare)
        if key not in self._formats:
            self._formats[key] = self._make(num_frames, num_frames + spare) if self._usable else None
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
        end = next((place for place, token in enumerate(literals[-1]) if token in self._stops), None)
        tail = (*literals[-1], min(self._stops)) if end is None else literals[-1][: end + 1]
        return AnswerFormat(num_frames, (*literals[:-1], tail), self._coordinates)

    def _read_numbers(self) -> tuple[NumberTokens, ...] | None:
        """Tokens of every number that an answer may hold, read where they stand in an answer.

        Text written with rounding goes past the frame for objects that leave it. Left and top end before the frame's
        right and bottom edge, right and bottom begin after its left and top edge: so every box has an area in the
        frame, and reading the text always gives it.
        """
        if self._processor.box_rounding != "round":
            return self._read_range(range(100), range(100))
        # A tokenizer that joins a bracket with a minus cannot be led to one.
        return self._read_range(range(-99, 100), range(1, 200)) or self._read_range(range(100), range(1, 101))

    def _read_range(self, low: range, high: range) -> tuple[NumberTokens, ...] | None:
        """Tokens of the numbers that left and top, and that right and bottom may be."""
        found: list[dict[int, tuple[int, ...]]] = [{}, {}, {}, {}]
        boxes = [(a, a, b, b) for a, b in zip(low, high, strict=True)]
        for first in range(0, len(boxes), _MANY):
            chunk = boxes[first : first + _MANY]
            parts = self._read(chunk)
            if parts is None:
                return None
            for place, tokens in enumerate(parts[1]):
                found[place % 4][chunk[place // 4][place % 4]] = tuple(tokens)
        return tuple(NumberTokens.of(numbers) for numbers in found)

    def _read(self, boxes: list[tuple[int, ...]]) -> tuple[list[list[int]], list[list[int]]] | None:
        """Literals and numbers of an answer with these boxes, as tokens; None where they cannot be told apart."""
        written = _write(self._processor, boxes)
        tokens = None if written is None else _tokens(self._processor, written[0])
        if tokens is None:
            return None
        spans = written[1]
        literals: list[list[int]] = [[]]
        numbers: list[list[int]] = []
        for token, start, stop in tokens:
            place = len(numbers)
            inside = place and start < stop and spans[place - 1][0] <= start and stop <= spans[place - 1][1]
            opens = place < len(spans) and start < stop and spans[place][0] <= start and stop <= spans[place][1]
            if inside and not literals[-1]:
                numbers[-1].append(token)
            elif opens:
                numbers.append([token])
                literals.append([])
            elif any(start < end and begin < stop for begin, end in spans[max(place - 1, 0) : place + 1]):
                return None  # a token that is part number, part text
            else:
                literals[-1].append(token)
        return (literals, numbers) if len(numbers) == len(spans) else None


def numbers_in(text: str) -> list[int]:
    """The whole numbers of a text, in order."""
    return [int(number) for number in _NUMBER.findall(text)]


def _write(processor: Any, boxes: list[tuple[int, ...]]) -> tuple[str, list[tuple[int, int]]] | None:
    """An answer with these numbers in the processor's format, and the character span of each number."""
    box = processor.format_box(_PROBE)
    between = processor.render_answer("sot", boxes=[_PROBE] * len(boxes)).split(box)
    inside = _NUMBER.split(box)
    if len(between) != len(boxes) + 1 or len(inside) != 5:
        return None
    text, spans = "", []
    for lead, numbers in zip(between, boxes, strict=False):
        text += lead
        for before, number in zip(inside, numbers, strict=False):
            text += before
            spans.append((len(text), len(text) + len(str(number))))
            text += str(number)
        text += inside[4]
    return text + between[-1], spans


def _tokens(processor: Any, answer: str) -> list[tuple[int, int, int]] | None:
    """Tokens of an answer behind its prompt, as (id, start, stop) in characters of the answer."""
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
    if ids[:first] != asked:  # the answer's first letters join the prompt's last: take it from where it stands alone
        first = next((place for place, (_, stop) in enumerate(offsets) if stop > start), len(ids))
    return [(ids[place], offsets[place][0] - start, offsets[place][1] - start) for place in range(first, len(ids))]


class Cursor:
    """Where in its format an answer is, token by token.

    In free mode (`feed` any token) it follows answers that skip or repeat frames, is lost in anything else, and finds
    back at the next `Frame i: [`. Fed only what `options` allows it never leaves the format.

    Args:
        layout: the format.
        tokenizer: says which tokens are digits.
    """

    def __init__(self, layout: AnswerFormat, tokenizer: Any) -> None:
        self.layout, self._tokenizer = layout, tokenizer
        self.place = 0  # the literal under way or, in a number, the literal before it
        self.tokens: tuple[int, ...] = ()  # of that literal or number so far
        self.in_number = False
        self.lost = False
        self.finished = False
        self._before: tuple[int, ...] = ()  # the last tokens while lost

    def copy(self) -> Cursor:
        """An independent cursor at the same place."""
        twin = Cursor.__new__(Cursor)
        twin.__dict__.update(self.__dict__)
        return twin

    @property
    def numbers(self) -> NumberTokens:
        """The numbers that fit the coordinate under way."""
        return self.layout.coordinates[self.place % 4]

    def options(self) -> tuple[int, ...]:
        """Tokens that may come next, in the format; empty when lost or finished."""
        if self.lost or self.finished:
            return ()
        if not self.in_number:
            return (self.layout.literals[self.place][len(self.tokens)],)
        inside = self.numbers.options.get(self.tokens, ())
        return (*inside, self.closing) if self.tokens in self.numbers.whole else inside

    @property
    def closing(self) -> int:
        """The token that is due behind the number under way."""
        return self.layout.literals[self.layout.after(self.place + 1)][0]

    def feed(self, token: int) -> tuple[int, int, int] | None:
        """Take the next token of the answer.

        Returns:
            (row of the frame, coordinate 0 to 3, number) when the token closed a number.
        """
        if self.finished:
            return None
        if self.lost:
            self._find_back(token)
            return None
        if not self.in_number:
            self._enter(self.place, (*self.tokens, token))
            return None
        closes = self.tokens and self._literal_from(self.place + 1, (token,)) is not None
        allowed = self.numbers.options.get(self.tokens, ())
        if token in allowed or not closes:
            if token not in allowed and not re.fullmatch(r"-?\d*", self._text((*self.tokens, token))):
                self._lose(token)
            else:
                self.tokens = (*self.tokens, token)
            return None
        number, row, coordinate = self._number(), self.place // 4, self.place % 4
        self._enter(self.place + 1, (token,))
        return None if number is None else (row, coordinate, number)

    def _number(self) -> int | None:
        """The number under way, None if it is none or has too many digits."""
        known = self.numbers.whole.get(self.tokens)
        if known is not None:
            return known
        text = self._text(self.tokens)
        return int(text) if _SHORT.fullmatch(text) else None

    def _text(self, tokens: tuple[int, ...]) -> str:
        return self._tokenizer.decode(list(tokens)).strip()

    def _enter(self, place: int, tokens: tuple[int, ...]) -> None:
        """Be in the literal that begins with `tokens`, the one at `place` if it does."""
        found = self._literal_from(place, tokens)
        if found is None:
            self.place = place
            self._lose(tokens[-1])
            return
        complete = len(tokens) == len(self.layout.literals[found])
        self.place, self.tokens = found, () if complete else tokens
        self.in_number = complete and found < len(self.layout.literals) - 1
        self.finished = complete and not self.in_number

    def _literal_from(self, place: int, tokens: tuple[int, ...]) -> int | None:
        """Place of the literal that begins with `tokens`; for labels of frames the next that does, then any."""
        literals = self.layout.literals
        places = [place]
        if place % 4 == 0 and place:
            places = [self.layout.after(place), *range(place, len(literals), 4), *range(4, place, 4)]
        return next((at for at in places if literals[at][: len(tokens)] == tokens), None)

    def _lose(self, token: int) -> None:
        self.lost, self.in_number, self._before = True, False, (token,)

    def _find_back(self, token: int) -> None:
        """Look whether the last tokens are a frame's label; the first frame's stands for how labels end."""
        literals = self.layout.literals
        longest = max(len(literals[at]) for at in range(0, len(literals) - 1, 4))
        self._before = (*self._before, token)[-longest:]
        if token != literals[0][-1]:
            return
        here = self.place - self.place % 4
        for at in (*range(here, len(literals) - 1, 4), *range(0, here, 4)):
            label = literals[at] if at == 0 else literals[at][1:]  # the box before it may have ended in another way
            if label and self._before[-len(label) :] == label:
                self.place, self.tokens, self.in_number, self.lost = at, (), True, False
                return


class GrammarProcessor(LogitsProcessor):
    """For `generate`: only tokens that the format allows, and the log-probability of the one that is taken.

    The slow twin of constrained drafting: every token is asked for, and nothing is remembered between steps.

    Args:
        formats: one format per row of the batch, None where the answer is free.
        tokenizer: see `Cursor`.
        prompt_length: tokens before the answers, padding included.
    """

    def __init__(self, formats: list[AnswerFormat | None], tokenizer: Any, prompt_length: int) -> None:
        self._formats, self._tokenizer, self._prompt_length = formats, tokenizer, prompt_length
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores (B, V) of tokens that are not allowed become -inf."""
        wide = scores.float()
        total, allowed = wide.logsumexp(dim=-1), scores.clone()
        certain = torch.zeros(len(wide), dtype=torch.bool, device=wide.device)
        for row, layout in enumerate(self._formats):
            if layout is None:
                continue
            cursor = Cursor(layout, self._tokenizer)
            for token in input_ids[row, self._prompt_length :].tolist():
                cursor.feed(token)
            options = list(cursor.options())
            if not options:
                continue
            allowed[row] = -torch.inf
            allowed[row, options] = scores[row, options]
            if len(options) == 1:
                allowed[row, options], certain[row] = 0.0, True
        taken = allowed.argmax(dim=-1, keepdim=True)
        self.steps.append((wide.gather(1, taken)[:, 0] - total).masked_fill(certain, 0.0))
        return allowed

    def stacked(self) -> torch.Tensor:
        """Log-probabilities of shape (B, steps)."""
        return torch.stack(self.steps, dim=1).cpu()
