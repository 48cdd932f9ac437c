"""Pixels and text in, tensors out; text in, boxes out.

Importing the package registers the processors for `model_type: "elysium"` with transformers' auto classes.
"""

from modeling_elysium.configuration_elysium import ElysiumConfig  # first: checks the version of transformers

# isort: split
from transformers import AutoImageProcessor, AutoProcessor

from .boxes import ParsedBoxes, format_box, format_boxes, iou, parse_boxes
from .image_processing_elysium import ElysiumImageProcessor
from .processing_elysium import ElysiumProcessor
from .prompts import Task, build_messages, render_answer, render_prompt

AutoImageProcessor.register(ElysiumConfig, image_processor_classes={"pil": ElysiumImageProcessor}, exist_ok=True)
AutoProcessor.register(ElysiumConfig, ElysiumProcessor, exist_ok=True)
ElysiumImageProcessor.register_for_auto_class()
ElysiumProcessor.register_for_auto_class()

__all__ = [
    "ElysiumImageProcessor",
    "ElysiumProcessor",
    "ParsedBoxes",
    "Task",
    "build_messages",
    "format_box",
    "format_boxes",
    "iou",
    "parse_boxes",
    "render_answer",
    "render_prompt",
]
