"""What was written for the Hub, loaded back and compared with what it was written from."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ["compare_metric", "compare_model", "compare_space"]

_REWRITTEN = {"README.md", "app.py"}  # names of repositories go into these
# The call of each metric's own card.
_CALLS: dict[str, dict[str, Any]] = {
    "tracking_ope": {"predictions": [[[10, 10, 10, 10]] * 2], "references": [[[10, 10, 10, 10], [15, 10, 10, 10]]]},
    "rec_accuracy": {"predictions": [[0, 0, 10, 10], []], "references": [[0, 0, 10, 9], [5, 5, 9, 9]]},
    "video_reg": {
        "predictions": ["a white cat walks on the grass", "a red car"],
        "references": [["a white cat walking on grass", "the cat"], ["a red car"]],
        "backend": "python",
    },
    "videoqa": {"predictions": ["The dog.", "two", ""], "references": ["dog", "2", "man"]},
}


def compare_model(source: Path, folder: Path) -> None:
    """Load both checkpoints: weights, configuration and tokens must be equal, and code files the same.

    Raises:
        ValueError: naming the first difference.
    """
    from modeling_elysium import ElysiumForConditionalGeneration
    from processing_elysium import ElysiumProcessor

    one, other = (ElysiumForConditionalGeneration.from_pretrained(path) for path in (source, folder))
    weights, again = one.state_dict(), other.state_dict()
    if weights.keys() != again.keys():
        raise ValueError(f"{folder}: other weights than {source}: {sorted(weights.keys() ^ again.keys())[0]}.")
    for name, value in weights.items():
        if value.dtype != again[name].dtype or not torch.equal(value, again[name]):
            raise ValueError(f"{folder}: the weight {name} is not that of {source}.")
    if one.config.to_diff_dict() != other.config.to_diff_dict():
        raise ValueError(f"{folder}: config.json says something else than that of {source}.")
    processors = [ElysiumProcessor.from_pretrained(path) for path in (source, folder)]
    messages = processors[0].build_messages("sot", 2, box=[0.1, 0.1, 0.5, 0.5])
    texts = [processor.apply_chat_template(messages, tokenize=False) for processor in processors]
    tokens = [processor.tokenizer(text)["input_ids"] for processor, text in zip(processors, texts, strict=True)]
    if texts[0] != texts[1] or tokens[0] != tokens[1]:
        raise ValueError(f"{folder}: the processor writes another prompt than that of {source}.")
    _same_files(source, folder)


def compare_metric(source: Path, folder: Path) -> None:
    """Load both folders as `evaluate` does; a call must give the same numbers.

    Raises:
        ValueError: naming the difference.
    """
    import evaluate

    call = _CALLS[source.name]
    one, other = (evaluate.load(str(path)).compute(**call) for path in (source, folder))
    if repr(one) != repr(other):
        raise ValueError(f"{folder}: gives {other}, and {source} {one}.")
    _same_files(source, folder)


def compare_space(sources: Mapping[str, Path], folder: Path) -> None:
    """Compare the packages and the checkpoint beside the application with those of the clone.

    Raises:
        ValueError: a file differs or is missing, or the application is no Python.
    """
    for name, source in sources.items():
        _same_files(source, folder / name, rewritten=set())
    ast.parse((folder / "app.py").read_text(encoding="utf-8"))


def _same_files(source: Path, folder: Path, rewritten: set[str] = _REWRITTEN) -> None:
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        hidden = any(part.startswith((".", "__pycache__")) for part in name.parts)
        if hidden or not path.is_file() or path.suffix in (".pyc", ".part") or path.name in rewritten:
            continue
        if not (folder / name).is_file() or (folder / name).read_bytes() != path.read_bytes():
            raise ValueError(f"{folder / name} is not the same file as {path}.")
