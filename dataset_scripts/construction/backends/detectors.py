"""Zero-shot detectors of transformers as grounders: Grounding DINO (the paper's), MM-Grounding-DINO, OWLv2, OWL-ViT.

One phrase per picture and pass, so that the score of a box belongs to the whole phrase. The score is what the model
gives: for the DINOs the highest probability among the phrase's tokens, for the OWLs the probability of the query.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from processing_elysium.boxes import px_to_unit

from ..protocols import Detections

__all__ = ["DetectorGrounder"]


def _sentence(phrase: str) -> str:
    """Write a phrase as the DINOs were taught: lower case, with a full stop."""
    return phrase.lower().rstrip(" .") + "."


# transformers' name of an architecture -> how it is asked for one phrase
PROMPTS: dict[str, Callable[[str], Any]] = {
    "grounding-dino": _sentence,
    "mm-grounding-dino": _sentence,
    "owlv2": lambda phrase: [f"a photo of {phrase}"],
    "owlvit": lambda phrase: [f"a photo of {phrase}"],
}


class DetectorGrounder:
    """See `Grounder`."""

    def __init__(
        self, checkpoint: str, device: str = "cpu", dtype: str | None = None, batch_size: int = 4, floor: float = 0.1
    ) -> None:
        """Load a detector.

        Args:
            checkpoint: folder or Hub id, for instance `IDEA-Research/grounding-dino-base`.
            device: torch device.
            dtype: of the weights ("bfloat16" on a GPU); None as stored.
            batch_size: pictures that it sees together.
            floor: boxes that score less are not returned.

        Raises:
            ValueError: a model of another kind.
        """
        import torch
        from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoProcessor

        kind = AutoConfig.from_pretrained(checkpoint).model_type
        if kind not in PROMPTS:
            raise ValueError(f"grounder checkpoint {checkpoint!r} is a {kind!r}; use one of {', '.join(PROMPTS)}.")
        self._prompt, self._batch_size, self._floor = PROMPTS[kind], batch_size, floor
        self._processor = AutoProcessor.from_pretrained(checkpoint)
        model = AutoModelForZeroShotObjectDetection.from_pretrained(
            checkpoint, dtype=getattr(torch, dtype) if dtype else "auto"
        )
        self._model = model.to(device).eval()
        self._read = self._processor.post_process_grounded_object_detection
        self._reads_tokens = "input_ids" in inspect.signature(self._read).parameters

    def ground(self, frames: Sequence[np.ndarray], phrases: Sequence[str]) -> list[Detections]:
        """See `Grounder`."""
        found: list[Detections] = []
        for start in range(0, len(phrases), self._batch_size):
            rows = slice(start, start + self._batch_size)
            found += self._batch(list(frames[rows]), list(phrases[rows]))
        return found

    def _batch(self, frames: list[np.ndarray], phrases: list[str]) -> list[Detections]:
        import torch

        texts = [self._prompt(phrase) for phrase in phrases]
        # words beyond what the text encoder takes are cut off; the OWLs join texts of one length
        padding = "max_length" if isinstance(texts[0], list) else True
        inputs = self._processor(images=frames, text=texts, return_tensors="pt", padding=padding, truncation=True)
        inputs = inputs.to(self._model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        sizes = [frame.shape[:2] for frame in frames]
        with torch.inference_mode():
            outputs = self._model(**inputs)
        how: dict[str, Any] = {"threshold": self._floor, "target_sizes": sizes}
        if self._reads_tokens:
            how |= {"input_ids": inputs["input_ids"], "text_threshold": self._floor}
        answers = self._read(outputs, **how)
        return [
            Detections.sorted(
                np.clip(px_to_unit(answer["boxes"].float().cpu().numpy().reshape(-1, 4), width, height), 0, 1),
                answer["scores"].float().cpu().numpy(),
            )
            for answer, (height, width) in zip(answers, sizes, strict=True)
        ]
