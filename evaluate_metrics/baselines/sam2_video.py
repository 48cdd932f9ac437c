"""SAM 2 as a tracker: the first box is its prompt, a frame's box is the extent of its mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from ..readers.items import TrackSequence
from .track import Track

__all__ = ["Sam2VideoTracker", "box_of_mask"]

# What SAM 2 was trained with; its own processor does the same, but needs torchvision.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OBJECT = 1
BOX_CORNERS = (2, 3)  # labels of a box prompt's two points


class Sam2VideoTracker:
    """`Sam2VideoModel` of transformers, frame by frame; where its mask is empty there is no box."""

    name = "sam2_video"

    def __init__(self, model: Any) -> None:
        """Wrap a model, a `Sam2VideoModel`."""
        self._model = model.eval()
        self._side = int(model.config.image_size)

    @torch.inference_mode()
    def track(self, sequence: TrackSequence, ask: str) -> Track:
        """See `Tracker`; by box only."""
        if ask != "sot":
            raise ValueError(f"tracker {self.name!r} is asked by a box (`--ask sot`), not by words ({ask}).")
        boxes = np.full((len(sequence), 4), np.nan)
        boxes[0] = sequence.boxes_xywh_px[0]
        with sequence.open() as video:
            size = (video.height, video.width)
            session = self._session(size, boxes[0])
            for index in range(len(sequence)):
                pixels = self._pixels(video.read([index])[0])
                output = self._model(inference_session=session, frame=pixels)
                if index:
                    boxes[index] = box_of_mask(_mask(output.pred_masks, size))
        return Track(boxes, np.isfinite(boxes).all(axis=1).astype(np.float64))

    def _session(self, size: tuple[int, int], box_xywh_px: np.ndarray) -> Sam2VideoInferenceSession:
        """A session whose first frame has the box as its prompt."""
        height, width = size
        device = self._model.device
        session = Sam2VideoInferenceSession(
            video_height=height,
            video_width=width,
            inference_device=device,
            inference_state_device=device,
            video_storage_device=device,
            dtype=self._model.dtype,
        )
        x, y, w, h = (float(value) for value in box_xywh_px)
        corners = torch.tensor([[x, y], [x + w, y + h]]) * self._side / torch.tensor([width, height])
        points = {
            "point_coords": corners.reshape(1, 1, 2, 2).to(device),
            "point_labels": torch.tensor(BOX_CORNERS, dtype=torch.int32).reshape(1, 1, 2).to(device),
        }
        session.add_point_inputs(session.obj_id_to_idx(OBJECT), 0, points)
        session.obj_with_new_inputs = [OBJECT]
        return session

    def _pixels(self, frame: np.ndarray) -> torch.Tensor:
        """A frame (H, W, 3) as the model sees it, (3, S, S)."""
        square = Image.fromarray(frame).resize((self._side, self._side), Image.Resampling.BILINEAR)
        pixels = (np.asarray(square, dtype=np.float32) / 255 - MEAN) / STD
        return torch.from_numpy(pixels.transpose(2, 0, 1)).to(self._model.device, self._model.dtype)


def _mask(logits: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Mask logits (1, 1, s, s) as a mask (H, W) of bool."""
    grown = torch.nn.functional.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
    return (grown[0, 0] > 0).cpu().numpy()


def box_of_mask(mask: np.ndarray) -> np.ndarray:
    """The tight box (4,) x, y, w, h in pixels of a mask (H, W) of bool; NaN for an empty one."""
    if not mask.any():
        return np.full(4, np.nan)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1], dtype=np.float64)
