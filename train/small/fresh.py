"""Examples drawn while the decoder trains, for a machine on which the tower costs nothing beside it: a GPU.

Nothing is stored: the number of an example is its seed, worker processes draw the pictures of the next steps, and the
tower runs on them in the step, so that it can learn as well (`tower_lora`). On two CPU cores a pool on disk
(`train.small.pool`) is faster, since its windows are used several times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from .material import Material
from .paste import Sprites
from .pool import normalized, resized
from .scenes import draw_scene
from .views import draw_example

__all__ = ["FreshScenes", "FreshWindows", "batches_of_steps", "encoded", "merged", "with_lora"]

NUMBERS = 2**31  # of examples that are told apart
LORA_MODULES = ["q_proj", "v_proj"]


class _Fresh:
    """What both kinds share with a folder of shards.

    Args:
        material: rows to draw from.
        sprites: cut-outs to paste, None for none.
        seed: other examples under the same numbers.
    """

    def __init__(self, material: Material, sprites: Sprites | None = None, seed: int = 0) -> None:
        self.material, self.sprites, self.seed = material, sprites, seed

    def __len__(self) -> int:
        return NUMBERS

    def refresh(self) -> None:
        """Do nothing: there are no files that could have grown."""

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, int(number)])


class FreshWindows(_Fresh):
    """Windows of single objects, as `pool.Pool` has them."""

    def batch(self, items: np.ndarray) -> dict[str, Any]:
        """Draw examples: `features` (B, W, side, side, 3) uint8 pictures, `boxes` (B, W, 4), `label` list."""
        drawn = [draw_example(self.material, self._rng(n), self.sprites) for n in np.sort(items)]
        pictures = np.stack([[resized(crop) for crop in example.crops] for example in drawn])
        boxes = torch.from_numpy(np.stack([example.boxes for example in drawn])).float()
        return {"features": torch.from_numpy(pictures), "boxes": boxes, "label": [e.label for e in drawn]}


class FreshScenes(_Fresh):
    """Whole pictures, as `pool.Shards` of `train.small.scenes` has them."""

    def read(self, items: np.ndarray) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        """Draw pictures (B, side, side, 3) uint8 and their descriptions."""
        drawn = [draw_scene(self.material, self._rng(n), self.sprites) for n in np.sort(items)]
        pictures = torch.from_numpy(np.stack([resized(scene.picture) for scene in drawn]))
        return pictures, [{"objects": scene.objects} for scene in drawn]


def encoded(model: Any, patches: torch.Tensor) -> torch.Tensor:
    """Run the tower on pictures; patches pass through.

    Args:
        model: `ElysiumForConditionalGeneration`.
        patches: (..., side, side, 3) uint8 pictures, or (..., N, C) patches.

    Returns:
        (..., N, C) on the model's device.
    """
    if patches.dtype != torch.uint8:
        return patches.to(model.device)
    pixels = normalized(patches.flatten(0, -4).to(model.device)).to(model.dtype)
    features = model.model.patches(model.model.encode_patches(pixels).last_hidden_state)
    return features.unflatten(0, patches.shape[:-3]) if patches.ndim > 4 else features


def with_lora(model: Any, rank: int) -> None:
    """Put low-rank adapters (peft) into the tower's attention, the only weights of it that learn."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LORA_MODULES)
    model.model.vision_tower = get_peft_model(model.model.vision_tower, config)


def merged(model: Any) -> None:
    """Add adapters to the tower's weights and remove them, so that the model is what it is without peft."""
    if hasattr(model.model.vision_tower, "merge_and_unload"):
        model.model.vision_tower = model.model.vision_tower.merge_and_unload()


class _Steps(torch.utils.data.Dataset):
    def __init__(self, draw: Callable[[int], Any]) -> None:
        self.draw = draw

    def __getitem__(self, step: int) -> Any:
        torch.set_num_threads(1)
        return self.draw(step)


def batches_of_steps(draw: Callable[[int], Any], steps: range, workers: int) -> Iterator[Any]:
    """Give what `draw` returns for each step, in order; with workers the next steps are drawn ahead.

    Args:
        draw: a function of the step alone.
        steps: which.
        workers: processes; 0 draws in this one, when a step is asked for.
    """
    if not workers:
        return map(draw, steps)
    loader = torch.utils.data.DataLoader(
        _Steps(draw), batch_size=None, sampler=steps, num_workers=workers, prefetch_factor=4, persistent_workers=True
    )
    return iter(loader)
