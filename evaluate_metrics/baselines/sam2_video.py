"""SAM 2 as a tracker: the first box is its prompt, a frame's box is that of the largest mask's extent."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..readers.items import TrackSequence
from .track import Track

__all__ = ["Sam2VideoTracker"]


class Sam2VideoTracker:
    """`Sam2VideoModel` of transformers; where its mask is empty there is no box."""

    name = "sam2_video"

    def __init__(self, model: Any, processor: Any) -> None:
        """Wrap a model.

        Args:
            model: `Sam2VideoModel`.
            processor: its `Sam2VideoProcessor`.
        """
        self._model, self._processor = model.eval(), processor

    def track(self, sequence: TrackSequence, ask: str) -> Track:
        """See `Tracker`; by box only."""
        if ask != "sot":
            raise ValueError(f"tracker {self.name!r} is asked by a box (`--ask sot`), not by words ({ask}).")
        device = self._model.device
        with sequence.open() as video:
            frames = video.read(range(len(sequence)))
        height, width = frames[0].shape[:2]
        session = self._processor.init_video_session(video=frames, inference_device=device, dtype=self._model.dtype)
        x, y, w, h = (float(v) for v in sequence.boxes_xywh_px[0])
        self._processor.add_inputs_to_inference_session(
            inference_session=session, frame_idx=0, obj_ids=1, input_boxes=[[[x, y, x + w, y + h]]]
        )
        boxes, scores = np.full((len(frames), 4), np.nan), np.zeros(len(frames))
        with torch.inference_mode():
            self._model(inference_session=session, frame_idx=0)
            for output in self._model.propagate_in_video_iterator(session, start_frame_idx=0):
                masks = self._processor.post_process_masks(
                    [output.pred_masks], original_sizes=[[height, width]], binarize=True
                )[0]
                boxes[output.frame_idx] = box_of_mask(masks[0, 0].cpu().numpy().astype(bool))
        boxes[0] = sequence.boxes_xywh_px[0]
        scores[np.isfinite(boxes).all(axis=1)] = 1.0
        return Track(boxes, scores)


def box_of_mask(mask: np.ndarray) -> np.ndarray:
    """The tight box (4,) x, y, w, h in pixels of a mask (H, W) of bool; NaN for an empty one."""
    if not mask.any():
        return np.full(4, np.nan)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1], dtype=np.float64)
