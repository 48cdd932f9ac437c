"""Synthetic videos as files: one H.264 mp4 per video and one line per record.

    python -m dataset_scripts.synthetic data/synthetic --split test --count 50

Videos that exist already are kept, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from tqdm import tqdm

from ..records import VideoRecord, write_json_lines, write_records
from .dataset import NATIVE_FPS, SPLITS, SyntheticClip, SyntheticConfig, make_video

__all__ = ["main", "write_dataset", "write_sample", "write_video"]

_QUALITY = "18"  # x264's CRF: visually lossless for these pictures


def write_video(path: str | os.PathLike[str], frames: np.ndarray, fps: float = NATIVE_FPS) -> None:
    """Write frames `(F, H, W, 3)` uint8 with even H and W as an H.264 mp4, whole or not at all.

    Raises:
        ValueError: odd height or width, which yuv420p cannot hold.
    """
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise ValueError(f"frames of {width} x {height} pixels cannot be written as yuv420p; choose an even size.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    try:
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {"crf": _QUALITY, "preset": "medium"}
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_dataset(
    folder: str | os.PathLike[str], config: SyntheticConfig, split: str, count: int, num_frames: int
) -> Path:
    """Write the first `count` videos of a split.

    Beside the records goes `<folder>/<split>/metadata.jsonl`, the same by file name, with which
    `datasets.load_dataset("videofolder", data_dir=folder)` gives each video its labels.

    Returns:
        The path of the records, `<folder>/<split>.jsonl`; their `video` is relative to it.
    """
    folder = Path(folder)
    records: list[VideoRecord] = []
    for index in tqdm(range(count), desc=split):
        clip = make_video(config, split, index, num_frames)
        record = clip.record
        record.video = f"{split}/{index:06d}.mp4"
        if not (folder / record.video).exists():
            write_video(folder / record.video, clip.frames, record.fps)
        records.append(record)
    path = folder / f"{split}.jsonl"
    write_json_lines(folder / split / "metadata.jsonl", (_labels(record) for record in records))
    write_records(path, records)
    return path


def _labels(record: VideoRecord) -> dict[str, Any]:
    """Return a record as a row of a video folder's `metadata.jsonl`."""
    row = record.to_json()
    return {"file_name": Path(row.pop("video")).name, **row}


def write_sample(stem: str | os.PathLike[str], clip: SyntheticClip) -> None:
    """Write `<stem>.mp4` and `<stem>.json`, its record with a line per object: the sample of the README."""
    stem = Path(stem)
    record = replace(clip.record, video=stem.with_suffix(".mp4").name)
    write_video(stem.with_suffix(".mp4"), clip.frames, record.fps)
    text = json.dumps(record.to_json()).replace('{"expression"', '\n {"expression"') + "\n"
    temporary = stem.with_suffix(".json.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, stem.with_suffix(".json"))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_scripts.synthetic",
        description="Write synthetic videos as mp4 files with a record of every object's box in every frame.",
        epilog="Example: python -m dataset_scripts.synthetic data/synthetic --split test --count 50",
    )
    parser.add_argument("folder", type=Path, help="output folder")
    parser.add_argument("--split", default="train", choices=sorted(SPLITS))
    parser.add_argument("--count", type=int, default=100, help="videos (default: %(default)s)")
    parser.add_argument("--num-frames", type=int, default=64, help="frames of each (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, default=140, help="width and height in pixels, even (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the dataset (default: %(default)s)")
    parser.add_argument(
        "--sample", type=int, metavar="INDEX", help="write only this video, as FOLDER/sample.mp4 and sample.json"
    )
    options = parser.parse_args(arguments)
    config = SyntheticConfig(seed=options.seed, size=options.size)
    if options.sample is not None:
        write_sample(options.folder / "sample", make_video(config, options.split, options.sample, options.num_frames))
    else:
        print(write_dataset(options.folder, config, options.split, options.count, options.num_frames))
