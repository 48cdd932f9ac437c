"""What T-Selector should keep, told directly: the patches that show what is asked about.

Through the gate alone (`selector_gradient`) the selector learns from what the answers become, which is little and
late: after 5 000 steps it kept 85 % of an object's patches in a searched window. Where the boxes of the training
pictures are known, the same scorer learns within a hundred steps to keep 97 % (docs/LOG.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .batches import Frames

__all__ = ["kept_share", "selector_loss"]


def selector_loss(model: Any, frames: Frames) -> tuple[torch.Tensor, float]:
    """Return cross-entropy between the selector's softmax over patches and the even distribution over the wanted ones.

    Args:
        model: `ElysiumForConditionalGeneration` with `reference_similarity`.
        frames: frames without any wanted patch do not count.

    Returns:
        The mean loss, and the mean share of the wanted patches that are kept.
    """
    with torch.no_grad():
        channels = frames.link_channels(model)
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
