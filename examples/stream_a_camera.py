"""Follow an object in a stream: any iterator of frames is a video, and each result comes as soon as it is decided.

python examples/stream_a_camera.py [CAMERA NUMBER or URL] ["the red car"]
"""

import sys
from collections.abc import Iterator

import cv2
import numpy as np
from transformers import pipeline

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline


def camera(source: int | str) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) RGB of a camera or stream, until it ends."""
    capture = cv2.VideoCapture(source)
    try:
        while True:
            alive, frame = capture.read()
            if not alive:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()


def main(source: str = "examples/sample.mp4", expression: str = "the bottle", limit: int = 24) -> int:
    """Print the object's box frame by frame; stops after `limit` frames, which closes the camera."""
    pipe = pipeline("video-tracking", model="elysium")
    seen = 0
    for frame in pipe(camera(int(source) if source.isdigit() else source), expression=expression, stream=True):
        for item in frame["objects"]:
            print(frame["frame"], {name: round(value) for name, value in item["box"].items()})
        seen += 1
        if seen == limit:
            break
    return seen


if __name__ == "__main__":
    main(*sys.argv[1:3])
