"""What tracking and its answerers exchange: frames, questions about clips, answers.

`answering.ClipAnswerer` and `drafted_answering.DraftedAnswerer` take `ClipRequest`s and give `ClipAnswer`s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from transformers.utils import ModelOutput


@dataclass(eq=False)
class VideoFrame:
    """One decoded frame.

    Attributes:
        index: frame index in the video, from 0.
        timestamp: seconds from the start, None when the source does not know.
        image: uint8 RGB array of shape (H, W, 3).
        pixels: (3, S, S) tensor if the frame was resized ahead of time, until the vision tower has seen it.
        features: (K, D) tensor once the vision tower has seen the frame.
        kept_indices: (K,) patches that the tokens came from, where the compressor keeps patches.
        reference: for a search window, the window in which the object's box is known; the tokens of a model with
            `reference_similarity` depend on it. None for whole frames.
        reference_box: that box, (4,) in [0, 1] of the reference.
        patches: (N, C) patch tokens, kept where the features of other frames need them.
        expression: what is looked for in the frame; the tokens of a model with `expression_similarity` depend on it.
        shows: for a frame with an expression, the frame whose image it shows.
    """

    index: int
    timestamp: float | None
    image: np.ndarray
    pixels: torch.Tensor | None = None
    features: torch.Tensor | None = None
    kept_indices: torch.Tensor | None = None
    reference: VideoFrame | None = None
    reference_box: np.ndarray | None = None
    patches: torch.Tensor | None = None
    expression: str | None = None
    shows: VideoFrame | None = None
    # Weak, so that frames are freed as soon as nobody holds them: each of the two would keep the other alive.
    _asked: WeakValueDictionary[str, VideoFrame] = field(default_factory=WeakValueDictionary, repr=False)

    def asked(self, expression: str) -> VideoFrame:
        """Return this frame as one in which something is looked for: the same object for the same words."""
        if self.expression == expression:
            return self
        frame = self._asked.get(expression)
        if frame is None:
            frame = VideoFrame(self.index, self.timestamp, self.image, expression=expression, shows=self)
            self._asked[expression] = frame
        return frame


@dataclass
class FrameFeatures(ModelOutput):
    """Visual tokens of F frames in the form in which the model takes them in place of pixels.

    A `ModelOutput`, so that the library moves its tensors between devices as it does those of the model.

    Attributes:
        pooler_output: one (K, D) tensor per frame.
        kept_indices: (F, K) patch indices of the kept tokens, None where a token is no single patch.
    """

    pooler_output: list[torch.Tensor] | None = None
    kept_indices: torch.Tensor | None = None


@dataclass(eq=False)
class ClipRequest:
    """One question about one clip.

    Attributes:
        messages: conversation with one image part per frame, as `processor.build_messages` gives it.
        frames: the F frames, in the order of the image parts; requests about one clip share the objects.
        expects_boxes: the answer is a box per frame, which bounds its length.
        max_new_tokens: length bound; None plans it from the number of frames.
        known_boxes: (frame_in_clip, box (4,) in [0, 1]) of the object in frames of the clip or before it, oldest
            first; 0 is the clip's first frame, earlier ones are negative. Hints for drafts: answers do not depend on
            them.
        expected_boxes: (frame_in_clip, box (4,) in [0, 1]) of frames of the clip for which another tracker, or an
            earlier pass, has a guess. Hints for drafts, too.
        expression: what the question looks for in all frames by its words, if it does.
    """

    messages: list[dict[str, Any]]
    frames: list[VideoFrame]
    expects_boxes: bool = True
    max_new_tokens: int | None = None
    known_boxes: tuple[tuple[int, Any], ...] = ()
    expected_boxes: tuple[tuple[int, Any], ...] = ()
    expression: str | None = None


@dataclass
class ClipAnswer:
    """What the model said.

    Attributes:
        text: the answer without special tokens.
        logprobs: natural log-probability of each generated token.
        token_of_digit: index of the token that wrote the n-th digit character of `text`.
        absent_logprobs: frame_in_clip -> natural log-probability of `[]`, for the frames in which the model had the
            choice between a box and none (`processor.absent_boxes`, constrained answers).

    Raises:
        ValueError: a log-probability is NaN: the model computes no numbers, and its words mean nothing.
    """

    text: str
    logprobs: list[float] = field(default_factory=list)
    token_of_digit: list[int] = field(default_factory=list)
    absent_logprobs: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(map(math.isnan, self.logprobs)):
            raise ValueError(
                "the model gives NaN instead of probabilities: its weights are damaged (load the checkpoint anew), or "
                "its numbers grow beyond float16 (load it with dtype bfloat16 or float32)."
            )

    def score(self, start: int, stop: int) -> float:
        """Return the geometric mean of the probabilities of the tokens that wrote the digits of text[start:stop].

        Returns:
            A number in [0, 1]; 1 where the span has digits but no probabilities are known, 0 where it has none.
        """
        first = count_digits(self.text[:start])
        count = count_digits(self.text[start:stop])
        if count == 0:
            return 0.0
        tokens = sorted(set(self.token_of_digit[first : first + count]))
        if not tokens:
            return 1.0
        return min(math.exp(sum(self.logprobs[token] for token in tokens) / len(tokens)), 1.0)

    def presence(self, frame_in_clip: int) -> float | None:
        """Return the probability in [0, 1] that a frame has a box; None where the model had no choice."""
        logprob = self.absent_logprobs.get(frame_in_clip)
        return None if logprob is None else 1.0 - min(math.exp(logprob), 1.0)


def count_digits(text: str) -> int:
    """Count the decimal digits in a text."""
    return sum(char.isdecimal() for char in text)
