"""What happens beside the steps of training: where the data stands is saved, predictions are drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import ExportableState

from processing_elysium import ElysiumProcessor
from tracking_elysium.visualize import draw_objects

from .batching import PlannedBatches
from .meters import Throughput

__all__ = ["FeedProgress", "PredictionPictures", "StepClock"]

FOLDER = "pictures"
_MOST_TOKENS = 24  # of an answer, per frame


class StepClock(TrainerCallback):
    """Tells when a step is done; evaluation, saving and logging come after.

    Args:
        throughput: is told.
    """

    def __init__(self, throughput: Throughput) -> None:
        self.throughput = throughput

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The optimizer has stepped."""
        self.throughput.end()


class FeedProgress(TrainerCallback, ExportableState):
    """Saves with every checkpoint where each process is in its planned batches, and goes on there.

    Args:
        batches: of this process.
        rank: of this process.
    """

    def __init__(self, batches: PlannedBatches, rank: int) -> None:
        self.batches, self.rank = batches, rank
        self._states: list[dict[str, Any]] = []

    def state(self) -> dict[str, Any]:
        """What the library writes into `trainer_state.json`."""
        return {"args": {}, "attributes": {"states": self._states}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Go on where the checkpoint was written.

        Raises:
            ValueError: the checkpoint has no places, or those of another number of readers.
        """
        if not state.global_step:
            return
        known: Any = state.stateful_callbacks or {}  # by name, whatever the library annotates
        saved = known.get(type(self).__name__, {}).get("attributes", {}).get("states", [])
        if len(saved) <= self.rank:
            raise ValueError(
                f"the checkpoint of step {state.global_step} tells of {len(saved)} process(es), this is number "
                f"{self.rank}; resume with as many processes and the same `feed`, or start the stage anew."
            )
        self.batches.go_on(saved[self.rank])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Collect the places of all processes before a checkpoint is written."""
        if control.should_save:
            own = self.batches.state()
            states: list[Any] = [own]
            if distributed.is_available() and distributed.is_initialized():
                states = [None] * distributed.get_world_size()
                distributed.all_gather_object(states, own)
            self._states = states
            known: Any = state.stateful_callbacks
            known[type(self).__name__] = self.state()


class PredictionPictures(TrainerCallback):
    """After each evaluation, draws what the model answers about fixed samples, beside the truth.

    Writes `pictures/step-NNNNNN.png` into the output folder (and to TensorBoard where it is used): a row per sample,
    the truth in the first color, the answer in the second.

    Args:
        samples: with `frames` and `messages`; only the first question is asked. Those without boxes are left out.
        processor: the model's.
    """

    def __init__(self, samples: Sequence[dict[str, Any]], processor: ElysiumProcessor) -> None:
        self.processor = processor
        self.samples = [s for s in samples if s["frames"] and _boxes(processor, _text(s["messages"][1])).valid.any()]

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw; every process asks the model, which may be shared out among them, and the first one writes."""
        if not self.samples:
            return
        rows = [self._row(sample, kwargs["model"]) for sample in self.samples]
        if not state.is_world_process_zero:
            return
        width, height = max(row.shape[1] for row in rows), sum(row.shape[0] for row in rows)
        sheet = np.zeros((height, width, 3), np.uint8)
        top = 0
        for row in rows:
            sheet[top : top + row.shape[0], : row.shape[1]] = row
            top += row.shape[0]
        path = Path(args.output_dir or ".") / FOLDER / f"step-{state.global_step:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        Image.fromarray(sheet).save(part, format="PNG")
        os.replace(part, path)
        handler = kwargs.get("callback_handler")
        for callback in getattr(handler, "callbacks", []):
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                callback.tb_writer.add_image("predictions", sheet, state.global_step, dataformats="HWC")

    def _row(self, sample: dict[str, Any], model: Any) -> np.ndarray:
        """The frames of a sample side by side, with true and answered boxes."""
        frames, question = list(sample["frames"]), list(sample["messages"])
        until = next(i for i, message in enumerate(question) if message["role"] == "assistant")
        truth = _boxes(self.processor, _text(question[until]), len(frames))
        answer = _boxes(self.processor, self.answer(frames, question[:until], model), len(frames))
        drawn = []
        for number, frame in enumerate(frames):
            height, width = frame.shape[:2]
            objects = [
                {"id": id_, "label": label, "score": 1.0, "box": _pixels(parsed.boxes[number], width, height)}
                for id_, (label, parsed) in enumerate((("truth", truth), ("answer", answer)))
                if parsed.valid[number]
            ]
            drawn.append(draw_objects(frame, objects, show_labels=number == 0))
        height = max(one.shape[0] for one in drawn)
        padded = [np.pad(one, ((0, height - one.shape[0]), (0, 0), (0, 0))) for one in drawn]
        return np.concatenate(padded, axis=1)

    @torch.no_grad()
    def answer(self, frames: Sequence[np.ndarray], question: list[dict[str, Any]], model: Any) -> str:
        """What the model says, greedily."""
        was_training = model.training
        model.eval()
        inputs = self.processor.encode([question], [frames]).to(model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        said = model.generate(**inputs, max_new_tokens=_MOST_TOKENS * len(frames), do_sample=False)
        model.train(was_training)
        return self.processor.tokenizer.decode(said[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _text(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


def _boxes(processor: ElysiumProcessor, text: str, num_frames: int | None = None) -> Any:
    return processor.post_process_boxes(text, num_frames)


def _pixels(box: np.ndarray, width: int, height: int) -> dict[str, float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return {"xmin": x1 * width, "ymin": y1 * height, "xmax": x2 * width, "ymax": y2 * height}
