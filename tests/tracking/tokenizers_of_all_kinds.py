"""Processors whose tokenizers write boxes in different ways: digits apart, numbers whole, `],` in one."""

from __future__ import annotations

from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from processing_elysium import ElysiumImageProcessor, ElysiumProcessor
from processing_elysium.prompts import TEMPLATES
from tests.modeling.released_checkpoints import llama_like_tokenizer
from tests.processing.tiny_processor import tiny_processor

KINDS = ("characters", "numbers", "released")


@cache
def processor_of(kind: str) -> ElysiumProcessor:
    """`"characters"`: one token each; `"numbers"`: `34` and `],` are single tokens; `"released"`: sentencepiece-like
    with the authors' conventions (word boundaries, a final period, numbers beyond the frame)."""
    if kind == "characters":
        return tiny_processor()
    images = ElysiumImageProcessor(size={"height": 28, "width": 28})
    if kind == "numbers":
        return ElysiumProcessor(images, merging_tokenizer(), num_image_tokens=4)
    tokenizer = llama_like_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.pad_token = tokenizer.unk_token
    return ElysiumProcessor(images, tokenizer, num_image_tokens=4, compat="released")


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE over words, numbers and `],`, trained on the answers it has to write."""
    backend = Tokenizer(models.BPE())
    pattern = Regex(r" ?[A-Za-z]+| ?[0-9]{1,3}|\],| ?[^\sA-Za-z0-9]|\s+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    numbers = [f"Frame {n}: [{n},{n},{n},{n}], Frame {n}: [{n},{n}]" for n in range(100)]
    words = [template for templates in TEMPLATES.values() for template in templates]
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*numbers * 4, *words, "USER: ASSISTANT:"], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<pad>"
    )
    tokenizer.add_tokens([AddedToken("<image>", special=True, normalized=False)], special_tokens=True)
    return tokenizer
