"""Validation while the small model trains: boxes that it writes for windows, and for words in whole pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from processing_elysium.prompts import Task

from .batches import draw_scenes
from .follow import greedy_boxes, grounding_prompts, tracking_prompts
from .fresh import FreshScenes, FreshWindows, encoded
from .objective import pairwise_iou
from .pool import Pool, Shards

__all__ = ["validate", "validate_words", "window_features"]


def window_features(model: Any, features: torch.Tensor, boxes: torch.Tensor) -> Any:
    """Return visual tokens of (B, W, N, C) features whose first window has the known box, row by row."""
    windows = features.shape[1]
    reference = features[:, :1].expand_as(features).flatten(0, 1)
    known = boxes[:, :1].expand(-1, windows, -1).flatten(0, 1)
    own = torch.zeros(len(features), windows, dtype=torch.bool)
    own[:, 0] = True
    return model.model.compress(features.flatten(0, 1), reference, known, own.flatten())


@torch.no_grad()
def validate(model: Any, processor: Any, pool: Pool | FreshWindows, bf16: bool, count: int = 192) -> dict[str, float]:
    """Return mean IoU, and how often it is above 0.5, of boxes that the model writes in the second of two windows."""
    model.eval()
    ious, said_absent, truly = [], [], []
    for first in range(0, min(count, len(pool)), 64):
        batch = pool.batch(np.arange(first, min(first + 64, len(pool))))
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            features = window_features(model, encoded(model, batch["features"][:, :2]), batch["boxes"])
            prompts = tracking_prompts(processor, batch["boxes"][:, 0].numpy())
            found, presence = greedy_boxes(model, processor, features, prompts)
        known = ~batch["boxes"][:, 1].isnan().any(-1)
        ious.append(pairwise_iou(found, batch["boxes"][:, 1].nan_to_num())[known])
        said_absent.append(presence)
        truly.append(known)
    ious, presence, known = torch.cat(ious), torch.cat(said_absent), torch.cat(truly)
    return {
        "val_iou": round(ious.mean().item(), 4),
        "val_50": round((ious > 0.5).float().mean().item(), 4),
        "present": round(presence[known].mean().item(), 3),
        "present_if_absent": round(presence[~known].mean().item(), 3),
    }


@torch.no_grad()
def validate_words(
    model: Any, processor: Any, scenes: Shards | FreshScenes, bf16: bool, count: int = 192
) -> dict[str, float]:
    """Return mean IoU, and how often it is above 0.5, of boxes that the model writes for words in whole pictures."""
    model.eval()
    ious, grid = [], model.config.patch_grid
    for first in range(0, min(count, len(scenes)), 64):
        rng = np.random.default_rng(first)
        frames, items = draw_scenes(scenes, 64, {"rec": 1.0}, grid, rng, processor.encode_expressions)
        asked = [i for i, (task, _, _) in enumerate(items) if task is Task.REC]
        frames = frames.rows(torch.tensor(asked, dtype=torch.long))
        prompts = grounding_prompts(processor, [items[i][2] for i in asked])
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            frames.patches = encoded(model, frames.patches)
            found, _ = greedy_boxes(model, processor, frames.to(model.device).compressed(model), prompts)
        true = torch.tensor(np.concatenate([items[i][1] for i in asked]), dtype=torch.float32)
        ious.append(pairwise_iou(found, true))
    ious = torch.cat(ious)
    return {"words_iou": round(ious.mean().item(), 4), "words_50": round((ious > 0.5).float().mean().item(), 4)}
