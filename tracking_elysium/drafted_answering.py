"""Clip prompts to answers, several tokens per forward pass: the fast twin of `answering.ClipAnswerer`.

Each pass reads what a row is certain of and a draft of what may follow (`drafted_guesses.py`). Its logits say which of
the drafted tokens the model would have taken itself, greedily, one by one; those stay, the first other one is
corrected, the rest is dropped. So the answer is token for token that of `generate(do_sample=False)`, and every pass
gives at least the token that plain decoding would have given: never more passes than plain decoding. In constrained
mode (`answer_format.py`) tokens without an alternative are not asked for at all, and digits are chosen among those
that fit.

Rows are independent: each has its own length in the cache (`drafted_cache.py`), leaves when it is finished, and its
slot goes to the next prompt in the queue.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers.cache_utils import Cache

from .answer_format import numbers_in, options_of_presence
from .answering import ClipAnswerer, finish_answer
from .drafted_cache import RowCache
from .drafted_graphs import MOST_PADDING, Compiled, RecordedPasses
from .drafted_guesses import Drafter
from .drafted_prefill import PrefillPlan, SharedPrefix, group_by_clip, plan_prefill
from .drafted_row import AnswerRow, Chosen
from .exchange import ClipAnswer, ClipRequest
from .frame_encoding import joined_features
from .options import TrackingOptions
from .protocols import Processor
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

    A model that cannot be run this way (an attention implementation without arbitrary masks, a state-space model, a
    window shorter than the prompt, a generation config with rules of its own) is run token by token, with one warning.

    Args:
        model: an `ElysiumForConditionalGeneration`.
        processor: see `Processor`.
        batch_size: rows at a time.
        vision_memory_mb: bounds the frames per pass of the vision tower, see `ClipAnswerer`.
        constrained: follow the answer format; answers without boxes stay free.
        stats: where to count.
        compile: compile the language model for the passes after the prompts' own, see `Compiled`.
    """

    def __init__(
        self,
        model: Any,
        processor: Processor,
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
        self._made_cache: RowCache | None = None  # with the first pass, which tells the number of layers
        self._shared_prefix = SharedPrefix()
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
        requests = [self._with_words(request) for request in requests]
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
            (ticket, answer) of the rows that are finished.
        """
        done, self._ready = self._ready, []
        free = self.batch_size - len(self._rows)
        # A pass for prompts delays the rows that go on, so it waits until a quarter of the batch is free.
        if self._queue and (free >= min(len(self._queue), max(self.batch_size // 4, 1)) or not self._rows):
            self._start_rows([self._queue.popleft() for _ in range(min(free, len(self._queue)))])
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
        """Return the unfinished answers of those of `tickets` that are being decoded, by ticket.

        Their text does not change any more, it only grows; `advance` gives the answer when it is complete.
        """
        wanted = set(tickets)
        return {row.ticket: self._finish(row) for row in self._rows if row.ticket in wanted}

    @property
    def _cache(self) -> RowCache:
        """Keys and values of the rows that are being decoded."""
        if self._made_cache is None:
            raise RuntimeError("no row has begun yet, so there is no cache.")
        return self._made_cache

    # ----------------------------------------------------------------------------------------------------------
    def _row(self, ticket: int, request: ClipRequest, text: str) -> AnswerRow:
        """Return the state of an answer that has not begun; `text` is the rendered question."""
        answer_format = self.format_of(request)
        drafter = None
        if answer_format is not None:
            known, expected = (
                [(frame_in_clip, self._cells(box)) for frame_in_clip, box in boxes]
                for boxes in (request.known_boxes, request.expected_boxes)
            )
            drafter = Drafter(answer_format, self.processor.tokenizer, known, expected)
        token = self.processor.image_token
        expanded = text.replace(token, token * self.processor.num_image_tokens)
        prompt = self.processor.tokenizer(expanded, add_special_tokens=False)["input_ids"]
        constrained = self.constrained and answer_format is not None
        row = AnswerRow(ticket, request, prompt, self.budget(request), drafter, constrained, self.stops)
        row.pending = list(prompt)
        row.take_forced()
        return row

    def _start_rows(self, rows: list[AnswerRow]) -> None:
        """Read the prompts of new rows, and their first drafts, in one pass."""
        self.encode_frames([frame for row in rows for frame in row.request.frames])
        with self.stats.timed("prefill"):
            for row in rows:
                row.prepare()
            position_ids = self._prefill_positions(rows)
            plan, cached = self._plan_prefill(rows, position_ids)
            hidden, filled = self._prefill(rows, plan, cached)
            slots = self._move_to_slots(rows, plan, filled)
            # Logits are read where a row chooses; tokens that were cached already are not in this pass.
            choices = [
                [(sequence, indices[index] - cached, *choice) for index, *choice in row.choices()]
                for row, (sequence, indices) in zip(rows, plan.token_indices, strict=True)
            ]
            self._settle(rows, slots, self._choose(hidden, choices))
            for row, slot, known in zip(rows, slots, position_ids, strict=True):
                row.position = known[self._cache.lengths[slot] - 1] + 1
            self._rows.extend(rows)

    def _prefill_positions(self, rows: list[AnswerRow]) -> list[list[int]]:
        """Return the position ids of prompts and drafts: the model's own for a prompt, counted on after it."""
        return [
            [*known, *range(known[-1] + 1, known[-1] + 1 + len(row.pending) + len(row.draft) - len(known))]
            for row, known in zip(rows, self._prompt_positions(rows), strict=True)
        ]

    def _plan_prefill(self, rows: list[AnswerRow], position_ids: list[list[int]]) -> tuple[PrefillPlan, int]:
        """Return the plan of the pass, where a clip's frames stand once, and the tokens it finds in the cache."""
        prompts = [row.prompt for row in rows]
        groups = group_by_clip(prompts, [_clip(row) for row in rows], self.processor.image_token_id)
        cached = self._shared_prefix.match(prompts)
        tokens = [row.pending + row.draft for row in rows]
        return plan_prefill(groups, tokens, position_ids, self.model.device, self._dtype, cached), cached

    def _prefill(self, rows: list[AnswerRow], plan: PrefillPlan, cached: int) -> tuple[torch.Tensor, Cache]:
        """Run the pass; return its hidden states (G, T, D) and the cache that it filled."""
        frames = [frame for first in plan.representatives for frame in rows[first].request.frames]
        filled = self._shared_prefix.new_cache(cached, len(plan.ids))
        hidden = self.model.base_model(
            input_ids=plan.ids,
            position_ids=plan.position_ids,
            attention_mask=plan.mask,
            past_key_values=filled,
            mm_encoder_outputs={"image": joined_features(frames)},
            use_cache=True,
            return_dict=True,
        ).last_hidden_state
        if not cached:
            first = rows[plan.representatives[0]]
            self._shared_prefix.keep(first.prompt, self.processor.image_token_id, filled)
        return hidden, filled

    def _move_to_slots(self, rows: list[AnswerRow], plan: PrefillPlan, filled: Cache) -> list[int]:
        """Copy each row out of the shared sequences to a slot of its own, because from here on rows differ in length.

        The cache is made large enough for the whole answers at once: growing copies it, and ends recordings.
        """
        if self._made_cache is None:
            self._made_cache = RowCache(len(filled.layers))
        # What a row may come to; a draft after a row at its limit is cut, but rows share the width of a pass.
        longest = max(len(row.prompt) + row.limit + len(row.draft) for row in rows)
        count = len(self._rows) + len(rows)
        if self._recorded is not None:
            count, longest = self._recorded.shape(count, 1)[0], longest + MOST_PADDING
        self._cache.reserve(count, longest)
        return [self._cache.add(filled, sequence, torch.tensor(indices)) for sequence, indices in plan.token_indices]

    def _verify(self) -> None:
        """Run one pass over the rows: what is pending, and a new draft."""
        with self.stats.timed("llm"):
            for row in self._rows:
                row.prepare()
            tokens = [row.pending + row.draft for row in self._rows]
            num_rows, width, device = None, max(map(len, tokens)), self.model.device
            starts = [row.position for row in self._rows]
            if self._recorded is not None:
                num_rows, width = self._recorded.shape(len(tokens), width)
                spare = num_rows - len(tokens)
                starts, tokens = starts + [0] * spare, tokens + [[0]] * spare
            ids = [ids + [0] * (width - len(ids)) for ids in tokens]
            # Padding repeats a position, so that none is past what the model knows.
            steps = [[min(step, len(ids) - 1) for step in range(width)] for ids in tokens]
            mask = self._cache.begin(width, device, self._dtype, num_rows)
            run = self._pass if self._recorded is None else partial(self._recorded, self._cache.moves)
            hidden = run(
                embeds=self.model.get_input_embeddings()(torch.tensor(ids, device=device)),
                position_ids=torch.tensor(steps, device=device) + torch.tensor(starts, device=device)[:, None],
                mask=mask,
                slots=self._cache.slots,
                cache_positions=self._cache.positions,
            )
            choices = [[(index, *choice) for choice in row.choices()] for index, row in enumerate(self._rows)]
            self._settle(self._rows, list(range(len(self._rows))), self._choose(hidden, choices), grow=True)

    def _pass(
        self,
        embeds: torch.Tensor,
        position_ids: torch.Tensor,
        mask: torch.Tensor,
        slots: torch.Tensor,
        cache_positions: torch.Tensor,
    ) -> torch.Tensor:
        """Run the language model on tokens (B, T, D) of rows in the cache; their frames were read before."""
        self._cache.slots, self._cache.positions = slots, cache_positions  # a recording reads copies of its own
        return self._language_model(
            inputs_embeds=embeds,
            position_ids=position_ids,
            attention_mask=mask,
            **{self.model.cache_name: self._cache},
            use_cache=True,
            return_dict=True,
        ).last_hidden_state

    def _settle(self, rows: list[AnswerRow], slots: list[int], chosen: list[list[Chosen]], grow: bool = False) -> None:
        """Give each row what the model chose and set its length in the cache.

        Args:
            rows: of the pass.
            slots: of the rows.
            chosen: for each row what was chosen of its `choices`, in order.
            grow: the pass appended to the slots; otherwise it filled them.
        """
        self.stats.forwards += 1
        self.stats.row_forwards += len(rows)
        for row, slot, tokens in zip(rows, slots, chosen, strict=True):
            self.stats.drafted += len(row.draft)
            kept, accepted = row.settle(dict(zip([index for index, *_ in row.choices()], tokens, strict=True)))
            self._cache.lengths[slot] = kept + (self._cache.lengths[slot] if grow else 0)
            self.stats.accepted += accepted

    def _choose(
        self, hidden: torch.Tensor, choices: list[list[tuple[int, int, tuple[int, ...], int | None]]]
    ) -> list[list[Chosen]]:
        """Let the model choose tokens; the head runs where a token is chosen and nowhere else.

        Args:
            hidden: hidden states of a pass, (sequences, T, D).
            choices: for each row (sequence, index in it, tokens to choose from or () for any, the one of them that
                says that a frame has no box).

        Returns:
            For each row what was chosen at each choice.
        """
        flat = [choice for row in choices for choice in row]
        if not flat:
            return [[] for _ in choices]
        sequences = torch.tensor([item[0] for item in flat], device=hidden.device)
        indices = torch.tensor([item[1] for item in flat], device=hidden.device)
        logits = self.model.compute_logits(hidden[sequences, indices]).float()
        logits[:, self._suppressed] = -torch.inf
        best, token = logits.max(dim=-1)
        total = logits.logsumexp(dim=-1)
        absences: list[float | None] = [None] * len(flat)
        asked = {number: item[3] for number, item in enumerate(flat) if item[3] is not None}
        if asked:
            logprobs = (logits[list(asked), list(asked.values())] - total[list(asked)]).tolist()
            for number, logprob in zip(asked, logprobs, strict=True):
                absences[number] = logprob
        bound = [number for number, item in enumerate(flat) if item[2]]
        if bound:
            allowed = [_allowed(flat[number], absences[number]) for number in bound]
            widest = max(map(len, allowed))
            padded = [(*tokens, *([tokens[0]] * (widest - len(tokens)))) for tokens in allowed]
            allowed_ids, which = torch.tensor(padded, device=logits.device), torch.tensor(bound, device=logits.device)
            value, choice = logits[which].gather(1, allowed_ids).max(dim=-1)
            token[which], best[which] = allowed_ids.gather(1, choice[:, None])[:, 0], value
        chosen = iter(zip(token.tolist(), (best - total).tolist(), absences, strict=True))
        return [[next(chosen) for _ in row] for row in choices]

    def _prompt_positions(self, rows: list[AnswerRow]) -> list[list[int]]:
        """Return the position ids of the prompts."""
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
        """The type that the language model computes in; its weights may be stored in fewer bits."""
        return self.model.get_input_embeddings().weight.dtype

    def _finished(self, row: AnswerRow) -> ClipAnswer:
        self.stats.answers += 1
        self.stats.tokens += len(row.ids)
        return self._finish(row)

    def _finish(self, row: AnswerRow) -> ClipAnswer:
        answer = finish_answer(row.ids, row.logprobs, self.stops, row.limit, self.processor.tokenizer)
        answer.absent_logprobs = dict(row.absent_logprobs)
        return answer

    def _cells(self, box: Sequence[float]) -> list[int]:
        """Return a box in [0, 1] as the numbers that the processor writes."""
        return numbers_in(self.processor.format_box(box))

    def _fits_window(self, requests: Sequence[ClipRequest], texts: list[str]) -> bool:
        """Return whether drafts can be checked: layers with a sliding window count positions in the cache."""
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
    """Return why this model's answers cannot be drafted, with what to do about it; None if they can."""
    text = model.config.get_text_config()
    attention = getattr(text, "_attn_implementation", None)
    if attention not in (None, "sdpa", "eager"):
        return f"attn_implementation={attention!r} takes no arbitrary masks; load the model with 'sdpa' for drafts"
    kinds = set(getattr(text, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"layers of type {', '.join(sorted(kinds))} cannot take tokens back; pass decoding='plain'"
    if constrained:
        return None  # the format decides, not the generation config
    config = model.generation_config
    rules = [name for name, neutral in _NEUTRAL.items() if getattr(config, name, None) not in neutral]
    return f"the generation config sets {', '.join(rules)}; reset it, or pass decoding='plain'" if rules else None


def _allowed(choice: tuple[int, int, tuple[int, ...], int | None], absent_logprob: float | None) -> Sequence[int]:
    """Return the tokens to choose from, after the decision between a box and none."""
    *_, tokens, absent_token = choice
    return tokens if absent_logprob is None else options_of_presence(tokens, absent_token, absent_logprob)
