"""Backends for tests of the execution, named in configurations as `fake_backends:Grounder`: a noun is a behavior."""

import os
import re
import time

import numpy as np

from dataset_scripts.construction.protocols import Detections

BOX = np.array([0.2, 0.2, 0.6, 0.6])


class Grounder:
    """Finds everything in one place, unless the phrase says otherwise."""

    def __init__(self, delay_s=0.0):
        self.delay_s = delay_s

    def ground(self, frames, phrases):
        """Look at the first word that is a behavior."""
        time.sleep(self.delay_s)
        word = re.search(r"cat|horse|bird|pig|fish", phrases[0].lower())
        return {"cat": self.fail, "horse": self.hang, "pig": self.die}.get(word[0] if word else "", self.find)(
            frames, np.nan if word and word[0] == "bird" else 0.3 if word and word[0] == "fish" else 0.9
        )

    def find(self, frames, score):
        return [Detections.sorted([BOX * np.nan if np.isnan(score) else BOX], [score]) for _ in frames]

    def fail(self, *_):
        raise RuntimeError("no cats")

    def hang(self, *_):
        time.sleep(1000)

    def die(self, *_):
        os._exit(9)


class Trackers:
    """Everything stands still."""

    def new(self):
        return self

    def init(self, frame, box):
        self.box = box

    def update(self, frame):
        return self.box, 0.95


class ColorGrounder:
    """Knows the truth of drawn videos: the extent of what has the color that the phrase names."""

    CHANNELS = {"red": 0, "green": 1, "blue": 2}

    def ground(self, frames, phrases):
        return [self.find(frame, phrase) for frame, phrase in zip(frames, phrases, strict=True)]

    def find(self, frame, phrase):
        (name,) = [name for name in self.CHANNELS if name in phrase.lower()]
        others = np.delete(frame, self.CHANNELS[name], axis=2).max(axis=2).astype(int)
        rows, columns = np.nonzero(frame[:, :, self.CHANNELS[name]] - others > 60)
        if len(rows) < 20:
            return Detections.sorted([], [])
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        return Detections.sorted([box / np.array([*frame.shape[1::-1], *frame.shape[1::-1]])], [0.9])
