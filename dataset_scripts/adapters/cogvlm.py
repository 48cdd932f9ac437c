"""CogVLM-SFT-311K: 156 K pictures with a description or a conversation, in English and in Chinese.

From https://huggingface.co/datasets/THUDM/CogVLM-SFT-311K (`CogVLM-SFT-311K.zip`, unpacked). The layout:

    llava_details-minigpt4_3500_formate/images/00000001.jpg
    llava_details-minigpt4_3500_formate/labels_en/00000001.json   {"captions": [{"role": "caption", "content": "..."}]}
    llava_instruction_multi_conversation_formate/...              {"conversations": [{"role": "user", "content": "."},
    llava_instruction_single_conversation_formate/...               {"role": "assistant", "content": "."}, ...]}

The dataset card shows one folder `labels`, which holds one language; the 311 K of the name are both, in `labels_en`
and `labels_zh` (from memory of the authors' fine-tuning code, not verified). All three names are read, whatever the
folders around them are called. A description gets a question of ours. `--split en` or `zh` reads one language, `all`
both; labels in a folder without language count as English. Tasks: chat, vqa.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ..records import VideoRecord
from .common import Pictures, Reading, Skip, records_of, turns

SPLITS = ("all", "en", "zh")
SOURCE = "CogVLM-SFT-311K"
LICENSE = "CC BY-NC 4.0"
_LABELS = {"labels": "en", "labels_en": "en", "labels_zh": "zh"}
_QUESTION = {"en": "Describe this picture in detail.", "zh": "请详细描述这张图片。"}


def read(path: Path, reading: Reading) -> Iterator[VideoRecord]:
    """One record per label file; see the top of this file for the layout."""
    folders = sorted(folder for name in _LABELS for folder in path.rglob(name) if folder.is_dir())
    wanted = [folder for folder in folders if reading.split in ("all", _LABELS[folder.name])]
    if not wanted:
        raise ValueError(
            f"{path} holds no folder named {', '.join(_LABELS)} for the split {reading.split!r}; give the folder that "
            "CogVLM-SFT-311K.zip was unpacked into."
        )

    def convert(name: str, label: Path) -> Iterator[VideoRecord]:
        language, part = _LABELS[label.parent.name], label.parent.parent
        try:
            data = json.loads(label.read_text(encoding="utf-8"))
        except ValueError:
            raise Skip("label file is no JSON") from None
        if "captions" in data:
            pairs = [(_QUESTION[language], data["captions"][0]["content"])]
        else:
            said = data["conversations"]
            if [turn["role"] for turn in said] != ["user", "assistant"] * (len(said) // 2):
                raise Skip("questions and answers do not take turns")
            texts = [turn["content"] for turn in said]
            pairs = list(zip(texts[::2], texts[1::2], strict=True))
        root = reading.images or part / "images"
        video, (width, height) = _picture(Pictures(root), label.stem)
        yield VideoRecord(
            id=name, source=SOURCE, license=LICENSE, video=video, width=width, height=height, frame_indices=[0],
            messages=turns(pairs), metadata={"language": language},
        )  # fmt: skip

    labels = (label for folder in wanted for label in sorted(folder.glob("*.json")))
    names = ((f"{label.parent.parent.name}/{label.parent.name}/{label.stem}", label) for label in labels)
    return records_of(names, convert, reading.skipped)


def _picture(pictures: Pictures, stem: str) -> tuple[str, tuple[int, int]]:
    for ending in (".jpg", ".png", ".jpeg"):
        if (pictures.folders[0] / (stem + ending)).is_file():
            return pictures.find(stem + ending)
    raise Skip("picture not found")
