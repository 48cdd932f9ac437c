"""Whether a checkpoint reads the words: asked for one of several kinds of things in a picture, which one is boxed?

A finder of the prominent thing does well on pictures that show one kind. On pictures of several kinds, mosaics most of
all, only the words say which is meant.

    python -m train.small.words runs/small/model --scenes runs/real/scenes/val_mosaic
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor

from .follow import greedy_boxes, grounding_prompts
from .objective import pairwise_iou
from .pool import Shards

__all__ = ["right_things"]

BATCH = 32
LEAST_IOU = 0.1  # a box that overlaps nothing by more names nothing


@torch.no_grad()
def right_things(
    model: Any, processor: Any, scenes: Shards, bf16: bool = False, limit: int = 512, seed: int = 0
) -> dict[str, float]:
    """Ask about one thing per picture that shows several kinds, one whose kind it shows once.

    Args:
        model: `ElysiumForConditionalGeneration`.
        processor: its processor.
        scenes: features of pictures with named objects.
        bf16: matrix products in bfloat16.
        limit: pictures read.
        seed: decides which thing is asked for.

    Returns:
        "pictures" asked about, the share in which the box overlaps the "right" thing more than any other, that share
        by "chance", and the mean "iou" with the right thing.
    """
    rng, asked = np.random.default_rng(seed), []
    for first in range(0, min(limit, len(scenes)), BATCH):
        patches, rows = scenes.read(np.arange(first, min(first + BATCH, limit, len(scenes))))
        for own, row in zip(patches, rows, strict=True):
            names = [item["name"] for item in row["objects"]]
            single = [n for n, name in enumerate(names) if names.count(name) == 1]
            if len(set(names)) > 1 and single:
                asked.append((own, row["objects"], int(rng.choice(single))))
    ious = []
    for first in range(0, len(asked), BATCH):
        part = asked[first : first + BATCH]
        expressions = [f"the {objects[target]['name']}" for _, objects, target in part]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            words = processor.encode_expressions(expressions)
            features = model.model.compress(torch.stack([own for own, _, _ in part]), expression_ids=words)
            found, _ = greedy_boxes(model, processor, features, grounding_prompts(processor, expressions))
        for box, (_, objects, _) in zip(found, part, strict=True):
            boxes = torch.tensor(np.array([item["box"] for item in objects]), dtype=torch.float32)
            ious.append(pairwise_iou(box.expand(len(boxes), 4), boxes))
    right = [own.argmax() == target and own.max() > LEAST_IOU for own, (_, _, target) in zip(ious, asked, strict=True)]
    return {
        "pictures": len(asked),
        "right": round(float(np.mean(right)), 4),
        "chance": round(float(np.mean([1 / len(objects) for _, objects, _ in asked])), 4),
        "iou": round(float(np.mean([own[target] for own, (_, _, target) in zip(ious, asked, strict=True)])), 4),
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.small.words", description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--scenes", type=Path, required=True, nargs="+", help="folders written by train.small.scenes")
    parser.add_argument("--limit", type=int, default=512, help="pictures read of each")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = ElysiumForConditionalGeneration.from_pretrained(options.model, dtype=torch.float32).eval()
    processor = ElysiumProcessor.from_pretrained(options.model)
    for folder in options.scenes:
        result = right_things(model, processor, Shards(folder), options.bf16, options.limit)
        print(json.dumps({"scenes": str(folder), **result}))


if __name__ == "__main__":
    main()
