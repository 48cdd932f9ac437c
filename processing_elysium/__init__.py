"""Pixels and text in, tensors out; text in, boxes out.

Importing the package registers the processors for `model_type: "elysium"` with the Auto classes of transformers; they
are imported when they are asked for.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .registration import AUTO, MODEL_TYPE, check_transformers, when_imported

if TYPE_CHECKING:
    from .boxes import ParsedBoxes, format_box, format_boxes, iou, parse_boxes
    from .image_processing_elysium import ElysiumImageProcessor
    from .processing_elysium import ElysiumProcessor
    from .prompts import Task, build_messages, render_answer, render_prompt

_HOME = {
    "ElysiumImageProcessor": "image_processing_elysium",
    "ElysiumProcessor": "processing_elysium",
    **dict.fromkeys(("ParsedBoxes", "format_box", "format_boxes", "iou", "parse_boxes"), "boxes"),
    **dict.fromkeys(("Task", "build_messages", "render_answer", "render_prompt"), "prompts"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name.startswith("Elysium"):
        check_transformers()
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


def _register_image_processor(module: ModuleType) -> None:
    check_transformers()
    from .image_processing_elysium import ElysiumImageProcessor

    # By name: a saved processor names its class, and the configuration of the model is not this package's.
    classes = {"pil": ElysiumImageProcessor}
    module.AutoImageProcessor.register(MODEL_TYPE, image_processor_classes=classes, exist_ok=True)


def _register_processor(module: ModuleType) -> None:
    check_transformers()
    from .processing_elysium import ElysiumProcessor

    module.AutoProcessor.register(MODEL_TYPE, ElysiumProcessor, exist_ok=True)


when_imported(f"{AUTO}.image_processing_auto", _register_image_processor)
when_imported(f"{AUTO}.processing_auto", _register_processor)

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
