"""Video segmenters of transformers as trackers: SAM 2, SAM 3's tracker and EdgeTAM; a box is a mask's extent.

The confidence is the sigmoid of `object_score_logits`, with which the models say whether the object is in the frame:
it is not calibrated, and says nothing about where the mask ends. `temperature` divides the logits, so that a user who
has fitted one on annotated video can hand it in.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

__all__ = ["SegmenterTracker", "box_of_mask", "square_pixels"]

# transformers' name of an architecture -> module, prefix of its classes
FAMILIES = {
    "sam2_video": ("sam2_video", "Sam2Video"),
    "sam3_tracker_video": ("sam3_tracker_video", "Sam3TrackerVideo"),
    "sam3_video": ("sam3_tracker_video", "Sam3TrackerVideo"),  # the whole of SAM 3; its tracker is taken out
    "edgetam_video": ("edgetam_video", "EdgeTamVideo"),
}
# What they were trained with; their own processors do the same, but need torchvision.
SAM3_MEAN = SAM3_STD = (0.5, 0.5, 0.5)
USUAL_MEAN, USUAL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BOX_CORNERS = (2, 3)  # labels of a box prompt's two points
CACHED_FRAMES = 16  # frames and outputs behind the present one that the models' memory may look back at


class SegmenterTracker:
    """See `ClipTracker`; the objects of a video share the picture's features."""

    def __init__(
        self, checkpoint: str, device: str = "cpu", dtype: str | None = None, temperature: float = 1.0
    ) -> None:
        """Load a segmenter.

        Args:
            checkpoint: folder or Hub id, for instance `facebook/sam2.1-hiera-large`.
            device: torch device.
            dtype: of the weights; None as stored.
            temperature: divides the logits of the confidence.

        Raises:
            ValueError: a model of another kind, or a temperature that is not above 0.
        """
        import torch
        from transformers import AutoConfig

        if not temperature > 0:
            raise ValueError(f"tracker.options.temperature={temperature} must be above 0.")
        # a checkpoint of SAM 2 calls itself sam2_video, one of SAM 3 may hold more than the tracker
        kind = AutoConfig.from_pretrained(checkpoint).model_type
        if kind not in FAMILIES:
            raise ValueError(f"tracker checkpoint {checkpoint!r} is a {kind!r}; use one of {', '.join(FAMILIES)}.")
        module, prefix = FAMILIES[kind]
        code = importlib.import_module(f"transformers.models.{module}.modeling_{module}")
        self._session_class = getattr(code, f"{prefix}InferenceSession")
        model = getattr(code, f"{prefix}Model").from_pretrained(
            checkpoint, dtype=getattr(torch, dtype) if dtype else "auto"
        )
        self._model, self._temperature = model.to(device).eval(), temperature
        self._mean, self._std = (SAM3_MEAN, SAM3_STD) if prefix.startswith("Sam3") else (USUAL_MEAN, USUAL_STD)
        side = model.config.image_size
        self._side = int(side if isinstance(side, int) else side[0])

    def follow(self, frames: Iterable[np.ndarray], boxes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See `ClipTracker`."""
        import torch

        session: Any = None
        for number, frame in enumerate(frames):
            height, width = frame.shape[:2]
            if session is None:
                session = self._session((height, width), boxes)
            with torch.inference_mode():
                pixels = square_pixels(frame, self._side, self._mean, self._std)
                pixels = pixels.to(self._model.device, self._model.dtype)
                output = self._model(inference_session=session, frame=pixels, frame_idx=number)
                masks = _masks(output.pred_masks, (height, width))
                logits = output.object_score_logits.float().reshape(-1)
                scores = torch.sigmoid(logits / self._temperature).cpu().numpy().astype(np.float64)
            self._forget(session, number - CACHED_FRAMES)
            size = np.array([width, height, width, height], dtype=np.float64)
            yield np.stack([box_of_mask(mask) / size for mask in masks]), scores

    def _session(self, size: tuple[int, int], boxes: np.ndarray) -> Any:
        """Begin a session whose first frame has the boxes as its prompts."""
        import torch

        device = self._model.device
        session = self._session_class(
            video_height=size[0], video_width=size[1], inference_device=device, inference_state_device=device,
            video_storage_device=device, dtype=self._model.dtype,
        )  # fmt: skip
        for number, box in enumerate(boxes):
            corners = torch.tensor(np.asarray(box).reshape(1, 1, 2, 2) * self._side, dtype=torch.float32)
            points = {
                "point_coords": corners.to(device),
                "point_labels": torch.tensor(BOX_CORNERS, dtype=torch.int32).reshape(1, 1, 2).to(device),
            }
            session.add_point_inputs(session.obj_id_to_idx(number), 0, points)
        session.obj_with_new_inputs = list(range(len(boxes)))
        return session

    @staticmethod
    def _forget(session: Any, number: int) -> None:
        """Drop a frame and its outputs, which the library keeps for ever, once no memory looks back at it."""
        if number <= 0:  # the prompted frame stays
            return
        if session.processed_frames is not None:
            session.processed_frames.pop(number, None)
        for outputs in session.output_dict_per_obj.values():
            outputs["non_cond_frame_outputs"].pop(number, None)


def square_pixels(frame: np.ndarray, side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
    """Return a frame (H, W, 3) of uint8 as a tensor (3, side, side), normalized."""
    import torch
    from PIL import Image

    square = Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR)
    pixels = (np.asarray(square, dtype=np.float32) / 255 - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(pixels.transpose(2, 0, 1))


def _masks(logits: Any, size: tuple[int, int]) -> np.ndarray:
    """Return mask logits (O, 1, s, s) as masks (O, H, W) of bool."""
    import torch

    grown = torch.nn.functional.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
    return (grown[:, 0] > 0).cpu().numpy()


def box_of_mask(mask: np.ndarray) -> np.ndarray:
    """Return the tight box (4,) xyxy in pixels of a mask (H, W) of bool; NaN for an empty one."""
    if not mask.any():
        return np.full(4, np.nan)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)
