"""Any image-text-to-text model of transformers as a describer of frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["ImageTextDescriber"]


class ImageTextDescriber:
    """See `Describer`; greedy, so that the same frame gives the same words."""

    def __init__(
        self, checkpoint: str, device: str = "cpu", dtype: str | None = None, batch_size: int = 1,
        max_new_tokens: int = 64,
    ) -> None:  # fmt: skip
        """Load a model.

        Args:
            checkpoint: folder or Hub id of a model that `AutoModelForImageTextToText` loads.
            device: torch device.
            dtype: of the weights ("bfloat16" on a GPU); None as stored.
            batch_size: frames that it sees together.
            max_new_tokens: of one description.

        Raises:
            ValueError: a number below 1, or a checkpoint of another kind.
        """
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        for name, value in (("batch_size", batch_size), ("max_new_tokens", max_new_tokens)):
            if value < 1:
                raise ValueError(f"enrichment.options.{name}={value} must be at least 1.")
        self._processor = AutoProcessor.from_pretrained(checkpoint)
        model = AutoModelForImageTextToText.from_pretrained(
            checkpoint, dtype=getattr(torch, dtype) if dtype else "auto"
        )
        self._model, self._batch_size, self._length = model.to(device).eval(), batch_size, max_new_tokens
        tokenizer = self._processor.tokenizer
        tokenizer.padding_side = "left"  # a batch is continued at its right end
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token

    def describe(self, frames: Sequence[np.ndarray], prompt: str) -> list[str]:
        """See `Describer`."""
        texts: list[str] = []
        for start in range(0, len(frames), self._batch_size):
            texts += self._batch(list(frames[start : start + self._batch_size]), self._question(prompt))
        return texts

    def _question(self, prompt: str) -> str:
        if getattr(self._processor, "chat_template", None) is None:
            return prompt  # a model that is not asked in turns; the prompt is in its own format
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        return str(
            self._processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        )

    def _batch(self, frames: list[np.ndarray], question: str) -> list[str]:
        import torch
        from PIL import Image

        pictures = [[Image.fromarray(frame)] for frame in frames]
        inputs: Any = self._processor(
            images=pictures, text=[question] * len(frames), return_tensors="pt", padding=True
        ).to(self._model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        with torch.inference_mode():
            tokens = self._model.generate(
                **inputs, max_new_tokens=self._length, do_sample=False, num_beams=1,
                pad_token_id=self._processor.tokenizer.pad_token_id,
            )  # fmt: skip
        if not self._model.config.is_encoder_decoder:
            tokens = tokens[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self._processor.batch_decode(tokens, skip_special_tokens=True)]
