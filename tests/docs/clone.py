"""A clone in miniature: what the commands of the documents name, a few frames each, so that they run in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np

from dataset_scripts.review.decisions import append_decision
from dataset_scripts.synthetic import SyntheticConfig, make_video
from dataset_scripts.synthetic.write import write_video
from tests.dataset_scripts.adapters import miniatures
from tests.dataset_scripts.review.test_decisions import said
from tests.dataset_scripts.tiny_build import write_build
from tests.evaluate_metrics.miniatures import lasot, realdata
from tests.house.source import ROOT

LINKED = (
    "elysium",
    "train",
    "evaluate_metrics",
    "dataset_scripts",
    "scripts",
    "tests",
    "constraints.txt",
    "setup.py",
    "Makefile",
)
NUM_FRAMES = 5
CORPORA = {
    "llava": miniatures.llava,
    "grit_shards": miniatures.grit,
    "CogVLM-SFT-311K": miniatures.cogvlm,
    "vqa": miniatures.coco_vqa,
    "gqa": miniatures.gqa,
    "visual7w": miniatures.visual7w,
    "flickr30k": miniatures.flickr30k,
    "vg": miniatures.visual_genome,
    "videochat": miniatures.videochat,
    "ElysiumTrack-1M": miniatures.elysium_track,
}


def make_clone(root: Path) -> None:
    """Fill a folder: code and checkpoint are links, videos and corpora are made."""
    for name in LINKED:
        (root / name).symlink_to(ROOT / name)
    (root / "elysium-7b").symlink_to(ROOT / "tests" / "fixtures" / "drawn_shapes")
    (root / "docs").mkdir()
    shutil.copytree(ROOT / "examples", root / "examples", ignore=shutil.ignore_patterns("__pycache__", "sample.mp4"))
    _first_frames(ROOT / "examples" / "sample.mp4", root / "examples" / "sample.mp4")
    for name in ("video.mp4", "swans.mp4"):
        shutil.copy(root / "examples" / "sample.mp4", root / name)
    _corpora(root / "data")
    for name, make in (("DATA", realdata), ("DATA/LaSOT", lasot)):
        (root / name).mkdir()
        make(root / name)
    for row in write_build(root / "build"):
        append_decision(root / "decisions.jsonl", said(row))
    _my_videos(root / "my_videos", ("a", "b", "c"))
    _my_videos(root / "held_out", ("d",))


def _first_frames(source: Path, target: Path) -> None:
    with av.open(str(source)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(NUM_FRAMES))]
    write_video(target, np.stack(frames), 10.0)


def _corpora(data: Path) -> None:
    for name, make in CORPORA.items():
        (data / name).mkdir(parents=True)
        make(data / name)
    for make in (miniatures.refcoco, miniatures.refcoco_plus, miniatures.refcocog):
        (data / "refer").mkdir(exist_ok=True)
        make(data / "refer")
    coco = data / "coco"
    shutil.copytree(data / "vqa", coco, ignore=shutil.ignore_patterns("*.json"))
    shutil.copytree(data / "refer" / "train2014", coco / "train2014", dirs_exist_ok=True)
    shutil.copytree(data / "videochat", data / "webvid", ignore=shutil.ignore_patterns("*.json"))
    shutil.unpack_archive(data / "ElysiumTrack-1M" / "packaged_results" / "group_aa.tar.gz", data / "ElysiumTrack-1M")


def _my_videos(folder: Path, names: tuple[str, ...]) -> None:
    """Videos of drawn shapes beside the boxes of one object in MOT's layout."""
    for index, name in enumerate(names):
        video = make_video(SyntheticConfig(size=280), "val", index, NUM_FRAMES)
        write_video(folder / f"{name}.mp4", video.frames, 10.0)
        boxes = np.asarray(video.record.objects[0].boxes) * 280
        rows = [
            f"{t + 1},1,{x + 1:.1f},{y + 1:.1f},{u - x:.1f},{v - y:.1f},1,1,1" for t, (x, y, u, v) in enumerate(boxes)
        ]
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
