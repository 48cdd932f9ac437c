"""Follow several objects at once: each has its own question, start frame and label, and the frames are encoded once.

python examples/several_objects.py [VIDEO]
"""

import sys
from collections import defaultdict

from transformers import pipeline

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline

BOXES = [(158, 58, 216, 199), (188, 83, 320, 147)]  # in pixels, in the frames below
START_FRAMES = [0, 0]
LABELS = ["bottle", "hand"]


def main(video: str = "examples/sample.mp4") -> dict[str, list[float]]:
    """Track the objects of `BOXES`; print how far the center of each moved to the right."""
    pipe = pipeline("video-tracking", model="elysium")
    centers: dict[str, list[float]] = defaultdict(list)
    for frame in pipe(video, box=BOXES, start_frame=START_FRAMES, labels=LABELS):
        for item in frame["objects"]:
            centers[item["label"]].append((item["box"]["xmin"] + item["box"]["xmax"]) / 2)
    for label, path in centers.items():
        print(f"{label}: {path[-1] - path[0]:+.0f} px in {len(path)} frames")
    print(f"{pipe.stats['answers']} answers in {pipe.stats['forwards']} passes of the language model")
    return dict(centers)


if __name__ == "__main__":
    main(*sys.argv[1:])
