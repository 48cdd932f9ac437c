"""Say what is in a box (Video-REG).

    python examples/describe.py [VIDEO] [x1,y1,x2,y2]

The embedded checkpoint names an object by its class. Checkpoints that were taught questions answer them with
`pipe.ask(video, "What moves to the left?")`.
"""

import sys

from transformers import pipeline

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline


def main(video: str = "examples/sample.mp4", box: str = "158,58,216,199") -> str:
    """Describe the object in `box`, pixels of the first frame, from eight frames four apart."""
    pipe = pipeline("video-tracking", model="elysium")
    corners = tuple(float(number) for number in box.split(","))
    (item,) = pipe(video, box=corners, task="describe", num_frames=8, frame_interval=4)
    print(f"in the box: {item['description']}")
    return item["description"]


if __name__ == "__main__":
    main(*sys.argv[1:])
