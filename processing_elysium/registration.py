"""Register with transformers without importing it: what is registered is looked up when it is asked for.

Importing the base classes of transformers takes seconds, and `elysium --help` or `processing_elysium.boxes` need none
of them. So the three packages wait: once a program has imported the library's table of an Auto class, a name is
entered there, in the library's own lazy form; the first look-up of the name imports the package that has it. Not
carried.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODEL_TYPE = "elysium"
AUTO = "transformers.models.auto"
MINIMUM_TRANSFORMERS = "5.23"  # a test holds it equal to that of `modeling_elysium/versions.py`, which is carried


def check_transformers() -> None:
    """Raise ImportError where the library is older than what works; imports it."""
    import transformers

    numbers = [int(number) for number in re.findall(r"\d+", transformers.__version__)[:2]]
    if numbers < [int(number) for number in MINIMUM_TRANSFORMERS.split(".")]:
        raise ImportError(
            f"Elysium needs transformers {MINIMUM_TRANSFORMERS} or newer, found {transformers.__version__}: "
            f'pip install "transformers>={MINIMUM_TRANSFORMERS},<6"'
        )


# Module of `transformers.models.auto` -> its tables -> package and class of ours. Names only: nothing is imported.
TABLES = {
    "configuration_auto": {"CONFIG_MAPPING": ("modeling_elysium", "ElysiumConfig")},
    "modeling_auto": {
        "MODEL_MAPPING": ("modeling_elysium", "ElysiumModel"),
        "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING": ("modeling_elysium", "ElysiumForConditionalGeneration"),
        "MODEL_FOR_MULTIMODAL_LM_MAPPING": ("modeling_elysium", "ElysiumForConditionalGeneration"),
    },
}
PIPELINE = "tracking_elysium.pipeline_video_tracking.VideoTrackingPipeline"


def register() -> None:
    """Register configuration, model, processors and pipeline; once is enough, more does no harm."""
    for module, tables in TABLES.items():
        when_imported(f"{AUTO}.{module}", partial(_enter, tables))
    when_imported(f"{AUTO}.image_processing_auto", _register_image_processor)
    when_imported(f"{AUTO}.processing_auto", _register_processor)
    when_imported("transformers.pipelines", _register_pipeline)


def _enter(tables: dict[str, tuple[str, str]], module: ModuleType) -> None:
    check_transformers()  # before names that older versions lack
    for table, (package, class_name) in tables.items():
        mapping = getattr(module, table)
        getattr(module, f"{table}_NAMES")[MODEL_TYPE] = class_name
        mapping._modules[MODEL_TYPE] = import_module(package)  # where the library would look in transformers.models
        if hasattr(mapping, "_reverse_config_mapping"):
            mapping._reverse_config_mapping["ElysiumConfig"] = MODEL_TYPE


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


def _register_pipeline(module: ModuleType) -> None:
    from transformers.models.auto.modeling_auto import AutoModelForImageTextToText

    # A dotted name, as the library's own pipelines are entered: resolved when the task is asked for.
    entry = {"impl": PIPELINE, "pt": (AutoModelForImageTextToText,), "type": "multimodal"}
    module.PIPELINE_REGISTRY.supported_tasks["video-tracking"] = entry


def when_imported(name: str, action: Callable[[ModuleType], None]) -> None:
    """Call `action` with a module: now if it is imported, or else as soon as it is."""
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        action(module)
        return
    finder = next((item for item in sys.meta_path if isinstance(item, _Watcher)), None)
    if finder is None:
        finder = _Watcher()
        sys.meta_path.insert(0, finder)
    finder.actions.setdefault(name, []).append(action)


class _Watcher(importlib.abc.MetaPathFinder):
    """Finds the watched modules as the other finders do, and calls the actions after their import."""

    def __init__(self) -> None:
        self.actions: dict[str, list[Callable[[ModuleType], None]]] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the module's own spec, its loader followed by the actions; None for modules without any."""
        actions = self.actions.pop(fullname, None)
        if actions is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_act(module: ModuleType) -> None:
            execute(module)
            for action in actions:
                action(module)

        spec.loader.exec_module = execute_and_act  # type: ignore[method-assign]  # of this one loader object
        return spec
