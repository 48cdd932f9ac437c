"""Stand-ins for a trained model: an answerer that knows where the objects are, and tiny real parts."""

from __future__ import annotations

import numpy as np

from processing_elysium import format_boxes
from tests.modeling.tiny_models import tiny_model
from tests.processing.tiny_processor import tiny_processor
from tracking_elysium.answering import ClipAnswerer
from tracking_elysium.exchange import ClipAnswer, ClipRequest
from tracking_elysium.pipeline_video_tracking import VideoTrackingPipeline

PROCESSOR = tiny_processor()
SIZE = (40, 60)  # height, width of the videos below


def video(num_frames: int, seed: int = 0) -> list[np.ndarray]:
    """Frames of noise; the value at [0, 0] is the frame number."""
    frames = np.random.default_rng(seed).integers(0, 255, (num_frames, *SIZE, 3), dtype=np.uint8)
    frames[:, 0, 0] = np.arange(num_frames)[:, None] % 256
    return list(frames)


def moving_box(frame: int, lane: int = 0) -> np.ndarray:
    """Where object `lane` is in a frame: it moves right by one cell per frame, and comes back at the edge."""
    left = 0.05 + 0.01 * (frame % 60)
    top = 0.1 + 0.2 * lane
    return np.array([left, top, left + 0.2, top + 0.15])


class Oracle:
    """Answers every request with the true boxes; `broken` maps a frame index to the box text given instead."""

    def __init__(self, broken: dict[int, str] | None = None, lanes: dict[str, int] | None = None):
        self.broken = broken or {}
        self.lanes = lanes or {}  # text in the question -> object
        self.calls: list[list[ClipRequest]] = []

    def __call__(self, requests: list[ClipRequest]) -> list[ClipAnswer]:
        self.calls.append(list(requests))
        return [self.answer(request) for request in requests]

    def answer(self, request: ClipRequest) -> ClipAnswer:
        """True boxes of the object that the question names."""
        question = question_of(request)
        lane = next((lane for text, lane in self.lanes.items() if text in question), 0)
        parts = []
        for number, frame in enumerate(request.frames, start=1):
            text = format_boxes([moving_box(frame.index, lane)], first_frame=number)
            if frame.index in self.broken:
                text = f"Frame {number}: {self.broken[frame.index]}"
            parts.append(text)
        text = ", ".join(parts)
        digits = sum(char.isdigit() for char in text)
        return ClipAnswer(text, logprobs=[float(np.log(0.5))] * digits, token_of_digit=list(range(digits)))

    @property
    def questions(self) -> list[str]:
        """All questions in the order asked."""
        return [question_of(request) for call in self.calls for request in call]


class OracleAnswerer(ClipAnswerer):
    """Checks and prepares as the real one does, and leaves the answers to an oracle."""

    def __init__(self, oracle: Oracle, *args, **options):
        super().__init__(*args, **options)
        self._oracle = oracle

    def __call__(self, requests):
        return self._oracle(requests)


def question_of(request: ClipRequest) -> str:
    """The words of a request."""
    return request.messages[-1]["content"][-1]["text"]


def fitting_model(processor=PROCESSOR, context: int = 4096, **overrides):
    """A tiny random model that goes with the tiny processor; it says nonsense."""
    text_config = {
        "vocab_size": processor.image_token_id + 1,
        "max_position_embeddings": context,
        **overrides.pop("text_config", {}),
    }
    return tiny_model(
        image_token_id=processor.image_token_id,
        num_image_tokens=processor.num_image_tokens,
        text_config=text_config,
        **overrides,
    )


def tiny_pipeline(processor=PROCESSOR, **overrides) -> VideoTrackingPipeline:
    """The pipeline around a tiny random model, on the CPU."""
    model = fitting_model(processor, **overrides)
    return VideoTrackingPipeline(model=model, processor=processor, task="video-tracking", device="cpu")


def boxes_of(results) -> dict[int, np.ndarray]:
    """Frame -> box of the only object."""
    return {result.frame: result.objects[0].box for result in results if result.objects}
