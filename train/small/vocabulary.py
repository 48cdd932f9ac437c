"""The words that the small model's questions and answers hold."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

__all__ = ["COLORS", "PLACES", "captions_of"]

COLORS = ("black", "white", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
PLACES = ("on the left", "on the right", "in the middle", "at the top", "at the bottom", "in the front", "in the back")
SIZES = ("small", "large", "tall", "wide", "tiny", "big")


def captions_of(data: str | Path) -> list[str]:
    """Return phrases for the tokenizer: names of all rows, and how they may be told apart."""
    names: Counter[str] = Counter()
    phrases = []
    with open(Path(data) / "records.jsonl", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["kind"] == "video":
                names.update([row["category"], *row["words"]])
                phrases += [row["description"]] if row["description"] else []
            else:
                names.update(box["name"] for box in row["boxes"])
    for name in sorted(name for name in names if name):
        phrases += [name, f"the {name}", f"a {name}"] * min(names[name], 20)
    phrases += [f"the {size} {color} thing {place}" for size in SIZES for color in COLORS for place in PLACES]
    return phrases
