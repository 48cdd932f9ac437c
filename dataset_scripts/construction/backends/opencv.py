"""OpenCV's trackers: KCF, CSRT, MIL, and Nano and Vit with the user's ONNX files.

KCF, CSRT and MIL only say whether they still have the object: their confidence is 1 or 0 (MIL never says no). Nano and
Vit score every frame.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np

from processing_elysium.boxes import px_to_unit, unit_to_px, xywh_to_xyxy, xyxy_to_xywh

__all__ = ["KINDS", "OpenCVTracker", "OpenCVTrackers"]

# Name here -> OpenCV's class, and the parameters that name ONNX files.
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "csrt": ("TrackerCSRT", ()),
    "kcf": ("TrackerKCF", ()),
    "mil": ("TrackerMIL", ()),
    "nano": ("TrackerNano", ("backbone", "neckhead")),
    "vit": ("TrackerVit", ("net",)),
}


class OpenCVTrackers:
    """Makes trackers of one kind, see `StepTrackers`."""

    def __init__(self, kind: str, onnx: dict[str, str] | None = None, seed: int = 0, threads: int | None = 1) -> None:
        """Check that OpenCV has the tracker.

        Args:
            kind: a key of `KINDS`.
            onnx: parameter -> file, for Nano (backbone, neckhead) and Vit (net).
            seed: of what a tracker draws, set at every `init`.
            threads: of OpenCV in this process; None leaves them as they are. By default one: workers are processes,
                and sums over threads would depend on their number.

        Raises:
            ValueError: an unknown kind, files that are missing, or an OpenCV without the tracker.
        """
        import cv2

        if kind not in KINDS:
            raise ValueError(f"OpenCV tracker {kind!r} is unknown; use one of {', '.join(KINDS)}.")
        class_name, parameters = KINDS[kind]
        given = dict(onnx or {})
        if set(given) != set(parameters) or not all(Path(path).is_file() for path in given.values()):
            raise ValueError(
                f"tracker {kind!r} needs {len(parameters)} ONNX files that exist, {list(parameters)}; given {given}. "
                "Name them in tracker.options.onnx (or with `--onnx`); OpenCV's model zoo has them."
            )
        # The class moved to `legacy` and back, by version.
        homes = [home for home in (cv2, getattr(cv2, "legacy", None)) if hasattr(home, class_name)]
        if not homes:
            raise ValueError(
                f"OpenCV {cv2.__version__} has no {class_name}; `pip install opencv-contrib-python-headless` has."
            )
        if threads is not None:
            cv2.setNumThreads(threads)
        self._cv2, self._home, self._class_name, self._files, self._seed = cv2, homes[0], class_name, given, seed

    def new(self) -> OpenCVTracker:
        """Return a tracker of one object."""
        return OpenCVTracker(self._made(), self._cv2, self._seed, scored=bool(self._files))

    def _made(self) -> Any:
        arguments = []
        if self._files:
            parameters = getattr(self._home, f"{self._class_name}_Params")()
            for key, path in self._files.items():
                setattr(parameters, key, path)
            arguments = [parameters]
        # the factory is a method or a function, by version
        made_by = getattr(self._home, self._class_name)
        if hasattr(made_by, "create"):
            return made_by.create(*arguments)
        return getattr(self._home, f"{self._class_name}_create")(*arguments)


class OpenCVTracker:
    """See `StepTracker`; `begin` and `step` are the same in pixels of the frame."""

    def __init__(self, tracker: Any, cv2: Any, seed: int, scored: bool) -> None:
        self._tracker, self._cv2, self._seed, self._scored = tracker, cv2, seed, scored

    def begin(self, frame: np.ndarray, box_xywh_px: np.ndarray) -> None:
        """Begin with a box (4,) in an RGB frame (H, W, 3)."""
        self._cv2.setRNGSeed(self._seed)
        # MIL draws from the C library's generator, which OpenCV's own seed does not reach.
        (ctypes.CDLL(None) if os.name == "posix" else ctypes.CDLL("msvcrt")).srand(self._seed)
        self._tracker.init(_bgr(frame), whole_pixels(box_xywh_px, frame.shape))

    def step(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the box (4,) x, y, w, h in pixels, NaN where lost, and the confidence."""
        found, box_xywh_px = self._tracker.update(_bgr(frame))
        if not found:
            return np.full(4, np.nan), 0.0
        # all have the method, and those without a network answer -1
        score = float(self._tracker.getTrackingScore()) if self._scored else 1.0
        return np.asarray(box_xywh_px, dtype=np.float64), score

    def init(self, frame: np.ndarray, box: np.ndarray) -> None:
        """See `StepTracker`."""
        self.begin(frame, xyxy_to_xywh(unit_to_px(np.clip(box, 0, 1), frame.shape[1], frame.shape[0])))

    def update(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        """See `StepTracker`."""
        box_xywh_px, score = self.step(frame)
        return px_to_unit(xywh_to_xyxy(box_xywh_px), frame.shape[1], frame.shape[0]), score


def _bgr(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frame[:, :, ::-1])


def whole_pixels(box_xywh_px: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return a box in whole pixels inside a frame of `shape`, at least two wide and high: what `init` takes."""
    height, width = shape[:2]
    x, y = (int(np.clip(round(v), 0, side - 2)) for v, side in zip(box_xywh_px[:2], (width, height), strict=True))
    w, h = (
        int(np.clip(round(v), 2, side - at))
        for v, side, at in zip(box_xywh_px[2:], (width, height), (x, y), strict=True)
    )
    return x, y, w, h
