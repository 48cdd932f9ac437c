"""From frames to visual tokens: the tower, the compressor and the projector, and what links a frame to another one.

A frame can have a reference: another frame (or itself) in which the box of the object in question is known. Each
patch then comes with a few numbers that say how alike it is to that object, and how alike to what surrounds it. A
small language model learns slowly to compare patches across frames; this gives it the comparison from the start. It
is off for the paper's model (`ElysiumConfig.reference_similarity`). Where only words are known, the same numbers can
say how well each patch fits them (`ElysiumConfig.expression_similarity`).

Shapes: F frames, N patches per frame, K kept, C vision width, D text width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.utils.generic import can_return_tuple

from .configuration_elysium import ElysiumConfig
from .outputs import ElysiumImageFeatures

# How alike to the object's most similar patch, to its three most similar, by how much more than to its surroundings;
# and, in the reference itself, whether the patch shows the object (1) or its surroundings (-1).
NUM_CHANNELS = 4
_NEAREST = 3
# Cosines of patches differ by a few tenths; the other inputs of the projector are of unit size.
_SCALE = 3.0


def patches_in_box(boxes: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Find the patches whose centers lie in a box.

    Args:
        boxes: (F, 4) x1, y1, x2, y2 in [0, 1]; NaN where there is no object.
        grid: patches per column and per row, `(rows, columns)`.

    Returns:
        (F, N) in raster order; a box between centers has the patch that holds its center, a NaN box none.
    """
    rows, columns = grid
    known = ~boxes.isnan().any(dim=-1)
    boxes = boxes.nan_to_num(0.0)
    x = (torch.arange(columns, device=boxes.device) + 0.5) / columns
    y = (torch.arange(rows, device=boxes.device) + 0.5) / rows
    in_x = (x > boxes[:, 0:1]) & (x < boxes[:, 2:3])  # (F, columns)
    in_y = (y > boxes[:, 1:2]) & (y < boxes[:, 3:4])
    inside = (in_y[:, :, None] & in_x[:, None, :]).flatten(1)
    column = ((boxes[:, 0] + boxes[:, 2]) / 2 * columns).long().clamp(0, columns - 1)
    row = ((boxes[:, 1] + boxes[:, 3]) / 2 * rows).long().clamp(0, rows - 1)
    center = functional.one_hot(row * columns + column, rows * columns).bool()
    inside = torch.where(inside.any(dim=-1, keepdim=True), inside, center)
    return inside & known[:, None]


def reference_channels(
    patches: torch.Tensor,
    reference: torch.Tensor,
    inside: torch.Tensor,
    is_reference: torch.Tensor,
) -> torch.Tensor:
    """Compare patches with those of a reference frame.

    Args:
        patches: (F, N, C).
        reference: (F, N, C), for each frame the patches of its reference frame.
        inside: (F, N), True at patches of the reference frame that show the object; all False where there is none.
        is_reference: (F,), True for frames that are their own reference. Their similarities, which would be greater
            than those of all others, are left at 0.

    Returns:
        float32 (F, N, 4), 0 for frames without a reference.
    """
    known = inside.any(dim=-1)[:, None, None]
    own = is_reference[:, None, None]
    cosine = functional.normalize(patches.float(), dim=-1) @ functional.normalize(reference.float(), dim=-1).mT
    object_like = _mean_of_largest(cosine.masked_fill(~inside[:, None], -1.0))  # (F, N, 2)
    around_like = _mean_of_largest(cosine.masked_fill(inside[:, None], -1.0))
    alike = torch.cat([object_like, object_like[..., 1:] - around_like[..., 1:]], dim=-1)
    shows = 2.0 * inside.unsqueeze(-1) - 1.0
    channels = torch.cat([torch.where(own, 0.0, _SCALE * alike), torch.where(own, shows, 0.0)], dim=-1)
    return torch.where(known, channels, 0.0)


def expression_channels(scores: torch.Tensor, expression_ids: torch.Tensor) -> torch.Tensor:
    """Turn scores of patches by an expression into the form of `reference_channels`.

    The first two numbers say how well the patch fits the words, the third by how much better than the frame's patches
    do in the mean of their probabilities; the fourth is 0. All lie between -1.5 and 1.5, as similarities do.

    Args:
        scores: (F, N), see `ExpressionSimilarity`.
        expression_ids: (F, L), -1 as padding.

    Returns:
        float32 (F, N, 4), 0 for frames without an expression.
    """
    scores = scores.float()
    relative = scores.log_softmax(dim=-1) + math.log(scores.shape[-1])
    fits, better = (_SCALE / 2 * torch.tanh(value / 2) for value in (scores, relative))
    channels = torch.stack([fits, fits, better, torch.zeros_like(fits)], dim=-1)
    return torch.where((expression_ids >= 0).any(dim=-1)[:, None, None], channels, 0.0)


def _mean_of_largest(cosine: torch.Tensor) -> torch.Tensor:
    """(F, N, N) to the largest and the mean of the three largest along the last axis, (F, N, 2)."""
    largest = cosine.topk(min(_NEAREST, cosine.shape[-1]), dim=-1).values
    return torch.stack([largest[..., 0], largest.mean(dim=-1)], dim=-1)


class ImageFeatures:
    """The part of `ElysiumModel` that no text goes through; it uses the model's modules and configuration."""

    config: ElysiumConfig
    vision_tower: nn.Module
    selector: nn.Module
    multi_modal_projector: nn.Module
    patch_positions: nn.Embedding
    expression_similarity: nn.Module

    def encode_patches(self, pixel_values: torch.Tensor, **kwargs: Any) -> ElysiumImageFeatures:
        """Run the vision tower, which does not depend on any question.

        Args:
            pixel_values: normalized frames of shape `(F, 3, H, W)`, H and W the vision configuration's `image_size`.
            **kwargs: passed on to the vision tower, such as `output_hidden_states`.

        Returns:
            `last_hidden_state` `(F, prefix + N, C)`; `patches` reads the patch tokens out of it.

        Raises:
            ValueError: if the frames have another shape than the tower was built for.
        """
        size = self.config.vision_config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        if pixel_values.ndim != 4 or tuple(pixel_values.shape[-2:]) != (height, width):
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}; expected (frames, channels, {height}, {width}). "
                "Let the processor prepare the frames, and put the frames of a whole batch on one axis."
            )
        output = self.vision_tower(pixel_values, return_dict=True, **kwargs)
        return ElysiumImageFeatures(
            last_hidden_state=output.last_hidden_state,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    def patches(self, last_hidden_state: torch.Tensor) -> torch.Tensor:
        """Read the patch tokens `(F, N, C)` that the compressor takes out of what the tower gave."""
        # Patch tokens come last; before them stand the class token and registers of towers that have them.
        patches = last_hidden_state[:, -self.config.num_patches :]
        if self.config.vision_feature_norm:
            patches = functional.layer_norm(patches.float(), patches.shape[-1:]).to(patches.dtype)
        return patches

    def compress(
        self,
        patches: torch.Tensor,
        reference_patches: torch.Tensor | None = None,
        reference_boxes: torch.Tensor | None = None,
        is_reference: torch.Tensor | None = None,
        expression_ids: torch.Tensor | None = None,
    ) -> ElysiumImageFeatures:
        """Select patches and project them to the language model's width.

        Args:
            patches: patch tokens of shape `(F, N, C)`, see `patches`.
            reference_patches: for every frame the patch tokens `(F, N, C)` of the frame in which its object's box is
                known. Read where the configuration has `reference_similarity`; None is no reference.
            reference_boxes: those boxes `(F, 4)` in [0, 1]; NaN where there is none.
            is_reference: True for frames that are their own reference, `(F,)`.
            expression_ids: for every frame the words of what is looked for, token ids of shape `(F, L)` with -1 as
                padding; read where the configuration has `expression_similarity`, in frames without a known box.

        Returns:
            `pooler_output`, a list of F tensors `(K, D)`, and `kept_indices` `(F, K)`.
        """
        if self.config.reference_similarity:
            channels = self.link_channels(patches, reference_patches, reference_boxes, is_reference, expression_ids)
            tokens, kept_indices = self.selector(patches, channels)
            if kept_indices is not None:
                channels = channels.gather(1, kept_indices.unsqueeze(-1).expand(-1, -1, NUM_CHANNELS))
            tokens = torch.cat([tokens, channels.to(tokens.dtype)], dim=-1)
        else:
            tokens, kept_indices = self.selector(patches)
        projected = self.multi_modal_projector(tokens)
        if self.config.patch_position_embedding:
            positions = self.patch_positions.weight if kept_indices is None else self.patch_positions(kept_indices)
            projected = projected + positions.to(projected.dtype)
        return ElysiumImageFeatures(pooler_output=list(projected), kept_indices=kept_indices)

    def link_channels(
        self,
        patches: torch.Tensor,
        reference_patches: torch.Tensor | None = None,
        reference_boxes: torch.Tensor | None = None,
        is_reference: torch.Tensor | None = None,
        expression_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute what selector and projector see of what is looked for; arguments as `compress`.

        Returns:
            float32 (F, N, 4): `reference_channels` of frames with a known box, `expression_channels` of those with
            words alone, 0 elsewhere.
        """
        channels = patches.new_zeros((*patches.shape[:2], NUM_CHANNELS), dtype=torch.float32)
        if reference_patches is not None:
            inside = patches_in_box(reference_boxes.to(patches.device), self.config.patch_grid)
            channels = reference_channels(patches, reference_patches, inside, is_reference.to(patches.device))
        if not self.config.expression_similarity or expression_ids is None:
            return channels
        expression_ids = expression_ids.to(patches.device)
        asked = (expression_ids >= 0).any(dim=-1)
        if reference_boxes is not None:
            asked &= reference_boxes.to(patches.device).isnan().any(dim=-1)
        if asked.any():
            words = expression_ids[asked]
            channels[asked] = expression_channels(self.expression_similarity(patches[asked], words), words)
        return channels

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        reference_frames: torch.LongTensor | None = None,
        reference_boxes: torch.Tensor | None = None,
        expression_ids: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> ElysiumImageFeatures:
        """Encode frames into visual tokens of the language model's width.

        Args:
            pixel_values: normalized frames of shape `(F, 3, H, W)`, H and W the vision configuration's `image_size`.
            reference_frames: for every frame the number, among these frames, of the one in which its object's box is
                known, shape `(F,)`. Only with `reference_similarity`.
            reference_boxes: those boxes `(F, 4)` in [0, 1], NaN where there is none.
            expression_ids: for every frame the words of what is looked for, `(F, L)`, see `compress` and
                `ElysiumProcessor.encode_expressions`. Only with `expression_similarity`.
            **kwargs: passed on to the vision tower, such as `output_hidden_states`.

        Returns:
            `pooler_output`, a list of F tensors `(K, D)`, and `kept_indices` `(F, K)`.

        Raises:
            ValueError: if the frames have another shape than the tower was built for, or one of the two reference
                inputs is missing.
        """
        if (reference_frames is None) != (reference_boxes is None):
            raise ValueError("pass reference_frames and reference_boxes together, or neither")
        encoded = self.encode_patches(pixel_values, **kwargs)
        patches = self.patches(encoded.last_hidden_state)
        reference = is_reference = None
        if reference_frames is not None:
            reference = patches[reference_frames]
            is_reference = reference_frames == torch.arange(len(patches), device=reference_frames.device)
        compressed = self.compress(patches, reference, reference_boxes, is_reference, expression_ids)
        return ElysiumImageFeatures(**{**encoded, **compressed})


__all__ = ["NUM_CHANNELS", "ImageFeatures", "expression_channels", "patches_in_box", "reference_channels"]
