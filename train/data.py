"""Items of a stage by number: a clip of the mixture, and a conversation about it.

One clip is asked several questions, each about another object, so that its frames are encoded once for all of them
(every turn's answer is trained). Item i is a deterministic function of (recipe, stage, i): a resumed run sees what
it would have seen, and several processes share the items out by number.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np

from dataset_scripts.records import ObjectTrack, VideoRecord
from dataset_scripts.sources import Clip, RecordsSource, Source, SyntheticSource
from processing_elysium import prompts
from processing_elysium.prompts import IMAGE_TASKS, Task

from .config import SourceConfig, StageConfig, from_plain

__all__ = ["ConversationSource", "Mixture", "conversation", "open_source", "stage_dataset"]

TALK = (Task.VQA, Task.CHAT)  # asked and answered by a record's messages
BLOCK = 1000  # items among which the sources of a mixture have exactly their shares


def open_source(config: SourceConfig) -> Source:
    """Open the source that a recipe names.

    Raises:
        ValueError: the file does not exist, or an option is unknown or wrong.
    """
    where = f"source {config.source!r}: options"
    if config.source == "synthetic":
        return from_plain(SyntheticSource, config.options, where)
    return from_plain(RecordsSource, {**config.options, "path": config.source}, where)


# --------------------------------------------------------------------------------------------------------------
# questions and answers
# --------------------------------------------------------------------------------------------------------------
def conversation(
    record: VideoRecord,
    tasks: dict[str, float],
    rng: np.random.Generator,
    writer: Any = prompts,
    turns: int = 4,
    box_jitter: float = 0.0,
) -> list[dict[str, Any]]:
    """Messages about a clip: the record's own, or one turn per object, in random order.

    Args:
        record: what is known about exactly the frames that are shown.
        tasks: weight of each task.
        rng: draws objects, tasks and wordings.
        writer: has `build_messages` and `render_answer`: the model's processor, so that questions and answers are
            written as that model writes them, or `processing_elysium.prompts` for the paper's way.
        turns: most objects asked about.
        box_jitter: see `StageConfig`.

    Raises:
        ValueError: none of the tasks can be asked of this record.
    """
    of_words = {name: weight for name, weight in tasks.items() if Task(name) in TALK and record.messages}
    of_objects = {
        name: weight
        for name, weight in sorted(tasks.items())
        if Task(name) not in TALK and (record.num_frames == 1 or Task(name) not in IMAGE_TASKS)
    }
    choices = [[name for name in of_objects if _can_ask(Task(name), track)] for track in record.objects]
    if not of_words and not any(choices):
        raise ValueError(
            f"record {record.id!r}: none of the tasks {sorted(tasks)} can be asked of its {record.num_frames} "
            f"frame(s) and {len(record.objects)} object(s); give it boxes from the first frame on, with an "
            "`expression` (rsot, rec) or a `caption` (reg, video_reg), or `messages` (vqa, chat)."
        )
    total = sum(of_words.values())
    if of_words and (not any(choices) or rng.random() < total / (total + sum(of_objects.values()))):
        names = list(of_words)
        return _talk(record, Task(str(rng.choice(names, p=[of_words[n] / total for n in names]))), rng, writer)
    messages: list[dict[str, Any]] = []
    asked = [int(i) for i in rng.permutation(len(record.objects)) if choices[i]][:turns]
    for i in asked:
        weights = np.array([of_objects[name] for name in choices[i]])
        task = Task(str(rng.choice(choices[i], p=weights / weights.sum())))
        messages.extend(_after_the_first(messages, _turn(task, record.objects[i], box_jitter, rng, writer)))
    return messages


def _can_ask(task: Task, track: ObjectTrack) -> bool:
    """Whether the record knows the question and the whole answer."""
    seen = track.known & ~track.absent
    if task in (Task.SOT, Task.RSOT):
        start = seen.any() if task is Task.RSOT else seen[0]
        return bool(start and (track.known | track.absent).all() and (task is Task.SOT or track.expression))
    if task is Task.VIDEO_REG:
        return bool(seen.any() and track.caption)
    return bool(seen[0] and (track.expression if task is Task.REC else track.caption))


def _turn(
    task: Task, track: ObjectTrack, jitter: float, rng: np.random.Generator, writer: Any
) -> list[dict[str, Any]]:
    """One question about one object, and its answer."""
    by_words = task in (Task.RSOT, Task.REC)
    first = int((track.known & ~track.absent).argmax()) if task is Task.VIDEO_REG else 0
    count = 1 if task is Task.REC else len(track.boxes)
    boxes = track.clipped_boxes
    return writer.build_messages(
        task,
        num_frames=len(boxes),
        box=None if by_words else _jittered(boxes[first], jitter, rng),
        frame_of_box=first + 1,
        expression=track.expression if by_words else None,
        answer=writer.render_answer(task, boxes=boxes[:count], valid=track.known[:count], text=track.caption),
        rng=rng,
    )


def _talk(record: VideoRecord, task: Task, rng: np.random.Generator, writer: Any) -> list[dict[str, Any]]:
    """The record's messages; VQA puts one of our wordings around each question."""
    rest = list(record.messages)
    system = rest.pop(0)["content"] if rest[0]["role"] == "system" else None
    messages: list[dict[str, Any]] = []
    for question, answer in zip(rest[::2], rest[1::2], strict=True):
        turn = writer.build_messages(
            task,
            num_frames=record.num_frames,
            question=question["content"],
            prompt="{question}" if task is Task.CHAT else None,
            answer=answer["content"],
            system=None if messages else system,
            rng=rng,
        )
        messages.extend(_after_the_first(messages, turn))
    return messages


def _after_the_first(messages: list[dict[str, Any]], turn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turn without its frames where messages stand before it: the frames stand in the first turn only."""
    if messages:
        turn[0]["content"] = [part for part in turn[0]["content"] if part["type"] != "image"]
    return turn


def _jittered(box: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Half of the time, `box` with noise on each corner that is `jitter` of its size."""
    size = np.tile(box[2:] - box[:2], 2)
    moved = np.clip(box + jitter * size * rng.standard_normal(4), 0, 1)
    keep = rng.random() < 0.5 or (moved[2:] - moved[:2] < 0.3 * size[:2]).any()
    return box if keep else moved


# --------------------------------------------------------------------------------------------------------------
# which clip
# --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Mixture:
    """Clip number -> source and index within it, with every source's share exact in each block of items.

    Attributes:
        configs: the sources' settings.
        sources: the opened sources.
        seed: what orders are drawn from.
    """

    configs: list[SourceConfig]
    sources: list[Source]
    seed: tuple[int, ...]
    _drawn: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        """Clips of all sources, as limited: one pass over the data."""
        return sum(self.length(number) for number in range(len(self.sources)))

    def length(self, number: int) -> int:
        """Clips of a source, as limited."""
        length, limit = len(self.sources[number]), self.configs[number].limit
        return length if limit is None else min(length, limit)

    def locate(self, item: int) -> tuple[int, int]:
        """(number of the source, index within it) of clip `item`."""
        number, position = 0, item
        if len(self.sources) > 1:
            block, place = divmod(item, BLOCK)
            order = self._order(block)
            number = int(order[place])
            before = int((order[:place] == number).sum())
            position = block * int((order == number).sum()) + before
        length = self.length(number)
        if not self.sources[number].shuffled:
            return number, (self.seed[-1] + position) % length
        turn, place = divmod(position, length)
        return number, int(self._permutation(length, (5, number, turn))[place])

    def _order(self, block: int) -> np.ndarray:
        """The sources of a block's items: as many of each as its weight says, shuffled."""
        weights = np.array([config.weight for config in self.configs])
        exact = weights / weights.sum() * BLOCK
        counts = np.maximum(np.floor(exact).astype(int), 1)
        counts[np.argmax(counts)] += BLOCK - counts.sum()  # what rounding left, less than one item per source
        return np.repeat(np.arange(len(counts)), counts)[self._permutation(BLOCK, (4, block))]

    def _permutation(self, length: int, key: tuple[int, ...]) -> np.ndarray:
        """A permutation that `key` names; the last ones are kept."""
        if key not in self._drawn:
            if len(self._drawn) > 2 * len(self.sources):
                self._drawn.clear()
            self._drawn[key] = np.random.default_rng([*self.seed, *key]).permutation(length)
        return self._drawn[key]


@dataclass(frozen=True)
class ConversationSource:
    """Item number -> frames and messages of one stage.

    Attributes:
        stage: mixture, frames per clip, turns.
        batch_size: items of a batch, which have one number of frames as far as their sources can give it.
        seed: of the order, the questions and the wordings.
        writer: see `conversation`.
        world_size: processes that share the batches out, one after the other in turn.
        evaluation: whether the items are those of `stage.eval_sources`.
    """

    stage: StageConfig
    batch_size: int
    seed: int = 0
    writer: Any = prompts
    world_size: int = 1
    evaluation: bool = False
    mixture: Mixture = field(init=False, repr=False)
    _shown: dict[tuple[int, int], tuple[int, Clip]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        configs = self.stage.eval_sources if self.evaluation else self.stage.sources
        object.__setattr__(self, "mixture", Mixture(configs, [open_source(c) for c in configs], self._seed))

    @property
    def _seed(self) -> tuple[int, int]:
        """The seed, and a number of the stage's own: stages see different clips."""
        name = f"{self.stage.name} (evaluation)" if self.evaluation else self.stage.name
        return self.seed, zlib.crc32(name.encode()) % 80_000_000

    def __getitem__(self, item: int) -> dict[str, Any]:
        batch, row = divmod(item, self.batch_size)
        # Repeats are the batches of one process, which come to it one after the other.
        turn, process = divmod(batch, self.world_size)
        group = turn // self.stage.repeats * self.world_size + process
        number, clip = self._shown_clip(group, row)
        rng = np.random.default_rng([*self._seed, item, 2])
        tasks = self.mixture.configs[number].tasks
        messages = conversation(clip.record, tasks, rng, self.writer, self.stage.turns, self.stage.box_jitter)
        return {"frames": list(clip.frames), "messages": messages}

    def _shown_clip(self, group: int, row: int) -> tuple[int, Clip]:
        """`clip`, kept for the group's other batches: rendering takes a third of a step's time on a CPU."""
        if (group, row) not in self._shown:
            if any(other != group for other, _ in self._shown):
                self._shown.clear()
            self._shown[group, row] = self.clip(group, row)
        return self._shown[group, row]

    def clip(self, group: int, row: int) -> tuple[int, Clip]:
        """Clip `row` of the batches of `group`, a run of `stage.repeats` batches of one process that show the same.

        Returns:
            The number of its source and the clip.
        """
        item = group * self.batch_size + row
        number, index = self.mixture.locate(item)
        batch_rng = np.random.default_rng([*self._seed, group, 1])
        low, high = self.stage.num_frames
        num_frames = int(batch_rng.integers(low, high + 1))
        if all(Task(name) in IMAGE_TASKS for name in self.mixture.configs[number].tasks):
            num_frames = 1
        rng = np.random.default_rng([*self._seed, item, 3])
        return number, self.mixture.sources[number].read(index, num_frames, rng, batch_rng)


def stage_dataset(source: ConversationSource, num_items: int) -> datasets.Dataset:
    """The first items as the `datasets.Dataset` that TRL asks for; made when read."""
    items = datasets.Dataset.from_dict({"item": np.arange(num_items)})

    def render(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        rows = [source[int(item)] for item in batch["item"]]
        return {key: [row[key] for row in rows] for key in rows[0]}

    return items.with_transform(render)
