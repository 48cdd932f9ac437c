"""Conversations as token ids without their frames: lengths and whether they fit are known before anything is read.

A frame is K placeholders whatever it shows, so that the text alone tells the length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from processing_elysium import ElysiumProcessor
from processing_elysium.prompts import IMAGE_TASKS, Task

from .config import StageConfig
from .rope import suggested

__all__ = ["Encoded", "check_context", "encode", "longest_conversation", "padding_share"]

WIDEST_BOX = (0.1, 0.1, 0.99, 0.99)  # written with two digits everywhere


@dataclass(frozen=True)
class Encoded:
    """One conversation of T tokens.

    Attributes:
        input_ids: (T,) int64, K placeholders per frame.
        answers: (T,) bool, true at the tokens of answers, their end token included.
    """

    input_ids: np.ndarray
    answers: np.ndarray

    def __len__(self) -> int:
        """Return the number of tokens T."""
        return len(self.input_ids)


def encode(processor: ElysiumProcessor, messages: Sequence[dict[str, Any]]) -> Encoded:
    """Tokenize a conversation as the processor does with its frames, without having them.

    Args:
        processor: the model's.
        messages: with image parts that hold no image yet.
    """
    found = processor.tokenizer.apply_chat_template(
        list(messages),
        chat_template=processor.chat_template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    ids = np.asarray(found["input_ids"], dtype=np.int64)
    times = np.where(ids == processor.image_token_id, processor.num_image_tokens, 1)
    answers = np.asarray(found["assistant_masks"], dtype=bool)
    return Encoded(np.repeat(ids, times), np.repeat(answers, times))


def padding_share(lengths: Sequence[Sequence[int]]) -> float:
    """Share of padding among the tokens of batches with rows of these lengths."""
    padded = sum(len(rows) * max(rows) for rows in lengths)
    return 1 - sum(map(sum, lengths)) / padded


# --------------------------------------------------------------------------------------------------------------
# context
# --------------------------------------------------------------------------------------------------------------
def longest_conversation(processor: ElysiumProcessor, stage: StageConfig, num_frames: int) -> int:
    """Tokens of the longest tracking conversation that the stage can ask: all turns with a box in every frame.

    Text of records (expressions, captions, questions) is not known here; it counts as short phrases.

    Args:
        processor: the model's.
        stage: its tasks and turns.
        num_frames: frames of the clip.
    """
    names = {name for source in stage.sources for name in source.tasks}
    tracking = [task for task in (Task.SOT, Task.RSOT) if task.value in names]
    images = [task for task in (Task.REC, Task.REG) if task.value in names]
    words = "the small red object on the left"
    boxes = np.tile(WIDEST_BOX, (num_frames, 1))
    longest = 0
    for task in tracking or images or [Task.CHAT]:
        frames = 1 if task in IMAGE_TASKS else num_frames
        asked = {"box": boxes[0]} if task in (Task.SOT, Task.REG) else {}
        if task in (Task.RSOT, Task.REC):
            asked = {"expression": words}
        if task is Task.CHAT:
            asked = {"question": words}
        answer = processor.render_answer(task, boxes=boxes[:frames], valid=np.ones(frames, bool), text=words)
        messages = processor.build_messages(task, num_frames=frames, answer=answer, **asked)
        turns = stage.turns if task is not Task.CHAT else 1
        later = [{**messages[0], "content": [p for p in messages[0]["content"] if p["type"] != "image"]}, messages[1]]
        longest = max(longest, len(encode(processor, messages + (turns - 1) * later)))
    return longest


def check_context(processor: ElysiumProcessor, stage: StageConfig, context: int | None) -> int:
    """Refuse a stage whose clips do not fit the language model's context.

    Args:
        processor: the model's; its `num_image_tokens` is read.
        stage: frames, turns and tasks.
        context: positions that the language model knows (`max_position_embeddings`); None is no limit.

    Returns:
        Tokens of the longest conversation.

    Raises:
        ValueError: it is longer than the context; the message says what does not fit and what would.
    """
    most = stage.num_frames[1]
    longest = longest_conversation(processor, stage, most)
    if context is None or longest <= context:
        return longest
    kept = processor.num_image_tokens
    text = longest - most * kept
    fitting = max((n for n in range(1, most) if longest_conversation(processor, stage, n) <= context), default=0)
    ways = [f"scale its positions ({suggested(longest, context)} in the stage)"]
    if fitting:
        ways.append(f"show {fitting} frames at most (num_frames)")
    if context > text + most:
        ways.append(f"keep {(context - text) // most} tokens per frame (num_image_tokens)")
    if stage.turns > 1:
        ways.append(f"ask fewer than {stage.turns} questions about a clip (turns)")
    raise ValueError(
        f"stage {stage.name!r}: {most} frames x {kept} tokens + {text} of text are {longest} tokens, the language "
        f"model knows {context} positions. Do one of: {'; '.join(ways)}."
    )
