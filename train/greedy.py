"""Greedy answers on held-out questions during reinforcement: their mean IoU in the log, the first of them drawn."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor

from .callbacks import PredictionPictures
from .rewards import iou_value

__all__ = ["LOGGED", "GreedyAnswers", "greedy_iou"]

LOGGED = "eval_mean_iou"
PICTURES = 4  # questions that are drawn
_BATCH = 16


class GreedyAnswers(TrainerCallback):
    """Asks the held-out questions before the first step and with every checkpoint.

    The trainer logs the mean IoU as `eval_mean_iou`; `pictures/step-NNNNNN.png` shows the first answers.

    Args:
        trainer: logs.
        items: of a `QuestionSource`, always the same.
        processor: the model's.
        length: most tokens of an answer.
    """

    def __init__(self, trainer: Any, items: list[dict[str, Any]], processor: ElysiumProcessor, length: int) -> None:
        self.trainer, self.items, self.processor, self.length = trainer, items, processor, length
        shown = [
            {
                "frames": [np.asarray(image) for image in item["images"]],
                "messages": [*item["prompt"], item["answer"]],
            }
            for item in items[:PICTURES]
        ]
        self.pictures = PredictionPictures(shown, processor)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask the model as it starts; a resumed run has that in its log."""
        if not state.global_step:
            self._ask(args, state, control, **kwargs)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask before a checkpoint is written, so that its log has the answer."""
        if control.should_save:
            self._ask(args, state, control, **kwargs)

    def _ask(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        model = self.trainer.accelerator.unwrap_model(kwargs["model"])
        found = greedy_iou(model, self.processor, self.items, self.length)
        due = control.should_log  # which logging resets, and the rewards of this step are still to come
        Trainer.log(self.trainer, {LOGGED: found})  # TRL's own would log the rewards so far, and forget them
        control.should_log = due
        handler = self.trainer.callback_handler  # knows where pictures go besides the folder
        self.pictures.on_evaluate(args, state, control, **{**kwargs, "model": model, "callback_handler": handler})


@torch.no_grad()
def greedy_iou(
    model: ElysiumForConditionalGeneration, processor: ElysiumProcessor, items: list[dict[str, Any]], length: int
) -> float:
    """Mean IoU of the model's greedy answers.

    Args:
        model: in any mode; it is put in that mode again.
        processor: writes prompts.
        items: of a `QuestionSource`.
        length: most tokens of an answer.
    """
    was_training, values = model.training, []
    generate = cast(Any, model).generate
    model.eval()
    for start in range(0, len(items), _BATCH):
        some = items[start : start + _BATCH]
        conversations = [_filled(item["prompt"], item["images"]) for item in some]
        batch: Any = processor.apply_chat_template(
            conversations,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            processor_kwargs={"padding": True, "return_tensors": "pt"},
        )
        batch = batch.to(model.device)
        answers = generate(**batch, do_sample=False, max_new_tokens=length)[:, batch["input_ids"].shape[1] :]
        for text, item in zip(processor.batch_decode(answers, skip_special_tokens=True), some, strict=True):
            values.append(iou_value(text, item["truth"]))
    model.train(was_training)
    return float(np.mean([value for value in values if value is not None]))


def _filled(messages: list[dict[str, Any]], images: list[Any]) -> list[dict[str, Any]]:
    """The messages with their frames in place."""
    rest = iter(images)
    return [
        {
            **message,
            "content": [
                {"type": "image", "image": next(rest)} if part["type"] == "image" else part
                for part in message["content"]
            ],
        }
        for message in messages
    ]
