"""Find and follow an object by a description (RSOT).

python examples/track_by_words.py [VIDEO] ["the bottle"]
"""

import sys

from transformers import pipeline

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline


def main(video: str = "examples/sample.mp4", expression: str = "the bottle") -> list[dict]:
    """Track what `expression` names; the frames in which the model is least sure come last."""
    pipe = pipeline("video-tracking", model="elysium")
    frames = pipe(video, expression=expression)
    by_score = sorted(frames, key=lambda frame: -frame["objects"][0]["score"])
    print(f"{expression}: {len(frames)} frames")
    print("surest in frames", [frame["frame"] for frame in by_score[:3]])
    print("least sure in frames", [frame["frame"] for frame in by_score[-3:]])
    return frames


if __name__ == "__main__":
    main(*sys.argv[1:])
