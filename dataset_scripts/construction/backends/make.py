"""The table of grounders and trackers by the name that a configuration gives."""

from __future__ import annotations

import importlib
from typing import Any

from ..config import BackendConfig, BuildConfig
from ..enrichment import EnrichmentConfig
from ..noun_chunks import load_spacy
from ..process import Components
from ..protocols import ClipTracker, Describer, Grounder, StepTrackers

__all__ = ["GROUNDERS", "TRACKERS", "make_components", "make_grounder", "make_tracker"]

# kind -> module beside this one, class
GROUNDERS = {
    "grounding_dino": ("detectors", "DetectorGrounder"),
    "mm_grounding_dino": ("detectors", "DetectorGrounder"),
    "owlv2": ("detectors", "DetectorGrounder"),
    "sam3": ("sam3", "Sam3Grounder"),
    "elysium": ("elysium", "ElysiumGrounder"),
}
TRACKERS = {
    **dict.fromkeys(("csrt", "kcf", "mil", "nano", "vit"), ("opencv", "OpenCVTrackers")),
    "sam2": ("segmenters", "SegmenterTracker"),
    "sam3": ("segmenters", "SegmenterTracker"),
    "edgetam": ("segmenters", "SegmenterTracker"),
    "mixformer": ("mixformer", "MixFormerTrackers"),
    "elysium": ("elysium", "ElysiumTracker"),
}


def make_components(config: BuildConfig, device: str) -> Components:
    """Build what a worker needs.

    Args:
        config: of the run.
        device: torch device of this worker.

    Raises:
        ValueError: an unknown kind, options that a backend does not take, or what a backend says of them.
        ImportError: a library is not installed.
    """
    return Components(
        load_spacy(config.noun_chunks.model),
        make_grounder(config.grounder, device, config.seed),
        make_tracker(config.tracker, device, config.seed),
        _make_describer(config.enrichment, device) if config.enrichment.enabled else None,
    )


def make_grounder(asked: BackendConfig, device: str, seed: int = 0) -> Grounder:
    """Build a grounder; for errors see `make_components`."""
    return _make("grounder", GROUNDERS, asked, device, seed)


def make_tracker(asked: BackendConfig, device: str, seed: int = 0) -> StepTrackers | ClipTracker:
    """Build a tracker; for errors see `make_components`."""
    return _make("tracker", TRACKERS, asked, device, seed)


def _make_describer(asked: EnrichmentConfig, device: str) -> Describer:
    options = dict(asked.options)
    if "factory" in options:
        return _custom("enrichment", options)
    from .describer import ImageTextDescriber

    return _called("enrichment", ImageTextDescriber, {"device": device, **options})


def _make(role: str, table: dict[str, tuple[str, str]], asked: BackendConfig, device: str, seed: int) -> Any:
    options = dict(asked.options)
    if asked.kind == "custom":
        return _custom(role, options)
    if asked.kind not in table:
        raise ValueError(f"{role}.kind={asked.kind!r} is unknown; use one of {', '.join(table)}, custom.")
    module, name = table[asked.kind]
    backend = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    if module == "opencv":
        return _called(role, backend, {"kind": asked.kind, "seed": seed, **options})
    return _called(role, backend, {"device": device, **options})


def _custom(role: str, options: dict[str, Any]) -> Any:
    """Call MODULE:CALLABLE of the user's own code, named in the user's own configuration."""
    module, _, name = str(options.pop("factory", "")).partition(":")
    if not module or not name:
        raise ValueError(f"{role}.options.factory must be MODULE:CALLABLE for {role}.kind=custom.")
    return _called(role, getattr(importlib.import_module(module), name), options)


def _called(role: str, backend: Any, options: dict[str, Any]) -> Any:
    try:
        return backend(**options)
    except TypeError as error:
        raise ValueError(f"{role}.options={options} do not fit {backend.__name__}: {error}.") from error
