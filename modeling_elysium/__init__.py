"""The Elysium model; importing this package registers it with the Auto classes of transformers.

The model is imported when it is asked for, and so is the pipeline, which lives in `tracking_elysium`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from processing_elysium.registration import register

if TYPE_CHECKING:
    from .configuration_elysium import ElysiumConfig
    from .modeling_elysium import ElysiumForConditionalGeneration, ElysiumModel, ElysiumPreTrainedModel

_HOME = {
    "ElysiumConfig": "configuration_elysium",
    "ElysiumForConditionalGeneration": "modeling_elysium",
    "ElysiumModel": "modeling_elysium",
    "ElysiumPreTrainedModel": "modeling_elysium",
}
_TRACKING = ("VideoTrackingPipeline", "TrackingOptions", "TrackingSession", "ObjectQuery")  # named here once


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name in _TRACKING:
        return getattr(import_module("tracking_elysium"), name)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_TRACKING})


register()

__all__ = ["ElysiumConfig", "ElysiumForConditionalGeneration", "ElysiumModel", "ElysiumPreTrainedModel"]
