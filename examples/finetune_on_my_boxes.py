"""Fine-tune on your annotated videos, and track two that were held out, before and after.

python -m examples.finetune_on_my_boxes [FOLDER] [OUTPUT] [STEPS]    # docs/finetune.md; without FOLDER, ten are drawn
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from transformers import pipeline

from dataset_scripts.adapters.command import main as convert
from dataset_scripts.records import read_records, write_records
from dataset_scripts.synthetic import SyntheticConfig, make_video
from dataset_scripts.synthetic.write import write_video
from evaluate_metrics.runners.records import evaluate_records
from processing_elysium.boxes import unit_to_px

PARTS = ["selector", "multi_modal_projector", "language_model"]


def draw(folder: Path) -> None:
    """Ten videos in MOT's layout of what the checkpoint never saw: its drawn shapes as a negative without color."""
    for number in range(10):
        clip = make_video(SyntheticConfig(seed=9), "train", number, 40)
        gray = 255 - clip.frames.mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8)
        write_video(folder / f"video{number}" / "video.mp4", gray, clip.record.fps)
        rows = []
        for identity, track in enumerate(clip.record.objects, start=1):
            for frame in np.flatnonzero(~track.absent):
                x1, y1, x2, y2 = unit_to_px(track.boxes[frame], *gray.shape[2:0:-1])
                rows.append(f"{frame + 1},{identity},{x1 + 1:.2f},{y1 + 1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},1,1,1")
        (folder / f"video{number}" / "gt.txt").write_text("\n".join(rows))


def main(folder: str = "", output: str = "outputs/mine", steps: str = "150") -> tuple[float, float]:
    """Convert, train, measure; returns the mean overlap (GOT-10k's AO) before and after."""
    out = Path(output)
    if not folder:
        draw(out / "videos")
    assert convert(["my-boxes", folder or str(out / "videos"), "--out", str(out / "all.jsonl"), "--overwrite"]) == 0
    *known, last, other = read_records(out / "all.jsonl")
    write_records(out / "train.jsonl", known)
    source = {"source": str(out / "train.jsonl"), "tasks": {"sot": 1}, "options": {"max_interval": 5}}
    how = {"max_steps": int(steps), "per_device_train_batch_size": 8, "learning_rate": 3e-4, "warmup_steps": 10}
    stage = {"name": "mine", "train": PARTS, "sources": [source], "num_frames": [4, 8], "turns": 2, "arguments": how}
    (out / "recipe.yaml").write_text(yaml.safe_dump({"model": "elysium", "stages": [stage]}))
    subprocess.run(
        [sys.executable, "-m", "train.sft", out / "recipe.yaml", "--output", out / "run", "--cpu"], check=True
    )
    scores = []
    for model in ("elysium", str(out / "run" / "mine" / "final")):
        tracker = pipeline("video-tracking", model=model, device="cpu")
        scores.append(evaluate_records(tracker, [last, other], out, convention="got10k")["ao"])
    print(f"mean overlap on two videos that were not trained on: {scores[0]:.3f} -> {scores[1]:.3f}")
    return scores[0], scores[1]


if __name__ == "__main__":
    main(*sys.argv[1:])
