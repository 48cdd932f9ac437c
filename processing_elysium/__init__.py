"""Pixels and text in, tensors out; text in, boxes out.

Importing the package registers `model_type: "elysium"` with the Auto classes of transformers; all of it is imported
when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registration import check_transformers, register

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


register()

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
