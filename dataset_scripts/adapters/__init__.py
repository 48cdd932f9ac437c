"""Published corpora and your own annotations, read in the format they come in and given as records.

One module per corpus, found by name and imported only when it is read:

    from dataset_scripts.adapters import open_corpus
    for record in open_corpus("refcoco", "data/refer"): ...

`python -m dataset_scripts.adapters --help` does the same on the command line. Every module documents the layout that
it reads at its top and has `SPLITS` (the first one is read where none is named; empty where the corpus has none) and
`read(path, reading)`, an iterator over records.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from ..records import VideoRecord
from .common import Reading, Skipped

__all__ = ["ADAPTERS", "Reading", "Skipped", "load_adapter", "open_corpus"]

# name -> (module, what it is)
ADAPTERS: dict[str, tuple[str, str]] = {
    "llava-558k": ("llava", "captions of 558 K pictures as conversations (LLaVA-Pretrain)"),
    "grit-20m": ("grit", "phrases of captions with boxes, WebDataset tars (Kosmos-2)"),
    "cogvlm-sft-311k": ("cogvlm", "descriptions and conversations, English and Chinese (CogVLM)"),
    "coco-vqa": ("coco_vqa", "questions on COCO pictures (VQA v2)"),
    "gqa": ("gqa", "questions and scene graphs on Visual Genome pictures"),
    "visual7w": ("visual7w", "questions answered in words (telling) or by a box (pointing)"),
    "flickr30k": ("flickr30k", "captions whose phrases have boxes (Flickr30k Entities)"),
    "visual-genome": ("visual_genome", "described regions and named objects"),
    "refcoco": ("refcoco", "expressions for one object in a COCO picture"),
    "refcoco+": ("refcoco_plus", "the same without words for places"),
    "refcocog": ("refcocog", "the same in longer sentences"),
    "videochat": ("videochat", "descriptions of and conversations about videos (VideoChat-11K)"),
    "elysiumtrack-1m": ("elysium_track", "one object followed through each video, with words (the paper's own)"),
    "my-boxes": ("my_boxes", "your own videos and pictures: MOT, COCO, Label Studio or CVAT exports"),
}


HUB = "hf://"


def load_adapter(name: str) -> ModuleType:
    """Import the module of a corpus.

    Raises:
        ValueError: there is no adapter of this name.
    """
    if name not in ADAPTERS:
        raise ValueError(f"there is no adapter {name!r}; choose one of {', '.join(ADAPTERS)}.")
    return importlib.import_module(f"{__name__}.{ADAPTERS[name][0]}")


def open_corpus(name: str, path: str | os.PathLike[str], reading: Reading | None = None) -> Iterator[VideoRecord]:
    """Read a corpus, record by record.

    Args:
        name: a key of `ADAPTERS`.
        path: its folder (or, where the module says so, a file). `hf://OWNER/NAME` is a data set of the Hub, which is
            downloaded into the Hub's cache unless it is there.
        reading: split, folder of pictures and where skipped items are counted.

    Yields:
        Records whose `video` is `path` joined with what the annotation names.

    Raises:
        ValueError: unknown name or split, or the path does not hold the corpus; the message says what is missing.
    """
    adapter = load_adapter(name)
    path = _downloaded(os.fspath(path)) if os.fspath(path).startswith(HUB) else Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist; give the folder of {name} (working folder: {os.getcwd()}).")
    reading = Reading() if reading is None else reading
    if reading.split is not None and reading.split not in adapter.SPLITS:
        choice = f"choose one of {', '.join(adapter.SPLITS)}" if adapter.SPLITS else "this corpus has none"
        raise ValueError(f"split {reading.split!r} of {name}: {choice}.")
    if reading.split is None and adapter.SPLITS:
        reading = replace(reading, split=adapter.SPLITS[0])
    yield from adapter.read(path, reading)


def _downloaded(address: str) -> Path:
    """The folder of a data set of the Hub.

    Raises:
        ValueError: there is no such data set, or the Hub cannot be reached.
    """
    import huggingface_hub

    name = address.removeprefix(HUB).removeprefix("datasets/")
    try:
        return Path(huggingface_hub.snapshot_download(name, repo_type="dataset"))
    except (huggingface_hub.errors.HfHubHTTPError, ValueError, OSError) as error:
        raise ValueError(f"{address} cannot be had from the Hub: {error}") from error
