"""The model for lmms-eval, which finds it by the entry point `lmms_eval.models`; not carried by a checkpoint.

    python -m lmms_eval --model elysium --model_args pretrained=DIR --include_path DIR --tasks elysium_sot_elysium

It lies in this package because the wheel must hold what its entry point names: lmms-eval loads all entry points in a
row, and one that cannot be imported leaves out those after it. Nothing of this project imports this file.
"""

from __future__ import annotations

from typing import Any

import torch
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from PIL import Image
from tqdm import tqdm
from transformers import AutoModelForImageTextToText, AutoProcessor

__all__ = ["ElysiumForLmmsEval", "manifest"]


def manifest() -> ModelManifest:
    """What the entry point gives: name and class of the model."""
    return ModelManifest(model_id="elysium", simple_class_path=f"{__name__}.ElysiumForLmmsEval")


class ElysiumForLmmsEval(lmms):
    """Answers with plain greedy `generate`: no box format is enforced, and no box is carried from clip to clip."""

    is_simple = True

    def __init__(
        self,
        pretrained: str = "elysium",
        batch_size: int | str = 1,
        device: str | None = None,
        dtype: str = "auto",
        num_frames: int = 16,
        max_batch_size: int | None = None,
    ) -> None:
        """Load a checkpoint.

        Args:
            pretrained: folder or Hub id.
            batch_size: questions that the model reads together.
            device: for the model; None: a GPU where there is one.
            dtype: of the weights, as `from_pretrained` takes it.
            num_frames: evenly spaced frames of a visual that is a video file.
            max_batch_size: not used; lmms-eval hands it over.

        Raises:
            ValueError: a batch size that is no number.
        """
        super().__init__()
        import tracking_elysium  # noqa: F401 - registers model and processor

        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise ValueError(f"`batch_size`={batch_size!r} must be a number of at least 1.")
        self._batch_size, self._num_frames = int(batch_size), int(num_frames)
        self._processor = AutoProcessor.from_pretrained(pretrained)
        model = AutoModelForImageTextToText.from_pretrained(pretrained, dtype=dtype)
        moved: Any = model
        self._model = moved.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Answer questions about images and videos; see `lmms.generate_until`."""
        answers: list[str] = []
        with tqdm(total=len(requests), desc="elysium", disable=self.rank != 0) as bar:
            for start in range(0, len(requests), self._batch_size):
                batch = [request.args for request in requests[start : start + self._batch_size]]
                answers += self._answered(batch)
                bar.update(len(batch))
        return answers

    @torch.inference_mode()
    def _answered(self, batch: list[tuple[Any, ...]]) -> list[str]:
        """Answers to (question, settings, visuals of an item, its number, task, split) of a batch."""
        messages, shown, limits = [], [], []
        for question, settings, visuals, number, task, split in batch:
            frames = self._frames(visuals(self.task_dict[task][split][number]))
            kind = "vqa" if frames else "chat"
            messages.append(self._processor.build_messages(kind, len(frames), question=question))
            shown.append(frames)
            limits.append(int(settings.get("max_new_tokens", 128)))
        inputs = self._processor.encode(messages, shown).to(self._model.device, self._model.dtype)
        generated = self._model.generate(**inputs, max_new_tokens=max(limits), do_sample=False)
        new = generated[:, inputs["input_ids"].shape[1] :]
        texts = self._processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [
            _until(text, settings.get("until") or ()) for text, (_, settings, *_) in zip(texts, batch, strict=True)
        ]

    def _frames(self, visuals: Any) -> list[Any]:
        """Images as they are; of a video file evenly spaced frames."""
        frames: list[Any] = []
        for visual in visuals or []:
            if isinstance(visual, Image.Image):
                frames.append(visual)
            else:
                with self._processor.open_video(visual) as video:
                    sampled = self._processor.evenly_spaced_frames(video, self._num_frames)
                    frames += [image for _, _, image in sampled]
        return frames

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Not there: boxes and descriptions are written, not chosen."""
        raise NotImplementedError("elysium answers by generation; choose tasks with `output_type: generate_until`.")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Not there: no task of ours asks in rounds."""
        raise NotImplementedError("elysium answers single questions; choose tasks with `output_type: generate_until`.")


def _until(text: str, stops: Any) -> str:
    """A text up to the first stop string."""
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop)[0] if stop else text
    return text
