"""Videos whose truth is known, for `benchmarks/data_engine.py`, and a grounder and a tracker that know it.

Drawn: captioned mp4s of drawn shapes; in one of five the scene jumps in time in the middle, so that a real tracker
loses its object or goes over to another; every caption also names a plural, a virtual word and a thing that is not
there. Beside them broken files. Real: the sequences of a folder in the form of `records.jsonl` (frames in tars, boxes,
words).

The oracle knows a frame by the digest of its decoded pixels. As grounder it gives the true box, a little off. As
tracker it follows the truth, a little off, with the fault that the truth plans for the object.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import time
from collections import defaultdict
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
from tqdm import tqdm

from dataset_scripts.construction import process
from dataset_scripts.construction.backends import make
from dataset_scripts.construction.config import BackendConfig
from dataset_scripts.construction.protocols import Detections
from dataset_scripts.synthetic.dataset import SyntheticConfig, make_video
from dataset_scripts.synthetic.language import is_unique
from dataset_scripts.synthetic.write import write_video
from processing_elysium.boxes import iou
from processing_elysium.frames import open_video

__all__ = [
    "FAULTS",
    "OracleGrounder",
    "PlantedTrackers",
    "Still",
    "backend",
    "bare",
    "draw_set",
    "wrap_real",
    "read_truth",
    "tracks_of",
]

TRUTH = "truth.jsonl"
FAULTS = ("none", "drift", "jump", "switch", "excursion")
SHARES = (0.5, 0.15, 0.1, 0.15, 0.1)
OFF = 0.04  # of the oracle's boxes: standard deviation of each corner, in sides of the box
# Those that the paper prints, and others, in the lists of `words.py` or not: the report says which.
VIRTUAL = (
    "time", "love", "the wind", "justice", "nostalgia", "the tradition", "happiness", "the sunset", "adventure",
    "the weather", "gravity", "the rhythm", "elegance", "the atmosphere", "freedom", "the ceremony",
)  # fmt: skip
PLURALS = ("two dogs", "people", "the family", "many birds", "several children", "a group of friends", "some trees",
           "three old men", "a crowd", "both hands", "a flock of sheep", "a couple", "women", "a pair of shoes",
           "the audience", "a dozen eggs")  # fmt: skip
MISSING = ("a bicycle", "the white horse", "a young woman", "a wooden chair", "an old car", "the black dog")
TEMPLATES = (
    "{a} and {b} are near {plural}, with {virtual} and {missing}.",
    "{missing} is beside {a} while {b} passes {plural}: {virtual}.",
    "In a video about {virtual}, {a} meets {b}, {plural} and {missing}.",
)


def bare(phrase: str) -> str:
    """Return a phrase in lower case without its article."""
    words = phrase.lower().split()
    return " ".join(words[1:] if words and words[0] in ("a", "an", "the") else words)


def tracks_of(row: dict[str, Any], phrase: str) -> list[int]:
    """Return the tracks that a phrase names: by all its words, or as the head of a longer description."""
    words = bare(phrase)
    return next((which for text, which in row["phrases"].items() if f"{text} ".startswith(f"{words} ")), [])


def read_truth(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of a set: id, video, caption, phrases (words -> tracks), tracks, faults, frames (digests)."""
    return [json.loads(line) for line in (Path(folder) / TRUTH).read_text().splitlines()]


def draw_set(folder: Path, videos: int, seed: int, size: int = 140) -> None:
    """Draw captioned videos and a tenth as many broken files; a set that is there stays."""
    if (folder / TRUTH).exists():
        return
    rows = [_draw(folder, number, seed, size) for number in tqdm(range(videos), desc="drawing")]
    _write_truth(folder, rows + [_break(folder, rows[number], number) for number in range(videos // 10)])


def _draw(folder: Path, number: int, seed: int, size: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, number])
    length, cut = int(rng.integers(16, 29)), None
    places = np.arange(length)
    if number % 5 == 4:
        cut = int(rng.integers(length // 3, 2 * length // 3))
        places[cut:] += 40
    clip = make_video(SyntheticConfig(seed=seed, size=size), "test", number, int(places[-1]) + 1)
    looks = [(o.attributes["size"], o.attributes["texture"], o.attributes["colour"], o.attributes["shape"])
             for o in clip.record.objects]  # fmt: skip
    named = [item.look for item in clip.scene.objects]  # those that hide may not share the words either
    tracks, phrases = [], {}
    for track, look in zip(clip.record.objects[:2], looks, strict=False):
        words = next(w for w in ((3,), (2, 3), (0, 2, 3), (0, 1, 2, 3)) if is_unique(look, _others(named, look), w))
        phrases["the " + " ".join(look[i] for i in words)] = [len(tracks)]
        gone = track.absent[places]
        tracks.append([None if g else b.tolist() for b, g in zip(track.clipped_boxes[places], gone, strict=True)])
    names = [*phrases, "the background"]
    caption = TEMPLATES[number % 3].format(
        a=names[0], b=names[1], plural=PLURALS[number % len(PLURALS)], missing=MISSING[number % len(MISSING)],
        virtual=VIRTUAL[number % len(VIRTUAL)],
    )  # fmt: skip
    name = f"drawn-{number:04d}"
    write_video(folder / f"{name}.mp4", clip.frames[places])
    return _row(folder, f"{name}.mp4", caption[0].upper() + caption[1:], phrases, tracks, rng, cut)


def _others(looks: list[tuple[str, ...]], look: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [other for other in looks if other != look]


def _row(
    folder: Path, name: str, caption: str, phrases: dict[str, list[int]], tracks: list[Any],
    rng: np.random.Generator, cut: int | None,
) -> dict[str, Any]:  # fmt: skip
    with open_video(folder / name) as video:
        frames = [_digest(frame) for frame in video.read(range(len(tracks[0])))]
    faults = [_plan(rng, len(frames), cut, len(tracks)) for _ in tracks]
    return {"id": Path(name).stem, "video": name, "caption": caption, "tracks": tracks, "faults": faults,
            "phrases": {bare(text): which for text, which in phrases.items()}, "frames": frames}  # fmt: skip


def _plan(rng: np.random.Generator, length: int, cut: int | None, objects: int) -> dict[str, Any]:
    """Plan what goes wrong with an object: from which frame on, in which direction, at what pace (sides per frame)."""
    kind = str(rng.choice(FAULTS, p=SHARES))
    if kind == "switch" and objects < 2:
        kind = "jump"
    earliest = max(2, length // 6)
    start = int(rng.integers(earliest, max(length // 2 - 3, earliest + 1)))
    angle, far = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(1.0, 2.0))
    if cut is not None:
        kind, start = "stays", cut
    return {"kind": kind, "start": start, "angle": angle, "far": far, "pace": float(rng.uniform(0.08, 0.2))}


def _break(folder: Path, row: dict[str, Any], number: int) -> dict[str, Any]:
    """Write a file that is cut short, empty, no video or one frame long, or name one that is missing."""
    kind = ("cut_short", "empty", "no_video", "one_frame", "missing")[number % 5]
    name = f"broken-{number:04d}"
    path, whole = folder / f"{name}.mp4", (folder / row["video"]).read_bytes()
    if kind == "one_frame":
        write_video(path, np.full((1, 64, 64, 3), 90, np.uint8))
    elif kind != "missing":
        path.write_bytes({"cut_short": whole[: len(whole) // 2], "empty": b"", "no_video": b"words " * 99}[kind])
    return {"id": name, "video": path.name, "caption": row["caption"], "tracks": [], "faults": [], "phrases": {},
            "frames": [], "broken": kind}  # fmt: skip


def wrap_real(folder: Path, data: Path, seed: int) -> None:
    """Put the frames of every clip of `data` that has words into an avi, with a caption of these words.

    The frames stay the JPEG files that they are (Motion JPEG). A set that is there stays.
    """
    if (folder / TRUTH).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    clips, done = defaultdict(list), []
    for line in (data / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "video" and record["words"]:
            clips[record["clip"]].append(record)
    for name, records in tqdm(sorted(clips.items()), desc="real videos"):
        _wrap(folder / f"{name}.avi", data, records[0])
        phrases = defaultdict(list)
        for number, record in enumerate(records):
            phrases[record["description"] or f"a {record['words'][0]}"].append(number)
        caption = f"{' and '.join(phrases)} can be seen."
        tracks = [record["boxes"] for record in records]
        rng = np.random.default_rng([seed, len(done)])
        done.append(_row(folder, f"{name}.avi", caption[0].upper() + caption[1:], phrases, tracks, rng, None))
    _write_truth(folder, done)


def _wrap(path: Path, data: Path, record: dict[str, Any]) -> None:
    with tarfile.open(data / record["shard"]) as tar, av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = record["width"], record["height"], "yuvj420p"
        for number in range(record["n_frames"]):
            member = tar.extractfile(record["frames"] % number)
            packet = av.Packet(member.read() if member else b"")
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 25), number, number
            packet.is_keyframe = True
            container.mux(packet)


def _write_truth(folder: Path, rows: list[dict[str, Any]]) -> None:
    with (folder / "videos.jsonl").open("w") as file:
        file.writelines(json.dumps({key: row[key] for key in ("id", "video", "caption")}) + "\n" for row in rows)
    (folder / f"{TRUTH}.part").write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.replace(folder / f"{TRUTH}.part", folder / TRUTH)


def _digest(frame: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(frame), digest_size=10).hexdigest()


@cache
def _oracle(folder: str) -> tuple[list[dict[str, Any]], dict[str, tuple[int, int]]]:
    """Return the truth, and digest of a frame -> its video and place."""
    rows = read_truth(folder)
    return rows, {text: (n, f) for n, row in enumerate(rows) for f, text in enumerate(row["frames"])}


def _nearly(box: list[float], seed: list[int]) -> np.ndarray:
    true = np.array(box)
    side = np.sqrt(max((true[2] - true[0]) * (true[3] - true[1]), 1e-6))
    near = true + OFF * side * np.random.default_rng(seed).standard_normal(4)
    return np.concatenate([np.minimum(near[:2], near[2:] - 1e-3), np.maximum(near[2:], near[:2] + 1e-3)])


class OracleGrounder:
    """See `Grounder`; knows the truth of a set."""

    def __init__(self, truth: str) -> None:
        self._rows, self._places = _oracle(truth)

    def ground(self, frames: list[np.ndarray], phrases: list[str]) -> list[Detections]:
        """Return the true box, a little off, with confidence 0.9; nothing where the thing is not there."""
        return [self._find(frame, phrase) for frame, phrase in zip(frames, phrases, strict=True)]

    def _find(self, frame: np.ndarray, phrase: str) -> Detections:
        number, place = self._places[_digest(frame)]
        row = self._rows[number]
        for which in tracks_of(row, phrase):
            if row["tracks"][which][place] is not None:
                near = _nearly(row["tracks"][which][place], [number, place, which, 1])
                return Detections.sorted([near], [0.9])
        return Detections.sorted([], [])


class PlantedTrackers:
    """See `StepTrackers`; each follows the truth of a set until the fault that is planned begins."""

    def __init__(self, truth: str) -> None:
        self._truth = truth

    def new(self) -> _PlantedTracker:
        """Return a tracker of one object."""
        return _PlantedTracker(*_oracle(self._truth))


class _PlantedTracker:
    """See `StepTracker`."""

    def __init__(self, rows: list[dict[str, Any]], places: dict[str, tuple[int, int]]) -> None:
        self._rows, self._places = rows, places

    def init(self, frame: np.ndarray, box: np.ndarray) -> None:
        """Find out which object it is."""
        self._number, place = self._places[_digest(frame)]
        row = self._rows[self._number]
        overlaps = [float(iou(box, np.array(track[place]))) if track[place] else -1.0 for track in row["tracks"]]
        self._which = int(np.argmax(overlaps))
        self._fault, self._last = row["faults"][self._which], np.asarray(box)

    def update(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        """Follow the truth, or go wrong as planned."""
        place = self._places[_digest(frame)][1]
        tracks, kind, since = self._rows[self._number]["tracks"], self._fault["kind"], place - self._fault["start"]
        true = tracks[self._which][place]
        if kind == "switch" and since >= 0:
            true = tracks[1 - self._which if len(tracks) == 2 else (self._which + 1) % len(tracks)][place] or true
        if true is None or (kind == "stays" and since >= 0):
            return self._last, 0.95  # as trackers do when the object is gone: they stay
        box = _nearly(true, [self._number, place, self._which, 2])
        away = {"drift": max(since, 0) * self._fault["pace"], "jump": self._fault["far"] * (since >= 0),
                "excursion": self._fault["far"] * (0 <= since < 4)}.get(kind, 0.0)  # fmt: skip
        side = np.sqrt((box[2] - box[0]) * (box[3] - box[1]))
        shift = away * side * np.array([np.cos(self._fault["angle"]), np.sin(self._fault["angle"])])
        self._last = box + np.tile(shift, 2)
        return self._last, 0.95


class Still:
    """A grounder that finds all in one place, and trackers that stay there."""

    def ground(self, frames: list[np.ndarray], phrases: list[str]) -> list[Detections]:
        """See `Grounder`."""
        return [Detections.sorted([[0.2, 0.2, 0.6, 0.6]], [0.9]) for _ in frames]

    def new(self) -> Still:
        """See `StepTrackers`."""
        return Still()

    def init(self, frame: np.ndarray, box: np.ndarray) -> None:
        """See `StepTracker`."""
        self._box = box

    def update(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        """See `StepTracker`."""
        return self._box, 0.95


def backend(role: str, kind: str, options: dict[str, Any]) -> Any:
    """Make a backend of this file or of the pipeline in a worker.

    The stages' clock becomes the worker's processor time, which other work on the machine hardly touches.
    """
    process.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[assignment]
    if kind in ("oracle", "planted"):
        return OracleGrounder(**options) if kind == "oracle" else PlantedTrackers(**options)
    table = make.GROUNDERS if role == "grounder" else make.TRACKERS
    return make._make(role, table, BackendConfig(kind, options), "cpu", 0)
