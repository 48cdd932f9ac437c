"""Pretrain a small vision tower on dense patch labels: the miniature's stand-in for a pretrained CLIP.

Each patch token learns which object it shows (size, texture, color, shape) and where that whole object is. The
features are read where the model will read them, before any final norm. Resumes from its last checkpoint.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from tqdm import tqdm
from transformers import PreTrainedModel

from dataset_scripts.synthetic import SyntheticConfig
from processing_elysium import ElysiumImageProcessor

from ..optimizer import MuonAdamW, is_hidden_matrix
from .config import TowerConfig
from .patches import PATCH_LABELS, PatchSource

__all__ = ["PatchHead", "mirrored", "normalize", "pretrain_tower", "standardize_features"]

BOXES = 4


class PatchHead(nn.Module):
    """Reads class scores and a box from each patch token.

    Args:
        width: of the tower.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = [1 + len(values) for values in PATCH_LABELS.values()] + [BOXES]
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, sum(self.sizes))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map tokens `(F, N, C)` to one `(F, N, classes)` tensor per label and boxes `(F, N, 4)`."""
        return self.linear(self.norm(tokens)).split(self.sizes, dim=-1)


def normalize(frames: torch.Tensor, image_processor: ElysiumImageProcessor) -> torch.Tensor:
    """Turn frames `(F, H, W, 3)` uint8 of the tower's size into its input `(F, 3, H, W)`."""
    pixels = frames.permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(image_processor.image_mean).view(1, 3, 1, 1)
    std = torch.tensor(image_processor.image_std).view(1, 3, 1, 1)
    return (pixels - mean) / std


def patch_loss(
    outputs: tuple[torch.Tensor, ...], labels: torch.Tensor, boxes: torch.Tensor, box_weight: float
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the cross-entropy of each label over all patches plus L1 of the box over patches that show an object."""
    report: dict[str, float] = {}
    total = torch.zeros(())
    for i, name in enumerate(PATCH_LABELS):
        loss = functional.cross_entropy(outputs[i].flatten(0, 1), labels[..., i].flatten())
        report[name] = loss.item()
        total = total + loss
    shown = labels[..., 0] > 0
    box = (outputs[-1][shown] - boxes[shown]).abs().mean()
    report["box_l1"] = box.item()
    return total + box_weight * box, report


def pretrain_tower(
    tower: PreTrainedModel,
    image_processor: ElysiumImageProcessor,
    synthetic: SyntheticConfig,
    config: TowerConfig,
    folder: str | os.PathLike[str],
    workers: int = 1,
) -> dict[str, float]:
    """Train `tower` in place.

    Args:
        tower: a CLIP-type vision model without its final norm.
        image_processor: its mean and standard deviation are used.
        synthetic: frames of the tower's size.
        config: steps, learning rate, ...
        folder: holds the checkpoint to resume from and the finished tower.
        workers: processes that render.

    Returns:
        The losses of the last steps, averaged.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "tower.safetensors").exists():
        tower.load_state_dict(load_file(folder / "tower.safetensors"))
        return {}
    head = PatchHead(tower.config.hidden_size)
    network = nn.ModuleDict({"tower": tower, "head": head}).train()
    optimizer = _optimizer(network, config)
    rates = [group["lr"] for group in optimizer.param_groups]
    done = _resume(folder / "state.pt", network, optimizer)
    source = PatchSource(synthetic, tower.config.patch_size, config)
    rest = torch.utils.data.Subset(source, range(done // 2 * config.batch_size, len(source)))
    loader = torch.utils.data.DataLoader(
        rest, config.batch_size, num_workers=workers, prefetch_factor=4 if workers else None
    )
    average: dict[str, float] = {}
    progress = tqdm(_with_mirror_images(loader), initial=done, total=config.steps, desc="tower", mininterval=10)
    for step, (frames, labels, boxes) in enumerate(progress, start=done):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * _schedule(step, config)
        hidden = tower(normalize(frames, image_processor)).last_hidden_state[:, -labels.shape[1] :]
        loss, report = patch_loss(head(hidden), labels, boxes, config.box_weight)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average = {k: 0.98 * average.get(k, v) + 0.02 * v for k, v in report.items()}
        if step % 20 == 0:
            progress.set_postfix({k: f"{v:.3f}" for k, v in average.items()}, refresh=False)
        if (step + 1) % config.save_every == 0:
            _save(
                folder / "state.pt",
                {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1},
            )
    frames = torch.from_numpy(np.stack([source[i][0] for i in range(min(64, len(source)))]))
    standardize_features(tower, normalize(frames, image_processor))
    save_file({k: v.contiguous() for k, v in tower.state_dict().items()}, folder / "tower.safetensors")
    (folder / "state.pt").unlink(missing_ok=True)
    return average


@torch.no_grad()
def standardize_features(tower: PreTrainedModel, pixel_values: torch.Tensor) -> None:
    """Scale and shift the patch features to standard deviation 1 and mean 0, by changing weights only.

    Training leaves them large and mostly one common vector, which a projector learns from badly. Every layer reads the
    sum of those before it through a norm, so the whole sum can be scaled without changing what the tower computes.

    Args:
        tower: a CLIP-type vision model without its final norm.
        pixel_values: `(F, 3, H, W)` normalized frames to measure on.
    """
    held: Any = tower
    features = held(pixel_values).last_hidden_state[:, -held.embeddings.num_patches :]
    scale = 1 / (features - features.mean(dim=(0, 1))).std()
    outputs = [held.pre_layrnorm]
    for layer in held.encoder.layers:
        outputs += [layer.self_attn.out_proj, layer.mlp.fc2]
    for module in outputs:
        module.weight.mul_(scale)
        module.bias.mul_(scale)
    held.encoder.layers[-1].mlp.fc2.bias.sub_(scale * features.mean(dim=(0, 1)))


def _optimizer(network: nn.Module, config: TowerConfig) -> torch.optim.Optimizer:
    """Return Muon for the matrices of the tower's layers, AdamW for the rest."""
    hidden = {name: p for name, p in network.named_parameters() if is_hidden_matrix(name, p)}
    rest = [p for name, p in network.named_parameters() if name not in hidden]
    return MuonAdamW(
        [{"params": list(hidden.values()), "lr": config.muon_learning_rate, "weight_decay": 0.02}],
        [{"params": rest, "lr": config.learning_rate, "weight_decay": 0.02}],
    )


def _with_mirror_images(batches: Iterable[list[torch.Tensor]]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield each batch of `PatchSource` items, and again mirrored left to right: rendering is what takes longest."""
    for frames, labels, boxes in batches:
        yield frames, labels, boxes
        yield mirrored(frames, labels, boxes)


def mirrored(frames: torch.Tensor, labels: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Mirror images `(F, H, W, 3)` left to right with their patch labels `(F, N, L)` and boxes `(F, N, 4)`."""
    side = math.isqrt(labels.shape[1])
    labels = labels.unflatten(1, (side, side)).flip(2).flatten(1, 2)
    boxes = boxes.unflatten(1, (side, side)).flip(2).flatten(1, 2)
    x0, y0, x1, y1 = boxes.unbind(-1)
    return frames.flip(2), labels, torch.stack([1 - x1, y0, 1 - x0, y1], dim=-1)


def _schedule(step: int, config: TowerConfig) -> float:
    """Warm up linearly, then go down as a cosine to zero."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)))


def _save(path: Path, state: dict) -> None:
    """Write whole or not at all."""
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    os.replace(temporary, path)


def _resume(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load our own checkpoint if there is one; returns the number of steps done."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
