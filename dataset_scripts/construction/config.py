"""Everything that a run of the pipeline is told, and the fingerprint of what decides its output."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..plain import to_plain
from .consistency import ConsistencyConfig
from .drift import DriftConfig
from .enrichment import EnrichmentConfig
from .forward_backward import ForwardBackwardConfig
from .grounding import GroundingConfig
from .noun_chunks import NounChunkConfig
from .shots import ShotConfig
from .tracking import TrackingConfig
from .unique import UniqueConfig

__all__ = ["BackendConfig", "BuildConfig", "InputConfig", "RayConfig", "VideoConfig", "fingerprint"]

INPUT_KINDS = ("folder", "table", "webdataset", "hub")
EXECUTORS = ("local", "ray")
# These change how fast a run goes and where, never what it writes.
WITHOUT_EFFECT = ("output", "executor", "processes", "devices", "ray", "timeout_s")


@dataclass(frozen=True)
class InputConfig:
    """Where videos and captions are.

    Attributes:
        kind: "folder" (videos with a `.txt` or `.json` of the same name beside them, or one `captions.*` table),
            "table" (csv, tsv, jsonl or parquet), "webdataset" (uncompressed tars), "hub" (what `datasets.load_dataset`
            reads, local folders included).
        path: folder, file, glob of tars, or name of the data set.
        root: folder that relative paths in a table start from; by default the table's own.
        id, video, caption, license: names of columns (of keys, of endings in a tar). Without an id column the path is
            the id, or the number of the row.
        source: name of the video set; by default the file's or folder's.
        default_license: for videos without one of their own.
        split, name: of a Hub data set.
    """

    kind: str
    path: str
    root: str | None = None
    id: str = "id"
    video: str = "video"
    caption: str = "caption"
    license: str = "license"
    source: str | None = None
    default_license: str | None = None
    split: str = "train"
    name: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in INPUT_KINDS:
            raise ValueError(f"input.kind={self.kind!r} is unknown; use one of {', '.join(INPUT_KINDS)}.")


@dataclass(frozen=True)
class VideoConfig:
    """Which videos, and which of their frames, are worked on.

    Attributes:
        frame_step: every n-th frame is looked at and written.
        min_frames: shorter videos (in frames looked at) are dropped; at least 3: first, middle and last differ.
        max_seconds: longer ones are dropped; None takes any length.
        min_side: videos with a shorter side, in pixels, are dropped.
    """

    frame_step: int = 1
    min_frames: int = 8
    max_seconds: float | None = 300.0
    min_side: int = 32

    def __post_init__(self) -> None:
        for name, least in (("frame_step", 1), ("min_frames", 3), ("min_side", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"video.{name}={getattr(self, name)} must be at least {least}.")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ValueError(f"video.max_seconds={self.max_seconds} must be above 0, or null.")


@dataclass(frozen=True)
class BackendConfig:
    """A grounder or a tracker: its kind and what it is built with, see `docs/data_engine.md`."""

    kind: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RayConfig:
    """How Ray spreads the work.

    Attributes:
        address: of a running cluster ("auto": the one this machine is in); None starts one here.
        min_actors, max_actors: bounds of the pool; each actor holds one grounder and one tracker.
        num_cpus, num_gpus: of an actor; a fraction of a GPU lets several share it.
        batch_size: videos that an actor is handed at a time; it holds at most two such batches.
    """

    address: str | None = None
    min_actors: int = 1
    max_actors: int = 2
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    batch_size: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.min_actors <= self.max_actors:
            raise ValueError(f"ray: need 1 <= min_actors <= max_actors; got {self.min_actors}, {self.max_actors}.")
        if not self.num_cpus > 0 or self.num_gpus < 0:
            raise ValueError(f"ray: need num_cpus > 0 and num_gpus >= 0; got {self.num_cpus}, {self.num_gpus}.")
        if self.batch_size < 1:
            raise ValueError(f"ray.batch_size={self.batch_size} must be at least 1.")


@dataclass(frozen=True)
class BuildConfig:
    """A whole run.

    Attributes:
        input: videos and captions.
        output: folder to write; one run each.
        grounder, tracker: who finds, who follows.
        executor: "local" (processes here) or "ray".
        processes: workers of the local executor.
        devices: torch devices, dealt out to the workers in turn.
        shard_size: videos per shard; a shard is what a restart skips.
        timeout_s: seconds for one video, after which its worker is ended and the video put aside.
        seed: of all that is drawn.
        video ... shots: the stages.
    """

    input: InputConfig
    output: str
    grounder: BackendConfig
    tracker: BackendConfig
    executor: str = "local"
    processes: int = 1
    devices: list[str] = field(default_factory=lambda: ["cpu"])
    shard_size: int = 100
    timeout_s: float = 300.0
    seed: int = 0
    ray: RayConfig = field(default_factory=RayConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    enrichment: EnrichmentConfig = field(default_factory=EnrichmentConfig)
    noun_chunks: NounChunkConfig = field(default_factory=NounChunkConfig)
    grounding: GroundingConfig = field(default_factory=GroundingConfig)
    unique: UniqueConfig = field(default_factory=UniqueConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    forward_backward: ForwardBackwardConfig = field(default_factory=ForwardBackwardConfig)
    shots: ShotConfig = field(default_factory=ShotConfig)

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise ValueError(f"executor={self.executor!r} is unknown; use one of {', '.join(EXECUTORS)}.")
        for name in ("processes", "shard_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s={self.timeout_s} must be above 0.")
        if not self.devices:
            raise ValueError("devices is an empty list; name at least one, for instance [cpu] or [cuda:0, cuda:1].")

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.output)


def fingerprint(config: BuildConfig) -> str:
    """Return 16 hex digits over every setting that can change the output."""
    plain = {name: value for name, value in to_plain(config).items() if name not in WITHOUT_EFFECT}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
