"""A drawn video of a moving red square, and trackers and a grounder for it, named as `drawn:Trackers`."""

import numpy as np

from dataset_scripts.annotate.config import AnnotateConfig
from dataset_scripts.annotate.propagate import Propagator
from dataset_scripts.construction.config import BackendConfig
from dataset_scripts.construction.protocols import Detections
from dataset_scripts.synthetic.write import write_video

SIZE, FRAMES, OBJECT = (128, 96), 30, 24
HIDDEN = range(18, 22)  # frames in which the square is covered


def truth(frame):
    """Left top corner in pixels: a bent way, so that it takes more than two keyframes."""
    return 10 + 3 * frame, 20 + abs(frame - 12)


def true_box(frame):
    """(4,) relative to the frame."""
    x, y = truth(frame)
    return np.array([x, y, x + OBJECT, y + OBJECT]) / [*SIZE, *SIZE]


def write_drawn(path, hidden=()):
    """Write the video; `hidden` are frames without the square."""
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 70, (1, SIZE[1], SIZE[0], 3), dtype=np.uint8), FRAMES, axis=0)
    texture = np.full((OBJECT, OBJECT, 3), 30, dtype=np.uint8)
    texture[:, :, 0] = np.kron(rng.integers(180, 256, (6, 6)), np.ones((4, 4))).astype(np.uint8)
    for number, frame in enumerate(frames):
        if number not in hidden:
            x, y = truth(number)
            frame[y : y + OBJECT, x : x + OBJECT] = texture[:, : SIZE[0] - x]
    write_video(path, frames, 10.0)


def red_extent(frame):
    """The extent (4,) of what is red, NaN where nothing is."""
    rows, columns = np.nonzero(frame[:, :, 0].astype(int) - frame[:, :, 1:].max(axis=2) > 60)
    if len(rows) < 50:
        return np.full(4, np.nan)
    corners = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return corners / np.tile(frame.shape[1::-1], 2)


class Trackers:
    """Knows the truth: the extent of what is red."""

    def new(self):
        return self

    def init(self, frame, box):
        assert frame.dtype == np.uint8 and frame.ndim == 3

    def update(self, frame):
        return red_extent(frame), 0.9


class StillTrackers:
    """Everything stays where it was drawn."""

    def new(self):
        return StillTrackers()

    def init(self, frame, box):
        self.box = np.array(box)

    def update(self, frame):
        return self.box, 0.8


class FailingTrackers(StillTrackers):
    """Raises in the third frame."""

    def new(self):
        return FailingTrackers()

    def init(self, frame, box):
        self.count = 0

    def update(self, frame):
        self.count += 1
        if self.count > 1:
            raise RuntimeError("out of memory")
        return np.array([0.1, 0.1, 0.2, 0.2]), 0.5


class Grounder:
    """Finds red things."""

    def ground(self, frames, phrases):
        return [self.find(frame, phrase) for frame, phrase in zip(frames, phrases, strict=True)]

    def find(self, frame, phrase):
        box = red_extent(frame)
        if "red" not in phrase or np.isnan(box).any():
            return Detections.sorted([], [])
        return Detections.sorted([box], [0.7])


def custom(name):
    """A backend of this file."""
    return BackendConfig("custom", {"factory": f"drawn:{name}"})


def propagator(root, tracker="Trackers", grounder="Grounder", **more):
    """Models for a media root; this folder must be on `sys.path`."""
    return Propagator(
        AnnotateConfig(str(root), custom(tracker), custom(grounder) if grounder else None, port=0, **more)
    )
