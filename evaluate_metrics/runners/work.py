"""Items shared out over processes, one result file per sequence or block, what is there is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..baselines.track import Tracker
from ..readers.items import Item, TrackSequence, file_name
from .store import is_done, write_lines, write_track

__all__ = ["Share", "blocks", "run_blocks"]

BLOCK = 32  # items of a result file where they are no sequences


@dataclass(frozen=True)
class Share:
    """Which part of the work is this process's.

    Attributes:
        index: of the process, from 0.
        count: processes in all.
    """

    index: int = 0
    count: int = 1


def blocks(items: Sequence[Item], ask: str) -> list[tuple[str, list[Item]]]:
    """(name of the result file, items): each sequence alone, everything else in blocks."""
    if ask in ("sot", "rsot"):
        return [(file_name(item.name), [item]) for item in items]
    starts = range(0, len(items), BLOCK)
    return [(f"block-{number:05d}", list(items[start : start + BLOCK])) for number, start in enumerate(starts)]


def run_blocks(
    items: Sequence[Item],
    ask: str,
    folder: Path,
    share: Share,
    tracker: Tracker | None = None,
    answer: Callable[[Sequence[Item], str], list[dict[str, Any]]] | None = None,
) -> int:
    """Work through the share of one process.

    Args:
        items: of the task.
        ask: what is asked.
        folder: of the tracker.
        share: every `count`-th block from `index` on, so that long sequences spread.
        tracker: for "sot" and "rsot".
        answer: for everything else: a block of items to its rows.

    Returns:
        Blocks that were worked on now; the others had a result.

    Raises:
        ValueError: a tracker that gave another number of boxes than frames, or a sequence that cannot be read.
    """
    mine = blocks(items, ask)[share.index :: share.count]
    done = 0
    with tqdm(mine, desc=f"{folder.name} ({ask})", disable=share.index > 0) as bar:
        for name, block in bar:
            if is_done(folder, block, name):
                continue
            if ask in ("sot", "rsot"):
                for sequence in _sequences(block):
                    _track_one(tracker, sequence, ask, folder)
            elif answer is not None:
                write_lines(folder / f"{name}.jsonl", answer(block, ask))
            done += 1
    return done


def _sequences(block: Sequence[Item]) -> Iterator[TrackSequence]:
    return (item for item in block if isinstance(item, TrackSequence))


def _track_one(tracker: Tracker | None, sequence: TrackSequence, ask: str, folder: Path) -> None:
    assert tracker is not None, "tracking needs a tracker"
    try:
        track = tracker.track(sequence, ask)
    except (ValueError, OSError) as error:
        raise ValueError(f"sequence {sequence.name!r}: {error}") from error
    if len(track.boxes_xywh_px) != len(sequence):
        raise ValueError(
            f"sequence {sequence.name!r}: {tracker.name} gave {len(track.boxes_xywh_px)} boxes for "
            f"{len(sequence)} frames."
        )
    write_track(folder, sequence.name, track)
