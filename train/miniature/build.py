"""A small Elysium model from nothing: tokenizer, configuration, initial weights, processor.

The paper starts from a pretrained CLIP and Vicuna. Where neither can be had, this makes the same classes at small
size, with an initialization that learns quickly: positions and numbers start as sines and cosines, so that nearby
positions and nearby numbers start out alike.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any, cast

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast, set_seed

from dataset_scripts.synthetic import COLORS, MOTIONS, SHAPES, SIZES, TEXTURES
from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from processing_elysium import ElysiumImageProcessor, ElysiumProcessor
from processing_elysium.boxes import GRID, format_boxes
from processing_elysium.prompts import TEMPLATES

from .config import BuildConfig

__all__ = ["build_model", "build_tokenizer"]

EMBEDDING_SCALE = 0.5
LOOK_UP_SHARPNESS = 1.6
COPY_STRENGTH = 0.7
PAD, BOS, EOS, IMAGE = "<pad>", "<s>", "</s>", "<image>"
_NUMBERS = range(GRID + 1)
# Words with their space, numbers (each of 0..GRID becomes one piece), other signs one by one but for "],", and white
# space. Nothing may grow together with the colon of "ASSISTANT:", where the prompt ends and the answer begins.
_SPLIT = rf" ?[A-Za-z]+| ?[0-9]{{1,{len(str(GRID))}}}|\],| ?[^\sA-Za-z0-9]|\s+"

_SYSTEM = re.compile(r'set vicuna = "[^"]*"')


def build_tokenizer(vocab_size: int, captions: Sequence[str] | None = None) -> PreTrainedTokenizerFast:
    """Build a byte-level BPE that knows our prompts, captions and the numbers 0 to GRID as single pieces.

    Any text can be encoded (unknown words fall back to bytes) and decodes to itself.

    Args:
        vocab_size: pieces, special tokens included.
        captions: words that answers will hold; None for those of the synthetic dataset.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    # Numbers first: they must each become one piece, so they are seen most often.
    numbers = [text for n in _NUMBERS for text in (str(n), f" {n}")] * 200
    words = [w for templates in TEMPLATES.values() for t in templates for w in (t, t.replace("{", " {"))] * 4
    if captions is None:
        looks = itertools.product(SIZES, TEXTURES, COLORS, SHAPES, MOTIONS)
        captions = [f"a {s} {t} {c} {h} {m}" for s, t, c, h, m in looks]
    written = format_boxes([(0.23, 0.45, 0.46, 0.72), (0.05, 0.01, 0.07, 0.09)])
    boxes = [f"USER: {written}.\nASSISTANT: the object, the"] * 500
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS, IMAGE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(itertools.chain(numbers, words, captions, boxes), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[IMAGE],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    for text in map(str, _NUMBERS):
        assert len(fast.encode(text, add_special_tokens=False)) == 1, f"{text} is not one piece: raise vocab_size"
    return fast


def build_model(build: BuildConfig, seed: int) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """Build a new model with random weights, and its processor.

    Args:
        build: sizes.
        seed: of the weights.
    """
    tokenizer = build_tokenizer(build.vocab_size)
    vision: Any = CLIPVisionConfig(**build.vision)
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **build.text,
    )
    config = ElysiumConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=cast(int, tokenizer.convert_tokens_to_ids(IMAGE)),
        **build.elysium,
    )
    set_seed(seed)
    model = ElysiumForConditionalGeneration(config)
    _start_well(model, tokenizer)
    processor = ElysiumProcessor(
        image_processor=ElysiumImageProcessor(size={"height": vision.image_size, "width": vision.image_size}),
        tokenizer=tokenizer,
        num_image_tokens=config.num_image_tokens,
    )
    # The Vicuna system message would be 40 constant tokens in front of every small prompt.
    processor.chat_template = _SYSTEM.sub('set vicuna = ""', cast(str, processor.chat_template), count=1)
    return model, processor


@torch.no_grad()
def _start_well(model: ElysiumForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
    """Change the random weights so that a small model soon learns to look things up instead of ignoring the image.

    Positions and numbers start as sines and cosines. Embeddings are as large as what the layers add to them and the
    layers' outputs are scaled down by depth, so that a token stays recognizable; the head starts as their transpose,
    so that what attention copies can be said.
    """
    held: Any = model
    rows, columns = held.config.patch_grid
    width = held.config.vision_config.hidden_size
    y, x = torch.meshgrid(torch.linspace(0, 1, rows), torch.linspace(0, 1, columns), indexing="ij")
    half = width // 2
    grid = torch.cat([_sines(x.flatten(), half), _sines(y.flatten(), width - half)], dim=1)
    held.model.vision_tower.embeddings.position_embedding.weight[-len(grid) :] = grid
    embeddings = held.get_input_embeddings().weight
    embeddings.mul_(EMBEDDING_SCALE / embeddings.std())
    for prefix in ("", " "):
        ids = [tokenizer.encode(f"{prefix}{n}", add_special_tokens=False) for n in _NUMBERS]
        if all(len(pieces) == 1 for pieces in ids):
            tokens = torch.tensor([pieces[0] for pieces in ids])
            sines = _sines(torch.tensor(_NUMBERS) / GRID, embeddings.shape[1]) * math.sqrt(2) * EMBEDDING_SCALE
            embeddings[tokens] = 0.95 * sines + 0.3 * embeddings[tokens]
    if not held.config.tie_word_embeddings:
        held.get_output_embeddings().weight.copy_(0.1 * embeddings)
    layers = held.model.language_model.layers
    for layer in layers:
        for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
            linear.weight.mul_((2 * len(layers)) ** -0.5)
        _look_up_and_copy(layer.self_attn)


def _look_up_and_copy(attention: Any) -> None:
    """Let every second head start as a look-up: it attends to tokens that are like its own, and copies them.

    Queries equal to keys and outputs that undo values are what such heads end up with (compare Trockman and Kolter,
    "Mimetic initialization of self-attention layers", 2023); finding them from random weights takes long.
    """
    size = attention.head_dim
    for head in range(0, attention.config.num_attention_heads, 2):
        rows = slice(head * size, (head + 1) * size)
        query, value = attention.q_proj.weight[rows], attention.v_proj.weight[rows]
        query.mul_(LOOK_UP_SHARPNESS)
        attention.k_proj.weight[rows] = query
        attention.o_proj.weight[:, rows] = COPY_STRENGTH * value.T


def _sines(values: torch.Tensor, width: int) -> torch.Tensor:
    """Encode `(P,)` values in [0, 1] as `(P, width)`: sines and cosines with wavelengths from 2 down to 1/25."""
    pairs = math.ceil(width / 2)
    frequency = math.pi * torch.logspace(0, math.log10(50), pairs)
    angle = values[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :width]
