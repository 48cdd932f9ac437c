"""One-pass evaluation of a checkpoint under training: all sequences of a split side by side, frame by frame.

python -m train.small.ope runs/small/model --data DATA --split val           # from the first box (SOT)
python -m train.small.ope runs/small/model --data DATA --split val --begin words    # from words (RSOT)
python -m train.small.ope runs/small/model --data DATA --split val --begin chance   # what words have to beat
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluate_metrics.tracking_ope.ope import evaluate_ope
from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor
from processing_elysium.boxes import GRID, xyxy_to_xywh
from tracking_elysium.exchange import VideoFrame
from tracking_elysium.zoom import SEARCH_FACTOR, ZoomState

from .follow import greedy_boxes, grounding_prompts, tracking_prompts
from .matcher import matched_boxes
from .material import Material
from .pool import encode_crops
from .validation import window_features

__all__ = ["by_chance", "follow_all", "grounded", "summary"]

BATCH = 32
PRESENT_ABOVE = 0.2  # as constrained answers have it, see `answer_format.options_of_presence`


class _Tower:
    """The model's own tower as `encode_crops` wants it: hidden states without the final norm."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.dtype = model.dtype

    def __call__(self, pixels: torch.Tensor) -> Any:
        return self.model.model.encode_patches(pixels)


def follow_all(
    model: Any,
    processor: Any,
    material: Material,
    rows: list[int],
    factor: float = SEARCH_FACTOR,
    bf16: bool = False,
    present_above: float = PRESENT_ABOVE,
    begin: dict[int, np.ndarray] | None = None,
    matcher: bool = False,
) -> dict[int, dict[str, np.ndarray]]:
    """Track every row from its first box, with the search windows of the session.

    Args:
        model: the model.
        processor: its processor.
        material: the split.
        rows: numbers of its videos.
        factor: of the search window.
        bf16: matrix products in bfloat16.
        present_above: below this probability that there is a box the last one is kept.
        begin: boxes (4,) to begin with in place of the true ones, by row.
        matcher: no decoder, see `train.small.matcher`.

    Returns:
        Row number to {"boxes": (F, 4) unit, "truth": (F, 4), "presence": (F,)}.
    """
    tower = _Tower(model)
    state: dict[int, dict[str, Any]] = {}
    for number in rows:
        row = material.videos[number]
        first = next(i for i, box in enumerate(row["boxes"]) if box is not None)
        box = np.asarray(row["boxes"][first] if begin is None else begin[number], dtype=np.float64)
        zoom = ZoomState(factor)
        zoom.begin(VideoFrame(first, None, material.frame(row, first)), box)
        zoom.template.patches = encode_crops(tower, [zoom.template.image])[0]
        state[number] = {"row": row, "at": first, "zoom": zoom, "boxes": [box], "presence": [1.0]}
    while live := [item for item in state.values() if item["at"] + 1 < item["row"]["n_frames"]]:
        for start in range(0, len(live), BATCH):
            part = live[start : start + BATCH]
            _advance(model, processor, tower, material, part, bf16, present_above, matcher)
    results = {}
    for number, item in state.items():
        truth = np.array([np.full(4, np.nan) if b is None else b for b in item["row"]["boxes"]])
        boxes = np.array(item["boxes"])
        results[number] = {"boxes": boxes, "truth": truth[-len(boxes) :], "presence": np.array(item["presence"])}
    return results


def grounded(
    model: Any, processor: Any, material: Material, rows: list[int], bf16: bool = False, by_class: bool = False
) -> dict[int, Any]:
    """Find every row's object in its first frame by its words: its description, else its category.

    Args:
        model: the model.
        processor: its processor.
        material: the split.
        rows: numbers of its videos.
        bf16: matrix products in bfloat16.
        by_class: the category alone, also where there is a description.

    Returns:
        Row number to box (4,) in [0, 1].
    """
    frames, expressions, boxes = [], [], []
    for number in rows:
        row = material.videos[number]
        frames.append(material.frame(row, next(i for i, box in enumerate(row["boxes"]) if box is not None)))
        words = None if by_class else row["description"]
        expressions.append(words or f"the {row['category']}")
    for start in range(0, len(rows), BATCH):
        part = slice(start, start + BATCH)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            patches, words = encode_crops(_Tower(model), frames[part]), processor.encode_expressions(expressions[part])
            features = model.model.compress(patches, expression_ids=words)
            prompts = grounding_prompts(processor, expressions[part])
            boxes.extend(greedy_boxes(model, processor, features, prompts)[0].numpy().astype(np.float64))
    return {number: _not_empty(box) for number, box in zip(rows, boxes, strict=True)}


def by_chance(material: Material, rows: list[int], other: Material, seed: int) -> dict[int, np.ndarray]:
    """Draw for every row the first box of any video of another split: a grounding that looks at nothing.

    Returns:
        Row number to box (4,) in [0, 1].
    """
    boxes = [next(box for box in row["boxes"] if box is not None) for row in other.videos]
    drawn = np.random.default_rng(seed).integers(len(boxes), size=len(rows))
    return {number: np.asarray(boxes[index], dtype=np.float64) for number, index in zip(rows, drawn, strict=True)}


def _not_empty(box: np.ndarray) -> np.ndarray:
    """Put corners in order, and a cell apart."""
    low = np.minimum(box[:2], box[2:])
    return np.concatenate([low, np.maximum(np.maximum(box[:2], box[2:]), low + 1 / GRID)])


def _advance(
    model: Any,
    processor: Any,
    tower: _Tower,
    material: Material,
    items: list[dict[str, Any]],
    bf16: bool,
    present_above: float,
    matcher: bool,
) -> None:
    """Follow every item one frame on."""
    frames, looks = [], []
    for item in items:
        item["at"] += 1
        frames.append(VideoFrame(item["at"], None, material.frame(item["row"], item["at"])))
        looks.append(item["zoom"].look(frames[-1], item["boxes"][-1]))
    templates = [item["zoom"].template for item in items]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        searched = encode_crops(tower, [cut.image for cut, _ in looks])
        first = torch.stack([template.patches for template in templates])
        known = np.stack([template.reference_box for template in templates])
        if matcher:
            scale = [cut.image.shape[0] / window.side for cut, (_, window) in zip(templates, looks, strict=True)]
            sizes = (known[:, 2:] - known[:, :2]) * np.array(scale)[:, None]
            found = matched_boxes(first, known, searched, sizes, model.config.patch_grid)
            presence = torch.ones(len(found))
        else:
            both = torch.stack([first, searched], 1)
            features = window_features(model, both, torch.tensor(known, dtype=torch.float32)[:, None])
            found, presence = greedy_boxes(model, processor, features, tracking_prompts(processor, known))
    for item, frame, (_, window), box, sure in zip(
        items, frames, looks, found.numpy(), presence.tolist(), strict=True
    ):
        size, last = frame.image.shape[1::-1], item["boxes"][-1]
        now = item["zoom"].note(window, last, box if sure > present_above else None, size, sure)
        item["boxes"].append(last if now is None else now)
        item["presence"].append(sure)


def summary(material: Material, results: dict[int, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Score rows by the project's metric (pytracking's rules), the mean over rows; keep-the-first-box beside it.

    Frames without a true box are left out: most rows do not say whether the object is absent there.

    Returns:
        "auc", "precision" and "static" (the AUC of the first box, kept), and "per", row id to AUC.
    """
    truth, boxes, static = [], [], []
    for number, item in results.items():
        scale = np.array([material.videos[number][side] for side in ("width", "height")] * 2)
        for into, value in ((truth, item["truth"]), (boxes, item["boxes"])):
            into.append(xyxy_to_xywh(value * scale))
        static.append(np.repeat(boxes[-1][:1], len(boxes[-1]), 0))
    # Boxes may begin at the very edge of the frame, where x or y is 0.
    rules = {"convention": "pytracking_unclipped", "absent_as": "ignore"}
    scores = evaluate_ope(boxes, truth, **rules)
    ids = [material.videos[number]["id"] for number in results]
    return {
        "auc": round(scores["auc"], 4),
        "precision": round(scores["precision"], 4),
        "static": round(evaluate_ope(static, truth, **rules)["auc"], 4),
        "per": {name: round(video["auc"], 3) for name, video in zip(ids, scores["per_video"], strict=True)},
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.small.ope", description="Track the rows of a split.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--factor", type=float, default=SEARCH_FACTOR)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--present-above", type=float, default=PRESENT_ABOVE)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--matcher", action="store_true", help="the most similar place, without the decoder")
    parser.add_argument(
        "--begin",
        choices=("box", "words", "class", "chance"),
        default="box",
        help="the box of the first frame: the true one, found by description or class name, by class name alone, or "
        "that of any video of split train",
    )
    parser.add_argument("--seed", type=int, default=0, help="of chance")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = ElysiumForConditionalGeneration.from_pretrained(options.model, dtype=torch.float32).eval()
    processor = ElysiumProcessor.from_pretrained(options.model)
    material = Material(options.data, options.split)
    rows = list(range(min(len(material.videos), options.limit)))
    began = time.time()
    begin = None
    if options.begin == "chance":
        begin = by_chance(material, rows, Material(options.data, "train"), options.seed)
    elif options.begin != "box":
        begin = grounded(model, processor, material, rows, options.bf16, by_class=options.begin == "class")
    results = follow_all(
        model, processor, material, rows, options.factor, options.bf16, options.present_above, begin, options.matcher
    )
    out = summary(material, results)
    frames = sum(len(r["boxes"]) for r in results.values())
    kinds = defaultdict(list)
    for name, value in out.pop("per").items():
        kinds[name.split("_")[0]].append(value)
        print(f"{value:.3f} {name}")
    print({k: round(float(np.mean(v)), 3) for k, v in kinds.items()})
    print(json.dumps(out | {"frames": frames, "seconds": round(time.time() - began)}))


if __name__ == "__main__":
    main()
