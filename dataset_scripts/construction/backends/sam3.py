"""SAM 3's text prompts as a grounder: every instance of what a phrase names, with a score.

The score is the model's own: the probability of the box times that of anything of the kind being in the picture. SAM 3
was trained on short noun phrases. The picture is read here because its own processor needs torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..protocols import Detections
from .segmenters import square_pixels

__all__ = ["Sam3Grounder"]

KINDS = ("sam3", "sam3_video")  # a published checkpoint holds detector and tracker, and calls itself sam3_video
LONGEST_PROMPT = 32  # tokens, as in training
MEAN = STD = (0.5, 0.5, 0.5)


class Sam3Grounder:
    """See `Grounder`."""

    def __init__(self, checkpoint: str, device: str = "cpu", dtype: str | None = None, floor: float = 0.1) -> None:
        """Load SAM 3's detector.

        Args:
            checkpoint: folder or Hub id, for instance `facebook/sam3`.
            device: torch device.
            dtype: of the weights ("bfloat16" on a GPU); None as stored.
            floor: boxes that score less are not returned.

        Raises:
            ValueError: a model of another kind.
        """
        import torch
        from transformers import AutoConfig, AutoTokenizer, Sam3Model

        kind = AutoConfig.from_pretrained(checkpoint).model_type
        if kind not in KINDS:
            raise ValueError(f"grounder checkpoint {checkpoint!r} is a {kind!r}; use one of {', '.join(KINDS)}.")
        model = Sam3Model.from_pretrained(checkpoint, dtype=getattr(torch, dtype) if dtype else "auto")
        self._model, self._floor = model.to(device).eval(), floor
        self._tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        side = self._model.config.vision_config.backbone_config.image_size
        self._side = int(side if isinstance(side, int) else side[0])

    def ground(self, frames: Sequence[np.ndarray], phrases: Sequence[str]) -> list[Detections]:
        """See `Grounder`; a picture that is asked about several times in a row is looked at once."""
        import torch

        answers, seen, features = [], None, None
        with torch.inference_mode():
            for frame, phrase in zip(frames, phrases, strict=True):
                if frame is not seen:
                    pixels = square_pixels(frame, self._side, MEAN, STD).to(self._model.device, self._model.dtype)
                    seen, features = frame, self._model.get_vision_features(pixels[None])
                answers.append(self._one(features, phrase))
        return answers

    def _one(self, features: Any, phrase: str) -> Detections:
        words = self._tokenizer(
            phrase, padding="max_length", max_length=LONGEST_PROMPT, truncation=True, return_tensors="pt"
        ).to(self._model.device)
        out = self._model(vision_embeds=features, input_ids=words["input_ids"], attention_mask=words["attention_mask"])
        scores = (out.pred_logits[0].float().sigmoid() * out.presence_logits[0].float().sigmoid()).cpu().numpy()
        boxes = out.pred_boxes[0].float().clamp(0, 1).cpu().numpy()
        return Detections.sorted(boxes[scores > self._floor], scores[scores > self._floor])
