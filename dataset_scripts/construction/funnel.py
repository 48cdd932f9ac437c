"""What the pipeline dropped and why: the manifest of a build, added up."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Funnel", "read_funnel"]

MANIFEST = "manifest.jsonl"


@dataclass
class Funnel:
    """Counts over all shards.

    Attributes:
        counts: videos, phrases and what else was counted; `phrases` were found, `kept` are rows.
        dropped: reason (`STAGE.REASON`) -> number, in the order in which the stages are met.
        quarantined: videos put aside, by reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)

    def steps(self) -> list[tuple[str, int, int]]:
        """Return (what, phrases left after it, phrases it dropped), from all phrases to those that were kept."""
        of_phrases = {n: c for n, c in self.dropped.items() if not n.startswith(("video.", "caption."))}
        left = self.counts["kept"] + sum(of_phrases.values())
        steps = [("noun phrases", left, 0)]
        for name, count in of_phrases.items():
            left -= count
            steps.append((name, left, count))
        return steps

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"counts": dict(self.counts), "dropped": dict(self.dropped), "quarantined": dict(self.quarantined)}

    def lines(self) -> list[str]:
        """Return it as Markdown."""
        lines = ["| step | dropped | left |", "|---|---:|---:|"]
        lines += [f"| {name} | {dropped or '':,} | {left:,} |" if dropped else f"| {name} | | {left:,} |"
                  for name, left, dropped in self.steps()]  # fmt: skip
        whole = {n: c for n, c in self.dropped.items() if n.startswith(("video.", "caption."))}
        for name, count in (whole | dict(self.quarantined)).items():
            lines.append(f"| whole videos: {name} | {count:,} | |")
        return lines


def read_funnel(build: str | os.PathLike[str]) -> Funnel | None:
    """Add up the lines of a build's manifest; None where it has none.

    Raises:
        ValueError: a line is not what the pipeline writes.
    """
    path = Path(build) / MANIFEST
    if not path.is_file():
        return None
    funnel = Funnel()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            data = json.loads(line)
            funnel.counts.update(data.get("counts", {}))
            funnel.dropped.update(data.get("dropped", {}))
            funnel.quarantined.update(data.get("quarantined", {}))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}: {error}; it is no manifest of a build.") from None
    return funnel
