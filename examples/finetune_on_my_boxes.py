"""Fine-tune on your annotated videos, and track two that were held out, before and after.

python -m examples.finetune_on_my_boxes [FOLDER] [OUTPUT] [STEPS]    # docs/finetune.md; without FOLDER, ten are drawn
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image, ImageDraw
from transformers import pipeline

from dataset_scripts.adapters.command import main as convert
from dataset_scripts.records import read_records, write_records
from dataset_scripts.synthetic.write import write_video
from evaluate_metrics.runners.records import evaluate_records


def draw(folder: Path) -> str:
    """Ten videos in MOT's layout of what the checkpoint never saw: a spotted beetle that walks on a leaf."""
    for number in range(10):
        rng = np.random.default_rng(number)
        leaf = Image.fromarray(rng.integers((60, 110, 40), (110, 190, 80), (6, 6, 3), np.uint8)).resize((140, 140))
        reach, pace, start, lift, turn, size = rng.uniform((20, 0.02, 0, 0.02, 0, 9), (50, 0.08, 6, 0.08, 6, 16))
        frames, rows = [], []
        for t in range(40):
            canvas = ImageDraw.Draw(picture := leaf.copy())
            x, y = 70 + reach * np.sin(pace * t + start), 70 + reach * np.cos(lift * t + turn)
            canvas.ellipse((x - size, y - size, x + size, y + size), (190, 40, 30), (30, 20, 20), 2)
            for spot in ((-0.4, -0.3), (0.4, -0.3), (-0.3, 0.4), (0.3, 0.4)):
                canvas.circle((x + spot[0] * size, y + spot[1] * size), size / 6, (30, 20, 20))
            frames.append(np.asarray(picture))
            rows.append(f"{t + 1},1,{x - size + 1:.1f},{y - size + 1:.1f},{2 * size:.1f},{2 * size:.1f},1,1,1")
        write_video(folder / f"video{number}" / "video.mp4", np.stack(frames), 10.0)
        (folder / f"video{number}" / "gt.txt").write_text("\n".join(rows))
    return str(folder)


def main(folder: str = "", output: str = "outputs/mine", steps: str = "80") -> tuple[float, float]:
    """Convert, train, measure; returns the mean overlap (GOT-10k's AO) before and after."""
    out = Path(output)
    folder = folder or draw(out / "videos")
    assert convert(["my-boxes", folder, "--out", str(out / "all.jsonl"), "--overwrite"]) == 0
    *known, last, other = read_records(out / "all.jsonl")
    write_records(out / "train.jsonl", known)
    recipe = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
    recipe["stages"][0]["sources"][0]["source"] = str(out / "train.jsonl")
    recipe["stages"][0]["arguments"]["max_steps"] = int(steps)
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    subprocess.run([sys.executable, "-m", "train.sft", out / "recipe.yaml", "--output", out / "run"], check=True)
    trackers = [pipeline("video-tracking", model=model) for model in (recipe["model"], str(out / "run/mine/final"))]
    before, after = (evaluate_records(one, [last, other], out, convention="got10k")["ao"] for one in trackers)
    print(f"mean overlap on two videos that were not trained on: {before:.3f} -> {after:.3f}")
    return before, after


if __name__ == "__main__":
    main(*sys.argv[1:])
