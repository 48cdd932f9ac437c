"""The four VideoQA benchmarks: a list of questions, and the folder of videos.

- MSVD-QA, MSRVTT-QA: `SPLIT_qa.json` or `qa_SPLIT.json`, a list of {answer, id, question, video_id}; videos are
  `vid<ID>` (MSVD, or the YouTube name that `youtube_mapping.txt` gives) and `video<ID>` (MSRVTT).
- TGIF-QA: `SPLIT_frameqa_question.csv`, separated by tabs (gif_name, question, answer, ...); `GIF_NAME.gif`.
- ActivityNet-QA: `SPLIT_q.json` and `SPLIT_a.json`, joined by `question_id`; `v_VIDEO_NAME.mp4` or `.mkv`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .items import VideoQuestion

VIDEO_ENDINGS = {".mp4", ".mkv", ".avi", ".webm", ".mov", ".gif", ".mpg"}


def read(root: Path, split: str, dataset: str) -> list[VideoQuestion]:
    """Read the questions of a split.

    Args:
        root: folder with the lists and, anywhere below it, the videos.
        split: "test" or "val".
        dataset: "msvd", "msrvtt", "tgif" or "activitynet".

    Raises:
        ValueError: a list is missing or not what it should be, a question without answer, or a video that is missing.
    """
    rows = {"msvd": _ms, "msrvtt": _ms, "tgif": _tgif, "activitynet": _activitynet}[dataset](root, split)
    names = {"msvd": lambda v: f"vid{v}", "msrvtt": lambda v: f"video{v}", "activitynet": lambda v: f"v_{v}"}
    video_of = _videos(root, names.get(dataset, str))
    return [
        VideoQuestion(name=str(key), video=video_of(video), question=question, answer=str(answer), kind=str(kind))
        for key, video, question, answer, kind in rows
    ]


def _videos(root: Path, name_of: Callable[[Any], str]) -> Callable[[Any], str]:
    """A function from the number or name of a video to its path."""
    found = {path.stem: str(path) for path in sorted(root.rglob("*")) if path.suffix.lower() in VIDEO_ENDINGS}
    mapping = root / "youtube_mapping.txt"
    if mapping.is_file():
        for line in mapping.read_text(encoding="utf-8").splitlines():
            stem, _, number = line.strip().partition(" ")
            if stem in found:
                found.setdefault(number.strip(), found[stem])

    def find(video: Any) -> str:
        name = name_of(video)
        if name not in found and str(video) not in found:
            raise ValueError(f"video {name!r} is not below {root}; endings looked for: {sorted(VIDEO_ENDINGS)}.")
        return found.get(name) or found[str(video)]

    return find


def _first(root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).is_file():
            return root / name
    raise ValueError(f"{root} has no {' nor '.join(names)}; see docs/evaluate.md for the layout.")


def _json(path: Path, keys: set[str]) -> list[dict[str, Any]]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    for row in rows:
        if not keys <= set(row):
            raise ValueError(f"{path}: {row!r} lacks {sorted(keys - set(row))}.")
    return rows


def _ms(root: Path, split: str) -> Iterable[tuple[Any, ...]]:
    path = _first(root, f"{split}_qa.json", f"qa_{split}.json")
    for row in _json(path, {"answer", "id", "question", "video_id"}):
        yield row["id"], row["video_id"], row["question"], row["answer"], row["question"].split(" ")[0].lower()


def _tgif(root: Path, split: str) -> Iterable[tuple[Any, ...]]:
    path = _first(root, f"{split.capitalize()}_frameqa_question.csv", f"{split}_frameqa_question.csv")
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        if not {"gif_name", "question", "answer"} <= set(reader.fieldnames or ()):
            raise ValueError(f"{path} has the columns {reader.fieldnames}; needed: gif_name, question, answer.")
        for number, row in enumerate(reader):
            yield number, row["gif_name"], row["question"], row["answer"], row.get("type") or ""


def _activitynet(root: Path, split: str) -> Iterable[tuple[Any, ...]]:
    questions = _json(_first(root, f"{split}_q.json"), {"video_name", "question", "question_id"})
    answers = _json(_first(root, f"{split}_a.json"), {"answer", "question_id"})
    by_id = {row["question_id"]: row for row in answers}
    missing = [row["question_id"] for row in questions if row["question_id"] not in by_id]
    if missing:
        raise ValueError(f"{len(missing)} questions have no answer in {split}_a.json, the first is {missing[0]!r}.")
    for row in questions:
        answer = by_id[row["question_id"]]
        yield row["question_id"], row["video_name"], row["question"], answer["answer"], answer.get("type", "")
