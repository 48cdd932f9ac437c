"""The model card of the small model, written from the model, the rows that it was trained on, and measured numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from processing_elysium.boxes import GRID
from tracking_elysium.zoom import SEARCH_FACTOR

from .material import Material, is_open
from .scenes import MOSAIC
from .views import PASTED

__all__ = ["examples_per_row", "model_card"]

TEMPLATE = Path(__file__).with_name("model_card.md")
BASE_MODEL = "facebook/dinov2-small"
OFTEN = 10
EMOJI = "Noto Color Emoji"
EMOJI_LICENSE = "OFL-1.1"
RESULTS_FORM = '{"measured": "date, commit, hardware", "tables": [{"title": "...", "rows": [{"column": value}]}]}'


def model_card(
    model: Any,
    material: Material,
    folder: str,
    examples: Counter[tuple[str, int]] | None = None,
    sprites: Sequence[dict[str, Any]] = (),
    results: str | Path | None = None,
) -> str:
    """Write the card.

    Args:
        model: the model that is published.
        material: the rows of split `train` that it was trained on.
        folder: name of the published folder, for the example.
        examples: training examples by row, see `examples_per_row`; None leaves the column out.
        sprites: rows of `sprites.jsonl` whose cut-outs were pasted.
        results: JSON file of measured numbers, see `RESULTS_FORM`; None says that there are none.

    Returns:
        Markdown with the Hub's header.

    Raises:
        ValueError: `results` has another form.
    """
    config = model.config
    rows = material.videos + material.images
    is_free = all(is_open(row) for row in rows) and all(row["open"] for row in sprites)
    names = _class_names(material)
    frequent = [name for name, count in names.most_common() if count >= OFTEN]
    cells = {"examples_header": "examples | ", "examples_rule": "---|"} if examples is not None else {}
    return TEMPLATE.read_text(encoding="utf-8").format(
        metadata=_metadata(is_free),
        parameters=_millions(model),
        layers=config.vision_config.num_hidden_layers,
        size=config.vision_config.image_size,
        patches=config.num_patches,
        kept=config.num_image_tokens,
        text_type="LLaMA" if config.text_config.model_type == "llama" else config.text_config.model_type,
        text_layers=config.text_config.num_hidden_layers,
        text_width=config.text_config.hidden_size,
        text_millions=_millions(model.model.language_model),
        folder=folder,
        search=f"{SEARCH_FACTOR:g}",
        grid=GRID,
        top=GRID - 1,
        open_sentence=_open_sentence(is_free),
        sources="\n".join(_source_rows(material, examples)),
        cut_outs=_mosaics(examples) + _cut_outs(sprites, examples),
        classes=len(names),
        often=OFTEN,
        names=", ".join(frequent),
        evaluation=_evaluation(results),
        **{"examples_header": "", "examples_rule": "", **cells},
    )


def examples_per_row(folders: Sequence[str | Path], open_only: bool = False) -> Counter[tuple[str, int]]:
    """Count the examples on disk by the row that they come from.

    Args:
        folders: of shards, written by `train.small.pool` and `train.small.scenes`.
        open_only: count those alone whose sources allow more than research.

    Returns:
        ("video", number), ("image", number), ("pasted", 0) or ("mosaic", 0) -> how many.
    """
    counts: Counter[tuple[str, int]] = Counter()
    for folder in folders:
        for path in sorted(Path(folder).glob("*.json")):
            columns = json.loads(path.read_text(encoding="utf-8"))
            for row, free in zip(columns["row"], columns["open"], strict=True):
                if free or not open_only:
                    counts[_kind_of(row)] += 1
    return counts


def _kind_of(row: int) -> tuple[str, int]:
    """Which row a number of `views.Example.row` means."""
    if row in (PASTED, MOSAIC):
        return ("pasted" if row == PASTED else "mosaic"), 0
    return ("video", row) if row >= 0 else ("image", ~row)


def _metadata(is_free: bool) -> str:
    """The Hub's header, without its dashes."""
    terms: dict[str, Any] = {"license": "apache-2.0"}
    if not is_free:
        terms = {"license": "other", "license_name": "research-use-only", "license_link": "README.md"}
    return ModelCardData(
        **terms,
        library_name="transformers",
        pipeline_tag="video-text-to-text",
        base_model=BASE_MODEL,
        tags=["video-tracking", "object-tracking", "referring-expression", "video", "elysium"],
        language="en",
    ).to_yaml()


def _millions(model: Any) -> str:
    return f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.1f}"


def _open_sentence(is_free: bool) -> str:
    if is_free:
        return (
            "All rows allow more than research, by the license texts that came with them; whether who gave a license "
            "to a repository could give it to its pictures was not checked."
        )
    return "**Research use only**: some rows below allow no more. The tower's weights and the code are Apache-2.0."


def _class_names(material: Material) -> Counter[str]:
    """Class names with the number of rows and boxes that they name."""
    names: Counter[str] = Counter()
    for row in material.videos:
        names.update({row["category"].lower(), *(word.lower() for word in row["words"])})
    for row in material.images:
        names.update(item["name"].lower() for item in row["boxes"])
    return names


def _source_rows(material: Material, examples: Counter[tuple[str, int]] | None) -> list[str]:
    """One line of the table per source, kind and license text, largest first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    used: Counter[tuple[str, str, str]] = Counter()
    for kind, rows in (("video", material.videos), ("image", material.images)):
        for row in rows:
            key = (row["source"], kind, " ".join(row["licence"].split()))
            counts[key] += 1
            used[key] += 0 if examples is None else examples[kind, row["number"]]
    lines = []
    for (source, kind, terms), count in sorted(counts.items(), key=lambda item: (item[0][1], -item[1], item[0])):
        cells = [_linked(source), kind, f"{count}"]
        cells += [] if examples is None else [f"{used[source, kind, terms]}"]
        lines.append("| " + " | ".join([*cells, terms.replace("|", "/")]) + " |")
    return lines


def _linked(source: str) -> str:
    """A link to `owner/repository@commit`, short; any other name as it is."""
    name, _, commit = source.partition("@")
    if name.count("/") != 1 or not commit:
        return source.replace("|", "/")
    return f"[{name}](https://github.com/{name}/tree/{commit})"


def _mosaics(examples: Counter[tuple[str, int]] | None) -> str:
    """A sentence about examples that belong to several rows, empty where none do."""
    count = 0 if examples is None else examples["mosaic", 0]
    return f"\n{count} more examples show two or four of these pictures side by side.\n" if count else ""


def _cut_outs(sprites: Sequence[dict[str, Any]], examples: Counter[tuple[str, int]] | None) -> str:
    """A paragraph about what was pasted, empty where nothing was."""
    if not sprites:
        return ""
    emoji = sum(row["source"] == EMOJI for row in sprites)
    times = "" if examples is None else f" ({examples['pasted', 0]} of the examples)"
    return (
        f"\nCut-outs were pasted on these pictures{times}: {emoji} emoji of {EMOJI} ({EMOJI_LICENSE}), and "
        f"{len(sprites) - emoji} objects cut out of photographs of the table, under the terms of their rows.\n"
    )


def _evaluation(results: str | Path | None) -> str:
    """Tables of measured numbers, as the file has them."""
    if results is None:
        return "No numbers came with this card."
    given = json.loads(Path(results).read_text(encoding="utf-8"))
    try:
        parts = [f"Measured: {given['measured']}."]
        for table in given["tables"]:
            columns = list(table["rows"][0])
            lines = [columns, ["---"] * len(columns), *([row[name] for name in columns] for row in table["rows"])]
            parts.append(table["title"])
            parts.append("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines))
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"`results`={str(results)!r} lacks {error}; its form is {RESULTS_FORM}.") from None
    return "\n\n".join(parts)
