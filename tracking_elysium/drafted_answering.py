"""Clip prompts to answers, several tokens per forward pass: the fast twin of `answering.ClipAnswerer`.

Each pass reads what a row is certain of and a draft of what may follow (`drafted_guesses.py`). Its logits say which of
the drafted tokens the model would have taken itself, greedily, one by one; those stay, the first other one is
corrected, the rest is dropped. So the answer is token for token that of `generate(do_sample=False)`, and every pass
gives at least the token that plain decoding would have given: never more passes than plain decoding. In constrained
mode (`answer_format.py`) tokens without an alternative are not asked for at all, and digits are chosen among those
that fit.

Rows are independent: each has its own length in the cache (`drafted_cache.py`), leaves when it is finished, and its
place goes to the next prompt in the queue.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from .answer_format import numbers_in
from .answering import ClipAnswerer, finish_answer, joined_features
from .drafted_cache import RowCache
from .drafted_compile import Compiled
from .drafted_graphs import MOST_PADDING, RecordedPasses
from .drafted_guesses import Drafter
from .drafted_prefill import Beginning, group_by_clip, lay_out
from .drafted_row import AnswerRow
from .exchange import ClipAnswer, ClipRequest
from .options import TrackingOptions
from .stats import Stats

# What a generation config may say that changes greedy tokens, with the values that change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "repetition_penalty": (None, 1, 1.0),
    "encoder_repetition_penalty": (None, 1, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "bad_words_ids": (None, []),
    "sequence_bias": (None, {}),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "exponential_decay_length_penalty": (None,),
    "begin_suppress_tokens": (None, []),
    "guidance_scale": (None, 1, 1.0),
    "watermarking_config": (None,),
    "stop_strings": (None,),
    "max_time": (None,),
}


class DraftedAnswerer(ClipAnswerer):
    """Answers clip requests with drafts that the model checks; see the module's text.

    A model that cannot be run this way (an attention implementation without free masks, a state-space model, a window
    shorter than the prompt, a generation config with rules of its own) is run token by token, with one warning.

    Args:
        model: an `ElysiumForConditionalGeneration`.
        processor: an `ElysiumProcessor`.
        batch_size: rows at a time.
        vision_memory_mb: bounds the frames per pass of the vision tower, see `ClipAnswerer`.
        constrained: follow the answer format; answers without boxes stay free.
        stats: where to count.
        compile: compile the language model for the passes after the prompts' own, see `Compiled`.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        batch_size: int = 16,
        vision_memory_mb: int | None = None,
        constrained: bool = TrackingOptions.constrained,
        stats: Stats | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(model, processor, batch_size, vision_memory_mb, constrained, stats)
        model = self.model  # without a wrapper
        self._queue: deque[AnswerRow] = deque()
        self._ready: list[tuple[int, ClipAnswer]] = []  # answered without a pass of drafts
        self._rows: list[AnswerRow] = []
        self._cache: RowCache | None = None
        self._beginning = Beginning()
        self._tickets = 0
        language_model = model.base_model.language_model
        self._language_model = Compiled(language_model) if compile else language_model
        self._recorded = RecordedPasses(self._pass) if compile and self.encodes_ahead else None  # on one GPU
        self._suppressed = list(model.generation_config.suppress_tokens or [])
        reason = _hindrance(model, constrained)
        self.drafts = reason is None
        if reason is not None:
            warnings.warn(f"answers are decoded token by token: {reason}.", stacklevel=2)

    @torch.inference_mode()
    def __call__(self, requests: Sequence[ClipRequest]) -> list[ClipAnswer]:
        """Answer all requests, in order.

        Raises:
            ValueError: a prompt and its answer do not fit the model's context.
        """
        tickets = self.submit(requests)
        answers: dict[int, ClipAnswer] = {}
        while any(ticket not in answers for ticket in tickets):
            answers.update(self.advance())
        return [answers[ticket] for ticket in tickets]

    def submit(self, requests: Sequence[ClipRequest]) -> list[int]:
        """Queue requests and return a ticket for each; `advance` does the work.

        Raises:
            ValueError: a prompt and its answer do not fit the model's context; nothing is queued then.
        """
        texts = [self._render(request) for request in requests]
        for request, text in zip(requests, texts, strict=True):
            self._check_length(text, len(request.frames), self.budget(request))
        tickets = list(range(self._tickets, self._tickets + len(requests)))
        self._tickets += len(requests)
        if not self._fits_window(requests, texts):
            self._ready.extend(zip(tickets, super().__call__(requests), strict=True))
            return tickets
        rows = [self._row(*item) for item in zip(tickets, requests, texts, strict=True)]
        # Questions about one clip side by side, because they share its prefill; long prompts together.
        first: dict[tuple[int, ...], AnswerRow] = {}
        for row in rows:
            first.setdefault(_clip(row), row)
        self._ready.extend((row.ticket, self._finished(row)) for row in rows if row.finished)  # nothing was to choose
        rows = [row for row in rows if not row.finished]
        self._queue.extend(sorted(rows, key=lambda row: (-len(first[_clip(row)].prompt), first[_clip(row)].ticket)))
        return tickets

    @torch.inference_mode()
    def advance(self) -> list[tuple[int, ClipAnswer]]:
        """Run one pass of the model.

        Returns:
            (ticket, answer) of the rows that it finished.
        """
        done, self._ready = self._ready, []
        free = self.batch_size - len(self._rows)
        # A pass for prompts holds up the rows that go on, so it waits until it is worth while.
        if self._queue and (free >= min(len(self._queue), max(self.batch_size // 4, 1)) or not self._rows):
            self._admit([self._queue.popleft() for _ in range(min(free, len(self._queue)))])
        elif self._rows:
            self._verify()
        for slot in reversed(range(len(self._rows))):
            if self._rows[slot].finished:
                row = self._rows[slot]
                self._rows[slot] = self._rows[-1]
                self._rows.pop()
                self._cache.remove(slot)
                done.append((row.ticket, self._finished(row)))
        return done

    def so_far(self, tickets: Sequence[int]) -> dict[int, ClipAnswer]:
        """Ticket -> the beginning of its answer, for those of `tickets` whose answers are under way.

        What a beginning holds stays; the answer itself comes from `advance` when it is complete.
        """
        wanted = set(tickets)
        return {row.ticket: self._finish(row) for row in self._rows if row.ticket in wanted}

    # ----------------------------------------------------------------------------------------------------------
    def _row(self, ticket: int, request: ClipRequest, text: str) -> AnswerRow:
        layout = self.format_of(request)
        drafter = None
        if layout is not None:
            known = [(row, self._cells(box)) for row, box in request.known_boxes]
            drafter = Drafter(layout, self.processor.tokenizer, known)
        token = self.processor.image_token
        expanded = text.replace(token, token * self.processor.num_image_tokens)
        prompt = self.processor.tokenizer(expanded, add_special_tokens=False)["input_ids"]
        constrained = self.constrained and layout is not None
        row = AnswerRow(ticket, request, prompt, self.budget(request), drafter, constrained, self.stops)
        row.pending = list(prompt)
        row.skip()
        return row

    def _admit(self, rows: list[AnswerRow]) -> None:
        """Read the prompts of new rows, and their first drafts, in one pass."""
        self.encode_frames([frame for row in rows for frame in row.request.frames])
        with self.stats.timed("prefill"):
            for row in rows:
                row.prepare()
            base, device = self.model.base_model, self.model.device
            prompts = [row.prompt for row in rows]
            groups = group_by_clip(prompts, [_clip(row) for row in rows], self.processor.image_token_id)
            tokens = [row.pending + row.draft for row in rows]
            places = [
                [*known, *range(known[-1] + 1, known[-1] + 1 + len(ids) - len(known))]
                for known, ids in zip(self._positions(rows), tokens, strict=True)
            ]
            cached = self._beginning.match(prompts)
            plan = lay_out(groups, tokens, places, device, self._dtype, cached)
            shown = [frame for first in plan.firsts for frame in rows[first].request.frames]
            filled = self._beginning.filled(cached, len(groups))
            hidden = base(
                input_ids=plan.ids,
                position_ids=plan.positions,
                attention_mask=plan.mask,
                past_key_values=filled,
                mm_encoder_outputs={"image": joined_features(shown)},
                use_cache=True,
                return_dict=True,
            ).last_hidden_state
            if not cached:
                self._beginning.keep(prompts[plan.firsts[0]], self.processor.image_token_id, filled)
            if self._cache is None:
                self._cache = RowCache(len(filled.layers))
            # What a row may come to; a draft behind a row at its limit is cut, but rows share the width of a pass.
            longest = max(len(row.prompt) + row.limit + len(row.draft) for row in rows)
            count = len(self._rows) + len(rows)
            if self._recorded is not None:
                count, longest = self._recorded.shape(count, 1)[0], longest + MOST_PADDING
            self._cache.reserve(count, longest)
            slots = [self._cache.add(filled, sequence, torch.tensor(where)) for sequence, where in plan.rows]
            read = [
                [(sequence, where[place] - cached, options) for place, options in row.questions()]
                for row, (sequence, where) in zip(rows, plan.rows, strict=True)
            ]
            said = self._read(hidden, read)
            self._settle(rows, slots, said)
            for row, slot, known in zip(rows, slots, places, strict=True):
                row.position = known[self._cache.lengths[slot] - 1] + 1
            self._rows.extend(rows)

    def _verify(self) -> None:
        """One pass over the rows: what is pending, and a new draft."""
        with self.stats.timed("llm"):
            for row in self._rows:
                row.prepare()
            tokens = [row.pending + row.draft for row in self._rows]
            rows, width, device = None, max(map(len, tokens)), self.model.device
            starts = [row.position for row in self._rows]
            if self._recorded is not None:
                rows, width = self._recorded.shape(len(tokens), width)
                spare = rows - len(tokens)
                starts, tokens = starts + [0] * spare, tokens + [[0]] * spare
            ids = [ids + [0] * (width - len(ids)) for ids in tokens]
            # Padding repeats a position, so that none is past what the model knows.
            steps = [[min(step, len(ids) - 1) for step in range(width)] for ids in tokens]
            mask = self._cache.begin(width, device, self._dtype, rows)
            run = self._pass if self._recorded is None else partial(self._recorded, self._cache.moves)
            hidden = run(
                embeds=self.model.get_input_embeddings()(torch.tensor(ids, device=device)),
                positions=torch.tensor(steps, device=device) + torch.tensor(starts, device=device)[:, None],
                mask=mask,
                rows=self._cache.rows,
                columns=self._cache.columns,
            )
            read = [[(slot, *question) for question in row.questions()] for slot, row in enumerate(self._rows)]
            self._settle(self._rows, list(range(len(self._rows))), self._read(hidden, read), grow=True)

    def _pass(
        self,
        embeds: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor,
        rows: torch.Tensor,
        columns: torch.Tensor,
    ) -> torch.Tensor:
        """The language model on tokens (B, T, D) of rows that are in the cache; there are no frames to place."""
        self._cache.rows, self._cache.columns = rows, columns  # a recording reads copies of its own
        return self._language_model(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask=mask,
            **{self.model.cache_name: self._cache},
            use_cache=True,
            return_dict=True,
        ).last_hidden_state

    def _settle(
        self, rows: list[AnswerRow], slots: list[int], said: list[list[tuple[int, float]]], grow: bool = False
    ) -> None:
        """Give each row what the model said and set its length in the cache."""
        self.stats.forwards += 1
        self.stats.row_forwards += len(rows)
        for row, slot, answers in zip(rows, slots, said, strict=True):
            self.stats.drafted += len(row.draft)
            kept, accepted = row.settle(dict(zip([place for place, _ in row.questions()], answers, strict=True)))
            self._cache.lengths[slot] = kept + (self._cache.lengths[slot] if grow else 0)
            self.stats.accepted += accepted

    def _read(
        self, hidden: torch.Tensor, questions: list[list[tuple[int, int, tuple[int, ...]]]]
    ) -> list[list[tuple[int, float]]]:
        """(token, log-probability) for each (sequence, place, tokens to choose from) of each row.

        The head runs where an answer is read and nowhere else.
        """
        flat = [question for row in questions for question in row]
        if not flat:
            return [[] for _ in questions]
        sequences = torch.tensor([item[0] for item in flat], device=hidden.device)
        places = torch.tensor([item[1] for item in flat], device=hidden.device)
        logits = self.model.compute_logits(hidden[sequences, places]).float()
        logits[:, self._suppressed] = -torch.inf
        best, token = logits.max(dim=-1)
        bound = [number for number, item in enumerate(flat) if item[2]]
        if bound:
            choices = [flat[number][2] for number in bound]
            widest = max(map(len, choices))
            padded = [(*tokens, *([tokens[0]] * (widest - len(tokens)))) for tokens in choices]
            allowed, which = torch.tensor(padded, device=logits.device), torch.tensor(bound, device=logits.device)
            value, choice = logits[which].gather(1, allowed).max(dim=-1)
            token[which], best[which] = allowed.gather(1, choice[:, None])[:, 0], value
        logprobs = (best - logits.logsumexp(dim=-1)).tolist()
        pairs = iter(zip(token.tolist(), logprobs, strict=True))
        return [[next(pairs) for _ in row] for row in questions]

    def _positions(self, rows: list[AnswerRow]) -> list[list[int]]:
        """Position ids of the prompts."""
        longest, device = max(len(row.prompt) for row in rows), self.model.device
        ids = torch.tensor([row.prompt + [0] * (longest - len(row.prompt)) for row in rows], device=device)
        lengths = torch.tensor([len(row.prompt) for row in rows], device=device)
        mask = (torch.arange(longest, device=device) < lengths[:, None]).long()
        placeholders = (ids == self.processor.image_token_id) & mask.bool()
        features = joined_features([frame for row in rows for frame in row.request.frames])
        positions = self.model.base_model.get_position_ids(placeholders, mask, features).tolist()
        return [known[: len(row.prompt)] for known, row in zip(positions, rows, strict=True)]

    @property
    def _dtype(self) -> torch.dtype:
        """What the language model computes in; its weights may be stored in fewer bits."""
        return self.model.get_input_embeddings().weight.dtype

    def _finished(self, row: AnswerRow) -> ClipAnswer:
        self.stats.answers += 1
        self.stats.tokens += len(row.ids)
        return self._finish(row)

    def _finish(self, row: AnswerRow) -> ClipAnswer:
        return finish_answer(row.ids, row.logprobs, self.stops, row.limit, self.processor.tokenizer)

    def _cells(self, box: Sequence[float]) -> list[int]:
        """A box in [0, 1] as the numbers that the processor writes."""
        return numbers_in(self.processor.format_box(box))

    def _fits_window(self, requests: Sequence[ClipRequest], texts: list[str]) -> bool:
        """Whether drafts can be checked: layers that look back a limited way count places in the cache."""
        window = getattr(self.model.config.get_text_config(), "sliding_window", None)
        if not self.drafts or not window:
            return self.drafts
        sizes = (
            self._count_tokens(text) + len(request.frames) * self.processor.num_image_tokens + 2 * self.budget(request)
            for request, text in zip(requests, texts, strict=True)
        )
        return max(sizes, default=0) < window


def _clip(row: AnswerRow) -> tuple[int, ...]:
    return tuple(map(id, row.request.frames))


def _hindrance(model: Any, constrained: bool) -> str | None:
    """Why this model's answers cannot be drafted, with what to do about it; None if they can."""
    text = model.config.get_text_config()
    attention = getattr(text, "_attn_implementation", None)
    if attention not in (None, "sdpa", "eager"):
        return f"attn_implementation={attention!r} takes no free masks; load the model with 'sdpa' for drafts"
    kinds = set(getattr(text, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"layers of type {', '.join(sorted(kinds))} cannot take tokens back; pass decoding='plain'"
    if constrained:
        return None  # the format decides, not the generation config
    config = model.generation_config
    rules = [name for name, neutral in _NEUTRAL.items() if getattr(config, name, None) not in neutral]
    return f"the generation config sets {', '.join(rules)}; reset it, or pass decoding='plain'" if rules else None
