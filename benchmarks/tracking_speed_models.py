"""Models to time tracking with: random weights of a real size, led along recorded boxes.

Speed does not depend on what weights know, only on what is accepted. A led model computes everything that a trained
one would, and then says the prescribed answer: the boxes recorded with a video, or boxes that move steadily, of
which a share is moved at random, so that drafts are right as often as one likes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LogitsProcessor, PreTrainedTokenizerFast

from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from processing_elysium import ElysiumImageProcessor, ElysiumProcessor
from processing_elysium.prompts import TEMPLATES
from tracking_elysium.answering import ClipAnswerer
from tracking_elysium.drafted_answering import DraftedAnswerer
from tracking_elysium.drafted_row import Chosen
from tracking_elysium.exchange import ClipRequest

# name: (vision width, layers, heads, intermediate, image side), (text width, layers, heads, intermediate), K, pieces
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, int]] = {
    "tiny": ((32, 3, 4, 64, 28), (64, 2, 4, 128), 4, 1000),
    "medium": ((768, 12, 12, 3072, 336), (768, 12, 12, 2048), 108, 32000),
    "7b": ((1024, 24, 16, 4096, 336), (4096, 32, 32, 11008), 108, 32000),
}
_PATCH = 14


def random_model(size: str, device: str, dtype: torch.dtype, seed: int = 0) -> tuple[Any, ElysiumProcessor]:
    """A model of a named size with random weights, and its processor (digits are tokens of their own, as LLaMA's)."""
    vision, text, kept, pieces = SIZES[size]
    processor = ElysiumProcessor(
        ElysiumImageProcessor(size={"height": vision[4], "width": vision[4]}), _tokenizer(), num_image_tokens=kept
    )
    config = ElysiumConfig(
        vision_config={
            "model_type": "clip_vision_model",
            **dict(zip(("hidden_size", "num_hidden_layers", "num_attention_heads"), vision, strict=False)),
            "intermediate_size": vision[3],
            "image_size": vision[4],
            "patch_size": _PATCH if vision[4] > 28 else 7,
        },
        text_config={
            "model_type": "llama",
            **dict(zip(("hidden_size", "num_hidden_layers", "num_attention_heads"), text, strict=False)),
            "intermediate_size": text[3],
            "vocab_size": pieces,
            "max_position_embeddings": 4096,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        image_token_id=processor.image_token_id,
        num_image_tokens=kept,
    )
    torch.manual_seed(seed)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = ElysiumForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(default)
    return model.to(device, dtype).eval(), processor


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE that keeps digits apart: about as many tokens per box as the LLaMA tokenizer."""
    backend = Tokenizer(models.BPE())
    pattern = Regex(r" ?[A-Za-z]+| ?[0-9]|\],| ?[^\sA-Za-z0-9]|\s+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    words = [template for templates in TEMPLATES.values() for template in templates]
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*words, *["Frame 1: [34,40,51,67], Frame 2: [1,2,3,4] ASSISTANT:"] * 99], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<pad>"
    )
    tokenizer.add_tokens([AddedToken("<image>", special=True, normalized=False)], special_tokens=True)
    return tokenizer


class Lead:
    """The answers that a led model gives.

    Args:
        processor: writes them.
        surprise: share of boxes that are not where steady movement puts them; None for the recorded boxes.
        tracks: of each video, boxes (O, F, 4) in [0, 1].
    """

    def __init__(
        self, processor: ElysiumProcessor, surprise: float | None = None, tracks: Sequence[np.ndarray] = ()
    ) -> None:
        self._processor, self._surprise, self._tracks = processor, surprise, tracks

    @staticmethod
    def name(video: int, number: int) -> str:
        """What object `number` of a video is called in questions."""
        return f"object {number} of video {video}"

    def target(self, request: ClipRequest) -> list[int]:
        """Tokens of the answer to a request, its end included: the object is known by its name in the question."""
        question = request.messages[-1]["content"][-1]["text"]
        number, video = map(int, re.search(r"object (\d+) of video (\d+)", question).groups())
        answer = self._processor.render_answer(
            "sot", boxes=[self._box(f.index, number, video) for f in request.frames]
        )
        messages = self._processor.build_messages("chat", 0, question="?", answer=answer)
        whole = self._processor.apply_chat_template(messages, tokenize=False)
        prompt = self._processor.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
        encode = self._processor.tokenizer
        before = len(encode(prompt, add_special_tokens=False)["input_ids"])
        return encode(whole, add_special_tokens=False)["input_ids"][before:]

    def _box(self, frame: int, number: int, video: int) -> np.ndarray:
        if self._surprise is None:
            tracks = self._tracks[video]
            return tracks[number % len(tracks), frame]
        rng = np.random.default_rng(zlib.crc32(f"{frame} {number} {video}".encode()))
        left, top = 0.1 + 0.004 * (frame % 100) + 0.01 * number, 0.2 + 0.01 * number
        box = np.array([left, top, left + 0.25, top + 0.3])
        if rng.random() < self._surprise:
            box += rng.integers(-9, 10, 4) / 100
        return np.clip(box, 0.0, 0.99)


class _Leading(LogitsProcessor):
    def __init__(self, targets: list[list[int]], prompt_length: int) -> None:
        self._targets, self._prompt_length = targets, prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        step = input_ids.shape[1] - self._prompt_length
        scores = scores.clone()
        for row, target in enumerate(self._targets):
            scores[row, target[min(step, len(target) - 1)]] = scores[row].max() + 1.0
        return scores


class LedClipAnswerer(ClipAnswerer):
    """Plain decoding, of a led model if there is a lead.

    Attributes:
        lead: what to say.
        anew: encode the frames of every question, as code that knows one question at a time does.
    """

    lead: Lead | None = None
    anew = False

    def __call__(self, requests: Sequence[ClipRequest]) -> list[Any]:
        """Answer all requests, in order."""
        for frame in {id(frame): frame for request in requests for frame in request.frames}.values():
            frame.features = None if self.anew else frame.features
        return super().__call__(requests)

    def _generate(self, requests: list[ClipRequest], texts: list[str]) -> list[Any]:
        if self.lead is None:
            return super()._generate(requests, texts)
        targets, generate = [self.lead.target(request) for request in requests], self.model.generate

        def led(**kwargs: Any) -> Any:
            kwargs["logits_processor"].insert(0, _Leading(targets, kwargs["input_ids"].shape[1]))
            return generate(**kwargs)

        self.model.generate = led
        try:
            return super()._generate(requests, texts)
        finally:
            del self.model.generate


# How often the embedded checkpoint says the right number behind a wrong one: 75 % of 1 644 numbers of 12 clips and 2
# videos. A led model says the right token so often that it comes to about the same; a number has one or two.
FORESIGHT = 0.86


class LedDraftedAnswerer(DraftedAnswerer):
    """Drafted decoding of a led model; behind a wrong token of a draft it often is wrong itself, see `FORESIGHT`."""

    lead: Lead | None = None

    def _settle(self, rows: list[Any], slots: list[int], chosen: list[list[Chosen]], grow: bool = False) -> None:
        if self.lead is not None:
            chosen = [self._led(row, tokens) for row, tokens in zip(rows, chosen, strict=True)]
        super()._settle(rows, slots, chosen, grow)

    def _led(self, row: Any, answers: list[Chosen]) -> list[Chosen]:
        """What the lead has the model say in place of its own answers, with their log-probabilities."""
        target, first, astray, led = self.lead.target(row.request), len(row.pending) - 1, False, []
        rng = np.random.default_rng(zlib.crc32(f"{row.ticket} {len(row.ids)}".encode()))
        for (index, *_), (_, *logprobs) in zip(row.choices(), answers, strict=True):
            drafted = row.draft[index - first] if index - first < len(row.draft) else None
            right = target[min(len(row.ids) + index - first, len(target) - 1)]
            told = right if drafted is None or not astray or rng.random() < FORESIGHT else drafted
            led.append((told, *logprobs))
            astray |= drafted != right
        return led
