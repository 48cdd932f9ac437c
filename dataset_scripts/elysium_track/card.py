"""Card and datasheet of a published data set: YAML that the Hub and `load_dataset` read, and text for people."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard, DatasetCardData

from ..construction.measures import Measured, table_lines
from ..construction.rows import Trajectory
from .elysium_track import CITATION, COLUMNS, CONFIGS, HOMEPAGE, SPLITS, features_of
from .plan import PublishSettings

__all__ = ["Facts", "card_text", "check_card", "datasheet_text"]

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_KNOWN = 8  # values of one kind of provenance that the datasheet lists


@dataclass
class Facts:
    """What the texts tell of the rows besides the measures.

    Attributes:
        licenses: trajectory count by stated license.
        provenance: name -> count of its values; nested names are joined by points.
        reviewed: what decisions did to the rows.
        sizes: bytes of a configuration's split, by (config, split).
        rows: trajectory count by split.
    """

    licenses: Counter[str] = field(default_factory=Counter)
    provenance: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    reviewed: Counter[str] = field(default_factory=Counter)
    sizes: dict[tuple[str, str], int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def see(self, rows: Iterable[Trajectory]) -> Iterable[Trajectory]:
        """Pass rows on, noting licenses and provenance."""
        for row in rows:
            self.licenses[row.license or "not stated"] += 1
            for name, value in _flat(row.provenance):
                values = self.provenance[name]
                if value in values or len(values) <= _KNOWN:
                    values[value] += 1
            yield row


def _flat(values: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", json.dumps(value, ensure_ascii=False)[:80]


def card_text(settings: PublishSettings, measured: Measured, facts: Facts) -> str:
    """Write README.md: YAML with configurations, columns and sizes, then how to load it, what it is, numbers."""
    data = DatasetCardData(
        pretty_name=settings.name,
        license=settings.license,
        language=["en"],
        task_categories=["object-detection", "video-text-to-text"],
        tags=["single-object-tracking", "referring-tracking", "video", "elysium"],
        size_categories=[next((name for most, name in _SIZES if measured.trajectories < most), "1M<n<10M")],
    )
    splits = [name for name in SPLITS if facts.rows.get(name)]
    configs = MetadataConfigs()
    infos = DatasetInfosDict()
    for config in CONFIGS:
        folder = "trajectories" if config == "trajectories" else "frames"
        files = [{"split": split, "path": f"{folder}/{split}-*.parquet"} for split in splits]
        configs[config] = {"data_files": files}
        if config != "trajectories":
            configs[config]["columns"] = list(COLUMNS[config])
        if config == "rsot":
            configs[config]["default"] = True
        sizes = {split: facts.sizes[folder, split] for split in splits}
        infos[config] = datasets.DatasetInfo(
            config_name=config,
            features=features_of(config),
            splits=_splits(sizes, facts.rows),
            download_size=sum(sizes.values()),
            dataset_size=sum(sizes.values()),
        )
    configs.to_dataset_card_data(data)
    infos.to_dataset_card_data(data)
    return f"---\n{data}\n---\n\n{_body(settings, measured, facts)}"


def _splits(sizes: Mapping[str, int], rows: Mapping[str, int]) -> datasets.SplitDict:
    found = datasets.SplitDict()
    for name, size in sizes.items():
        found.add(datasets.SplitInfo(name, size, rows[name]))
    return found


def _body(settings: PublishSettings, measured: Measured, facts: Facts) -> str:
    kept = "all annotated frames" if settings.max_frames is None else f"at most {settings.max_frames} frames, even"
    licenses = "\n".join(f"- {name}: {count:,} trajectories" for name, count in facts.licenses.most_common(_KNOWN))
    lines = "\n".join(f"| `{name}` | {words} |" for name, words in CONFIGS.items())
    return f"""# {settings.name}

Objects followed through videos, with words for each: {measured.trajectories:,} trajectories in
{len(measured.videos):,} videos, made with the construction pipeline of Elysium ({HOMEPAGE}, section 3).
How it was made, and what it is not good for: [DATASHEET.md](DATASHEET.md).

![some trajectories](contact_sheet.jpg)

## Load it

```python
from datasets import load_dataset

rows = load_dataset("PATH_OR_NAME", "rsot", split="train")                    # or "sot", "video_reg", "trajectories"
rows = load_dataset("PATH_OR_NAME", "rsot", split="train", streaming=True)    # nothing is downloaded before
row = next(iter(rows))
row["frames"][0], row["expression"], row["boxes"][0]                          # PIL image, text, [x1, y1, x2, y2]
```

| configuration | task |
|---|---|
{lines}

Boxes are x1, y1, x2, y2 relative to the frame, one list per frame, empty where the object is not to be seen
(`presence` is false there). Frames are JPEG, {kept}; they are stored once for the three configurations that show them.
The videos themselves, to look at: `load_dataset("videofolder", data_dir="PATH/videos")`, on the Hub
`data_dir="hf://datasets/NAME/videos"`; `cast_column("video", Video(decode=False))` does without torchcodec.
Needs datasets 4 or later.

## Numbers

{chr(10).join(table_lines(measured))}

## License

The annotations are under `{settings.license}`; each row's `license` is that of its video, as its source states it:

{licenses}

## Citation

```bibtex
{CITATION}
```
"""


def datasheet_text(settings: PublishSettings, measured: Measured, facts: Facts) -> str:
    """Write DATASHEET.md after Gebru et al., "Datasheets for Datasets": what is known comes from the rows."""
    sources = ", ".join(f"{name} ({count:,})" for name, count in measured.sources.most_common(_KNOWN))
    made = [f"| `{name}` | {_values(values)} |" for name, values in sorted(facts.provenance.items())]
    reviewed = [f"- {what}: {count:,}" for what, count in sorted(facts.reviewed.items())] or ["- nobody reviewed rows"]
    absent = float((measured.values["absent"] > 0).mean())
    return f"""# Datasheet: {settings.name}

## Motivation

Training and evaluation of models that follow an object through a video, given its box (SOT) or an expression (RSOT),
or that describe it (Video-REG). The paper's ElysiumTrack-1M was made from WebVid-10M, whose videos are no longer
offered; this data set comes from the same steps on: {sources}.

## Composition

- An instance is one object in one video: frames, a box in each, whether it is to be seen, the tracker's score, the
  expression, the caption it was cut from.
- {measured.trajectories:,} instances of {len(measured.videos):,} videos; {absent:.1%} of them have frames without the
  object.
- Splits are by video, so no video is in two of them: {", ".join(f"{k} {v:,}" for k, v in facts.rows.items())}.
- Expressions come from captions and are noun phrases; one expression may fit several objects of a video unless a
  person checked it.
- Videos may show people. No attempt was made to identify anyone; ask for removal where this was published.

## Collection and preprocessing

Noun phrases of the caption; an open-vocabulary detector in the first, middle and last frame; a tracker through the
video; filters by confidence, drift and agreement of detector and tracker (paper, section 3). What the rows say of it:

| setting | values |
|---|---|
{chr(10).join(made) or "| none | |"}

Trajectories that were too uncertain for the filters are left out, so hard cases (fast, small or hidden objects) are
rarer than in the videos.

## Review

{chr(10).join(reviewed)}

## Uses

Not for identifying or watching people. Scores on a split made by a tracker favor that tracker and its relatives: say
so where results are compared.

## Distribution and maintenance

License of the annotations: {settings.license}; videos: each row's. The configuration of this publication is
`publish.json`; the code that made it is the Elysium repository's `dataset_scripts`.
"""


def _values(values: Counter[str]) -> str:
    """A few values, or how wide they spread."""
    if len(values) <= 4:
        return ", ".join(f"{value} ({count:,})" for value, count in values.most_common()).replace("|", "\\|")
    return f"many, such as {', '.join(list(values)[:3])}".replace("|", "\\|")


def check_card(path: Path, online: bool = False) -> DatasetCard:
    """Read a card back as the libraries do.

    Args:
        path: README.md.
        online: also ask the Hub's own validation, which needs the internet.

    Raises:
        ValueError: the card is not valid; the message says why.
    """
    card = DatasetCard.load(path)
    MetadataConfigs.from_dataset_card_data(card.data)
    DatasetInfosDict.from_dataset_card_data(card.data)
    if online:
        card.validate()
    return card
