"""What T-Selector should keep, told directly: the patches that show the object, or any object where none is known.

Through the gate alone (`selector_gradient`) the selector learns from what the answers become, which is little and
late: after 5 000 steps it kept 85 % of an object's patches in a searched window. Where the boxes of the training
pictures are known, the same scorer learns within a hundred steps to keep 97 % (docs/LOG.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from modeling_elysium.image_features import patches_in_box, reference_channels

if TYPE_CHECKING:
    from .batches import Frames

__all__ = ["kept_share", "patches_of_boxes", "selector_loss"]


def patches_of_boxes(boxes: torch.Tensor, grid: tuple[int, int]) -> torch.BoolTensor:
    """Find the patches that show any of several boxes.

    Args:
        boxes: (F, M, 4) in [0, 1], NaN where there is none.
        grid: patches per column and per row.

    Returns:
        (F, N), True at patches whose center lies in one of the frame's boxes.
    """
    return torch.stack([patches_in_box(boxes[:, m], grid) for m in range(boxes.shape[1])]).any(0)


def selector_loss(model: Any, frames: Frames) -> tuple[torch.Tensor, float]:
    """Return cross-entropy between the selector's softmax over patches and the even distribution over the wanted ones.

    Args:
        model: `ElysiumForConditionalGeneration` with `reference_similarity`.
        frames: frames without any wanted patch do not count.

    Returns:
        The mean loss, and the mean share of the wanted patches that are kept.
    """
    inside = patches_in_box(frames.known, model.config.patch_grid)
    with torch.no_grad():
        channels = reference_channels(frames.patches, frames.reference, inside, frames.own)
    scores = model.model.selector.score(frames.patches, channels)
    wanted = frames.wanted
    counts = wanted.any(-1)
    if not counts.any():
        return scores.sum() * 0.0, float("nan")
    scores, wanted = scores[counts], wanted[counts]
    log_probs = scores.log_softmax(-1)
    loss = -((log_probs * wanted).sum(-1) / wanted.sum(-1)).mean()
    return loss, kept_share(scores.detach(), wanted, model.config.num_image_tokens)


def kept_share(scores: torch.Tensor, wanted: torch.BoolTensor, num_kept: int) -> float:
    """Return the mean share of the wanted patches (F, N) among the `num_kept` best scores (F, N) of each frame."""
    kept = scores.topk(num_kept, dim=-1).indices
    return (wanted.gather(-1, kept).sum(-1) / wanted.sum(-1)).mean().item()
