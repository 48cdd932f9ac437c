"""Synthetic training data by number: clips become conversations, and all clips of a batch have as many frames.

One clip is asked several questions, each about another object, so that its frames are encoded once for all of them
(every turn's answer is trained). Item i is a deterministic function of (recipe, stage, i): a resumed run sees what
it would have seen.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import datasets
import numpy as np
import torch

from dataset_scripts.records import ObjectTrack
from dataset_scripts.synthetic import SHAPES, SIZES, SPLITS, TEXTURES, SyntheticClip, SyntheticConfig, make_clip
from dataset_scripts.synthetic.scene import COLOURS
from processing_elysium import prompts
from processing_elysium.prompts import IMAGE_TASKS, Task

from .config import StageConfig, TowerConfig

__all__ = ["PATCH_LABELS", "ConversationSource", "PatchSource", "conversation", "stage_dataset"]

# The dense labels of the tower's pretraining, in the order of `PatchSource`'s columns; class 0 is "no object".
PATCH_LABELS: dict[str, tuple[str, ...]] = {
    "size": tuple(SIZES),
    "texture": TEXTURES,
    "colour": tuple(COLOURS),
    "shape": SHAPES,
}


def conversation(
    clip: SyntheticClip, stage: StageConfig, rng: np.random.Generator, writer: Any = prompts
) -> list[dict[str, Any]]:
    """Messages about a clip: one turn per object, in random order.

    Args:
        clip: frames and tracks.
        stage: `tasks`, `turns` and `box_jitter` are read.
        rng: draws objects, tasks and wordings.
        writer: has `build_messages` and `render_answer`: the model's processor, so that questions and answers are
            written as that model writes them, or `processing_elysium.prompts` for the paper's way.
    """
    one_frame = clip.record.num_frames == 1
    names = [name for name in sorted(stage.tasks) if one_frame or Task(name) not in IMAGE_TASKS]
    weights = np.array([stage.tasks[name] for name in names])
    messages: list[dict[str, Any]] = []
    for number, i in enumerate(rng.permutation(len(clip.record.objects))[: stage.turns]):
        task = Task(str(rng.choice(names, p=weights / weights.sum())))
        turn = _turn(task, clip.record.objects[int(i)], stage.box_jitter, rng, writer)
        if number > 0:  # the frames stand in the first turn only
            turn[0]["content"] = [part for part in turn[0]["content"] if part["type"] != "image"]
        messages.extend(turn)
    return messages


def _turn(
    task: Task, track: ObjectTrack, jitter: float, rng: np.random.Generator, writer: Any
) -> list[dict[str, Any]]:
    """One question about one object, and its answer."""
    by_words = task in (Task.RSOT, Task.REC)
    boxes = track.boxes[:1] if task is Task.REC else track.boxes
    return writer.build_messages(
        task,
        num_frames=len(track.boxes),
        box=None if by_words else _jittered(track.boxes[0], jitter, rng),
        expression=track.expression if by_words else None,
        answer=writer.render_answer(task, boxes=boxes, text=track.caption),
        rng=rng,
    )


def _jittered(box: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Half of the time, `box` with noise on each corner that is `jitter` of its size."""
    size = np.tile(box[2:] - box[:2], 2)
    moved = np.clip(box + jitter * size * rng.standard_normal(4), 0, 1)
    keep = rng.random() < 0.5 or (moved[2:] - moved[:2] < 0.3 * size[:2]).any()
    return box if keep else moved


@dataclass(frozen=True)
class ConversationSource:
    """Item number -> frames and messages of one stage.

    Attributes:
        stage: tasks, frames per clip, interval, turns.
        synthetic: the dataset that clips come from.
        split: its split.
        seed: of questions and wordings.
        writer: see `conversation`.
    """

    stage: StageConfig
    synthetic: SyntheticConfig
    split: str = "train"
    seed: int = 0
    writer: Any = prompts
    _shown: dict[tuple[int, int], SyntheticClip] = field(default_factory=dict, init=False, repr=False)

    def batch_shape(self, group: int) -> tuple[int, int]:
        """Frames and objects of every clip of a group: rows of one length need little padding."""
        rng = np.random.default_rng([self.seed, self._offset, group, 1])
        low, high = self.stage.num_frames
        num_frames = int(rng.integers(low, high + 1))
        return num_frames, int(rng.integers(self.synthetic.min_objects, self.synthetic.max_objects + 1))

    def __getitem__(self, item: int) -> dict[str, Any]:
        batch, row = divmod(item, self.stage.batch_size)
        clip = self._shown_clip(batch // self.stage.repeats, row)
        rng = np.random.default_rng([self.seed, self._offset, item, 2])
        return {"frames": list(clip.frames), "messages": conversation(clip, self.stage, rng, self.writer)}

    def _shown_clip(self, group: int, row: int) -> SyntheticClip:
        """`clip`, kept for the group's other batches: rendering takes a third of a step's time on a CPU."""
        if (group, row) not in self._shown:
            if any(other != group for other, _ in self._shown):
                self._shown.clear()
            self._shown[group, row] = self.clip(group, row)
        return self._shown[group, row]

    def clip(self, group: int, row: int) -> SyntheticClip:
        """Clip `row` of the batches of `group`, a run of `stage.repeats` batches that show the same clips."""
        item = group * self.stage.batch_size + row
        rng = np.random.default_rng([self.seed, self._offset, item, 3])
        num_frames, objects = self.batch_shape(group)
        synthetic = replace(self.synthetic, min_objects=objects, max_objects=objects)
        index = (self._offset + item) % SPLITS[self.split][1]
        irregular = self.stage.irregular > 0 and rng.random() < self.stage.irregular
        return make_clip(synthetic, self.split, index, num_frames, self.stage.interval, irregular)

    @property
    def _offset(self) -> int:
        """Where in the split this stage begins: stages see different clips."""
        return zlib.crc32(self.stage.name.encode()) % 80_000_000


def stage_dataset(source: ConversationSource) -> datasets.Dataset:
    """The items of a whole stage as the `datasets.Dataset` that TRL asks for; rendered when read."""
    items = datasets.Dataset.from_dict({"item": np.arange(source.stage.steps * source.stage.batch_size)})

    def render(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        rows = [source[int(item)] for item in batch["item"]]
        return {key: [row[key] for row in rows] for key in rows[0]}

    return items.with_transform(render)


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
