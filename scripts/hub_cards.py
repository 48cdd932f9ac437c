"""The cards of what is published: metadata that the Hub reads, and its check without the internet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, SpaceCard

__all__ = [
    "check_model_card",
    "check_model_license",
    "check_space_card",
    "eval_results",
    "published_model_card",
    "space_card",
]

PIPELINE_TAG = "video-text-to-text"  # of the Hub's list, which has no tracking
TAGS = ("video-tracking", "object-tracking", "referring-expression", "video", "elysium")
EVALUATION = "## Evaluation"  # the section of a model card whose tables are measured numbers
THIS_MODEL = "this model"  # the row of such a table that is the model's own
# Column of a table -> type and name of the metric; other columns are counts.
METRICS = {
    "AUC": ("success_auc", "success AUC"),
    "precision": ("precision", "precision at 20 pixels"),
    "normalized precision": ("normalized_precision", "normalized precision at 0.2"),
    "Acc@0.5": ("accuracy", "accuracy at IoU 0.5"),
    "mean IoU": ("mean_iou", "mean IoU"),
}
_REQUIRED = ("license", "library_name", "pipeline_tag", "tags")
_SPACE_REQUIRED = ("title", "sdk", "app_file", "license")
_MOST_SHORT = 60  # characters of a Space's short description
_ROW = re.compile(r"^\|(.+)\|\s*$")


def published_model_card(text: str, repo: str, example: str | None) -> ModelCard:
    """Make the card of a checkpoint folder that of a repository of the Hub.

    Args:
        text: README.md of the checkpoint folder.
        repo: `owner/name`; examples of the card load it.
        example: file of a short video in the repository; None where there is none.

    Returns:
        The card. Its metadata has the Hub's task, our tags, and the measured numbers of the section "Evaluation".

    Raises:
        ValueError: the text has no metadata, or metadata of no use.
    """
    card = ModelCard(text)
    data = card.data
    data.pipeline_tag = PIPELINE_TAG
    data["library_name"] = data.get("library_name") or "transformers"
    data.tags = list(dict.fromkeys([*TAGS, *(data.tags or ())]))
    data.model_name = repo.rpartition("/")[2]
    data.eval_results = eval_results(card.text) or None
    card.text = re.sub(r'model="[\w./-]+"', f'model="{repo}"', card.text)
    if example is not None:
        data.widget = [{"src": f"https://huggingface.co/{repo}/resolve/main/{example}", "example_title": "a bottle"}]
        card.text = card.text.rstrip("\n") + _EXAMPLE.format(repo=repo, example=example)
    return card


_EXAMPLE = """

## An example to try

`{example}` is in this repository:

```python
from huggingface_hub import hf_hub_download
from transformers import pipeline

pipe = pipeline("video-tracking", model="{repo}", trust_remote_code=True)
frames = pipe(hf_hub_download("{repo}", "{example}"), box=(158, 58, 216, 199))
print(frames[-1]["objects"])
```
"""


def eval_results(text: str) -> list[EvalResult]:
    """Read the measured numbers of a model card out of its section "Evaluation".

    Of a table with a row "this model", that row is the model's; in a table without one, every row is a part of the
    data.

    Args:
        text: the card without its metadata.

    Returns:
        One result per number, in the order of the card; none where there is no such section.
    """
    found = []
    for title, columns, rows in _tables(text.partition(EVALUATION)[2].partition("\n## ")[0]):
        own = [row for row in rows if row[0] == THIS_MODEL]
        for row in own or rows:
            dataset = title if own else f"{title}: {row[0]}"
            found += [
                EvalResult(
                    task_type=PIPELINE_TAG,
                    task_name="video tracking",
                    dataset_type="realdata",
                    dataset_name=dataset,
                    dataset_config=dataset,  # results of one configuration are one entry of the Hub's index
                    metric_type=METRICS[column][0],
                    metric_name=METRICS[column][1],
                    metric_value=float(value),
                )
                for column, value in zip(columns, row, strict=True)
                if column in METRICS
            ]
    return found


def _tables(section: str) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Yield the tables of a text: the paragraph before each, its columns, its rows."""
    title, lines = "", [*section.splitlines(), ""]
    rows: list[list[str]] = []
    for line in lines:
        match = _ROW.match(line)
        if match:
            rows.append([cell.strip() for cell in match.group(1).split("|")])
            continue
        if len(rows) > 2:
            yield title, rows[0], rows[2:]
        rows = []
        title = line.strip() or title


def space_card(text: str, **metadata: Any) -> SpaceCard:
    """Give the card of a Space (of the demo, or of a metric) what the Hub shows besides; what it says stays."""
    card = SpaceCard(text)
    for name, value in metadata.items():
        if card.data.get(name) is None:
            card.data[name] = value
    return card


def check_model_card(path: Path, online: bool = False) -> ModelCard:
    """Read the card of a model back as the Hub's library does.

    Args:
        path: README.md.
        online: also ask the Hub's own validation, which needs the internet.

    Raises:
        ValueError: the card is not valid, or lacks what a published model has.
    """
    card = ModelCard.load(path)  # parses the results, too, and raises for those it cannot
    _require(path, card.data.to_dict(), _REQUIRED)
    if card.data.pipeline_tag != PIPELINE_TAG or "video-tracking" not in card.data.tags:
        raise ValueError(f"{path}: `pipeline_tag` must be {PIPELINE_TAG!r}, and `tags` hold 'video-tracking'.")
    check_model_license(path)
    if online:
        card.validate()
    return card


def check_model_license(path: Path) -> dict[str, str | None]:
    """Read the license of a model's card.

    Args:
        path: README.md.

    Returns:
        `license`, and `license_name` and `license_link`, which "other" asks for and the rest may have.

    Raises:
        ValueError: none is stated, or "other" without a name.
    """
    metadata = ModelCard.load(path).data.to_dict()
    _require(path, metadata, ("license",))
    if metadata["license"] == "other" and not (metadata.get("license_name") and metadata.get("license_link")):
        raise ValueError(f"{path}: `license` 'other' needs `license_name` and `license_link`.")
    return {name: metadata.get(name) for name in ("license", "license_name", "license_link")}


def check_space_card(path: Path, online: bool = False) -> SpaceCard:
    """Read the card of a Space back as the Hub's library does.

    Args:
        path: README.md.
        online: also ask the Hub's own validation, which needs the internet.

    Raises:
        ValueError: the card is not valid, or its application is not there.
    """
    card = SpaceCard.load(path)
    _require(path, card.data.to_dict(), _SPACE_REQUIRED)
    if not (path.parent / card.data.app_file).is_file():
        raise ValueError(f"{path}: `app_file` names {card.data.app_file!r}, which is not in the folder.")
    short = card.data.get("short_description") or ""
    if len(short) > _MOST_SHORT:
        raise ValueError(f"{path}: `short_description` has {len(short)} characters, at most {_MOST_SHORT} are shown.")
    if online:
        card.validate()
    return card


def _require(path: Path, metadata: dict[str, Any], names: tuple[str, ...]) -> None:
    missing = [name for name in names if not metadata.get(name)]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)} in its metadata; add it between the lines `---`.")
