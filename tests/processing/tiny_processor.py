"""A processor small enough to build in every test: word-level tokenizer, 28 x 28 pixels, 4 tokens a frame."""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from processing_elysium import ElysiumImageProcessor, ElysiumProcessor


def tiny_tokenizer(padding_side: str | None = None) -> PreTrainedTokenizerFast:
    """Characters as tokens, with Llama's special ids 0-2 and `<image>` at the end."""
    specials = ["<unk>", "<s>", "</s>"]
    characters = [chr(code) for code in range(32, 127)] + ["\n"]
    vocabulary = {token: index for index, token in enumerate(specials + characters)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    extra = {} if padding_side is None else {"padding_side": padding_side}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>", **extra
    )
    tokenizer.add_tokens([AddedToken("<image>", special=True, normalized=False)], special_tokens=True)
    return tokenizer


def tiny_processor(size: int = 28, num_image_tokens: int = 4, **fields: object) -> ElysiumProcessor:
    """`ElysiumProcessor` around `tiny_tokenizer`."""
    image_processor = ElysiumImageProcessor(size={"height": size, "width": size})
    return ElysiumProcessor(image_processor, tiny_tokenizer(), num_image_tokens=num_image_tokens, **fields)
