"""Follow an object from its box in one frame (SOT).

python examples/track_by_box.py [VIDEO] [x1,y1,x2,y2]
"""

import sys

from transformers import pipeline

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline


def main(video: str = "examples/sample.mp4", box: str = "158,58,216,199") -> list[dict]:
    """Track the object in `box` (pixels of the first frame) and print where it goes."""
    pipe = pipeline("video-tracking", model="elysium")
    frames = pipe(video, box=tuple(float(number) for number in box.split(",")))
    for frame in frames[::8]:
        for item in frame["objects"]:
            corners = ", ".join(f"{name} {value:.0f}" for name, value in item["box"].items())
            print(f"frame {frame['frame']:3d}: {corners} (score {item['score']:.2f})")
    return frames


if __name__ == "__main__":
    main(*sys.argv[1:])
