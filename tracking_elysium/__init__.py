"""Tracking with an Elysium model: the pipeline, sessions, answerers, drawing and the command `elysium`.

Importing this package registers all there is with transformers: configuration, model, processors and
`pipeline("video-tracking")`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import modeling_elysium  # noqa: F401 - registers the model and the pipeline
import processing_elysium  # noqa: F401 - registers the processors

if TYPE_CHECKING:
    from .options import TrackingOptions
    from .pipeline_video_tracking import VideoTrackingPipeline
    from .queries import ObjectQuery
    from .session import TrackingSession

_HOME = {
    "ObjectQuery": "queries",
    "TrackingOptions": "options",
    "TrackingSession": "session",
    "VideoTrackingPipeline": "pipeline_video_tracking",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


__all__ = ["ObjectQuery", "TrackingOptions", "TrackingSession", "VideoTrackingPipeline"]
