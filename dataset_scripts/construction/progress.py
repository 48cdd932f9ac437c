"""The live table of a build: videos in, kept and dropped by reason, videos per second, time left."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .items import VideoResult
from .manifest import ShardEntry

__all__ = ["Progress"]

REASONS = 12  # rows of the table; the manifest has all


class Progress:
    """Counts what the executor reports and shows it; use it as a context."""

    def __init__(self, total: int | None, console: Console | None = None) -> None:
        """Begin at nothing.

        Args:
            total: videos of the input, None where that is not known beforehand.
            console: to draw on; standard error by default. What is no terminal gets the last table only.
        """
        self.total = total
        self.counts, self.dropped, self.quarantined = Counter[str](), Counter[str](), Counter[str]()
        self.now, self.skipped, self._begun = 0, 0, time.monotonic()
        self._live = Live(
            get_renderable=self.table, console=console or Console(stderr=True), refresh_per_second=2, transient=False
        )

    def __enter__(self) -> Self:
        """Show the table."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state of the table."""
        self._live.stop()

    def add_result(self, result: VideoResult) -> None:
        """Count a video that was worked on now."""
        self.now += 1
        self.counts.update(result.counts)
        self.dropped.update(result.dropped)
        if result.quarantined is not None:
            self.quarantined[result.quarantined[0]] += 1

    def add_skipped(self, entry: ShardEntry) -> None:
        """Count a shard of an earlier run."""
        self.skipped += entry.counts["videos"]
        self.counts.update({name: count for name, count in entry.counts.items() if name != "videos"})
        self.dropped.update(entry.dropped)
        self.quarantined.update(entry.quarantined)

    def speed(self) -> float:
        """Return videos per second of this run."""
        return self.now / max(time.monotonic() - self._begun, 1e-9)

    def time_left(self) -> str:
        """Return the time left as text, `unknown` without a total or a speed."""
        if self.total is None or not self.now:
            return "unknown"
        return str(timedelta(seconds=round((self.total - self.skipped - self.now) / self.speed())))

    def table(self) -> Table:
        """Return what is shown."""
        table = Table("", "videos / phrases", title="Construction")
        table.columns[1].justify = "right"
        of = "" if self.total is None else f" of {self.total:,}"
        table.add_row("videos in", f"{self.skipped + self.now:,}{of}")
        if self.skipped:
            table.add_row("  of an earlier run", f"{self.skipped:,}")
        table.add_row("phrases found", f"{self.counts['phrases']:,}")
        table.add_row("trajectories kept", f"{self.counts['kept']:,}")
        for name, count in self.dropped.most_common(REASONS):
            table.add_row(f"  dropped: {name}", f"{count:,}")
        for name, count in self.quarantined.most_common(REASONS):
            table.add_row(f"  quarantined: {name}", f"{count:,}")
        table.add_row("videos/s", f"{self.speed():.2f}")
        table.add_row("time left", self.time_left())
        return table
