"""The Elysium model and what runs it; importing this package registers it with the Auto classes of transformers."""

from .versions import MINIMUM_TRANSFORMERS  # noqa: F401 - first, before names that older versions lack

# isort: split
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_elysium import ElysiumConfig
from .modeling_elysium import ElysiumForConditionalGeneration, ElysiumModel, ElysiumPreTrainedModel
from .pipeline_video_tracking import VideoTrackingPipeline

AutoConfig.register(ElysiumConfig.model_type, ElysiumConfig, exist_ok=True)
AutoModel.register(ElysiumConfig, ElysiumModel, exist_ok=True)
AutoModelForImageTextToText.register(ElysiumConfig, ElysiumForConditionalGeneration, exist_ok=True)
AutoModelForMultimodalLM.register(ElysiumConfig, ElysiumForConditionalGeneration, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline("video-tracking", VideoTrackingPipeline, pt_model=AutoModelForImageTextToText)
# With these, `save_pretrained` copies the code files, so that the folder also loads with `trust_remote_code`.
ElysiumConfig.register_for_auto_class()
ElysiumModel.register_for_auto_class("AutoModel")
ElysiumForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")

__all__ = [
    "ElysiumConfig",
    "ElysiumForConditionalGeneration",
    "ElysiumModel",
    "ElysiumPreTrainedModel",
    "VideoTrackingPipeline",
]
