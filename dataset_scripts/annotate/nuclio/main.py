"""The serverless function that CVAT calls; nuclio finds `init_context` and `handler` by their names."""

from __future__ import annotations

import os
from typing import Any

from dataset_scripts.annotate.config import AnnotateConfig
from dataset_scripts.annotate.cvat import CvatFunction, respond
from dataset_scripts.annotate.propagate import Propagator
from dataset_scripts.plain import load_yaml

CONFIG = "ELYSIUM_ANNOTATE_CONFIG"  # environment variable: a YAML file, see annotate/config.py


def init_context(context: Any) -> None:
    """Load the models once per worker."""
    context.logger.info("Init context...  0%")
    config: AnnotateConfig = load_yaml(AnnotateConfig, os.environ.get(CONFIG, "/opt/nuclio/function_config.yaml"))
    context.user_data.function = CvatFunction(Propagator(config))
    context.logger.info("Init context...100%")


def handler(context: Any, event: Any) -> Any:
    """Answer one request."""
    return respond(context.user_data.function, context, event)
