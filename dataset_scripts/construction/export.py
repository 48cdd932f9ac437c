"""`python -m dataset_scripts.construction.export FORMAT BUILD OUT`: a build in the layouts that other tools read.

elysium     SPLIT.jsonl and frames/VIDEO/000000.jpg, the authors' lines
lasot       CLASS/CLASS-N/{img,groundtruth.txt,full_occlusion.txt,out_of_view.txt,nlp.txt} and the lists of splits
mot         VIDEO/{img1,gt/gt.txt,seqinfo.ini}, one sequence per video
coco        SPLIT.json with videos, images, annotations with track_id; frames/VIDEO/000000.jpg
webdataset  SPLIT-000000.tar, a sample per frame: VIDEO_000000.jpg and its record of boxes and words, .json; with
            trajectories/, the rows that refer to these frames, it is a build without the videos
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import re
import shutil
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..records import ObjectTrack, VideoRecord, write_json_lines
from .builds import open_row, read_build
from .frame_tars import tar_address
from .rows import Trajectory, write_trajectories

__all__ = ["FORMATS", "export", "main", "make_parser"]

QUALITY = 95
FRAMES_PER_TAR = 5000
LASOT_LISTS = {"train": "training_set.txt", "validation": "validation_set.txt", "test": "testing_set.txt"}


def _name(text: str) -> str:
    """A name of the build as a name of a file."""
    return re.sub(r"[^\w-]+", "_", text).strip("_") or "x"


def _jpeg(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _frames(rows: Sequence[Trajectory], videos: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the frames that rows of one video annotate, by number, a few in memory at a time.

    Raises:
        ValueError: the video cannot be read, or ends before.
    """
    wanted = sorted({index for row in rows for index in row.frame_indices})
    with open_row(rows[0], videos) as video:
        for start in range(0, len(wanted), 16):
            indices = wanted[start : start + 16]
            frames = video.read(indices)
            if len(frames) < len(indices):
                raise ValueError(f"trajectory {rows[0].id!r}: {video.name} ends before frame {indices[-1]}.")
            yield from zip(indices, frames, strict=True)


def _write_frames(rows: Sequence[Trajectory], videos: Path, folder: Path, name: str, first: int = 0) -> None:
    folder.mkdir(parents=True)
    for index, frame in _frames(rows, videos):
        (folder / name.format(index + first)).write_bytes(_jpeg(frame))


def _boxes_xywh_px(row: Trajectory) -> np.ndarray:
    """Return (F, 4) left, top, width, height in pixels; NaN where the object is not there."""
    corners = np.where(row.presence[:, None], row.boxes, np.nan).astype(np.float64)
    corners = corners * (row.width, row.height, row.width, row.height)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def export_elysium(groups: Iterable[list[Trajectory]], videos: Path, out: Path) -> None:
    """Write the authors' lines; `box` is null in frames without the object, which the authors' data does not have."""
    lines: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for rows in groups:
        video = _name(rows[0].video_id)
        _write_frames(rows, videos, out / "frames" / video, "{:06d}.jpg")
        for number, row in enumerate(rows):
            lines[row.split or "train"].append(
                {"source": row.source, "id": number, "vid": video, "metadata": {"id": row.id, "license": row.license},
                 "frames": [f"frames/{video}/{index:06d}.jpg" for index in row.frame_indices],
                 "object_class": row.phrase, "object_description": row.phrase,
                 "box": [[round(float(v), 6) for v in b] if p else None
                         for b, p in zip(row.boxes, row.presence, strict=True)],
                 "frame_size": [row.width, row.height]}
            )  # fmt: skip
    for split, written in lines.items():
        write_json_lines(out / f"{split}.jsonl", written)


def export_lasot(groups: Iterable[list[Trajectory]], videos: Path, out: Path) -> None:
    """Write a sequence per trajectory; its class is the last word of the expression."""
    counts: Counter[str] = Counter()
    lists: defaultdict[str, list[str]] = defaultdict(list)
    for row in itertools.chain.from_iterable(groups):
        kind = _name(row.phrase.split()[-1].lower()).replace("-", "_")
        counts[kind] += 1
        sequence = f"{kind}-{counts[kind]}"
        folder = out / kind / sequence
        (folder / "img").mkdir(parents=True)
        for position, (_, frame) in enumerate(_frames([row], videos), 1):
            (folder / "img" / f"{position:08d}.jpg").write_bytes(_jpeg(frame))
        boxes = np.nan_to_num(_boxes_xywh_px(row))  # LaSOT writes zeros where nothing is to be seen
        text = "\n".join(",".join(f"{value:.3f}" for value in box) for box in boxes)
        (folder / "groundtruth.txt").write_text(text + "\n")
        (folder / "full_occlusion.txt").write_text(",".join(str(int(not there)) for there in row.presence) + "\n")
        (folder / "out_of_view.txt").write_text(",".join("0" for _ in row.presence) + "\n")
        (folder / "nlp.txt").write_text(row.phrase + "\n", encoding="utf-8")
        lists[row.split or "train"].append(sequence)
    for split, names in lists.items():
        (out / LASOT_LISTS[split]).write_text("\n".join(names) + "\n")


def export_mot(groups: Iterable[list[Trajectory]], videos: Path, out: Path) -> None:
    """Write a sequence per video; frames and pixels count from 1, as the MOT challenge does."""
    for rows in groups:
        folder = out / _name(rows[0].video_id)
        _write_frames(rows, videos, folder / "img1", "{:06d}.jpg", first=1)
        (folder / "gt").mkdir()
        lines = []
        for number, row in enumerate(rows, 1):
            for index, box in zip(row.frame_indices, _boxes_xywh_px(row), strict=True):
                if not np.isnan(box).any():
                    x, y, width, height = box
                    lines.append((index + 1, f"{number},{x + 1:.3f},{y + 1:.3f},{width:.3f},{height:.3f},1,1,1"))
        text = "".join(f"{frame},{rest}\n" for frame, rest in sorted(lines))
        (folder / "gt" / "gt.txt").write_text(text)
        last = max(index for row in rows for index in row.frame_indices) + 1
        (folder / "seqinfo.ini").write_text(
            f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate={rows[0].fps or 25:g}\nseqLength={last}\n"
            f"imWidth={rows[0].width}\nimHeight={rows[0].height}\nimExt=.jpg\n"
        )


def export_coco(groups: Iterable[list[Trajectory]], videos: Path, out: Path) -> None:
    """Write COCO with videos: annotations carry `track_id`, `expression` and `score`."""
    data: defaultdict[str, dict[str, list[dict[str, Any]]]] = defaultdict(
        lambda: {"videos": [], "images": [], "annotations": [], "categories": [{"id": 1, "name": "object"}]}
    )
    for rows in groups:
        split = data[rows[0].split or "train"]
        name, video = _name(rows[0].video_id), len(split["videos"]) + 1
        _write_frames(rows, videos, out / "frames" / name, "{:06d}.jpg")
        size = {"width": rows[0].width, "height": rows[0].height}
        split["videos"].append({"id": video, "name": name, **size})
        images: dict[int, int] = {}
        for index in sorted({index for row in rows for index in row.frame_indices}):
            images[index] = len(split["images"]) + 1
            split["images"].append(
                {"id": images[index], "video_id": video, "frame_id": index, **size,
                 "file_name": f"frames/{name}/{index:06d}.jpg"}
            )  # fmt: skip
        for number, row in enumerate(rows, 1):
            for index, box in zip(row.frame_indices, _boxes_xywh_px(row), strict=True):
                if not np.isnan(box).any():
                    split["annotations"].append(
                        {"id": len(split["annotations"]) + 1, "image_id": images[index], "video_id": video,
                         "track_id": video * 1000 + number, "category_id": 1, "iscrowd": 0,
                         "bbox": [round(float(value), 3) for value in box], "area": round(float(box[2] * box[3]), 3),
                         "expression": row.phrase}
                    )  # fmt: skip
    for name, content in data.items():
        (out / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def export_webdataset(groups: Iterable[list[Trajectory]], videos: Path, out: Path) -> None:
    """Write tars of frames; the records are what `dataset_scripts.streams.TarStream` trains from.

    A video's frames stay in one tar. The rows of each tar are written beside it, with their frames counted in it, so
    that the folder is a build that can be published, reviewed and exported without the videos.
    """
    shards: dict[str, _TarShard] = {}
    counts: Counter[str] = Counter()
    taken: set[str] = set()
    try:
        for rows in groups:
            split = rows[0].split or "train"
            shard = shards.get(split)
            if shard is not None and shard.num_frames >= FRAMES_PER_TAR:
                shards.pop(split).close()
            if split not in shards:
                shards[split] = _TarShard(out, f"{split}-{counts[split]:06d}")
                counts[split] += 1
            name = _name(rows[0].video_id)
            while name in taken:
                name += "-x"
            taken.add(name)
            shards[split].add(rows, name, videos)
        for shard in shards.values():
            shard.close()
    finally:
        for shard in shards.values():
            shard.tar.close()


class _TarShard:
    """One tar and the rows of its frames."""

    def __init__(self, out: Path, stem: str) -> None:
        self.out, self.stem, self.num_frames = out, stem, 0
        out.mkdir(parents=True, exist_ok=True)
        self.rows: list[Trajectory] = []
        self.tar = tarfile.open(out / f"{stem}.tar", "w")  # noqa: SIM115 - closed by `close`

    def add(self, rows: list[Trajectory], name: str, videos: Path) -> None:
        """Write the frames of a video, each with its record."""
        places: dict[int, int] = {}
        for index, frame in _frames(rows, videos):
            key, places[index] = f"{name}_{index:06d}", len(places)
            record = json.dumps(_record(key, rows, index).to_json(), ensure_ascii=False).encode()
            for ending, content in ((".jpg", _jpeg(frame)), (".json", record)):
                info = tarfile.TarInfo(key + ending)
                info.size = len(content)
                self.tar.addfile(info, io.BytesIO(content))
        self.num_frames += len(places)
        every = list(places) == list(range(min(places), max(places) + 1))
        self.rows += [
            replace(
                row, video=tar_address(f"{self.stem}.tar", f"{name}_"), fps=row.fps if every else None,
                frame_indices=[places[index] for index in row.frame_indices],
            )
            for row in rows
        ]  # fmt: skip

    def close(self) -> None:
        """End the tar and write the rows."""
        self.tar.close()
        write_trajectories(self.out / "trajectories" / f"{self.stem}.parquet", self.rows)


def _record(key: str, rows: Sequence[Trajectory], index: int) -> VideoRecord:
    """Return what is known of one frame."""
    tracks = []
    for row in rows:
        if index in row.frame_indices and row.presence[row.frame_indices.index(index)]:
            box = row.boxes[row.frame_indices.index(index)]
            tracks.append(ObjectTrack(boxes=box[None], expression=row.phrase, attributes={"id": row.id}))
    first = rows[0]
    return VideoRecord(
        id=key, source=first.source, license=first.license, width=first.width, height=first.height,
        frame_indices=[0], objects=tracks, metadata={"video_id": first.video_id, "frame": index},
    )  # fmt: skip


FORMATS: dict[str, Callable[[Iterable[list[Trajectory]], Path, Path], None]] = {
    "elysium": export_elysium,
    "lasot": export_lasot,
    "mot": export_mot,
    "coco": export_coco,
    "webdataset": export_webdataset,
}


def export(kind: str, build: str | os.PathLike[str], videos: str | os.PathLike[str], out: Path) -> None:
    """Write a build in another layout; `out` appears when all of it is written.

    Raises:
        ValueError: unknown layout, `out` exists, or a row or its video cannot be read.
    """
    if kind not in FORMATS:
        raise ValueError(f"`kind` is {kind!r}; choose one of {sorted(FORMATS)}.")
    if out.exists():
        raise ValueError(f"{out} exists and is not overwritten; give a new folder.")
    part = out.with_name(out.name + ".partial")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    rows = tqdm(read_build(build), desc=kind, unit=" trajectories", disable=None)
    groups = (list(group) for _, group in itertools.groupby(rows, key=lambda row: (row.video_id, row.video)))
    try:
        FORMATS[kind](groups, Path(videos), part)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_scripts.construction.export",
        description=__doc__,
        epilog="Example: python -m dataset_scripts.construction.export lasot build out/lasot",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("format", choices=sorted(FORMATS), help="layout to write")
    parser.add_argument("build", type=Path, metavar="BUILD", help="folder (or parquet file) that the pipeline wrote")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make; it must not exist")
    parser.add_argument("--videos", type=Path, metavar="FOLDER", help="where the videos are (default: BUILD)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: 0, or 2 for arguments or data that are wrong."""
    options = make_parser().parse_args(arguments)
    videos = options.videos or (options.build if options.build.is_dir() else options.build.parent)
    try:
        export(options.format, options.build, videos, options.out)
        print(options.out)
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
