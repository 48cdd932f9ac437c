"""One reviewer's way through the trajectories: what comes next, what was decided, back to the last one."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence

from ..construction.rows import Trajectory
from .agreement import agreement_of
from .decisions import VERDICTS, Decision, append_decision, fingerprint, latest, read_log

__all__ = ["ReviewSession"]


class ReviewSession:
    """The trajectories in one order for all reviewers, and those that this one has not decided yet.

    All see the same order, drawn from the seed, so that several reviewers who stop early have decided the same ones
    and their agreement can be told. Decisions are in the log alone: a session that starts anew goes on where the log
    ends.

    Args:
        rows: to review.
        log: file of decisions.
        reviewer: name of this reviewer.
        seed: of the order.
        clock: gives seconds since 1970.

    Raises:
        ValueError: no rows, two of one id, no name, or a log that cannot be read.
    """

    def __init__(
        self,
        rows: Sequence[Trajectory],
        log: str | os.PathLike[str],
        reviewer: str,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not rows:
            raise ValueError("there is no trajectory to review; check the build and --split.")
        twice = [name for name, count in Counter(row.id for row in rows).items() if count > 1]
        if twice:
            raise ValueError(f"the id {twice[0]!r} names two trajectories; ids are unique in a build.")
        if not reviewer.strip():
            raise ValueError("the reviewer has no name; pass --reviewer NAME.")
        self.rows = sorted(rows, key=lambda row: hashlib.sha256(f"{seed} {row.id}".encode()).digest())
        self.log, self.reviewer, self.clock = log, reviewer.strip(), clock
        self.position = 0
        self.position = self._next_undecided(0)

    @property
    def current(self) -> Trajectory | None:
        """The trajectory to decide; None where all are decided."""
        return self.rows[self.position] if self.position < len(self.rows) else None

    def decide(self, verdict: str, phrase: str = "") -> None:
        """Log a verdict on the current trajectory and go on; words that differ make an acceptance an edit.

        Raises:
            ValueError: unknown verdict, nothing left to decide, or an edit that changes nothing.
        """
        row = self.current
        if row is None:
            raise ValueError("every trajectory is decided; go back to change a decision.")
        if verdict not in VERDICTS:
            raise ValueError(f"`verdict` is {verdict!r}; give one of {list(VERDICTS)}.")
        words = " ".join(phrase.split())
        changed = bool(words) and words != row.phrase
        if verdict == "edit" and not changed:
            raise ValueError("an edit needs other words than the expression has; change it, or accept.")
        if verdict == "accept" and changed:
            verdict = "edit"
        append_decision(
            self.log,
            Decision(
                id=row.id, fingerprint=fingerprint(row), verdict=verdict, phrase=words if verdict == "edit" else None,
                reviewer=self.reviewer, time=self.clock(),
            ),
        )  # fmt: skip
        self.position = self._next_undecided(self.position + 1)

    def back(self) -> None:
        """Go to the trajectory before; deciding it anew replaces the decision."""
        self.position = max(self.position - 1, 0)

    def decided(self) -> dict[str, Decision]:
        """Return this reviewer's last decisions about the rows as they are, by id."""
        mine = {name: made for (name, who), made in latest(read_log(self.log)).items() if who == self.reviewer}
        return {row.id: mine[row.id] for row in self.rows if row.id in mine and _is_about(mine[row.id], row)}

    def summary(self) -> list[str]:
        """Return progress, verdicts and agreement as lines for people."""
        decided = self.decided()
        counts = Counter(decision.verdict for decision in decided.values())
        words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
        return [f"{len(decided)} of {len(self.rows)} decided ({words})", *agreement_of(read_log(self.log)).lines()]

    def _next_undecided(self, start: int) -> int:
        decided = self.decided()
        for position in (*range(start, len(self.rows)), *range(start)):
            if self.rows[position].id not in decided:
                return position
        return len(self.rows)


def _is_about(decision: Decision, row: Trajectory) -> bool:
    return decision.fingerprint == fingerprint(row)
