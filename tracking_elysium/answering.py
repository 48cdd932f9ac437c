"""Clip prompts in, texts and token probabilities out: the one place where tracking meets `generate`.

`ClipAnswerer` is the plain way: the library's own greedy `generate` on a left-padded batch. `DraftedAnswerer` of
`drafted_answering.py` gives the same answers (`list[ClipRequest]` -> `list[ClipAnswer]`) faster; this one stays its
slow twin.
Frames are encoded once, however many objects and questions are asked about them, and a frame that two clips share
keeps its features (`VideoFrame.features`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from .answer_format import AnswerFormat, AnswerFormats, Cursor, options_of_presence
from .exchange import ClipAnswer, ClipRequest, count_digits
from .frame_encoding import FrameEncoder, joined_features
from .options import TrackingOptions, check_count
from .protocols import Processor
from .stats import Stats


class ClipAnswerer(FrameEncoder):
    """Answers clip requests with the library's greedy `generate`.

    Args:
        model: an `ElysiumForConditionalGeneration`, or peft's wrapper around one; it is put into evaluation mode, so
            that a model straight from a trainer answers without dropout.
        processor: see `Processor`.
        batch_size: prompts per `generate` call.
        vision_memory_mb: bounds the frames per pass of the vision tower: its widest activation takes at most so many
            MiB. None: 16 on a CPU, where what stays in its caches is faster, 512 elsewhere.
        constrained: tracking answers follow the processor's format: tokens that break it are not chosen, so an answer
            always parses and has every frame. Other answers stay free.
        stats: where to count; None: in an object of its own.

    Attributes:
        stops: token ids that end an answer.
    """

    def __init__(
        self,
        model: Any,
        processor: Processor,
        batch_size: int = 16,
        vision_memory_mb: int | None = None,
        constrained: bool = TrackingOptions.constrained,
        stats: Stats | None = None,
    ) -> None:
        check_count("batch_size", batch_size)
        check_count("vision_memory_mb", vision_memory_mb, optional=True)
        stats = stats if stats is not None else Stats()
        super().__init__(without_wrapper(model).eval(), processor, vision_memory_mb, stats)
        model = self.model
        self.batch_size, self.constrained = batch_size, constrained
        self.stops = _stop_ids(model.generation_config, processor.tokenizer)
        self._formats = AnswerFormats(processor, self.stops)
        self._warned = False
        self._budgets: dict[int, int] = {}

    @torch.inference_mode()
    def __call__(self, requests: Sequence[ClipRequest]) -> list[ClipAnswer]:
        """Answer all requests, in order; rows of similar length share a batch.

        Raises:
            ValueError: a prompt and its answer do not fit the model's context.
        """
        requests = [self._with_words(request) for request in requests]
        texts = [self._render(request) for request in requests]
        for request, text in zip(requests, texts, strict=True):
            self._check_length(text, len(request.frames), self.budget(request))
        self.encode_frames([frame for request in requests for frame in request.frames])
        answers: dict[int, ClipAnswer] = {}
        order = sorted(range(len(requests)), key=lambda row: -len(texts[row]))
        for first in range(0, len(order), self.batch_size):
            rows = order[first : first + self.batch_size]
            batch = self._generate([requests[row] for row in rows], [texts[row] for row in rows])
            for row, answer in zip(rows, batch, strict=True):
                answers[row] = answer
        return [answers[row] for row in range(len(requests))]

    def check_fits(self, requests: Sequence[ClipRequest]) -> None:
        """Raise ValueError when one of the requests does not fit the context; run no model, need no pixels."""
        for request in requests:
            self._check_length(self._render(request), len(request.frames), self.budget(request))

    def budget(self, request: ClipRequest) -> int:
        """Return the most tokens of an answer: what the clip's boxes need, and a quarter more for prose."""
        if request.max_new_tokens is not None:
            return request.max_new_tokens
        if self.constrained and (answer_format := self.format_of(request)) is not None:
            return answer_format.most_tokens
        count = len(request.frames)
        if count not in self._budgets:
            box = self.processor.format_box((0.88, 0.88, 0.89, 0.89))
            skeleton = ", ".join(f"Frame {number}: {box}" for number in range(1, count + 1))
            tokens = self._count_tokens(skeleton)
            self._budgets[count] = tokens + tokens // 4 + 8
        return self._budgets[count]

    def format_of(self, request: ClipRequest) -> AnswerFormat | None:
        """Return the format of a tracking answer to the request; None for other answers."""
        count = len(request.frames)
        spare = 0 if self.constrained else count // 2 + 8  # a model that is free may go on past the last frame
        grounds = request.expression is not None
        answer_format = self._formats.of(count, spare, grounds) if request.expects_boxes else None
        if self.constrained and request.expects_boxes and answer_format is None and not self._warned:
            self._warned = True
            warnings.warn(
                "this tokenizer joins the numbers of a box with what surrounds them, so answers cannot be held to the "
                "format and stay free; pass constrained=False.",
                stacklevel=2,
            )
        return answer_format

    # ----------------------------------------------------------------------------------------------------------
    def _with_words(self, request: ClipRequest) -> ClipRequest:
        """Return a request whose frames know what is looked for in them, where features depend on it."""
        if not self.uses_expressions or request.expression is None:
            return request
        return replace(request, frames=[frame.asked(request.expression) for frame in request.frames])

    def _render(self, request: ClipRequest) -> str:
        return self.processor.apply_chat_template(request.messages, add_generation_prompt=True, tokenize=False)

    def _check_length(self, text: str, num_frames: int, new_tokens: int) -> None:
        config = self.model.config
        limit = getattr(config.get_text_config(), "max_position_embeddings", None)
        if limit is None:
            return
        words = self._count_tokens(text) - num_frames
        original = getattr(config, "position_ids_mode", "packed") == "original"
        per_frame = config.num_patches if original else self.processor.num_image_tokens
        needed = words + num_frames * per_frame + new_tokens
        if needed > limit:
            between = self._count_tokens(
                "".join(text.split(self.processor.image_token)[1:-1])
            )  # "Frame 2: " and so on
            growing = between / max(num_frames - 1, 1) + per_frame + new_tokens / max(num_frames, 1)
            most = max(int((limit - (words - between)) // growing), 0)
            raise ValueError(
                f"{num_frames} frames need {needed} positions (prompt {words}, {per_frame} per frame, answer "
                f"{new_tokens}), but the model's context holds {limit}, about {most} frames: lower `clip_len` and "
                f"`single_pass_up_to` (or `num_frames`) to at most {most}, or take a model with a longer context."
            )

    def _count_tokens(self, text: str) -> int:
        return len(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _generate(self, requests: list[ClipRequest], texts: list[str]) -> list[ClipAnswer]:
        token = self.processor.image_token
        expanded = [text.replace(token, token * self.processor.num_image_tokens) for text in texts]
        tokenizer, device = self.processor.tokenizer, self.model.device
        inputs = tokenizer(
            expanded, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
        ).to(device)
        frames = [frame for request in requests for frame in request.frames]
        prompt_length = inputs["input_ids"].shape[1]
        recorder: _GrammarProcessor | _GreedyLogprobs = _GreedyLogprobs()
        if self.constrained:
            recorder = _GrammarProcessor([self.format_of(request) for request in requests], tokenizer, prompt_length)
        limits = [self.budget(request) for request in requests]
        clock = _PromptClock()
        with self.stats.timed("llm"):
            generated = self.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                mm_encoder_outputs={"image": joined_features(frames)},
                logits_processor=LogitsProcessorList([clock, recorder]),
                max_new_tokens=max(limits),
                do_sample=False,
                num_beams=1,
                pad_token_id=tokenizer.pad_token_id,
            )
        self.stats.seconds["prefill"] += clock.seconds
        self.stats.seconds["llm"] -= clock.seconds
        new_tokens = generated[:, prompt_length:].tolist()
        logprobs = recorder.stacked().tolist()
        self._count(new_tokens, limits)
        answers = [
            finish_answer(ids, row_logprobs, self.stops, limit, tokenizer)
            for ids, row_logprobs, limit in zip(new_tokens, logprobs, limits, strict=True)
        ]
        if isinstance(recorder, _GrammarProcessor):
            for answer, limit, absences in zip(answers, limits, recorder.absences, strict=True):
                known = {frame: logprob for frame, (index, logprob) in absences.items() if index < limit}
                answer.absent_logprobs = known
        return answers

    def _count(self, new_tokens: list[list[int]], limits: list[int]) -> None:
        """Count what rows took: each a pass per token, the one that ends it included."""
        self.stats.forwards += max(map(len, new_tokens))
        self.stats.answers += len(new_tokens)
        for ids, limit in zip(new_tokens, limits, strict=True):
            end = next((count for count, token in enumerate(ids, start=1) if token in self.stops), len(ids))
            self.stats.tokens += min(end, limit)
            self.stats.row_forwards += min(end, limit)


def without_wrapper(model: Any) -> Any:
    """Return the Elysium model inside a `PeftModel`, its adapter layers in place; any other model as it is.

    Raises:
        ValueError: the adapter adds virtual tokens, which only the wrapper's own forward pass knows.
    """
    if not hasattr(model, "get_base_model"):
        return model
    adapter = getattr(model, "active_peft_config", None)
    if getattr(adapter, "is_prompt_learning", False):
        raise ValueError(
            f"`model` has a {adapter.peft_type.value} adapter, whose virtual tokens the pipeline cannot place; use an "
            "adapter inside the layers, such as LoRA."
        )
    return model.get_base_model()


class _GreedyLogprobs(LogitsProcessor):
    """Records the log-probability of the most likely token of each step: the one that greedy decoding takes.

    Keeping `scores` of all steps instead would hold steps x rows x vocabulary floats.
    """

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return the scores (B, V) unchanged."""
        wide = scores.float()
        self.steps.append(wide.amax(dim=-1) - wide.logsumexp(dim=-1))
        return scores

    def stacked(self) -> torch.Tensor:
        """Return the log-probabilities, (B, steps)."""
        return torch.stack(self.steps, dim=1).cpu()


class _GrammarProcessor(LogitsProcessor):
    """For `generate`: allow only tokens of the format, and record the log-probability of the one that is taken.

    The slow twin of constrained drafting: the model is asked for every token, and nothing is kept between steps.

    Args:
        formats: one format per row of the batch, None where the answer is free.
        tokenizer: see `Cursor`.
        prompt_length: tokens before the answers, padding included.
    """

    def __init__(self, formats: list[AnswerFormat | None], tokenizer: Any, prompt_length: int) -> None:
        self._formats, self._tokenizer, self._prompt_length = formats, tokenizer, prompt_length
        self.steps: list[torch.Tensor] = []
        # For each row frame_in_clip -> (index of the token that was chosen, log-probability that it ends the box).
        self.absences: list[dict[int, tuple[int, float]]] = [{} for _ in formats]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Set the scores (B, V) of tokens that are not allowed to -inf."""
        wide = scores.float()
        total, allowed = wide.logsumexp(dim=-1), scores.clone()
        certain = torch.zeros(len(wide), dtype=torch.bool, device=wide.device)
        for row, answer_format in enumerate(self._formats):
            if answer_format is None:
                continue
            cursor = Cursor(answer_format, self._tokenizer)
            for token in input_ids[row, self._prompt_length :].tolist():
                cursor.feed(token)
            options = list(cursor.options())
            if not options:
                continue
            if cursor.presence_token is not None:
                logprob = (wide[row, cursor.presence_token] - total[row]).item()
                self.absences[row][cursor.frame_in_clip] = (len(self.steps), logprob)
                options = options_of_presence(options, cursor.presence_token, logprob)
            allowed[row] = -torch.inf
            allowed[row, options] = scores[row, options]
            if len(options) == 1:
                # A choice between a box and none was one, whatever came of it: its token keeps its probability.
                allowed[row, options], certain[row] = 0.0, cursor.presence_token is None
        taken = allowed.argmax(dim=-1, keepdim=True)
        self.steps.append((wide.gather(1, taken)[:, 0] - total).masked_fill(certain, 0.0))
        return allowed

    def stacked(self) -> torch.Tensor:
        """Return the log-probabilities, (B, steps)."""
        return torch.stack(self.steps, dim=1).cpu()


class _PromptClock(LogitsProcessor):
    """Measures the pass over the prompts within `generate`: it ends when the first scores are there."""

    def __init__(self) -> None:
        self._started, self.seconds = time.perf_counter(), 0.0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return the scores (B, V) unchanged."""
        self.seconds = self.seconds or time.perf_counter() - self._started
        return scores


def finish_answer(ids: list[int], logprobs: list[float], stops: set[int], limit: int, tokenizer: Any) -> ClipAnswer:
    """Cut one row at its end (or at its own budget, so that a batch gives what single rows give) and decode it."""
    end = next((index for index, token in enumerate(ids) if token in stops), len(ids))
    kept = ids[: min(end, limit)]
    text = tokenizer.decode(kept, skip_special_tokens=True)
    return ClipAnswer(text=text, logprobs=logprobs[: len(kept)], token_of_digit=_token_of_digit(kept, text, tokenizer))


def _token_of_digit(ids: list[int], text: str, tokenizer: Any) -> list[int]:
    """Return which token wrote each digit of the text; empty when that cannot be told.

    Digits are counted instead of characters, because decoding may drop or merge the spaces between pieces.
    """
    own = set(ids).difference(tokenizer.all_special_ids)
    digits = {token: count_digits(tokenizer.decode([token])) for token in own}  # an answer repeats few tokens
    owners = [index for index, token in enumerate(ids) for _ in range(digits.get(token, 0))]
    return owners if len(owners) == count_digits(text) else []


def _stop_ids(generation_config: Any, tokenizer: Any) -> set[int]:
    ids = generation_config.eos_token_id
    listed = [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
    return {token for token in [*listed, tokenizer.eos_token_id] if token is not None}
