"""The small model of real video before training: DINOv2-small frozen, everything behind it new."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Dinov2Config, LlamaConfig, set_seed

from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from modeling_elysium.image_features import NUM_CHANNELS
from processing_elysium import ElysiumImageProcessor, ElysiumProcessor
from processing_elysium.boxes import GRID

from ..miniature.build import _SYSTEM, EMBEDDING_SCALE, IMAGE, _look_up_and_copy, _sines, build_tokenizer

__all__ = ["build_small", "hold_edges"]

# What the tower sees and how much of it is run; the pool of features is made with the same.
IMAGE_SIZE, PATCH_SIZE, TOWER_LAYERS = 224, 14, 8
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESERVED = slice(-4, None)  # directions of the embeddings that the edge finders use
# Of the start of the edge finders: their layer, size of the mark of text, gains of similarity and of side, and of what
# they write.
EDGE_LAYER, TEXT_MARK, ALIKE_GAIN, EDGE_GAIN, EDGE_OUTPUT = 0, 1.0, 60.0, 24.0, 1.0


def build_small(
    captions: Sequence[str],
    text: dict[str, Any],
    elysium: dict[str, Any],
    tower: str | Path | None = None,
    vocab_size: int = 2048,
    seed: int = 0,
) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """Build a new small model and its processor.

    Args:
        captions: words that answers and questions will hold.
        text: fields of the LLaMA configuration.
        elysium: fields of `ElysiumConfig`.
        tower: folder of DINOv2-small, whose first blocks are taken; None leaves them random.
        vocab_size: pieces of the tokenizer.
        seed: of the initial weights.
    """
    tokenizer = build_tokenizer(vocab_size, list(captions) * 3)
    vision = Dinov2Config(
        hidden_size=384,
        num_attention_heads=6,
        num_hidden_layers=TOWER_LAYERS,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
    )
    config = ElysiumConfig(
        vision_config=vision,
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **text,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        vision_feature_layer=-1,
        vision_feature_norm=True,
        selector_scorer="mlp",
        **elysium,
    )
    set_seed(seed)
    model = ElysiumForConditionalGeneration(config)
    _start(model, tokenizer)
    if tower is not None:
        _take_tower(model, tower)
    processor = ElysiumProcessor(
        image_processor=ElysiumImageProcessor(
            size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
            image_mean=list(IMAGE_MEAN),
            image_std=list(IMAGE_STD),
        ),
        tokenizer=tokenizer,
        num_image_tokens=config.num_image_tokens,
    )
    processor.chat_template = _SYSTEM.sub('set vicuna = ""', processor.chat_template, count=1)
    return model, processor


@torch.no_grad()
def _take_tower(model: ElysiumForConditionalGeneration, folder: str | Path) -> None:
    """Copy the first blocks of a DINOv2 model; its position embeddings are resized once, here, for 224 pixels."""
    from transformers import Dinov2Model

    full = Dinov2Model.from_pretrained(folder)
    state = full.state_dict()
    patches = IMAGE_SIZE // PATCH_SIZE
    positions = full.embeddings.interpolate_pos_encoding(torch.zeros(1, 1 + patches**2, 384), IMAGE_SIZE, IMAGE_SIZE)
    state["embeddings.position_embeddings"] = positions
    tower = model.model.vision_tower
    wanted = tower.state_dict()
    tower.load_state_dict({name: state[name] for name in wanted}, strict=True)


@torch.no_grad()
def _start(model: ElysiumForConditionalGeneration, tokenizer: Any) -> None:
    """Set numbers and places to sines and cosines, every second head to a look-up (`train.miniature.build`)."""
    embeddings = model.get_input_embeddings().weight
    width = embeddings.shape[1]
    embeddings.mul_(EMBEDDING_SCALE / embeddings.std())
    for prefix in ("", " "):
        pieces = [tokenizer.encode(f"{prefix}{n}", add_special_tokens=False) for n in range(GRID + 1)]
        if all(len(ids) == 1 for ids in pieces):
            sines = _sines(torch.arange(GRID + 1) / GRID, width) * math.sqrt(2) * EMBEDDING_SCALE
            rows = torch.tensor([ids[0] for ids in pieces])
            embeddings[rows] = 0.95 * sines + 0.3 * embeddings[rows]
    model.get_output_embeddings().weight.copy_(0.1 * embeddings)
    if model.config.patch_position_embedding:
        model.model.patch_positions.weight.copy_(_places(model) * math.sqrt(2) * EMBEDDING_SCALE)
    projector = model.model.multi_modal_projector
    for linear in (projector.linear_1, projector.linear_2):
        # Inputs of unit size come out at the size of the embeddings.
        torch.nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        torch.nn.init.zeros_(linear.bias)
    projector.linear_2.weight.mul_(EMBEDDING_SCALE * 1.5)
    layers = model.model.language_model.layers
    for layer in layers:
        for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
            linear.weight.mul_((2 * len(layers)) ** -0.5)
        _look_up_and_copy(layer.self_attn)
    if _has_edges(model):
        _find_edges(model, layers[EDGE_LAYER].self_attn)


def _has_edges(model: ElysiumForConditionalGeneration) -> bool:
    """Return whether the model has what edge finders need: places of patches, and their similarity to the object."""
    return model.config.patch_position_embedding and model.config.reference_similarity


def _places(model: ElysiumForConditionalGeneration) -> torch.Tensor:
    """Return sines of the patches' centers, (N, D), with the wavelengths of the number embeddings: x and y in turn."""
    rows, columns = model.config.patch_grid
    centers = [(torch.arange(n) + 0.5) / n for n in (rows, columns)]
    y, x = torch.meshgrid(*centers, indexing="ij")
    width = model.config.text_config.hidden_size
    by_x, by_y = _sines(x.flatten(), width), _sines(y.flatten(), width)
    takes_x = (torch.arange(width) // 2 % 2 == 0).expand_as(by_x)
    return torch.where(takes_x, by_x, by_y)


def _find_edges(model: ElysiumForConditionalGeneration, attention: torch.nn.Module) -> None:
    """Let the heads of one layer start as finders of the left, upper, right and lower edge of the known object.

    A head attends to the patches that are more like the object than like its surroundings, those farthest to its side
    most of all, and writes their place as a number. Without this start a small model needs more than a thousand steps
    until it looks at the searched window at all (docs/LOG.md); which of the four numbers is wanted it learns soon.

    Four directions of the embeddings are set aside: one marks text, so that queries are alike, one carries the
    similarity and two the place of a patch. Queries and keys meet in the dimensions that rotary positions turn least.
    """
    text, alike, places = -1, -2, (-3, -4)  # RESERVED
    embeddings, positions = model.get_input_embeddings().weight, model.model.patch_positions.weight
    embeddings[:, RESERVED] = 0.0
    embeddings[:, text] = TEXT_MARK
    model.get_output_embeddings().weight[:, RESERVED] = 0.0
    positions[:, RESERVED] = 0.0
    for axis, place in enumerate(places):  # the cosine that falls from one side to the other, x and y
        positions[:, place] = positions[:, 2 * axis + 1]
    first, second = model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2
    channel = first.in_features - NUM_CHANNELS + 2  # more like the object than like its surroundings
    first.weight[:2] = 0.0
    first.weight[0, channel], first.weight[1, channel] = 1.0, -1.0
    second.weight[RESERVED] = 0.0
    second.weight[alike, 0], second.weight[alike, 1] = 1.0, -1.0  # gelu(s) - gelu(-s) = s
    size, half = attention.head_dim, attention.head_dim // 2
    for head in range(min(4, attention.config.num_attention_heads)):
        axis, sign = head % 2, 1.0 if head < 2 else -1.0  # x, y; lower, upper end
        rows = slice(head * size, (head + 1) * size)
        query, key = attention.q_proj.weight[rows], attention.k_proj.weight[rows]
        query.zero_()
        key.zero_()
        query[half - 1, text] = key[half - 1, alike] = math.sqrt(ALIKE_GAIN)
        query[size - 1, text] = math.sqrt(EDGE_GAIN)
        key[size - 1, places[axis]] = sign * math.sqrt(EDGE_GAIN)
        value, output = attention.v_proj.weight[rows], attention.o_proj.weight[:, rows]
        value.zero_()
        output.zero_()
        for pair in range(half):
            for part in range(2):
                value[2 * pair + part, 4 * pair + 2 * axis + part] = 1.0
                output[4 * pair + 2 * axis + part, 2 * pair + part] = EDGE_OUTPUT


def hold_edges(model: ElysiumForConditionalGeneration) -> None:
    """Drop the gradients of what `_find_edges` set, between backward pass and step.

    What the heads write disturbs all other words at first, and the quickest way to mend that is to unlearn them. Held
    for some hundred steps, until the layers after them have learned to read them where they are wanted, they stay. A
    model without edge finders is left as it is.
    """
    if not _has_edges(model):
        return
    model.model.language_model.layers[EDGE_LAYER].self_attn.zero_grad(set_to_none=True)
    projector = model.model.multi_modal_projector
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    for weight, part in (
        (embeddings.weight, (slice(None), RESERVED)),
        (head.weight, (slice(None), RESERVED)),
        (model.model.patch_positions.weight, (slice(None), RESERVED)),
        (projector.linear_1.weight, (slice(0, 2), slice(None))),
        (projector.linear_1.bias, (slice(0, 2),)),
        (projector.linear_2.weight, (RESERVED, slice(None))),
        (projector.linear_2.bias, (RESERVED,)),
    ):
        if weight.grad is not None:
            weight.grad[part] = 0.0
