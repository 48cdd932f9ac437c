"""What one training step shows and asks: windows of single objects, and whole pictures with named ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

from modeling_elysium.image_features import patches_in_box
from processing_elysium.prompts import Task

from .expression_loss import MADE_UP_SHARE
from .objective import Item
from .pool import Pool, Shards
from .wording import expression_for, made_up, may_be, with_article

__all__ = ["Frames", "draw_scenes", "draw_windows", "joined"]

NO_BOX = np.full((1, 4), np.nan)
# Share of expressions that name something which is not in the picture; labels are partial, so other kinds only.
MISSING_SHARE = 0.08


@dataclass
class Frames:
    """F frames in the order in which the conversations show them.

    Attributes:
        patches: (F, N, C), see `ElysiumModel.patches`; pictures (F, side, side, 3) uint8 before the tower has run.
        reference_of: (F,) which frame is each frame's reference.
        known: (F, 4) box in the reference, NaN where there is none.
        own: (F,), True for frames that are their own reference.
        wanted: (F, N) patches that the selector should keep.
        expression_ids: (F, L) what is looked for by words, -1 as padding.
    """

    patches: torch.Tensor
    reference_of: torch.Tensor
    known: torch.Tensor
    own: torch.Tensor
    wanted: torch.Tensor
    expression_ids: torch.Tensor

    def compressed(self, model: Any) -> Any:
        """Return their visual tokens."""
        return model.model.compress(self.patches, self.reference, self.known, self.own, self.expression_ids)

    def link_channels(self, model: Any) -> torch.Tensor:
        """Return (F, N, 4) what selector and projector see of what is looked for."""
        return model.model.link_channels(self.patches, self.reference, self.known, self.own, self.expression_ids)

    @property
    def reference(self) -> torch.Tensor:
        """Patches (F, N, C) of each frame's reference."""
        return self.patches[self.reference_of]

    def rows(self, chosen: torch.Tensor) -> Frames:
        """Take frames, (M,) numbers or (F,) bool; the reference of each must be among them."""
        numbers = torch.arange(len(self.patches))[chosen]
        place = torch.full((len(self.patches),), -1)
        place[numbers] = torch.arange(len(numbers))
        taken = {name: value[numbers] for name, value in vars(self).items()}
        taken["reference_of"] = place[taken["reference_of"]]
        if (taken["reference_of"] < 0).any():
            raise ValueError("a frame was taken without its reference.")
        return Frames(**taken)

    def to(self, device: str | torch.device) -> Frames:
        """Copy to a device."""
        return Frames(**{name: value.to(device) for name, value in vars(self).items()})


def joined(parts: list[Frames]) -> Frames:
    """Put frames one after another."""
    names = ("patches", "known", "own", "wanted")
    starts = np.cumsum([0, *(len(part.patches) for part in parts)])
    reference_of = torch.cat([part.reference_of + int(n) for part, n in zip(parts, starts[:-1], strict=True)])
    longest = max(part.expression_ids.shape[1] for part in parts)
    words = [pad(part.expression_ids, (0, longest - part.expression_ids.shape[1]), value=-1) for part in parts]
    return Frames(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in names},
        reference_of=reference_of,
        expression_ids=torch.cat(words),
    )


def _draw_tasks(tasks: Mapping[str, float], count: int, rng: np.random.Generator) -> list[Task]:
    names = sorted(tasks)
    weights = np.array([tasks[name] for name in names])
    return [Task(str(rng.choice(names, p=weights / weights.sum()))) for _ in range(count)]


def draw_windows(
    pool: Pool, count: int, tasks: Mapping[str, float], short_share: float, grid: tuple[int, int], rng: Any
) -> tuple[Frames, list[Item]]:
    """Draw examples of single objects in windows.

    Args:
        pool: their features.
        count: how many.
        tasks: weights of "sot" (all windows) and "video_reg" (the first alone).
        short_share: share of steps with two windows instead of all.
        grid: patches per column and per row.
        rng: numpy generator that decides everything.

    Returns:
        Their frames, and what is asked about each.
    """
    batch = pool.batch(rng.choice(len(pool), count))
    features, boxes = batch["features"], batch["boxes"]
    windows = features.shape[1]
    if rng.random() < short_share:  # the first window and one of the others
        other = torch.from_numpy(rng.integers(1, windows, count))
        rows = torch.arange(count)
        features = torch.stack([features[:, 0], features[rows, other]], 1)
        boxes = torch.stack([boxes[:, 0], boxes[rows, other]], 1)
        windows = 2
    asked = _draw_tasks(tasks, count, rng)
    shown = torch.tensor([windows if task is Task.SOT else 1 for task in asked])
    items = [(task, boxes[i, : shown[i]].numpy(), batch["label"][i]) for i, task in enumerate(asked)]
    first = torch.zeros(count, windows, dtype=torch.bool)
    first[:, 0] = True
    frames = Frames(
        patches=features.flatten(0, 1),
        reference_of=torch.arange(count).repeat_interleave(windows) * windows,
        known=boxes[:, :1].expand(-1, windows, -1).flatten(0, 1),
        own=first.flatten(),
        wanted=patches_in_box(boxes.flatten(0, 1), grid),
        expression_ids=torch.full((count * windows, 1), -1),
    )
    return frames.rows((torch.arange(windows) < shown[:, None]).flatten()), items


def draw_scenes(
    scenes: Shards,
    count: int,
    tasks: Mapping[str, float],
    grid: tuple[int, int],
    rng: Any,
    encode_expressions: Callable[[list[str | None]], torch.Tensor],
) -> tuple[Frames, list[Item]]:
    """Draw whole pictures and ask about one of their named objects.

    Args:
        scenes: their features, written by `train.small.scenes`.
        count: how many.
        tasks: weights of "rsot" (about one frame) and "rec", asked in words, "reg" and "video_reg", asked by a box.
        grid: patches per column and per row.
        rng: numpy generator that decides everything.
        encode_expressions: the processor's.

    Returns:
        Their frames, and what is asked about each.
    """
    patches, rows = scenes.read(rng.choice(len(scenes), count))
    known, wanted, items = [], [], []
    names = [item["name"] for row in rows for item in row["objects"]]
    for row, task in zip(rows, _draw_tasks(tasks, count, rng), strict=True):
        objects = row["objects"]
        target = int(rng.integers(len(objects)))
        box, words = np.array([objects[target]["box"]]), expression_for(objects, target, rng)
        if task in (Task.RSOT, Task.REC) and words is None:  # nothing tells it apart: it is described
            task = Task.VIDEO_REG
        elif task in (Task.RSOT, Task.REC) and len(objects) == 1 and rng.random() < MADE_UP_SHARE:
            words = made_up(rng)
        elif task is Task.RSOT and rng.random() < MISSING_SHARE:
            other = str(rng.choice(names))
            if not any(may_be(other, item["name"]) for item in objects):
                box, words = NO_BOX, with_article(other, rng)
        by_words = task in (Task.RSOT, Task.REC)
        items.append((task, box, words if by_words else objects[target]["name"]))
        known.append(NO_BOX if by_words else box)
        wanted.append(box[0])
    own = torch.tensor([task in (Task.REG, Task.VIDEO_REG) for task, _, _ in items])
    known = torch.tensor(np.concatenate(known), dtype=torch.float32)
    wanted = patches_in_box(torch.tensor(np.stack(wanted), dtype=torch.float32), grid)
    words = encode_expressions(
        [None if described else label for described, (_, _, label) in zip(own.tolist(), items, strict=True)]
    )
    return Frames(patches, torch.arange(count), known, own, wanted, words), items
