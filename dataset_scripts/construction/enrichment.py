"""Beyond the paper, off by default: a local vision-language model describes frames, and its words join the caption.

Captions of the web name little of what a video shows. What is added goes through the same filters as the caption: a
phrase that the model made up has to be grounded and tracked like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .items import PoisonedVideoError
from .protocols import Describer

__all__ = ["EnrichmentConfig", "enriched"]

HOW = ("append", "replace", "if_empty")
PROMPT = "Name the objects in this picture, each with its color or another mark, in one plain sentence."


@dataclass(frozen=True)
class EnrichmentConfig:
    """Who describes, and what becomes of the caption.

    Attributes:
        enabled: False leaves captions alone.
        options: of the model, see `backends/describer.py`; `checkpoint` is one of them.
        how: "append" puts the description behind the caption, "replace" in its place, "if_empty" only where there is
            no caption.
        frames: so many, evenly spread over the video, are described one by one.
        prompt: what the model is asked.
        max_words: of a description; the rest is cut off.
    """

    enabled: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    how: str = "append"
    frames: int = 1
    prompt: str = PROMPT
    max_words: int = 100

    def __post_init__(self) -> None:
        if self.how not in HOW:
            raise ValueError(f"enrichment.how={self.how!r} is unknown; use one of {', '.join(HOW)}.")
        for name in ("frames", "max_words"):
            if getattr(self, name) < 1:
                raise ValueError(f"enrichment.{name}={getattr(self, name)} must be at least 1.")
        if not self.prompt.strip():
            raise ValueError("enrichment.prompt is empty; ask for what the picture shows.")


def enriched(caption: str, frames: list[np.ndarray], describer: Describer, config: EnrichmentConfig) -> str:
    """Return the caption with what the model says of the frames.

    Args:
        caption: of the video.
        frames: uint8 RGB (H, W, 3).
        describer: the model.
        config: what becomes of the caption.

    Raises:
        PoisonedVideoError: the model raised, or answered something else than texts.
    """
    try:
        texts = describer.describe(frames, config.prompt)
    except Exception as error:  # whatever a foreign model raises, the run goes on
        raise PoisonedVideoError("enrichment_error", f"{type(error).__name__}: {error}") from error
    if len(texts) != len(frames) or not all(isinstance(text, str) for text in texts):
        raise PoisonedVideoError("enrichment_error", f"{len(frames)} frames were described by {texts!r:.100}")
    said = [" ".join(text.split()[: config.max_words]) for text in texts]
    parts = said if config.how == "replace" else [" ".join(caption.split()), *said]
    # sentences of their own, so that no noun phrase reaches from one into the next
    return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts if part)
