"""Position ids of visual tokens: packed, or at their raster positions. Pure functions on masks and indices.

Shapes: B batch, F frames of the whole batch, N patches per frame, K kept, T tokens.
"""

from __future__ import annotations

import torch
from transformers.utils import torch_compilable_check


def check_counts(num_placeholders: torch.Tensor, num_features: int, num_kept: int) -> None:
    """Check that there is one visual token per placeholder, also inside compiled code.

    Args:
        num_placeholders: scalar tensor, placeholders found in the input.
        num_features: visual tokens given.
        num_kept: K, for the message.

    Raises:
        ValueError: naming both counts.
    """
    torch_compilable_check(
        num_placeholders == num_features,
        lambda: (
            f"{int(num_placeholders)} image placeholder tokens but {num_features} image features: every frame needs "
            f"{num_kept} placeholders in input_ids and one entry of pixel_values."
        ),
    )


def check_embedded(image_token_id: int, vocab_size: int) -> None:
    """Raise ValueError where the placeholder has no embedding, by which it could be found in `inputs_embeds`."""
    if image_token_id >= vocab_size:
        raise ValueError(
            f"image_token_id is {image_token_id}, past the {vocab_size} rows of the embedding, so frames cannot be "
            "placed in inputs_embeds: pass input_ids."
        )


def packed_position_ids(attention_mask: torch.Tensor) -> torch.Tensor:
    """Count attended tokens.

    Args:
        attention_mask: 1 at attended tokens, shape `(B, T)`.

    Returns:
        Position ids of shape `(B, T)`, 0 at padding.
    """
    return (attention_mask.long().cumsum(-1) - 1).masked_fill(attention_mask == 0, 0)


def raster_position_ids(
    placeholder_mask: torch.Tensor,
    attention_mask: torch.Tensor,
    num_kept: int,
    num_patches: int,
    kept_indices: torch.Tensor | None = None,
    past_length: int = 0,
) -> torch.Tensor:
    """Give each frame a block of N positions in which a kept token stands at its patch index.

    Text after a frame starts after the block, so every frame shifts what follows by the constant N - K, and the next
    generated token is simply one further than the last. Published work on pruned LLaVA (arXiv 2506.21873) recovers
    most of the grounding loss this way.

    Args:
        placeholder_mask: True at visual tokens, shape `(B, T)`; K per frame, frames in order.
        attention_mask: 1 at attended tokens, shape `(B, T)`.
        num_kept: K.
        num_patches: N.
        kept_indices: patch indices `(F, K)` of the frames from `past_length` on. None leaves their tokens at the
            beginning of the block.
        past_length: tokens already in a cache. The positions of cached visual tokens are not used again, so their
            kept indices are not needed.

    Returns:
        Position ids of shape `(B, T)`, 0 at padding.

    Raises:
        ValueError: if the kept indices do not fill the placeholders from `past_length` on.
    """
    placeholders = placeholder_mask.long()
    # An unfinished frame counts only once it is over: its own tokens and what precedes them share one count.
    frames_before = (placeholders.cumsum(-1) - placeholders) // num_kept  # (B, T)
    positions = attention_mask.long().cumsum(-1) - 1 + (num_patches - num_kept) * frames_before
    if kept_indices is not None:
        kept_indices = kept_indices.to(positions.device)
        new = placeholder_mask.clone()
        new[:, :past_length] = False
        check_counts(new.sum(), kept_indices.numel(), num_kept)
        shifts = kept_indices - torch.arange(num_kept, device=positions.device)  # (F, K)
        positions = positions + torch.zeros_like(positions).masked_scatter(new, shifts)
    return positions.masked_fill(attention_mask == 0, 0)
