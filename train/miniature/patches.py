"""Images with dense labels: what lies under each patch, and where the box of that object is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dataset_scripts.synthetic import COLORS, SHAPES, SIZES, TEXTURES, SyntheticConfig, make_clip

from .config import TowerConfig

__all__ = ["PATCH_LABELS", "PatchSource"]

# The dense labels of the tower's pretraining, in the order of `PatchSource`'s columns; class 0 is "no object".
PATCH_LABELS: dict[str, tuple[str, ...]] = {
    "size": tuple(SIZES),
    "texture": TEXTURES,
    "colour": tuple(COLORS),
    "shape": SHAPES,
}


@dataclass(frozen=True)
class PatchSource(torch.utils.data.Dataset):
    """Images with one label set and one box per patch, for pretraining the tower.

    Attributes:
        synthetic: the dataset; its frame size is the tower's.
        patch_size: pixels.
        config: length and batch size.
    """

    synthetic: SyntheticConfig
    patch_size: int
    config: TowerConfig

    def __len__(self) -> int:
        return (self.config.steps + 1) // 2 * self.config.batch_size  # every image is used twice

    def __getitem__(self, item: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image `(H, W, 3)` uint8, labels `(N, 4)` int64 in the order of `PATCH_LABELS`, boxes `(N, 4)` float32."""
        clip = make_clip(self.synthetic, "train", item, 1)
        side = clip.frames.shape[1] // self.patch_size
        patches = clip.owner[0].reshape(side, self.patch_size, side, self.patch_size).swapaxes(1, 2)
        shares = np.stack(
            [(patches == i + 1).mean(axis=(2, 3)) for i in range(len(clip.scene.objects))], axis=-1
        ).reshape(side * side, -1)
        owner = shares.argmax(axis=1)
        empty = shares.max(axis=1) < self.config.min_share
        looks = np.array(
            [
                [1 + values.index(word) for word, values in zip(o.look, PATCH_LABELS.values(), strict=True)]
                for o in clip.scene.objects
            ]
        )
        labels = looks[owner]
        labels[empty] = 0
        return clip.frames[0], labels, clip.scene_boxes[owner, 0].astype(np.float32)
