"""Frames to visual tokens while tracking: each once, in passes that fit the memory, ahead where that helps.

The features of a frame may depend on more than the frame: on the window in which the box of the object is known
(`reference_similarity`), or on the words of what is looked for (`expression_similarity`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch

from .exchange import FrameFeatures, VideoFrame
from .protocols import Processor
from .stats import Stats
from .threads import TimedThreads

Value = TypeVar("Value")
_VISION_MB = {"cpu": 16, "cuda": 512}
_MOST_IMAGES = 64


class FrameEncoder:
    """Runs vision tower, compressor and projector.

    Args:
        model: an `ElysiumForConditionalGeneration` in evaluation mode.
        processor: see `Processor`.
        vision_memory_mb: bounds the frames per pass of the vision tower, see `frames_per_pass`.
        stats: where to count.

    Attributes:
        max_images: frames per pass of the vision tower.
        encodes_ahead: `prepare` encodes frames too.
        uses_references: features of search windows depend on the window in which the object's box is known.
        uses_expressions: features of frames in which words are looked for depend on them.
    """

    def __init__(self, model: Any, processor: Processor, vision_memory_mb: int | None, stats: Stats) -> None:
        self.model, self.processor, self.stats = model, processor, stats
        self.max_images = frames_per_pass(model, vision_memory_mb)
        self._threads = TimedThreads()
        # Cores that share the tower and the language model gain nothing; offloaded weights come to one pass at a time.
        moved = getattr(model, "hf_device_map", None)
        self.encodes_ahead = model.device.type == "cuda" and (moved is None or len(set(moved.values())) == 1)
        self.uses_references = bool(getattr(model.config, "reference_similarity", False))
        self.uses_expressions = bool(getattr(model.config, "expression_similarity", False))
        self.encodes_ahead &= not self.uses_expressions  # what will be looked for is not known yet

    def encode_frames(self, frames: Sequence[VideoFrame]) -> None:
        """Give every frame its features (K, D); a frame object is encoded once, however often it appears."""
        fresh = list({id(frame): frame for frame in frames if frame.features is None}.values())
        with self.stats.timed("vision"):
            for first in range(0, len(fresh), self.max_images):
                chunk = fresh[first : first + self.max_images]
                with self._threads.passing(len(chunk)):
                    encoded = self._encode(chunk)
                kept = [None] * len(chunk) if encoded.kept_indices is None else encoded.kept_indices
                for frame, tokens, indices in zip(chunk, encoded.pooler_output, kept, strict=True):
                    frame.features, frame.kept_indices, frame.pixels = tokens, indices, None

    def _encode(self, frames: list[VideoFrame]) -> Any:
        """Encode a chunk; features may depend on the patches of a reference, which comes first, or on words."""
        base = self.model.base_model
        if all(frame.reference is None and frame.expression is None for frame in frames) or not self.uses_references:
            return base.get_image_features(pixel_values=self._pixels(frames))
        patches = self._patches(frames)  # (F, N, C)
        for frame, own in zip(frames, patches, strict=True):
            if frame.reference is frame:
                frame.patches = own.clone()  # so that the rest of the chunk can be freed
        nothing = torch.zeros_like(patches[0])
        references = [nothing if frame.reference is None else _given(frame.reference.patches) for frame in frames]
        unknown = np.full(4, np.nan)
        known = np.stack([unknown if frame.reference is None else _given(frame.reference_box) for frame in frames])
        own = torch.tensor([frame.reference is frame for frame in frames])
        boxes = torch.tensor(known, dtype=torch.float32, device=patches.device)
        words = None
        if self.uses_expressions:
            words = self.processor.encode_expressions([frame.expression for frame in frames])
        return base.compress(patches, torch.stack(references), boxes, own, words)

    def _patches(self, frames: list[VideoFrame]) -> torch.Tensor:
        """Return patch tokens (F, N, C); a frame goes through the tower once, whatever is looked for in it."""
        base, shown = self.model.base_model, [frame.shows or frame for frame in frames]
        fresh = list({id(frame): frame for frame in shown if frame.patches is None}.values())
        computed = {}
        if fresh:
            patches = base.patches(base.encode_patches(self._pixels(fresh)).last_hidden_state)
            computed = {id(frame): own for frame, own in zip(fresh, patches, strict=True)}
        for frame in frames:
            if frame.shows is not None and frame.shows.patches is None:
                frame.shows.patches, frame.shows.pixels = computed[id(frame.shows)].clone(), None
        return torch.stack([computed[id(one)] if one.patches is None else one.patches for one in shown])

    def _pixels(self, frames: list[VideoFrame]) -> torch.Tensor:
        """Return what the tower takes (F, 3, S, S); frames that were not resized yet are now."""
        device = self.model.device if self.encodes_ahead else None
        resize([frame for frame in frames if frame.pixels is None], self.processor, device)
        return torch.stack([_given(frame.pixels) for frame in frames]).to(self.model.device, self.model.dtype)

    def prepare(self, frames: list[VideoFrame]) -> None:
        """Do ahead what needs no question: resizing and, where `encodes_ahead`, the vision tower.

        For a reader's thread. On a GPU its work is on a stream of its own, beside the language model's passes.
        """
        if self.encodes_ahead:  # which resizes as well
            with _own_stream(self.model.device), torch.inference_mode():
                self.encode_frames(frames)
        else:
            resize([frame for frame in frames if frame.pixels is None and frame.features is None], self.processor)


def frames_per_pass(model: Any, memory_mb: int | None = None) -> int:
    """Return how many frames the vision tower encodes together.

    Args:
        model: an `ElysiumForConditionalGeneration`.
        memory_mb: MiB that the widest activation may take; None for a default that suits the model's device.

    Returns:
        A number from 1 to 64.
    """
    if memory_mb is None:
        memory_mb = _VISION_MB.get(model.device.type, _VISION_MB["cuda"])
    vision = model.config.vision_config
    widest = getattr(vision, "intermediate_size", None) or 4 * vision.hidden_size
    one = (model.config.num_patches + 1) * widest * model.dtype.itemsize
    return int(min(max(memory_mb * 2**20 // one, 1), _MOST_IMAGES))


def resize(frames: list[VideoFrame], processor: Processor, device: torch.device | None = None) -> None:
    """Give frames their `pixels`, as the processor prepares them for the vision tower.

    Args:
        frames: of one video or of several.
        processor: its image processor does it.
        device: where to do it, with the same result; None: on the CPU by Pillow.
    """
    by_shape: dict[tuple[int, ...], list[VideoFrame]] = {}
    for frame in frames:
        by_shape.setdefault(frame.image.shape, []).append(frame)
    for group in by_shape.values():
        images: Any = [frame.image for frame in group]
        if device is not None:
            images = torch.from_numpy(np.stack(images)).to(device).movedim(-1, 1)
        batch = processor.image_processor(images, return_tensors="pt")
        for frame, pixels in zip(group, batch["pixel_values"], strict=True):
            frame.pixels = pixels


def joined_features(frames: list[VideoFrame]) -> FrameFeatures:
    """Return features of frames, in order, in the form that `get_image_features` gives them."""
    for tensor in [
        tensor for frame in frames for tensor in (frame.features, frame.kept_indices) if tensor is not None
    ]:
        if tensor.is_cuda:  # it may come from a reader's stream, which must not reuse its memory meanwhile
            tensor.record_stream(torch.cuda.current_stream(tensor.device))
    kept = None if frames[0].kept_indices is None else torch.stack([_given(frame.kept_indices) for frame in frames])
    return FrameFeatures(pooler_output=[_given(frame.features) for frame in frames], kept_indices=kept)


def _given(value: Value | None) -> Value:
    """Return what a step before has set."""
    if value is None:
        raise RuntimeError("a frame was not prepared; the steps before set its pixels, patches and features.")
    return value


@contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    """Run on a CUDA stream of this thread, whose work is done at the end; change nothing on other devices."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()
