"""Decisions of reviewers: a log that is only ever appended to, and what it makes of the rows of a build."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..construction.rows import Trajectory

__all__ = ["VERDICTS", "Decision", "append_decision", "apply_decisions", "fingerprint", "latest", "read_log"]

VERDICTS = ("accept", "reject", "edit")
_KEYS = ("id", "fingerprint", "verdict", "phrase", "reviewer", "time")


@dataclass(frozen=True)
class Decision:
    """What one reviewer thinks of one trajectory.

    Attributes:
        id: of the trajectory.
        fingerprint: of what was seen, so that a decision does not outlive a change of the row.
        verdict: accept, reject, or edit: accept with another expression.
        phrase: the expression of an edit, else None.
        reviewer: who decided.
        time: seconds since 1970, UTC.
    """

    id: str
    fingerprint: str
    verdict: str
    reviewer: str
    time: float
    phrase: str | None = None

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"`verdict` is {self.verdict!r}; give one of {list(VERDICTS)}.")
        if not self.reviewer.strip():
            raise ValueError("`reviewer` is empty; decisions of several people are told apart by it.")
        if (self.verdict == "edit") != bool(self.phrase and self.phrase.strip()):
            raise ValueError(
                f"`phrase` is {self.phrase!r} with the verdict {self.verdict!r}; an edit alone has words."
            )


def fingerprint(row: Trajectory) -> str:
    """Return what identifies the content that is looked at: video, frames, boxes and words."""
    digest = hashlib.sha256(json.dumps([row.video, list(row.frame_indices), row.phrase]).encode())
    digest.update(row.boxes.astype("<f4").tobytes())
    return digest.hexdigest()[:16]


def append_decision(log: str | os.PathLike[str], decision: Decision) -> None:
    """Add a line to the log and wait until it is on the disk; several processes may do so at once.

    A line that a crash left unfinished is ended first: it is no decision, and must not swallow this one.
    """
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({key: asdict(decision)[key] for key in _KEYS}, ensure_ascii=False) + "\n"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = "\n" + line
        os.write(handle, line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def read_log(log: str | os.PathLike[str]) -> list[Decision]:
    """Return the decisions of a log in their order; none where it does not exist yet.

    A line cut short by a crash is passed over.

    Raises:
        ValueError: a whole line is no decision; the message names it.
    """
    path = Path(log)
    if not path.exists():
        return []
    decisions = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except json.JSONDecodeError:
            if line.startswith("{") and not line.endswith("}"):
                continue
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r} is no decision; mend or remove the line."
            ) from None
        try:
            decisions.append(Decision(**data))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: {error}; a decision has the keys {list(_KEYS)}.") from None
    return decisions


def latest(decisions: Iterable[Decision]) -> dict[tuple[str, str], Decision]:
    """Return what each reviewer said last about each trajectory, by (id, reviewer)."""
    return {(decision.id, decision.reviewer): decision for decision in decisions}


def apply_decisions(
    rows: Iterable[Trajectory], decisions: Sequence[Decision], required: Sequence[str] = ()
) -> Iterator[tuple[Trajectory | None, str]]:
    """Yield each row as the reviewers want it, with what was done.

    The majority of a row's reviewers decides between keeping and rejecting it; a tie rejects it, because an evaluation
    set is better small than wrong. Of several edits the most frequent one is taken, of equally frequent ones the last.

    Args:
        rows: of a build.
        decisions: of a log.
        required: splits whose rows are dropped unless somebody accepted them.

    Yields:
        The row, None where it is dropped, and one of `accepted`, `edited`, `rejected`, `unreviewed` (kept),
        `unreviewed, dropped`; with `, stale decisions` where decisions about an earlier content were ignored.
    """
    by_row: defaultdict[str, list[Decision]] = defaultdict(list)
    for decision in latest(decisions).values():
        by_row[decision.id].append(decision)
    for row in rows:
        made = by_row.get(row.id, [])
        valid = [decision for decision in made if decision.fingerprint == fingerprint(row)]
        kept, what = _decided(row, valid, required)
        yield kept, what if len(valid) == len(made) else f"{what}, stale decisions"


def _decided(row: Trajectory, made: Sequence[Decision], required: Sequence[str]) -> tuple[Trajectory | None, str]:
    if not made:
        return (None, "unreviewed, dropped") if row.split in required else (row, "unreviewed")
    verdicts = Counter(decision.verdict for decision in made)
    if verdicts["reject"] * 2 >= len(made):
        return None, "rejected"
    edits = [decision.phrase for decision in made if decision.phrase]
    phrase = _most_frequent(edits) if edits else row.phrase
    reviewed: Mapping[str, Any] = {name: verdicts[name] for name in VERDICTS}
    row = replace(row, phrase=phrase, provenance={**row.provenance, "review": dict(reviewed)})
    return row, "edited" if edits else "accepted"


def _most_frequent(texts: Sequence[str]) -> str:
    counts = Counter(texts)
    return max(texts, key=lambda text: (counts[text], max(i for i, other in enumerate(texts) if other == text)))
