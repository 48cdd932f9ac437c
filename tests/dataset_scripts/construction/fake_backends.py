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
