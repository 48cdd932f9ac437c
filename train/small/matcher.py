"""The floor to beat: where a window is most like the known object, with no training at all.

Of every patch of the searched window the mean cosine to its three most similar object patches is taken, less that to
what surrounds the object; a box of the object's own size is put where these are largest inside it. What the decoder
adds to the features of DINOv2 is the difference to this.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from modeling_elysium.image_features import patches_in_box, reference_channels

__all__ = ["matched_boxes"]

FINE = 64  # places along a side at which the box is tried


def matched_boxes(
    template: torch.Tensor, known: np.ndarray, searched: torch.Tensor, sizes: np.ndarray, grid: tuple[int, int]
) -> torch.Tensor:
    """Put each object's box where its window is most like it.

    Args:
        template: (B, N, C) patches of the windows in which the boxes are known.
        known: (B, 4) those boxes in [0, 1].
        searched: (B, N, C) patches of the windows to search.
        sizes: (B, 2) width and height of the objects in [0, 1] of the searched windows.
        grid: patches per column and per row.

    Returns:
        Boxes (B, 4) in [0, 1] of the searched windows.
    """
    inside = patches_in_box(torch.tensor(known, dtype=torch.float32), grid)
    channels = reference_channels(searched, template, inside, torch.zeros(len(inside), dtype=torch.bool))
    alike = channels[..., 2].view(-1, 1, *grid)  # more like the object than like its surroundings
    fine = functional.interpolate(alike, size=(FINE, FINE), mode="bilinear", align_corners=False)
    boxes = []
    for one, (width, height) in zip(fine, sizes, strict=True):
        across, down = (int(np.clip(round(side * FINE), 1, FINE)) for side in (width, height))
        mean = functional.avg_pool2d(one[None], (down, across), stride=1)[0, 0]
        row, column = divmod(int(mean.argmax()), mean.shape[1])
        center = np.array([column + across / 2, row + down / 2]) / FINE
        half = np.array([width, height]) / 2
        boxes.append(np.concatenate([center - half, center + half]))
    return torch.tensor(np.array(boxes), dtype=torch.float32).clamp(0, 1)
