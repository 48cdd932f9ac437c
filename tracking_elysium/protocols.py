"""What tracking needs of the objects that are handed to it: an opened video, a processor, an answerer.

Any object with these members serves; `processing_elysium` and `answering.py` have the usual ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .exchange import ClipAnswer, ClipRequest, VideoFrame
from .stats import Stats

Answer = Callable[[list[ClipRequest]], list[ClipAnswer]]  # one answer per request, in order
Prepare = Callable[[list[VideoFrame]], None]  # does ahead for new frames what needs no question


class VideoSource(Protocol):
    """An opened video, read by frame index; see `processing_elysium.video_source.VideoSource`."""

    width: int
    height: int
    fps: float | None
    num_frames: int | None
    num_read: int

    def read(self, indices: Iterable[int]) -> list[np.ndarray]:
        """Return uint8 RGB frames (H, W, 3) of ascending indices; fewer where the video ends before."""

    def timestamp(self, index: int) -> float | None:
        """Return the seconds from the first frame to a frame; None if unknown."""

    def break_off(self, index: int, reason: str, advice: str = ...) -> None:
        """Note that nothing can be read from frame `index` on, and warn."""

    def close(self) -> None:
        """Free the decoder."""


class ParsedBoxes(Protocol):
    """Boxes read from an answer: `boxes` (F, 4) in [0, 1], `valid` (F,), character `spans` (F, 2)."""

    boxes: np.ndarray
    valid: np.ndarray
    spans: np.ndarray


class Processor(Protocol):
    """Text and pixels for the model, boxes out of its text; see `processing_elysium.ElysiumProcessor`."""

    tokenizer: Any
    image_processor: Any
    image_token: str
    image_token_id: int
    num_image_tokens: int
    box_rounding: str
    absent_boxes: bool

    @property
    def box_grid(self) -> int:
        """Cells per axis in which box numbers are written."""

    @property
    def tracking_defaults(self) -> dict[str, Any]:
        """Tracking options that belong to the way the checkpoint was trained."""

    def untaught(self, task: str, width: int, height: int) -> str | None:
        """Return what speaks against asking this of frames of this size, for a warning; None if nothing does."""

    def open_video(self, source: Any, fps: float | None = None) -> VideoSource:
        """Open a video of any kind."""

    def evenly_spaced_frames(self, source: Any, num_frames: int) -> Sequence[tuple[int, float | None, np.ndarray]]:
        """Return frames spread over a video, as (index, seconds, image)."""

    def frames_from(
        self, source: Any, start: int, num_frames: int, interval: int = 1
    ) -> Sequence[tuple[int, float | None, np.ndarray]]:
        """Return frames from one on, `interval` apart, as (index, seconds, image)."""

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> Any:
        """Save what loading the processor needs."""

    def build_messages(self, task: str, num_frames: int, **options: Any) -> list[dict[str, Any]]:
        """Return the conversation of one question."""

    def render_answer(self, task: str, **options: Any) -> str:
        """Return the answer that training teaches."""

    def encode_expressions(self, expressions: Sequence[str | None]) -> Any:
        """Return token ids (F, L) of what is looked for in F frames, -1 as padding."""

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Return the text of a conversation."""

    def format_box(self, box: Sequence[float]) -> str:
        """Return a box in [0, 1] as text."""

    def validate_box_px(self, box: Sequence[float], width: int, height: int) -> np.ndarray:
        """Check a box in pixels that a user typed."""

    def post_process_boxes(
        self, text: str, num_frames: int | None = None, target_sizes: Any = None, partial: bool = False
    ) -> ParsedBoxes:
        """Read the boxes of one answer."""


@runtime_checkable
class Counted(Protocol):
    """Something that counts what it does."""

    stats: Stats


@runtime_checkable
class Answerer(Counted, Protocol):
    """What the pipeline asks; see `answering.ClipAnswerer`."""

    batch_size: int

    def __call__(self, requests: Sequence[ClipRequest]) -> list[ClipAnswer]:
        """Answer all requests, in order."""

    def check_fits(self, requests: Sequence[ClipRequest]) -> None:
        """Raise ValueError when one of the requests does not fit the model's context."""

    def prepare(self, frames: list[VideoFrame]) -> None:
        """Do ahead for new frames what needs no question; called from a reader's thread."""


@runtime_checkable
class QueuedAnswerer(Protocol):
    """An answerer that takes questions at any time and works step by step; see `drafted_answering.DraftedAnswerer`."""

    def submit(self, requests: Sequence[ClipRequest]) -> list[int]:
        """Queue requests and return a ticket for each."""

    def advance(self) -> list[tuple[int, ClipAnswer]]:
        """Do one step; return (ticket, answer) of what is finished."""

    def so_far(self, tickets: Sequence[int]) -> dict[int, ClipAnswer]:
        """Return the unfinished answers of those of `tickets` that have begun, by ticket."""
