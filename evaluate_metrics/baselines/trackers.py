"""The table of baselines by name, built from what the command line says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .opencv import KINDS, OpenCVBaseline
from .track import KeepFirst, RoundingOracle, Tracker

__all__ = ["NAMES", "make_tracker"]

NAMES = ("keep_first", "rounding_oracle", *KINDS, "rec_per_frame", "detector_per_frame", "sam2_video")


def make_tracker(
    name: str,
    checkpoint: str | None = None,
    onnx: tuple[str, ...] = (),
    device: Any = "cpu",
    pipe: Callable[[], Any] | None = None,
) -> Tracker:
    """Build a baseline.

    Args:
        name: one of `NAMES`.
        checkpoint: of the detector or of SAM 2, a folder or Hub id.
        onnx: files that OpenCV's Nano and Vit need.
        device: for those that run a network.
        pipe: gives the model's own pipeline, for "rec_per_frame".

    Raises:
        ValueError: an unknown name, or what it needs is not given.
    """
    if name not in NAMES:
        raise ValueError(f"`--trackers` has {name!r}; the names are {', '.join(NAMES)}.")
    if name == "keep_first":
        return KeepFirst()
    if name == "rounding_oracle":
        return RoundingOracle()
    if name in KINDS:
        return OpenCVBaseline(name, onnx if KINDS[name][1] else ())
    if name == "rec_per_frame":
        from .per_frame import RecPerFrame

        if pipe is None:
            raise ValueError("tracker 'rec_per_frame' asks the model; pass its folder with `--model`.")
        return RecPerFrame(pipe())
    if checkpoint is None:
        raise ValueError(f"tracker {name!r} needs a checkpoint; pass it with `--checkpoint FOLDER_OR_HUB_ID`.")
    if name == "detector_per_frame":
        from transformers import pipeline

        from .per_frame import DetectorPerFrame

        return DetectorPerFrame(pipeline("zero-shot-object-detection", model=checkpoint, device=device))
    from transformers import Sam2VideoModel

    from .sam2_video import Sam2VideoTracker

    return Sam2VideoTracker(Sam2VideoModel.from_pretrained(checkpoint).to(device))
