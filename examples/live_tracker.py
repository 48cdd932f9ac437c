"""Follow objects while frames come: every frame is answered at once, and objects come and go while it runs.

python examples/live_tracker.py [camera:0 | rtsp://... | FILE]
"""

import sys

from transformers import pipeline

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline


def main(source: str = "examples/sample.mp4", limit: int = 12) -> list[dict]:
    """Track the bottle, correct it, add a hand and drop the bottle; return what was found frame by frame."""
    pipe = pipeline("video-tracking", model="elysium")
    seen = []
    with pipe.open(box=(158, 58, 216, 199), labels="bottle") as tracker:
        for result in tracker.follow(source):
            seen.append(result)
            told = ", ".join(f"{item['label']} {item['box']['xmin']:.0f}" for item in result["objects"])
            print(f"frame {result['frame']}: {told} ({result['lag']:.2f} s late, {result['skipped']} left out)")
            if result["frame"] == 3:  # both boxes are in pixels of the frame that was just answered
                tracker.correct(0, (160, 58, 218, 199))
                tracker.add(box=(188, 83, 320, 147), labels="hand")
            if result["frame"] == 7:
                tracker.remove(0)
            if len(seen) == limit:
                break
    return seen


if __name__ == "__main__":
    main(*sys.argv[1:2])
