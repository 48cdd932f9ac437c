"""The table of tasks: which reader, which splits, what can be asked, how it is scored by default."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .items import Item, TrackSequence, check_items

__all__ = ["ASKS", "TASKS", "TaskSpec", "load_items"]

ASKS = {
    "sot": "track from the box in the first frame",
    "rsot": "track from the expression",
    "video_reg": "describe the object in the box of the first frame",
    "rec": "find the object of a picture by its expression",
    "reg": "describe the object in a box of a picture",
    "vqa": "answer a question about a video",
}


@dataclass(frozen=True)
class TaskSpec:
    """One task.

    Attributes:
        module: file of the reader, in this folder.
        asks: keys of `ASKS`, the default first.
        splits: names of splits, the default first.
        convention: of the scores of tracking, a name of `evaluate_metrics.tracking_ope.ope`.
        absent_as: overrides the convention's rule for absent frames, None keeps it.
        options: further keywords of the reader.
        needs_data: false where nothing is read from disk.
    """

    module: str
    asks: tuple[str, ...]
    splits: tuple[str, ...] = ("test",)
    convention: str = "pytracking"
    absent_as: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    needs_data: bool = True


_REC = ("rec", "reg")
TASKS: dict[str, TaskSpec] = {
    "lasot": TaskSpec("lasot", ("sot", "rsot"), ("test", "train", "all")),
    "lasot_ext": TaskSpec("lasot", ("sot", "rsot"), ("all",)),
    "uav123": TaskSpec("uav123", ("sot",), convention="pytracking_uav123"),
    "otb100": TaskSpec("otb", ("sot",)),
    "got10k": TaskSpec("got10k", ("sot",), ("val", "test", "train"), "got10k"),
    "trackingnet": TaskSpec("trackingnet", ("sot",), ("test", "train"), "trackingnet"),
    "elysiumtrack": TaskSpec("elysium_track", ("sot", "rsot", "video_reg")),
    "tnl2k": TaskSpec("tnl2k", ("rsot", "sot")),
    "otb_lang": TaskSpec("otb_lang", ("rsot", "sot"), ("test", "train")),
    "refcoco": TaskSpec("refcoco", _REC, ("val", "testA", "testB"), options={"dataset": "refcoco"}),
    "refcoco+": TaskSpec("refcoco", _REC, ("val", "testA", "testB"), options={"dataset": "refcoco+"}),
    "refcocog": TaskSpec("refcoco", _REC, ("val", "test"), options={"dataset": "refcocog"}),
    "msvd_qa": TaskSpec("video_qa", ("vqa",), ("test", "val"), options={"dataset": "msvd"}),
    "msrvtt_qa": TaskSpec("video_qa", ("vqa",), ("test", "val"), options={"dataset": "msrvtt"}),
    "tgif_qa": TaskSpec("video_qa", ("vqa",), ("test",), options={"dataset": "tgif"}),
    "activitynet_qa": TaskSpec("video_qa", ("vqa",), ("test", "val"), options={"dataset": "activitynet"}),
    "realdata": TaskSpec(
        "realdata",
        ("sot", "rsot", "video_reg", "rec"),
        ("val", "test", "train", "unseen"),
        "pytracking_unclipped",
        "ignore",
    ),
    "synthetic": TaskSpec(
        "synthetic",
        ("sot", "rsot", "video_reg"),
        ("test", "val"),
        "pytracking_unclipped",
        needs_data=False,
    ),
}


def load_items(task: str, ask: str, split: str, data: str | Path | None) -> list[Item]:
    """Read what a task asks of a benchmark.

    Args:
        task: key of `TASKS`.
        ask: one of the task's.
        split: one of the task's.
        data: folder (or file) of the benchmark.

    Returns:
        Items with names of their own; of those without words, a box or a description only the ones that can be asked.

    Raises:
        ValueError: an unknown name, no such folder, or an item that cannot be read.
    """
    if task not in TASKS:
        raise ValueError(f"`--task`={task!r} is unknown; use one of {', '.join(TASKS)}.")
    spec = TASKS[task]
    for flag, value, allowed in (("--ask", ask, spec.asks), ("--split", split, spec.splits)):
        if value not in allowed:
            raise ValueError(f"`{flag}`={value!r} is unknown for {task}; use one of {', '.join(allowed)}.")
    if spec.needs_data and (data is None or not Path(data).exists()):
        raise ValueError(f"`--data`={data} does not exist; pass the folder of {task} (layout: docs/evaluate.md).")
    options = dict(spec.options)
    if spec.module == "refcoco":
        options["describe"] = ask == "reg"
    if spec.module == "realdata":
        options["images"] = ask == "rec"
    reader = importlib.import_module(f"{__package__}.{spec.module}")
    items = [item for item in reader.read(Path(data or "."), split, **options) if _can_ask(item, ask)]
    check_items(items, f"{task} ({split}, {ask})")
    return items


def _can_ask(item: Item, ask: str) -> bool:
    if isinstance(item, TrackSequence) and ask == "rsot":
        return item.words is not None
    if isinstance(item, TrackSequence) and ask == "video_reg":
        return bool(item.descriptions)
    return True
