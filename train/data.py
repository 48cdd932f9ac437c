"""Items of a stage by number: a clip of the mixture, and a conversation about it.

One clip is asked several questions, each about another object, so that its frames are encoded once for all of them
(every turn's answer is trained). Item i is a deterministic function of (recipe, stage, i): a resumed run sees what
it would have seen, and several processes share the items out by number. What cannot be read is skipped, and named.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np

from dataset_scripts.mixture import Mixture, Part
from dataset_scripts.records import ObjectTrack, VideoRecord
from dataset_scripts.sources import Clip, RecordsSource, Source, SyntheticSource
from dataset_scripts.streams import RecordsStream, StreamCursor, StreamSource, TarStream, is_stream
from processing_elysium import prompts
from processing_elysium.prompts import IMAGE_TASKS, Task

from .config import SourceConfig, StageConfig, from_plain

__all__ = ["ConversationSource", "Sample", "conversation", "open_source", "stage_dataset"]

TALK = (Task.VQA, Task.CHAT)  # asked and answered by a record's messages
_ATTEMPTS = 8  # items looked at in place of one that cannot be read
_SUBSTITUTE = 10**9 + 7  # how far behind an item its substitute is, so that neighbors have different ones


def open_source(config: SourceConfig) -> Source | StreamSource:
    """Open the source that a recipe names: drawn clips, a file of records, or by a pattern a stream of tars or files.

    Raises:
        ValueError: the file does not exist, or an option is unknown or wrong.
    """
    where = f"source {config.source!r}: options"
    if config.source == "synthetic":
        return from_plain(SyntheticSource, config.options, where)
    kind: type = RecordsSource
    if config.source.endswith((".tar", ".tar.gz", ".tgz")):
        kind = TarStream
    elif "*" in config.source:
        kind = RecordsStream
    return from_plain(kind, {**config.options, "path": config.source}, where)


@dataclass(frozen=True)
class Sample:
    """One training item.

    Attributes:
        id: of the record.
        clip: its frames are read when they are looked at.
        messages: the conversation; image parts hold no image.
        tasks: name of each answer's task.
    """

    id: str
    clip: Clip
    messages: list[dict[str, Any]]
    tasks: list[str]


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
    return ask(record, tasks, rng, writer, turns, box_jitter)[0]


def ask(
    record: VideoRecord,
    tasks: dict[str, float],
    rng: np.random.Generator,
    writer: Any = prompts,
    turns: int = 4,
    box_jitter: float = 0.0,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Messages as `conversation` gives them, and the name of the task that each answer belongs to."""
    of_words = {name: weight for name, weight in tasks.items() if Task(name) in TALK and record.messages}
    of_objects = {
        name: weight
        for name, weight in sorted(tasks.items())
        if Task(name) not in TALK and (record.num_frames == 1 or Task(name) not in IMAGE_TASKS)
    }
    choices = [[name for name in of_objects if _can_ask(Task(name), track)] for track in record.objects]
    if not of_words and not any(choices):
        raise ValueError(
            f"record {record.id!r}: none of the tasks {sorted(tasks)} can be asked of its {record.num_frames or 0} "
            f"frame(s) and {len(record.objects)} object(s); give it boxes from the first frame on, with an "
            "`expression` (rsot, rec) or a `caption` (reg, video_reg), or `messages` (vqa, chat)."
        )
    total = sum(of_words.values())
    if of_words and (not any(choices) or rng.random() < total / (total + sum(of_objects.values()))):
        names = list(of_words)
        task = Task(str(rng.choice(names, p=[of_words[n] / total for n in names])))
        messages = _talk(record, task, rng, writer)
        return messages, [task.value] * sum(message["role"] == "assistant" for message in messages)
    messages, asked_for = [], []
    asked = [int(i) for i in rng.permutation(len(record.objects)) if choices[i]][:turns]
    for i in asked:
        weights = np.array([of_objects[name] for name in choices[i]])
        task = Task(str(rng.choice(choices[i], p=weights / weights.sum())))
        messages.extend(_after_the_first(messages, _turn(task, record.objects[i], box_jitter, rng, writer)))
        asked_for.append(task.value)
    return messages, asked_for


def _can_ask(task: Task, track: ObjectTrack) -> bool:
    """Whether the record knows the question and the whole answer."""
    absent = np.asarray(track.absent, dtype=bool)
    seen = track.known & ~absent
    if task in (Task.SOT, Task.RSOT):
        start = seen.any() if task is Task.RSOT else seen[0]
        return bool(start and (track.known | absent).all() and (task is Task.SOT or track.expression))
    if task is Task.VIDEO_REG:
        return bool(seen.any() and track.caption)
    return bool(seen[0] and (track.expression if task is Task.REC else track.caption))


def _turn(
    task: Task, track: ObjectTrack, jitter: float, rng: np.random.Generator, writer: Any
) -> list[dict[str, Any]]:
    """One question about one object, and its answer."""
    by_words = task in (Task.RSOT, Task.REC)
    first = int((track.known & ~np.asarray(track.absent, dtype=bool)).argmax()) if task is Task.VIDEO_REG else 0
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
            num_frames=record.num_frames or 0,
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
        parts = [Part(open_source(c), c.weight, c.limit, c.source) for c in self.configs]
        object.__setattr__(self, "mixture", Mixture(parts, self._seed))

    @property
    def configs(self) -> list[SourceConfig]:
        """Settings of the mixture's parts."""
        return self.stage.eval_sources if self.evaluation else self.stage.sources

    @property
    def _seed(self) -> tuple[int, int]:
        """The seed, and a number of the stage's own: stages see different clips."""
        name = f"{self.stage.name} (evaluation)" if self.evaluation else self.stage.name
        return self.seed, zlib.crc32(name.encode()) % 80_000_000

    # ----------------------------------------------------------------------------------------------------------
    # items in batches of one size
    # ----------------------------------------------------------------------------------------------------------
    def __getitem__(self, item: int) -> dict[str, Any]:
        """Item of a batch of `batch_size`: its id, frames, messages, the task of each answer, and what was skipped.

        Raises:
            ValueError: the item and what could stand for it are broken, or it comes from a stream.
        """
        batch, row = divmod(item, self.batch_size)
        # Repeats are the batches of one process, which come to it one after the other.
        turn, process = divmod(batch, self.world_size)
        group = turn // self.stage.repeats * self.world_size + process
        skipped: list[str] = []
        number, clip = self._shown_clip(group, row, skipped)
        messages, tasks = self._ask(item, number, clip)
        frames = list(clip.frames)
        return {"id": clip.record.id, "frames": frames, "messages": messages, "tasks": tasks, "skipped": skipped}

    def _shown_clip(self, group: int, row: int, skipped: list[str]) -> tuple[int, Clip]:
        """`clip`, kept for the group's other batches: rendering takes a third of a step's time on a CPU."""
        if (group, row) not in self._shown:
            if any(other != group for other, _ in self._shown):
                self._shown.clear()
            self._shown[group, row] = self.clip(group, row, skipped)
        return self._shown[group, row]

    def clip(self, group: int, row: int, skipped: list[str] | None = None) -> tuple[int, Clip]:
        """Clip `row` of the batches of `group`, a run of `stage.repeats` batches of one process that show the same.

        Args:
            group: number of the group.
            row: within the batch.
            skipped: gets the reasons of clips that cannot be read, in whose place others are shown.

        Returns:
            The number of its source and the clip.
        """
        skipped = [] if skipped is None else skipped
        item = group * self.batch_size + row
        for attempt in range(_ATTEMPTS):
            number, index = self.mixture.locate(item + attempt * _SUBSTITUTE)
            source: Any = self.mixture.parts[number].source
            if is_stream(source):
                raise ValueError(
                    f"source {self.configs[number].source!r} is read from front to back, which a batch of numbered "
                    "items cannot be; set `feed: {similar_lengths: true}` or `feed: {tokens_per_batch: ...}`."
                )
            batch_rng = np.random.default_rng([*self._seed, group, 1])
            num_frames = self._num_frames(number, batch_rng)
            rng = np.random.default_rng([*self._seed, item, 3])
            try:
                clip = source.read(index, num_frames, rng, batch_rng)
                self._ask(item, number, clip)
                _ = clip.frames  # read here, where what is broken can be replaced
                return number, clip
            except ValueError as error:
                skipped.append(str(error))
        raise ValueError(f"{_ATTEMPTS} items in a row cannot be read:\n" + "\n".join(skipped))

    # ----------------------------------------------------------------------------------------------------------
    # items by themselves
    # ----------------------------------------------------------------------------------------------------------
    def sample(self, item: int, cursors: Mapping[int, StreamCursor]) -> Sample:
        """An item that knows nothing of its batch; nothing is decoded.

        Args:
            item: its number.
            cursors: where this reader is in each stream, by the number of the source; see `cursors`.

        Raises:
            ValueError: the record is broken, or none of the tasks can be asked of it; the message names it.
        """
        number, index = self.mixture.locate(item)
        batch_rng = np.random.default_rng([*self._seed, item, 1])
        rng = np.random.default_rng([*self._seed, item, 3])
        num_frames = self._num_frames(number, batch_rng)
        source: Any = self.mixture.parts[number].source
        if is_stream(source):
            clip = cursors[number].clip(num_frames, rng)
        else:
            clip = source.read(index, num_frames, rng, batch_rng)
        return Sample(clip.record.id, clip, *self._ask(item, number, clip))

    def cursors(
        self, reader: int, readers: int, positions: Mapping[str, Sequence[int]] | None = None
    ) -> dict[int, StreamCursor]:
        """Where one of several readers is in the streams of the mixture.

        Args:
            reader: its number, from 0.
            readers: how many there are.
            positions: `StreamCursor.position` by the number of the source, as text; None begins.
        """
        found = {}
        for number, part in enumerate(self.mixture.parts):
            if is_stream(part.source):
                position = (positions or {}).get(str(number))
                found[number] = StreamCursor(part.source, reader, readers, (*self._seed, 6, number), position)
        return found

    def _num_frames(self, number: int, rng: np.random.Generator) -> int:
        """Frames of a clip of source `number`."""
        low, high = self.stage.num_frames
        num_frames = int(rng.integers(low, high + 1))
        return 1 if all(Task(name) in IMAGE_TASKS for name in self.configs[number].tasks) else num_frames

    def _ask(self, item: int, number: int, clip: Clip) -> tuple[list[dict[str, Any]], list[str]]:
        rng = np.random.default_rng([*self._seed, item, 2])
        tasks = self.configs[number].tasks
        return ask(clip.record, tasks, rng, self.writer, self.stage.turns, self.stage.box_jitter)


def stage_dataset(source: ConversationSource, num_items: int) -> datasets.Dataset:
    """The first items as the `datasets.Dataset` that TRL asks for; made when read."""
    items = datasets.Dataset.from_dict({"item": np.arange(num_items)})

    def render(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        rows = [source[int(item)] for item in batch["item"]]
        return {key: [row[key] for row in rows] for key in rows[0]}

    return items.with_transform(render)
