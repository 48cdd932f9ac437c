"""Beyond the paper, off by default: only the longest shot of a video is worked on.

A cut ends what a tracker can follow; the paper leaves such videos to its other filters. PySceneDetect finds the cuts,
by how much the picture changes against the changes around it, so that a moving camera is no cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["ShotConfig", "find_cuts", "longest_shot"]


@dataclass(frozen=True)
class ShotConfig:
    """When a change is a cut.

    Attributes:
        enabled: False takes every video for one shot.
        threshold: change of a frame over the mean change of its neighbors.
        min_change: least mean change of hue, saturation and brightness, on a scale to 255.
        min_frames: a shot is at least so long.
    """

    enabled: bool = False
    threshold: float = 3.0
    min_change: float = 15.0
    min_frames: int = 8

    def __post_init__(self) -> None:
        for name in ("threshold", "min_change", "min_frames"):
            if not getattr(self, name) > 0:
                raise ValueError(f"shots.{name}={getattr(self, name)} must be above 0.")


def find_cuts(frames: Iterable[np.ndarray], config: ShotConfig) -> list[int]:
    """Return the numbers of the frames that begin a new shot, ascending, without 0.

    Args:
        frames: uint8 RGB (H, W, 3).
        config: when a change is a cut.

    Raises:
        ImportError: PySceneDetect is not installed.
    """
    try:
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector
    except ImportError as error:
        raise ImportError("shots.enabled needs PySceneDetect; `pip install 'elysium[shots]'`.") from error
    detector = AdaptiveDetector(
        adaptive_threshold=config.threshold, min_content_val=config.min_change, min_scene_len=config.min_frames
    )
    cuts, number = [], 0
    for number, frame in enumerate(frames):  # the rate is of no matter: cuts are counted in frames
        # the detector expects BGR, as OpenCV reads it
        cuts += detector.process_frame(FrameTimecode(number, 1.0), np.ascontiguousarray(frame[:, :, ::-1]))
    cuts += detector.post_process(FrameTimecode(number, 1.0))
    return sorted({cut.frame_num for cut in cuts} - {0})


def longest_shot(cuts: list[int], num_frames: int) -> tuple[int, int]:
    """Return first frame and end (one past the last) of the longest shot; of equal ones the first."""
    edges = [0, *cuts, num_frames]
    spans = list(zip(edges[:-1], edges[1:], strict=True))
    return max(spans, key=lambda span: (span[1] - span[0], -span[0]))
