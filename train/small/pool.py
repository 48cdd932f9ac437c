"""Features of training windows on disk: the frozen tower runs once per window, the decoder many times.

A pool is a folder of shards, each of which counts once its description is there: a producer can be stopped at any
time, and a trainer can read while it grows. Patch tokens are stored in 8 bits, one scale per token, 98 KB a window.

    python -m train.small.pool DATA TOWER OUT --split train --examples 60000
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Dinov2Model

from .build import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD, TOWER_LAYERS
from .material import Material
from .paste import Sprites
from .views import draw_example

__all__ = [
    "Pool",
    "Shards",
    "encode_crops",
    "load_tower",
    "normalized",
    "produce",
    "quantized",
    "resized",
    "save_shard",
]

MEAN, STD = (torch.tensor(values) * 255 for values in (IMAGE_MEAN, IMAGE_STD))
SHARD_EXAMPLES = 512
BATCH_EXAMPLES = 8


def load_tower(folder: str | Path, dtype: torch.dtype = torch.float32) -> Dinov2Model:
    """Load the first `TOWER_LAYERS` blocks of DINOv2-small, whose hidden state is read without the final norm."""
    tower = Dinov2Model.from_pretrained(folder).eval().to(dtype)
    tower.encoder.layer = tower.encoder.layer[:TOWER_LAYERS]
    tower.layernorm = torch.nn.Identity()
    return tower


def resized(crop: np.ndarray) -> np.ndarray:
    """Resize a picture, uint8 (side, side, 3), to what the tower takes."""
    return np.asarray(Image.fromarray(crop).resize((IMAGE_SIZE, IMAGE_SIZE), Image.BILINEAR))


def normalized(pictures: torch.Tensor) -> torch.Tensor:
    """Turn uint8 (F, side, side, 3) into the tower's float32 (F, 3, side, side)."""
    mean, std = MEAN.to(pictures.device), STD.to(pictures.device)
    return ((pictures.float() - mean) / std).permute(0, 3, 1, 2).contiguous()


@torch.inference_mode()
def encode_crops(tower: Dinov2Model, crops: list[np.ndarray]) -> torch.Tensor:
    """Compute layer-normalized patch tokens.

    Args:
        tower: see `load_tower`.
        crops: uint8 arrays (side, side, 3).

    Returns:
        float32 (crops, 256, 384).
    """
    pixels = normalized(torch.from_numpy(np.stack([resized(crop) for crop in crops])))
    hidden = tower(pixels.to(tower.dtype)).last_hidden_state[:, 1:].float()
    return torch.nn.functional.layer_norm(hidden, hidden.shape[-1:])


def quantized(features: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Store features (..., C) as int8 and a float16 scale per token."""
    scale = features.abs().amax(-1, keepdim=True) / 127
    return (features / scale).round().to(torch.int8).numpy(), scale.squeeze(-1).half().numpy()


class Shards:
    """Features of one folder, read as they come.

    Args:
        folder: of shards, see `save_shard`.
        open_only: leave out examples whose license allows research only.
    """

    def __init__(self, folder: str | Path, open_only: bool = False) -> None:
        self.folder, self.open_only = Path(folder), open_only
        self._shards: dict[str, tuple[np.ndarray, np.ndarray, dict[str, list[Any]]]] = {}
        self.index = np.empty((0, 2), np.int64)
        self.names: list[str] = []
        self.refresh()

    def refresh(self) -> None:
        """Take in shards that were written since."""
        for path in sorted(self.folder.glob("*.json")):
            if path.stem in self._shards:
                continue
            columns = json.loads(path.read_text(encoding="utf-8"))
            tokens = np.load(path.with_suffix(".tokens.npy"), mmap_mode="r")
            self._shards[path.stem] = (tokens, np.load(path.with_suffix(".scale.npy")), columns)
            rows = np.arange(len(columns["open"]))
            if self.open_only:
                rows = rows[np.asarray(columns["open"])]
            number = len(self.names)
            self.names.append(path.stem)
            self.index = np.concatenate([self.index, np.stack([np.full(len(rows), number), rows], 1)])

    def __len__(self) -> int:
        return len(self.index)

    def read(self, items: np.ndarray) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        """Read features float32 (B, ..., N, C) and the descriptions of examples, in the order of their numbers."""
        tokens, scales, rows = [], [], []
        for shard, row in self.index[np.sort(items)]:
            token, scale, columns = self._shards[self.names[shard]]
            tokens.append(token[row])
            scales.append(scale[row])
            rows.append({name: values[row] for name, values in columns.items()})
        features = torch.from_numpy(np.stack(tokens)).float()
        features *= torch.from_numpy(np.stack(scales)).float().unsqueeze(-1)
        return features, rows


class Pool(Shards):
    """Windows of single objects: see `views.Example`."""

    def batch(self, items: np.ndarray) -> dict[str, Any]:
        """Read examples by their numbers: `features` (B, W, N, C) float32, `boxes` (B, W, 4), `label` list."""
        features, rows = self.read(items)
        boxes = torch.tensor([row["boxes"] for row in rows], dtype=torch.float32)
        return {"features": features, "boxes": boxes, "label": [row["label"] for row in rows]}


def save_shard(stem: Path, tokens: list[np.ndarray], scales: list[np.ndarray], columns: dict[str, list[Any]]) -> None:
    """Write a shard; it counts once its description, which comes last, is there."""
    np.save(stem.with_suffix(".tokens.npy"), np.concatenate(tokens))
    np.save(stem.with_suffix(".scale.npy"), np.concatenate(scales))
    part = stem.with_suffix(".json.part")
    part.write_text(json.dumps(columns), encoding="utf-8")
    os.replace(part, stem.with_suffix(".json"))


def _write_shard(
    out: Path, number: int, material: Material, tower: Dinov2Model, seed: int, sprites: Sprites | None
) -> float:
    start = time.perf_counter()
    examples, tokens, scales = [], [], []
    for first in range(0, SHARD_EXAMPLES, BATCH_EXAMPLES):
        # A shard is a function of (seed, number): a producer that starts again writes what it would have written.
        chunk = [
            draw_example(material, np.random.default_rng([seed, number, first + i]), sprites)
            for i in range(BATCH_EXAMPLES)
        ]
        features = encode_crops(tower, [crop for example in chunk for crop in example.crops])
        q, s = quantized(features.view(len(chunk), -1, *features.shape[1:]))
        tokens.append(q), scales.append(s), examples.extend(chunk)
    columns = {
        "boxes": [[[round(float(v), 6) for v in box] for box in e.boxes] for e in examples],
        "label": [e.label for e in examples],
        "open": [e.open for e in examples],
        "row": [e.row for e in examples],
    }
    save_shard(out / f"{number:05d}", tokens, scales, columns)
    return time.perf_counter() - start


def produce(
    prog: str,
    description: str,
    examples: int,
    per_shard: int,
    write_shard: Callable[..., float],
    arguments: list[str] | None,
) -> None:
    """Read a command line and write the shards that are missing.

    Args:
        prog: what is run, for `--help`.
        description: what it does.
        examples: how many are written by default.
        per_shard: examples of a shard.
        write_shard: takes folder, number, material, tower, seed and sprites, writes that shard, returns its seconds.
        arguments: the command line's; None reads the program's.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("data", type=Path, help="folder with records.jsonl")
    parser.add_argument("tower", type=Path, help="folder of DINOv2-small")
    parser.add_argument("out", type=Path, help="folder of shards; what is there is kept")
    parser.add_argument("--split", default="train")
    parser.add_argument("--examples", type=int, default=examples)
    parser.add_argument("--sprites", type=Path, help="cut-outs of train.small.sprites, to paste into pictures")
    parser.add_argument("--open-only", action="store_true", help="no picture that allows research only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="where the processor has it, twice as fast")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    material = Material(options.data, options.split, options.open_only)
    tower = load_tower(options.tower, torch.bfloat16 if options.bf16 else torch.float32)
    sprites = Sprites(options.sprites, options.open_only) if options.sprites else None
    options.out.mkdir(parents=True, exist_ok=True)
    for number in range(-(-options.examples // per_shard)):
        if (options.out / f"{number:05d}.json").exists():
            continue
        seconds = write_shard(options.out, number, material, tower, options.seed, sprites)
        print(f"shard {number}: {per_shard / seconds:.1f} examples/s", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    description = "Write features of windows."
    produce("python -m train.small.pool", description, 60_000, SHARD_EXAMPLES, _write_shard, arguments)


if __name__ == "__main__":
    main()
