"""Turn captioned videos into trajectories: `python -m dataset_scripts.construction.build CONFIG.yaml`."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from ..plain import load_yaml
from .config import BuildConfig
from .executor import run_build
from .inputs import read_inputs
from .items import VideoResult
from .manifest import ShardEntry
from .process import DISK_FULL
from .progress import Progress

__all__ = ["estimate", "main"]

COUNTABLE = ("folder", "table")  # inputs that are counted beforehand in little time
SAMPLE = 8
EPILOG = """The settings are those of docs/data_engine.md. A smallest file:

  input: {kind: folder, path: my_videos}   # a.mp4 with its caption in a.txt beside it
  output: builds/mine
  grounder: {kind: grounding_dino, options: {checkpoint: IDEA-Research/grounding-dino-base}}
  tracker: {kind: sam2, options: {checkpoint: facebook/sam2.1-hiera-small}}

A run that was stopped or killed goes on where the same command is given again.
Exit codes: 0 done, 2 settings or input are wrong, 3 the disk is full, 130 stopped by Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = _parser().parse_args(arguments)
    try:
        config: BuildConfig = load_yaml(BuildConfig, given.config, given.set)
        if given.processes is not None:
            config = dataclasses.replace(config, processes=given.processes)
        if given.dry_run:
            print(estimate(config, given.sample, _total(config)))
        else:
            _build(config)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        print(f"error: the disk is full ({error}); finished shards are kept. Free some space and give the same "
              "command again.", file=sys.stderr)  # fmt: skip
        return 3
    except KeyboardInterrupt:
        print("stopped; finished shards are kept, the same command goes on.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dataset_scripts.construction.build", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="settings of the run")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="change a setting, for instance tracking.min_confidence=0.7; repeatable")  # fmt: skip
    parser.add_argument("--processes", type=int, metavar="N", help="worker processes (as in the file, else 1)")
    parser.add_argument("--dry-run", action="store_true",
                        help="work on a few videos, print the time and disk that all would take, and write "
                        "nothing")  # fmt: skip
    parser.add_argument("--sample", type=int, default=SAMPLE, metavar="VIDEOS",
                        help=f"videos of a dry run, the first of the input ({SAMPLE})")  # fmt: skip
    return parser


def _total(config: BuildConfig) -> int | None:
    if config.input.kind not in COUNTABLE:
        return None
    return sum(1 for _ in read_inputs(config.input))


def _build(config: BuildConfig) -> None:
    with Progress(_total(config)) as progress:
        entries = run_build(config, read_inputs(config.input), progress.add_result, progress.add_skipped)
    kept = sum(entry.counts["kept"] for entry in entries)
    put_aside = sum(sum(entry.quarantined.values()) for entry in entries)
    videos = sum(entry.counts["videos"] for entry in entries)
    print(f"{kept:,} trajectories of {videos:,} videos in {len(entries):,} shards: {config.folder}; "
          f"{put_aside:,} videos quarantined (manifest.jsonl names them)")  # fmt: skip


def estimate(config: BuildConfig, sample: int, total: int | None) -> str:
    """Work on the first videos in a temporary folder and extend time and disk to all.

    Args:
        config: of the run; its output is not touched.
        sample: videos to work on.
        total: videos of the input, None where not known.

    Returns:
        Lines of text.

    Raises:
        ValueError: the sample is below 1, the input is empty, or see `run_build`.
    """
    if sample < 1:
        raise ValueError(f"--sample={sample} must be at least 1.")
    items = list(itertools.islice(read_inputs(config.input), sample))
    if not items:
        raise ValueError(f"input.path={config.input.path!r} holds no video.")
    arrived: list[float] = []

    def note(_: VideoResult) -> None:
        arrived.append(time.monotonic())

    with tempfile.TemporaryDirectory(prefix="dry-run-") as folder:
        trial = dataclasses.replace(config, output=folder, shard_size=sample)
        begun = time.monotonic()
        (entry,) = run_build(trial, items, note)
        written = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return "\n".join(_estimate_lines(config, entry, max(arrived) - begun, written, total))


def _estimate_lines(
    config: BuildConfig, entry: ShardEntry, wall_s: float, written: int, total: int | None
) -> list[str]:
    videos = entry.counts["videos"]
    per_video = {stage: spent / videos for stage, spent in entry.seconds.items()}
    busy, bytes_per_video = sum(per_video.values()), written / videos
    lines = [
        f"{videos} videos: {entry.counts['phrases']} phrases, {entry.counts['kept']} trajectories kept, dropped "
        f"{entry.dropped}, quarantined {entry.quarantined}; {wall_s:.1f} s with the start of the workers",
        *(f"  {stage:<20} {seconds:8.3f} s per video" for stage, seconds in Counter(per_video).most_common()),
        f"  {'all stages':<20} {busy:8.3f} s per video and process, {bytes_per_video / 1024:.1f} KiB per video",
    ]
    if total is None:
        return [*lines, f"an input of kind {config.input.kind} is not counted beforehand; multiply by its videos."]
    left = timedelta(seconds=round(busy * total / config.processes))
    return [
        *lines,
        f"{total:,} videos: about {left} with {config.processes} process(es) that do not slow each other, "
        f"{bytes_per_video * total / 2**20:.1f} MiB of disk (an upper bound: larger shards compress better)",
    ]


if __name__ == "__main__":
    sys.exit(main())
