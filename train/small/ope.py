"""One-pass evaluation of a checkpoint under training: all sequences of a split side by side, frame by frame.

python -m train.small.ope runs/small/model --data ../shared/realdata --split val
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

from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor
from processing_elysium.boxes import iou
from tracking_elysium.zoom import SEARCH_FACTOR, TEMPLATE_FACTOR, window_around

from .follow import greedy_boxes
from .material import Material
from .pool import encode_crops
from .run import window_features

__all__ = ["follow_all"]


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
    present_above: float = 0.5,
    tower: Any = None,
) -> dict[int, dict[str, np.ndarray]]:
    """Track every row from its first box; sequences of one length class share batches.

    Returns:
        Row number to {"boxes": (F, 4) unit, "truth": (F, 4), "presence": (F,)}.
    """
    tower = tower or _Tower(model)
    state: dict[int, dict[str, Any]] = {}
    for number in rows:
        row = material.videos[number]
        first = next(i for i, box in enumerate(row["boxes"]) if box is not None)
        box = np.asarray(row["boxes"][first], dtype=np.float64)
        image = material.frame(row, first)
        window = window_around(box, image.shape[1], image.shape[0], TEMPLATE_FACTOR)
        patches = encode_crops(tower, [window.crop(image)])[0]
        state[number] = {
            "row": row,
            "at": first,
            "template": patches,
            "known": window.from_frame(box, *image.shape[1::-1]).clip(0, 1),
            "boxes": [box],
            "presence": [1.0],
            "factor": factor,
        }
    while live := [n for n in rows if state[n]["at"] + 1 < state[n]["row"]["n_frames"]]:
        for start in range(0, len(live), 32):
            items = [state[n] for n in live[start : start + 32]]
            _advance(model, processor, tower, material, items, bf16, factor, present_above)
    results = {}
    for number in rows:
        item = state[number]
        truth = [np.full(4, np.nan) if b is None else b for b in item["row"]["boxes"]]
        results[number] = {
            "boxes": np.array(item["boxes"]),
            "truth": np.array(truth)[-len(item["boxes"]) :],
            "presence": np.array(item["presence"]),
        }
    return results


def _advance(model, processor, tower, material, items, bf16, factor, present_above) -> None:
    windows, crops, sizes = [], [], []
    for item in items:
        item["at"] += 1
        image = material.frame(item["row"], item["at"])
        sizes.append(image.shape[1::-1])
        windows.append(window_around(item["boxes"][-1], *sizes[-1], item["factor"]))
        crops.append(windows[-1].crop(image))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        patches = encode_crops(tower, crops)
        both = torch.stack([torch.stack([item["template"] for item in items]), patches], 1)
        known = np.stack([item["known"] for item in items])
        boxes = torch.tensor(known, dtype=torch.float32)[:, None]
        features = window_features(model, both, boxes)
        found, presence = greedy_boxes(model, processor, features, known)
    for item, window, size, box, sure in zip(items, windows, sizes, found.numpy(), presence.tolist(), strict=True):
        usable = sure > present_above and (box[2:] > box[:2]).all()
        item["boxes"].append(window.to_frame(box, *size) if usable else item["boxes"][-1])
        item["factor"] = factor if usable else min(item["factor"] * 1.2, 2 * factor)
        item["presence"].append(sure)


def summary(material: Material, results: dict[int, dict[str, np.ndarray]]) -> dict[str, float]:
    """OPE of all rows (mean over rows), and of the first row of every sequence; keep-the-first-box beside it."""
    scores, static, names = [], [], []
    for number, item in results.items():
        row = material.videos[number]
        scale = np.array([row["width"], row["height"]] * 2)
        valid = ~np.isnan(item["truth"]).any(-1)
        for boxes, into in ((item["boxes"], scores), (np.repeat(item["boxes"][:1], len(valid), 0), static)):
            into.append(_auc(boxes * scale, item["truth"] * scale, valid))
        names.append(row["id"])
    return {
        "auc": round(float(np.mean(scores)), 4),
        "static": round(float(np.mean(static)), 4),
        "per": dict(zip(names, np.round(scores, 3).tolist(), strict=True)),
    }


def _auc(boxes: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> float:
    overlap = np.where(valid, iou(boxes, np.nan_to_num(truth)), np.nan)
    return float(np.mean([np.nanmean(overlap > t) for t in np.arange(21) * 0.05]))


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.small.ope", description="Track the rows of a split.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--factor", type=float, default=SEARCH_FACTOR)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--present-above", type=float, default=0.5)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = ElysiumForConditionalGeneration.from_pretrained(options.model, dtype=torch.float32).eval()
    processor = ElysiumProcessor.from_pretrained(options.model)
    material = Material(options.data, options.split)
    rows = list(range(min(len(material.videos), options.limit)))
    began = time.time()
    results = follow_all(model, processor, material, rows, options.factor, options.bf16, options.present_above)
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
