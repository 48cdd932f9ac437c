"""Greedy decoding that drafts the next boxes of an answer and checks many tokens in one forward pass.

Answers full of boxes repeat a pattern: the text between the numbers is known, and the numbers change little. A drafter
continues the pattern; the model reads the draft in one pass, and only the tokens it would have chosen itself are kept
(speculative decoding, Leviathan et al., arXiv 2211.17192; drafts from the text: prompt lookup decoding). After the
first wrong token the pass has still read the rest of the draft: what it would have put there is the next guess of a
number (Jacobi decoding, Santilli et al., arXiv 2305.10427).

This file stands alone: `model.generate(..., custom_generate=FOLDER, trust_remote_code=True)` loads nothing else.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any

import torch
from transformers import StoppingCriteriaList, StopStringCriteria
from transformers.generation.utils import GenerateDecoderOnlyOutput

NUMBER = -1  # stands for any number in a pattern, where a token id stands for itself
WINDOW = 16  # units of text that are compared where a repetition is looked for
SEARCHED = 768  # units of text in which it is looked for, the end of the prompt included
SHORTEST_DRAFT = 16  # tokens
BOX = re.compile(r"\[\s*[\d.]+(?:\s*,\s*[\d.]+){3}\s*\]")  # ours, Qwen-VL's JSON, Shikra's decimals


@dataclass
class DraftedOutput(GenerateDecoderOnlyOutput):
    """What `return_dict_in_generate=True` returns: the fields of greedy decoding, and what it cost.

    Attributes:
        passes: forward passes of the model, that of the prompt included.
        new_tokens: generated tokens; greedy decoding has as many passes.
        boxes: boxes in the generated text; None without a tokenizer.
    """

    passes: int | None = None
    new_tokens: int | None = None
    boxes: int | None = None

    @property
    def passes_per_token(self) -> float:
        """Forward passes per generated token; 1.0 in greedy decoding."""
        return self.passes / self.new_tokens

    @property
    def passes_per_box(self) -> float | None:
        """Forward passes per box of the answer; None where there is no box or no tokenizer."""
        return self.passes / self.boxes if self.boxes else None


def generate(model: Any, tokenizer: Any = None, max_draft: int = 64, **kwargs: Any) -> Any:
    """Generate one answer: the tokens of `model.generate(..., do_sample=False)` in fewer forward passes.

    Args:
        model: a decoder-only language model, with or without vision, whose cache can be cropped.
        tokenizer: the model's. With it numbers are understood as numbers, and drafts are much better; without it
            drafts copy tokens of earlier text.
        max_draft: most tokens of a draft.
        **kwargs: those of `model.generate`, for one sequence and greedy decoding.

    Returns:
        Token ids (1, prompt + new), or with `return_dict_in_generate=True` a `DraftedOutput`.

    Raises:
        ValueError: for what greedy decoding of one sequence excludes, and models that cannot go back in their text.
    """
    if isinstance(max_draft, bool) or not isinstance(max_draft, int) or max_draft < 1:
        raise ValueError(f"max_draft must be a whole number >= 1, got {max_draft!r}. 64 is the default.")
    for name in ("assistant_model", "prompt_lookup_num_tokens", "synced_gpus"):
        if kwargs.get(name):
            raise ValueError(f"{name} cannot be used with drafted boxes, got {kwargs[name]!r}. Leave it out.")
    if getattr(model.config, "is_encoder_decoder", False) or getattr(model, "_is_stateful", False):
        raise ValueError(
            f"{type(model).__name__} is not a decoder-only model whose cache can be cropped (an attention cache)."
            " Call generate without custom_generate."
        )
    stop_strings = kwargs.pop("stop_strings", None)
    if stop_strings:
        if tokenizer is None:
            raise ValueError(f"stop_strings={stop_strings!r} needs tokenizer=.... Pass the model's tokenizer.")
        criteria = kwargs.pop("stopping_criteria", None) or []
        kwargs["stopping_criteria"] = StoppingCriteriaList([*criteria, StopStringCriteria(tokenizer, stop_strings)])
    loop = functools.partial(_decode, drafts_by=tokenizer, max_draft=max_draft, answer_streamer=kwargs.get("streamer"))
    # Of the class, because `generate` of the instance may be this function. It prepares inputs, cache and criteria.
    return type(model).generate(model, **kwargs, custom_generate=loop)


def _check(input_ids: torch.Tensor, config: Any, model_kwargs: dict[str, Any]) -> None:
    """Raise ValueError for settings with which a draft cannot be checked against greedy decoding."""
    wanted = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1}
    for name, value in wanted.items():
        if (getattr(config, name, None) or value) != value:
            raise ValueError(
                f"{name}={getattr(config, name)!r}, but drafted boxes are greedy decoding. Pass {name}={value} "
                "(the checkpoint's generation_config may say otherwise)."
            )
    if input_ids.shape[0] != 1:
        raise ValueError(f"input_ids must have batch size 1, got {input_ids.shape[0]}. Call generate once a sequence.")
    for name in ("output_attentions", "output_hidden_states", "prompt_lookup_num_tokens"):
        if getattr(config, name, None):
            raise ValueError(f"{name}={getattr(config, name)!r} cannot be used with drafted boxes. Leave it out.")
    if not model_kwargs.get("use_cache", True) or config.cache_implementation not in (None, "dynamic", "dynamic_full"):
        raise ValueError(
            "drafted boxes need a cache that can be cropped, got "
            f"use_cache={model_kwargs.get('use_cache')}, cache_implementation={config.cache_implementation!r}. "
            "Leave both out."
        )
    layers = getattr(model_kwargs.get("past_key_values"), "layers", [])
    if not all(hasattr(layer, "crop") for layer in layers):
        raise ValueError(
            f"past_key_values={type(model_kwargs['past_key_values']).__name__} is not a cache that can be cropped. "
            "Leave it out, or pass a DynamicCache."
        )
    for name in ("cross_attention_mask", "image_attention_mask"):
        if model_kwargs.get(name) is not None:
            raise ValueError(f"models with {name} are not supported. Call generate without custom_generate.")


def _decode(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    drafts_by: Any = None,
    max_draft: int = 64,
    answer_streamer: Any = None,
    **model_kwargs: Any,
) -> Any:
    """Decode one sequence; called by `model.generate` with everything prepared."""
    _check(input_ids, generation_config, model_kwargs)
    drafter = Drafter(drafts_by, input_ids[0].tolist())
    answer = Answer(input_ids, logits_processor, stopping_criteria, answer_streamer)
    outputs = model._prefill(input_ids, generation_config, model_kwargs)
    passes, draft = 1, []
    while True:
        logits = outputs.logits[:, -len(draft) - 1 :].to(dtype=torch.float32, device=input_ids.device)
        taken = answer.take(logits, draft)
        drafter.settle(answer.tokens[-taken:], logits[0].argmax(-1).tolist(), max_draft)
        cache = outputs.past_key_values
        if passes > 1:
            cache.crop(-(len(draft) + 1 - taken))  # also for 0: layers with a sliding window shrink to it
        elif not answer.finished:
            cache.activate_past_recording()
        model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs, num_new_tokens=taken)
        if answer.finished:
            break
        # Every pass gives one token more than it accepts, so no pass is spent on a token over the limit.
        draft = drafter.draft(min(max_draft, generation_config.max_length - answer.ids.shape[1] - 1))
        outputs = _read(model, answer.ids, draft, model_kwargs)
        passes += 1
    if answer_streamer is not None:
        answer_streamer.end()
    if not generation_config.return_dict_in_generate:
        return answer.ids
    return DraftedOutput(
        sequences=answer.ids,
        scores=tuple(answer.scores) if generation_config.output_scores else None,
        logits=tuple(answer.logits) if generation_config.output_logits else None,
        past_key_values=cache,
        passes=passes,
        new_tokens=len(answer.tokens),
        boxes=None if drafts_by is None else len(BOX.findall(drafts_by.decode(answer.tokens))),
    )


def _read(model: Any, ids: torch.Tensor, draft: list[int], model_kwargs: dict[str, Any]) -> Any:
    """Run the model over the last token and the draft; the cache grows by both."""
    kwargs = dict(model_kwargs)
    if draft:  # masks, positions and token types grow with the draft
        kwargs = model._update_model_kwargs_for_generation({}, kwargs, num_new_tokens=len(draft))
        ids = torch.cat([ids, ids.new_tensor([draft])], dim=-1)
    inputs = model.prepare_inputs_for_generation(ids, next_sequence_length=len(draft) + 1, **kwargs)
    if "logits_to_keep" in inputs:
        inputs["logits_to_keep"] = len(draft) + 1
    return model(**inputs, return_dict=True)


class Answer:
    """The sequence so far, extended token by token exactly as greedy decoding does it.

    Args:
        ids: the prompt (1, T).
        logits_processor: applied before every choice.
        stopping_criteria: asked after every token.
        streamer: gets every token, or None.
    """

    def __init__(self, ids: torch.Tensor, logits_processor: Any, stopping_criteria: Any, streamer: Any) -> None:
        self.ids = ids
        self.tokens: list[int] = []
        self.scores: list[torch.Tensor] = []
        self.logits: list[torch.Tensor] = []
        self.finished = False
        self._processor, self._criteria, self._streamer = logits_processor, stopping_criteria, streamer

    def take(self, logits: torch.Tensor, draft: list[int]) -> int:
        """Add the tokens that the model chose, up to the first that differs from the draft.

        Args:
            logits: (1, len(draft) + 1, V) of the last token and the draft.
            draft: the tokens that were read.

        Returns:
            Tokens added, at least one.
        """
        for step in range(len(draft) + 1):
            scores = self._processor(self.ids, logits[:, step].clone())
            chosen = scores.argmax(dim=-1)
            self.ids = torch.cat([self.ids, chosen[:, None].to(self.ids.dtype)], dim=-1)
            self.tokens.append(int(chosen))
            self.scores.append(scores)
            self.logits.append(logits[:, step])
            if self._streamer is not None:
                self._streamer.put(chosen.cpu())
            self.finished = bool(self._criteria(self.ids, tuple(self.scores)).all())
            if self.finished or step == len(draft) or self.tokens[-1] != draft[step]:
                break
        return step + 1


class Pieces:
    """What tokens look like as text, and numbers as tokens; without a tokenizer no token is part of a number."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[int, str] = {}
        self._numbers: dict[str, list[int]] = {}

    def text(self, token: int) -> str:
        """Return the text of a token with the space before it; "" without a tokenizer."""
        if self._tokenizer is None:
            return ""
        if token not in self._texts:
            piece = self._tokenizer.convert_ids_to_tokens(token)
            piece = piece.decode("utf-8", "replace") if isinstance(piece, bytes) else piece or ""
            self._texts[token] = re.sub("[▁Ġ]", " ", piece)
        return self._texts[token]

    def number(self, text: str) -> list[int]:
        """Return the tokens of a number inside a list, its leading space included; [] where that is not certain."""
        if text not in self._numbers:
            tokens = self._tokenizer.encode("," + text, add_special_tokens=False)
            starts = [i for i in range(len(tokens)) if "".join(map(self.text, tokens[i:])) == text]
            self._numbers[text] = tokens[starts[0] :] if starts else []
        return self._numbers[text]


class Drafter:
    """Continues the pattern of a text whose units are numbers and the tokens between them.

    Args:
        tokenizer: see `generate`.
        prompt: token ids before the answer.
    """

    def __init__(self, tokenizer: Any, prompt: list[int]) -> None:
        self._pieces = Pieces(tokenizer)
        self._keys: list[int] = []  # a token id, or NUMBER
        self._texts: list[str] = []  # of the numbers; "" for other units
        self._open: list[int] = []  # tokens of the number that the text ends with
        self._proposed: dict[int, str] = {}  # unit -> number that the model would have put there
        self._draft: list[int] = []
        self._drafted: list[tuple[int, int, str]] = []  # (unit, its start in the draft, text) of drafted numbers
        self._length = SHORTEST_DRAFT
        for token in prompt[-SEARCHED:]:
            self._feed(token)

    def _feed(self, token: int) -> None:
        piece = self._pieces.text(token)
        goes_on = bool(self._open) and (piece.isdecimal() or (piece == "." and "." not in self._texts[-1]))
        if goes_on:
            self._texts[-1] += piece
            self._open.append(token)
            return
        starts = piece.strip(" ").isdecimal()
        self._keys.append(NUMBER if starts else token)
        self._texts.append(piece if starts else "")
        self._open = [token] if starts else []

    def settle(self, taken: list[int], chosen: list[int], max_draft: int) -> None:
        """Take the tokens that were added, and learn from what the model chose in place of the whole draft.

        Args:
            taken: tokens that the answer now has in addition.
            chosen: the model's choice at each place of the draft and after it.
            max_draft: most tokens of a draft.
        """
        accepted = len(taken) - 1
        self._proposed = {}
        for unit, start, text in self._drafted:
            if start > accepted:
                tokens = self._pieces.number(text)
                length = next((i for i, t in enumerate(tokens) if chosen[start + i] != t), len(tokens) - 1) + 1
                said = "".join(map(self._pieces.text, chosen[start : start + length]))
                fitted = fit(text, said) if re.fullmatch(r" *\d+(\.\d*)?", said) else None
                self._proposed[unit] = fitted or text
        wanted = 2 * (len(self._draft) if accepted == len(self._draft) else accepted)
        self._length = min(max_draft, max(SHORTEST_DRAFT, wanted))
        for token in taken:
            self._feed(token)

    def draft(self, most: int) -> list[int]:
        """Return up to `most` tokens that may come next; none where nothing like the end of the text came before."""
        self._draft, self._drafted = [], []
        period = self._period()
        most = min(most, self._length)
        if not period or most < 1:
            return []
        keys, texts = list(self._keys), list(self._texts)
        if self._open:
            unit = len(keys) - 1
            guess = self._guess(unit, period, keys, texts)
            fitted = None if guess is None else fit(guess, texts[unit])
            if fitted is not None:
                tokens = self._pieces.number(fitted)
                if tokens[: len(self._open)] != self._open:
                    return []
                texts[unit] = fitted
                self._draft += tokens[len(self._open) :]
        while len(self._draft) < most:
            unit = len(keys)
            keys.append(keys[unit - period])
            guess = self._guess(unit, period, keys, texts) if keys[unit] == NUMBER else None
            tokens = [keys[unit]] if keys[unit] != NUMBER else self._pieces.number(guess or "")
            if not tokens:
                break
            texts.append(guess or "")
            if guess and len(self._draft) + len(tokens) <= most:
                self._drafted.append((unit, len(self._draft), guess))
            self._draft += tokens
        self._draft = self._draft[:most]
        return self._draft

    def _period(self) -> int:
        """Return how many units ago the text was most like now, the latest such place; 0 where it never was.

        Alike is a place whose last two units are the same, or more than half of the window: the unit where a draft
        went wrong differs, and most of what is around it does not.
        """
        keys = self._keys[-SEARCHED:]
        last = keys[: -WINDOW - 1 : -1]  # backwards
        best, most = 0, 0
        for period in range(1, len(keys) - 1):
            if self._open and keys[-1 - period] != NUMBER:
                continue
            earlier = keys[max(len(keys) - period - WINDOW, 0) : len(keys) - period][::-1]
            same = [a == b for a, b in zip(last, earlier, strict=False)]
            run = same.index(False) if False in same else len(same)
            if (run >= 2 or sum(same) > len(last) // 2) and sum(same) + run > most:
                best, most = period, sum(same) + run
        return best

    def _guess(self, unit: int, period: int, keys: list[int], texts: list[str]) -> str | None:
        """Return the number that a unit may be, from the numbers one, two and three periods before it.

        It goes on by its last step, or stays, whichever would have been right, or nearer, the last time.
        """
        if unit in self._proposed:
            return self._proposed[unit]
        past: list[str] = []
        while len(past) < 3 and (unit := unit - period) >= 0 and keys[unit] == NUMBER:
            past.append(texts[unit])
        if len(past) < 2 or len({_decimals(text) for text in past}) > 1:
            return past[0] if past else None
        values = [_whole(text) for text in past]
        step = values[0] - values[1]
        if len(past) == 3 and abs(values[0] - values[1]) <= abs(step - (values[1] - values[2])):
            step = 0
        return _written(max(values[0] + step, 0), past[0])


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])


def _whole(text: str) -> int:
    """Return a number without its point: "0.123" is 123."""
    return int(text.replace(".", ""))


def _written(value: int, like: str) -> str:
    """Write a whole number with the leading space, the leading zeros and the decimals of another."""
    digits, decimals = like.strip().replace(".", ""), _decimals(like)
    text = str(value).zfill(len(digits) if digits.startswith("0") else decimals + 1)
    point = "." if "." in like else ""
    text = text[: len(text) - decimals] + point + text[len(text) - decimals :]
    return like[: len(like) - len(like.lstrip())] + text


def fit(guess: str, begun: str) -> str | None:
    """Return the number nearest to a guess, as long as it, that begins with the text `begun`; None where none does."""
    if guess.startswith(begun):
        return guess
    missing = len(guess.strip().replace(".", "")) - len(begun.strip().replace(".", ""))
    if missing < 0:
        return None
    lowest = _whole(begun) * 10**missing
    fitted = _written(min(max(_whole(guess), lowest), lowest + 10**missing - 1), guess)
    return fitted if fitted.startswith(begun) else None
