"""The Elysium model; importing this package registers it with the Auto classes of transformers.

The model is imported when it is asked for, and so is the pipeline, which lives in `tracking_elysium`.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from processing_elysium.registration import enter, when_imported

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


def _register_pipeline(module: ModuleType) -> None:
    from transformers.models.auto.modeling_auto import AutoModelForImageTextToText

    # A dotted name, as the library's own pipelines are entered: resolved when the task is asked for.
    implementation = "tracking_elysium.pipeline_video_tracking.VideoTrackingPipeline"
    entry = {"impl": implementation, "pt": (AutoModelForImageTextToText,), "type": "multimodal"}
    module.PIPELINE_REGISTRY.supported_tasks["video-tracking"] = entry


enter("configuration_auto", "CONFIG_MAPPING", __name__, "ElysiumConfig")
enter("modeling_auto", "MODEL_MAPPING", __name__, "ElysiumModel")
enter("modeling_auto", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING", __name__, "ElysiumForConditionalGeneration")
enter("modeling_auto", "MODEL_FOR_MULTIMODAL_LM_MAPPING", __name__, "ElysiumForConditionalGeneration")
when_imported("transformers.pipelines", _register_pipeline)

__all__ = ["ElysiumConfig", "ElysiumForConditionalGeneration", "ElysiumModel", "ElysiumPreTrainedModel"]
