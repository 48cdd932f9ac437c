"""Similarity of a frame's patches to the object whose box is known in another frame (the reference).

Off for the paper's model. A small language model learns slowly to compare patches across frames; with three numbers per
patch that say how alike it is to the object, and how alike to what surrounds it, that is given from the start.

Shapes: F frames, N patches per frame, C vision width.
"""

from __future__ import annotations

import torch
from torch.nn import functional

# How alike to the object's most similar patch, to its three most similar, by how much more than to its surroundings;
# and, in the reference itself, whether the patch shows the object (1) or its surroundings (-1).
NUM_CHANNELS = 4
_NEAREST = 3
# Cosines of patches differ by a few tenths; the other inputs of the projector are of unit size.
_SCALE = 3.0


def patches_in_box(boxes: torch.Tensor, grid: tuple[int, int]) -> torch.BoolTensor:
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
    inside: torch.BoolTensor,
    is_reference: torch.BoolTensor,
) -> torch.Tensor:
    """Compare patches with those of a reference frame.

    Args:
        patches: (F, N, C).
        reference: (F, N, C), for each frame the patches of its reference frame.
        inside: (F, N), True at patches of the reference frame that show the object; all False where there is none.
        is_reference: (F,), True for frames that are their own reference. Their similarities, which would be greater than
            those of all others, are left at 0.

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


def _mean_of_largest(cosine: torch.Tensor) -> torch.Tensor:
    """(F, N, N) to the largest and the mean of the three largest along the last axis, (F, N, 2)."""
    largest = cosine.topk(min(_NEAREST, cosine.shape[-1]), dim=-1).values
    return torch.stack([largest[..., 0], largest.mean(dim=-1)], dim=-1)


__all__ = ["NUM_CHANNELS", "patches_in_box", "reference_channels"]
