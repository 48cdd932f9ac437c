"""What the server and the function are told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..construction.config import BackendConfig

__all__ = ["AnnotateConfig"]


@dataclass(frozen=True)
class AnnotateConfig:
    """Settings, see `example.yaml` in this folder.

    Attributes:
        media_root: folder of the videos; nothing outside it is opened. For Label Studio its folder `media` (of
            uploads) or `LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT`.
        tracker: who follows a box, see `docs/data_engine.md` for the kinds.
        grounder: who finds a phrase; None refuses requests by words.
        device: torch device.
        tolerance: of the keyframes, relative to the object's sides, see `keyframes.py`.
        min_confidence: the object counts as out of sight where the tracker's confidence is not above it.
        min_grounding: a phrase counts as found where the grounder's score is above it.
        search_frames: frames, evenly spread from the first on, in which a phrase is looked for until it is found.
        max_frames: frames tracked per request; where a track ends because of it, the next request goes on.
        max_objects: tracks per request.
        host, port: address to serve on; the default is reached from this machine only.
        max_request_mb: larger requests are refused unread.
        max_waiting: requests that wait for the model; further ones are refused.
        state_side: longest side, in pixels, of the frame that CVAT carries from request to request.
        seed: of what a tracker draws.
    """

    media_root: str
    tracker: BackendConfig
    grounder: BackendConfig | None = None
    device: str = "cpu"
    tolerance: float = 0.05
    min_confidence: float = 0.0
    min_grounding: float = 0.3
    search_frames: int = 4
    max_frames: int = 2000
    max_objects: int = 50
    host: str = "127.0.0.1"
    port: int = 9090
    max_request_mb: float = 64.0
    max_waiting: int = 8
    state_side: int = 640
    seed: int = 0

    def __post_init__(self) -> None:
        if not Path(self.media_root).expanduser().is_dir():
            raise ValueError(f"media_root={self.media_root!r} is no folder; name the folder that holds the videos.")
        if not 0 <= self.tolerance < 0.5:
            raise ValueError(f"tolerance={self.tolerance} must lie in [0, 0.5).")
        for name in ("min_confidence", "min_grounding"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1).")
        for name, least in (("search_frames", 1), ("max_frames", 2), ("max_objects", 1), ("max_waiting", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}.")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port={self.port} must lie in [0, 65535]; 0 takes any that is free.")
        if not self.max_request_mb > 0:
            raise ValueError(f"max_request_mb={self.max_request_mb} must be above 0.")
        if self.state_side < 32:
            raise ValueError(f"state_side={self.state_side} must be at least 32.")
