"""How long a large run would take, from the seconds per stage that a small one measured.

With V videos, c and g seconds of processor and GPU per video, A actors that each take one video at a time through all
stages, C cores and G GPUs:

    days = V * max((c + g) / A, c / C, g / G) / 86400

The first bound says that an actor's stages follow one another, the others that no core and no GPU works more than all
the time. Starting, reading over a network and waiting for the slowest are not in it.

    python -m dataset_scripts.construction.projection builds/mine --videos 10700000 --actors 96 --cores 192 --gpus 24
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .manifest import MANIFEST

__all__ = ["Machines", "bounds_days", "main", "seconds_per_video"]

DAY_S = 86_400.0
GPU_STAGES = ("grounding", "tracking", "forward_backward")


@dataclass(frozen=True)
class Machines:
    """What a run has.

    Attributes:
        actors: workers, each with one video at a time.
        cores: of all machines.
        gpus: of all machines, 0 where the stages of models run on the processor.
    """

    actors: int
    cores: int
    gpus: int = 0

    def __post_init__(self) -> None:
        if self.actors < 1 or self.cores < 1 or self.gpus < 0:
            raise ValueError(
                f"need actors >= 1, cores >= 1 and gpus >= 0; got {self.actors}, {self.cores} and {self.gpus}."
            )


def seconds_per_video(build: Path) -> dict[str, float]:
    """Return the mean seconds that each stage took per video, from the manifest of a build.

    Raises:
        ValueError: there is no finished shard.
    """
    path, spent, videos = build / MANIFEST, Counter[str](), 0
    for line in path.read_text().splitlines() if path.exists() else ():
        entry = json.loads(line)
        spent.update(entry["seconds"])
        videos += entry["counts"]["videos"]
    if not videos:
        raise ValueError(f"{path} has no finished shard; name the output of a build.")
    return {stage: seconds / videos for stage, seconds in sorted(spent.items())}


def bounds_days(
    seconds: Mapping[str, float], videos: int, machines: Machines, gpu_stages: Sequence[str] = GPU_STAGES
) -> dict[str, float]:
    """Return the three bounds of the formula in days; the longest is the projection.

    Args:
        seconds: per video and stage, on one core or one GPU of the kind that `machines` has.
        videos: V.
        machines: A, C and G.
        gpu_stages: stages that run on a GPU; with no GPU all run on the processor.
    """
    gpu = sum(spent for stage, spent in seconds.items() if stage in gpu_stages) if machines.gpus else 0.0
    processor = sum(seconds.values()) - gpu
    each = {"actors": (processor + gpu) / machines.actors, "cores": processor / machines.cores}
    if machines.gpus:
        each["gpus"] = gpu / machines.gpus
    return {name: videos * spent / DAY_S for name, spent in each.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print seconds per stage and days; returns an exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_scripts.construction.projection", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "build", type=Path, help="output of a build, made with the backends and devices of the large run"
    )
    parser.add_argument("--videos", type=int, required=True)
    parser.add_argument("--actors", type=int, required=True)
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--gpus", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        seconds = seconds_per_video(given.build)
        bounds = bounds_days(seconds, given.videos, Machines(given.actors, given.cores, given.gpus))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for stage, spent in seconds.items():
        print(f"{stage:<20} {spent:10.4f} s per video")
    for name, days in bounds.items():
        print(f"{given.videos:,} videos, bound by {name:<8} {days:10.2f} days")
    return 0


if __name__ == "__main__":
    sys.exit(main())
