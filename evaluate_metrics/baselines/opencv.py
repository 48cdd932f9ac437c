"""OpenCV's trackers: CSRT, KCF, MIL, and Nano and Vit with the user's ONNX files."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..readers.items import TrackSequence
from .track import Track

__all__ = ["OpenCVTracker"]

INSTALL = "pip install opencv-contrib-python-headless"
# Name here -> OpenCV's class, and the parameters that name ONNX files, in the order in which they are given.
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "csrt": ("TrackerCSRT", ()),
    "kcf": ("TrackerKCF", ()),
    "mil": ("TrackerMIL", ()),
    "nano": ("TrackerNano", ("backbone", "neckhead")),
    "vit": ("TrackerVit", ("net",)),
}


class OpenCVTracker:
    """One of OpenCV's trackers; where it reports that it has lost the object there is no box."""

    def __init__(self, kind: str, onnx: tuple[str, ...] = (), seed: int = 0) -> None:
        """Check that OpenCV has the tracker.

        Args:
            kind: a key of `KINDS`.
            onnx: files that Nano (backbone, neck and head) or Vit (one) need.
            seed: of what OpenCV draws, set before every sequence.

        Raises:
            ValueError: an unknown kind, files that are missing, or an OpenCV without the tracker.
        """
        import cv2

        if kind not in KINDS:
            raise ValueError(f"OpenCV tracker {kind!r} is unknown; use one of {', '.join(KINDS)}.")
        self.name, self._seed, self._cv2 = kind, seed, cv2
        class_name, parameters = KINDS[kind]
        if len(onnx) != len(parameters) or not all(Path(path).is_file() for path in onnx):
            raise ValueError(
                f"tracker {kind!r} needs {len(parameters)} ONNX files {parameters}, given {list(onnx)}; pass them "
                "with `--onnx` (OpenCV's model zoo has them)."
            )
        # The class moved to `legacy` and back, and the factory is a function or a method, by version.
        homes = [home for home in (cv2, getattr(cv2, "legacy", None)) if hasattr(home, class_name)]
        if not homes:
            raise ValueError(f"OpenCV {cv2.__version__} has no {class_name}; `{INSTALL}` has.")
        self._class, self._home, self._class_name = getattr(homes[0], class_name), homes[0], class_name
        self._files = dict(zip(parameters, onnx, strict=True))

    def _made(self) -> Any:
        arguments = []
        if self._files:
            parameters = getattr(self._home, f"{self._class_name}_Params")()
            for key, path in self._files.items():
                setattr(parameters, key, path)
            arguments = [parameters]
        if hasattr(self._class, "create"):
            return self._class.create(*arguments)
        return getattr(self._home, f"{self._class_name}_create")(*arguments)

    def track(self, sequence: TrackSequence, ask: str) -> Track:
        """See `Tracker`; by box only."""
        if ask != "sot":
            raise ValueError(f"tracker {self.name!r} is asked by a box (`--ask sot`), not by words ({ask}).")
        self._cv2.setRNGSeed(self._seed)
        _seed_c_library(self._seed)
        boxes = np.full((len(sequence), 4), np.nan)
        boxes[0] = sequence.boxes_xywh_px[0]
        tracker = self._made()
        with sequence.open() as video:
            for index in range(len(sequence)):
                # OpenCV's trackers expect BGR.
                frame = np.ascontiguousarray(video.read([index])[0][:, :, ::-1])
                if index == 0:
                    tracker.init(frame, _whole(boxes[0], frame.shape))
                    continue
                found, box = tracker.update(frame)
                if found:
                    boxes[index] = box
        return Track(boxes, np.full(len(boxes), np.nan))


def _seed_c_library(seed: int) -> None:
    """Seed the C library's `rand()`: MIL draws its features from it, and OpenCV's own seed does not reach it."""
    library = ctypes.CDLL(None) if os.name == "posix" else ctypes.CDLL("msvcrt")
    library.srand(seed)


def _whole(box_xywh_px: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The first box in whole pixels inside the frame, at least one wide: what `init` takes."""
    height, width = shape[:2]
    x, y = (int(np.clip(round(v), 0, side - 1)) for v, side in zip(box_xywh_px[:2], (width, height), strict=True))
    w, h = (
        int(np.clip(round(v), 1, side - at))
        for v, side, at in zip(box_xywh_px[2:], (width, height), (x, y), strict=True)
    )
    return x, y, w, h
