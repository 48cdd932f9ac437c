"""ElysiumTrack for the library `datasets`: trajectories of objects in videos, with words for each (paper, section 3).

    from dataset_scripts.elysium_track.elysium_track import ElysiumTrack

    builder = ElysiumTrack(config_name="rsot", data_dir="build")    # any version of datasets
    builder.download_and_prepare()
    train = builder.as_dataset("train")                             # or builder.as_streaming_dataset("train")

    load_dataset("elysium_track.py", "rsot", data_dir="build", trust_remote_code=True)      # datasets before 4

The file imports none of ours, so that it can be copied beside data. `data_dir` is one of

    a build         *.parquet (or shards/*.parquet), rows of trajectories; their videos below it, or below `videos=`
    ElysiumTrack-1M ElysiumTrack-1M.json as the authors published it, with packaged_results/*.tar.gz or frames/ beside
                    it. A file with test or val500 in its name is the test split.

Configurations: `trajectories` are rows without frames; `sot` has frames and boxes, `rsot` an expression besides,
`video_reg` a description of the object. Boxes are x1, y1, x2, y2 relative to the frame; an empty list where the object
is not to be seen.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Optional

import datasets
import fsspec
import pyarrow.parquet as pq
from PIL import Image

__all__ = ["COLUMNS", "CONFIGS", "ElysiumTrack", "ElysiumTrackConfig", "evenly", "features_of", "jpeg", "task_row"]

CITATION = """@inproceedings{wang2024elysium,
  title={Elysium: Exploring Object-level Perception in Videos via MLLM},
  author={Wang, Han and Ye, Yongjie and Wang, Yanjie and Nie, Yuxiang and Huang, Can},
  booktitle={European Conference on Computer Vision}, year={2024}}"""
HOMEPAGE = "https://arxiv.org/abs/2403.16558"
RELEASED_LICENSE = "CC BY-NC 4.0; videos: WebVid's terms of use"
SPLITS = ("train", "validation", "test")
JPEG_QUALITY = 95
_LISTS = ("*.parquet", "shards/*.parquet", "trajectories/*.parquet", "*.json", "*.jsonl")
_ARCHIVES = ("packaged_results/*.tar*", "*.tar", "*.tar.gz", "*.tgz")

_BASE = ("id", "video_id", "source", "license", "width", "height", "frame_indices", "timestamps", "boxes", "presence")
COLUMNS: dict[str, tuple[str, ...]] = {
    "rsot": (*_BASE, "frames", "expression"),
    "sot": (*_BASE, "frames"),
    "video_reg": (*_BASE, "frames", "description"),
    "trajectories": (*_BASE, "video", "fps", "scores", "phrase", "caption", "provenance"),
}
CONFIGS = {
    "rsot": "an expression in, a box in every frame out",
    "sot": "the box in the first frame in, a box in every frame out",
    "video_reg": "the box in any frame in, a description out",
    "trajectories": "rows as the pipeline writes them, without frames",
}


def list_of(feature: Any) -> Any:
    """A list of a feature, which datasets before 4 called a sequence."""
    return datasets.List(feature) if hasattr(datasets, "List") else datasets.Sequence(feature)


def features_of(config: str) -> datasets.Features:
    """Return the columns of a configuration, in their order."""
    text, whole, real = datasets.Value("string"), datasets.Value("int32"), datasets.Value("float32")
    kinds = dict.fromkeys(("id", "video_id", "source", "license", "video", "phrase", "caption"), text)
    kinds |= {"provenance": text, "expression": text, "description": text, "width": whole, "height": whole}
    kinds |= {"fps": datasets.Value("float64"), "timestamps": list_of(datasets.Value("float64"))}
    kinds |= {"frame_indices": list_of(whole), "boxes": list_of(list_of(real)), "scores": list_of(real)}
    kinds |= {"presence": list_of(datasets.Value("bool")), "frames": list_of(datasets.Image())}
    return datasets.Features({name: kinds[name] for name in COLUMNS[config]})


@dataclass
class ElysiumTrackConfig(datasets.BuilderConfig):
    """What to read.

    Attributes:
        videos: folder that the rows' videos are relative to; the data folder where it is not given.
        max_frames: so many frames of a trajectory, evenly spread, at most; all of them where it is not given.
    """

    videos: Optional[str] = None  # noqa: UP045 - older versions of the library read these annotations
    max_frames: Optional[int] = None  # noqa: UP045


class ElysiumTrack(datasets.GeneratorBasedBuilder):
    """Reads a build of trajectories, or the authors' release; see the top of this file."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = ElysiumTrackConfig
    BUILDER_CONFIGS = [
        ElysiumTrackConfig(name=name, version=datasets.Version("1.0.0"), description=words)
        for name, words in CONFIGS.items()
    ]
    DEFAULT_CONFIG_NAME = "rsot"

    def _info(self) -> datasets.DatasetInfo:
        if self.config.name not in CONFIGS:
            raise ValueError(f"the configuration is {self.config.name!r}; choose one of {sorted(CONFIGS)}.")
        if self.config.max_frames is not None and self.config.max_frames < 1:
            raise ValueError(f"`max_frames`={self.config.max_frames}; give 1 or more, or leave it out.")
        return datasets.DatasetInfo(
            description=CONFIGS[self.config.name], citation=CITATION, homepage=HOMEPAGE,
            features=features_of(self.config.name),
        )  # fmt: skip

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        files = self._listed()
        tables = [name for name in files if name.endswith(".parquet")]
        if tables:
            tables = dl_manager.download(tables)
            found = _splits_of(tables)
            arguments: dict[str, dict[str, Any]] = {name: {"tables": tables, "split": name} for name in found}
        else:
            arguments = self._released(files, dl_manager)
        return [datasets.SplitGenerator(name=name, gen_kwargs=values) for name, values in arguments.items()]

    def _listed(self) -> list[str]:
        """Return the files with rows: those that were named, else those of the data folder.

        Raises:
            ValueError: there are none.
        """
        if self.config.data_files:
            named = self.config.data_files
            return [str(name) for names in named.values() for name in names]
        if not self.config.data_dir:
            raise ValueError("no data is named; pass data_dir=FOLDER with a build or with ElysiumTrack-1M.json.")
        for pattern in _LISTS:
            found = _glob(self.config.data_dir, pattern)
            if found:
                return found
        raise ValueError(
            f"data_dir={self.config.data_dir!r} holds no {', '.join(_LISTS)}; give the folder that the pipeline "
            "wrote, or the one with ElysiumTrack-1M.json."
        )

    def _released(self, files: Sequence[str], dl_manager: datasets.DownloadManager) -> dict[str, dict[str, Any]]:
        """Return the arguments of each split for the authors' layout."""
        home = self.config.videos or self.config.data_dir or str(PurePosixPath(files[0]).parent)
        archives: list[str] = []
        if self.config.name != "trajectories" and not _glob(home, "frames"):
            archives = [name for pattern in _ARCHIVES for name in _glob(home, pattern)]
            if not archives:
                raise ValueError(f"{home} holds neither frames/ nor packaged_results/*.tar.gz; the frames are there.")
        arguments: dict[str, dict[str, Any]] = {}
        for name in sorted(files):
            split = "test" if any(word in PurePosixPath(name).name for word in ("test", "val500")) else "train"
            values = arguments.setdefault(split, {"released": (), "home": home})
            values["released"] += (dl_manager.download(name),)  # a tuple: lists are what the library shards over
        for values in arguments.values():
            if archives:
                values["archives"] = tuple(dl_manager.iter_archive(path) for path in dl_manager.download(archives))
        return arguments

    def _generate_examples(
        self,
        tables: Sequence[str] = (),
        split: str = "train",
        released: Sequence[str] = (),
        home: str = "",
        archives: Sequence[Any] = (),
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in self._rows_of_tables(tables, split):
            yield row["id"], row
        for file in released:
            rows = (
                _released_from_archives(file, archives) if archives else _released_rows(file, home, self.config.name)
            )
            for row, frames in rows:
                positions = evenly(len(row["frame_indices"]), self.config.max_frames)
                yield row["id"], task_row(self.config.name, row, positions, [frames[i] for i in positions])

    def _rows_of_tables(self, tables: Sequence[str], split: str) -> Iterator[dict[str, Any]]:
        reader = _Frames(self.config.videos or self.config.data_dir or "")
        for file in tables:
            with open(file, "rb") as opened:
                for batch in pq.ParquetFile(opened).iter_batches(batch_size=64):
                    for row in batch.to_pylist():
                        if (row["split"] or "train") != split:
                            continue
                        positions = evenly(len(row["frame_indices"]), self.config.max_frames)
                        frames: list[bytes] = []
                        if self.config.name != "trajectories":
                            frames = reader.read(row["video"], [row["frame_indices"][i] for i in positions])
                        yield task_row(self.config.name, row, positions, frames)


def task_row(config: str, row: dict[str, Any], positions: Sequence[int], frames: Sequence[bytes]) -> dict[str, Any]:
    """Turn a trajectory into the row of a configuration.

    Args:
        config: its name.
        row: as `dataset_scripts/construction/rows.py` writes it; `description` where the words of Video-REG differ.
        positions: which of its frames to keep.
        frames: encoded pictures of these; not looked at for `trajectories`.
    """
    per_frame = ("frame_indices", "timestamps", "boxes", "presence", "scores")
    values = {**row, **{name: [row[name][i] for i in positions] if row.get(name) else [] for name in per_frame}}
    values["boxes"] = [[] if box is None else box for box in values["boxes"]]
    values["expression"], values["description"] = row["phrase"], row.get("description") or row["phrase"]
    values["frames"] = [{"bytes": frame, "path": None} for frame in frames]
    return {name: values[name] for name in COLUMNS[config]}


def evenly(count: int, most: int | None) -> list[int]:
    """Return `most` of `count` positions: the first, the last and others evenly between; all where there are fewer."""
    if most is None or count <= most:
        return list(range(count))
    if most == 1:
        return [0]
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def jpeg(picture: Image.Image, quality: int = JPEG_QUALITY) -> bytes:
    """Encode a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


class _Frames:
    """Frames of videos as JPEG, those of the last video kept: its trajectories follow each other."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.video, self.kept = "", {}  # type: str, dict[int, bytes]

    def read(self, video: str, indices: Sequence[int]) -> list[bytes]:
        """Return frames in the order of display; 0 is the first.

        Raises:
            ValueError: the video cannot be read, or ends before.
        """
        if video != self.video:
            self.video, self.kept = video, {}
        missing = sorted(set(indices) - set(self.kept))
        if missing:
            path = video if "://" in video or not self.root else f"{self.root.rstrip('/')}/{video}"
            self.kept.update(decode(path, missing))
        return [self.kept[index] for index in indices]


def decode(path: str, indices: Sequence[int]) -> dict[int, bytes]:
    """Decode frames of a video with PyAV, turned as the file says.

    Raises:
        ImportError: PyAV is missing.
        ValueError: the video cannot be read, or ends before the last index.
    """
    try:
        av = importlib.import_module("av")  # not imported above: configurations without frames do without it
    except ImportError as error:
        raise ImportError("frames of videos need PyAV: pip install av; or take the config trajectories.") from error
    wanted, found = set(indices), {}
    try:
        with fsspec.open(path, "rb") as file, av.open(file) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index in wanted:
                    picture = frame.to_image()
                    turn = getattr(frame, "rotation", 0)
                    found[index] = jpeg(picture.rotate(turn, expand=True) if turn else picture)
                    if len(found) == len(wanted):
                        break
    except (OSError, av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} cannot be read as a video: {error}.") from error
    if len(found) < len(wanted):
        raise ValueError(f"{path} ends before frame {max(wanted)}; the rows belong to another file of this name.")
    return found


def _glob(folder: str, pattern: str) -> list[str]:
    """Return the files of a local or remote folder that match, sorted, as addresses of the same kind."""
    system, root = fsspec.core.url_to_fs(str(folder))
    found = sorted(system.glob(f"{root.rstrip('/')}/{pattern}"))
    return found if "://" not in str(folder) else [system.unstrip_protocol(name) for name in found]


def _splits_of(tables: Sequence[str]) -> list[str]:
    """Return the splits that rows name; rows that name none are for training.

    Raises:
        ValueError: a split of another name.
    """
    names = set()
    for file in tables:
        with open(file, "rb") as opened:
            names |= {name or "train" for name in pq.read_table(opened, columns=["split"])["split"].to_pylist()}
    if names - set(SPLITS):
        raise ValueError(f"rows name the splits {sorted(names - set(SPLITS))}; allowed are {list(SPLITS)}.")
    return [name for name in SPLITS if name in names]


# --------------------------------------------------------------------------------------------------------------
# the authors' release
# --------------------------------------------------------------------------------------------------------------
Released = tuple[dict[str, Any], list[bytes]]


def _parse(line: bytes, where: str) -> tuple[dict[str, Any], list[str]] | None:
    """Return one line as a trajectory's row, and the names of its frames; None if boxes and frames do not match.

    Raises:
        ValueError: the line is not of the published form.
    """
    try:
        data = json.loads(line)
        frames, boxes, (width, height) = data["frames"], data["box"], data["frame_size"]
        if len(frames) != len(boxes) or not frames:
            return None
        stems = [PurePosixPath(name).stem for name in frames]
        row = {
            "id": f"{data['vid']}-{data['id']}", "video_id": str(data["vid"]), "source": "ElysiumTrack-1M",
            "license": RELEASED_LICENSE, "video": _folder(frames[0]), "fps": None,
            "width": int(width), "height": int(height), "timestamps": [], "scores": [],
            "frame_indices": [int(s) for s in stems] if all(s.isdigit() for s in stems) else list(range(len(stems))),
            "boxes": boxes, "presence": [bool(box) for box in boxes], "phrase": data["object_class"],
            "caption": data.get("object_description"), "description": data.get("object_description"),
            "provenance": json.dumps({"release": data.get("source")}),
        }  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} is no line of ElysiumTrack-1M ({error!r}); see the top of this script.") from None
    return row, frames


def _folder(name: str) -> str:
    return str(PurePosixPath(name).parent)


def _parsed_lines(file: str) -> Iterator[tuple[int, dict[str, Any], list[str]]]:
    """Yield the place of each usable line in the file, its row and its frames; how many are not is a warning."""
    unusable = []
    with open(file, "rb") as opened:
        position = 0
        for number, line in enumerate(opened, 1):
            parsed = _parse(line, f"{file}, line {number}") if line.strip() else None
            if parsed is not None:
                yield position, *parsed
            elif line.strip():
                unusable.append(number)
            position += len(line)
    if unusable:
        _warn(f"{len(unusable)} lines of {file} have other numbers of boxes than of frames (first: {unusable[0]}).")


def _warn(text: str) -> None:
    datasets.utils.logging.get_logger(__name__).warning(text)


def _released_rows(file: str, home: str, config: str) -> Iterator[Released]:
    """Read rows whose frames are files."""
    for _, row, names in _parsed_lines(file):
        frames = [b""] * len(names)
        if config != "trajectories":
            for position, name in enumerate(names):
                with fsspec.open(f"{home.rstrip('/')}/{name}", "rb") as opened:
                    frames[position] = opened.read()
        yield row, frames


def _released_from_archives(file: str, archives: Sequence[Any]) -> Iterator[Released]:
    """Read rows as the frames of their video have come by, each archive once from front to back.

    Frames of a video lie together in the archives; only those of one video, and of videos that are not whole yet, are
    in memory, besides the places of all lines.
    """
    places: dict[str, list[int]] = {}
    for position, row, _ in _parsed_lines(file):
        places.setdefault(row["video"], []).append(position)
    waiting: dict[str, dict[str, bytes]] = {}
    last = ""
    with open(file, "rb") as opened:
        for name, content in (member for archive in archives for member in archive):
            name = str(PurePosixPath(name))
            folder = _folder(name)
            if folder != last and last in places:
                yield from _complete(opened, places, waiting, last)
            last = folder
            if folder in places:
                waiting.setdefault(folder, {})[name] = content.read()
        if last in places:
            yield from _complete(opened, places, waiting, last)
    if places:
        _warn(
            f"{len(places)} videos of {file} are in none of the archives, or not whole (as {next(iter(places))}); "
            "left out. Download the missing packaged_results/*.tar.gz."
        )


def _complete(
    opened: BinaryIO, places: dict[str, list[int]], waiting: dict[str, dict[str, bytes]], folder: str
) -> Iterator[Released]:
    """Yield the rows of a video that have all their frames, and forget them."""
    frames, later = waiting[folder], []
    for position in places[folder]:
        opened.seek(position)
        parsed = _parse(opened.readline(), f"the line at byte {position}")
        if parsed is not None and all(name in frames for name in parsed[1]):
            yield parsed[0], [frames[name] for name in parsed[1]]
        else:
            later.append(position)
    if later:
        places[folder] = later
    else:
        del places[folder], waiting[folder]
