"""Does the model's probability that the object is there mean what it says? A reliability diagram.

python -m train.small.calibration elysium --pool runs/real/pool/val --out docs/presence.svg
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

from .follow import greedy_boxes, tracking_prompts
from .pool import Pool
from .validation import window_features

__all__ = ["presence_of_windows", "reliability"]

BINS = 10
BATCH = 32


@torch.no_grad()
def presence_of_windows(model: Any, processor: Any, pool: Pool, bf16: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Ask for the object in every searched window of a pool.

    Returns:
        (M,) the probability that the model gives to a box instead of `[]`, and (M,) whether the object is there.
    """
    said, truly = [], []
    for first in range(0, len(pool), BATCH):
        batch = pool.batch(np.arange(first, min(first + BATCH, len(pool))))
        for window in range(1, batch["features"].shape[1]):
            features, boxes = batch["features"][:, [0, window]], batch["boxes"]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                tokens = window_features(model, features, boxes)
                _, presence = greedy_boxes(model, processor, tokens, tracking_prompts(processor, boxes[:, 0].numpy()))
            said.append(presence.float().numpy())
            truly.append(~boxes[:, window].isnan().any(-1).numpy())
    return np.concatenate(said), np.concatenate(truly)


def reliability(said: np.ndarray, truly: np.ndarray, bins: int = BINS) -> dict[str, Any]:
    """Compare probabilities with frequencies in bins of equal width.

    Args:
        said: (M,) probabilities in [0, 1].
        truly: (M,) what is the case.
        bins: how many.

    Returns:
        "rows": per bin that is not empty its mean probability, the share that is true and how many fell into it;
        "ece": the expected calibration error, mean |probability - share| weighted by how many (Guo et al. 2017);
        "brier": mean squared difference; "auc": chance that a present object has a higher probability than an absent
        one (ties count half), NaN where one of the two is missing.
    """
    said, truly = np.asarray(said, dtype=np.float64), np.asarray(truly, dtype=bool)
    if said.shape != truly.shape or said.ndim != 1 or not len(said):
        raise ValueError(f"`said` {said.shape} and `truly` {truly.shape} must be vectors of one length, not empty.")
    bin_of = np.minimum((said * bins).astype(int), bins - 1)
    rows = []
    for number in range(bins):
        inside = bin_of == number
        if inside.any():
            rows.append([float(said[inside].mean()), float(truly[inside].mean()), int(inside.sum())])
    ece = sum(abs(mean - share) * count for mean, share, count in rows) / len(said)
    difference = said[truly][:, None] - said[~truly][None]
    auc = float(((difference > 0) + 0.5 * (difference == 0)).mean()) if difference.size else float("nan")
    return {"rows": rows, "ece": ece, "brier": float(((said - truly) ** 2).mean()), "auc": auc}


def draw(result: dict[str, Any], path: Path, title: str) -> None:
    """Write the diagram: shares over probabilities, and how many windows each bin has."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "elysium"
    from matplotlib import pyplot

    mean, share, count = (np.array(column) for column in zip(*result["rows"], strict=True))
    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(5, 6), sharex=True, gridspec_kw={"height_ratios": [3, 1]}, layout="constrained"
    )
    above.plot([0, 1], [0, 1], color="gray", linestyle="--", label="calibrated")
    above.plot(mean, share, marker="o", label="model")
    above.set(ylabel="share of windows with the object", ylim=(-0.02, 1.02), title=title)
    above.legend()
    below.bar(mean, count, width=0.06)
    below.set(xlabel="probability that the object is there", ylabel="windows", yscale="log")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.small.calibration", description="Calibration of presence.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--pool", type=Path, required=True, help="features of windows, see train.small.pool")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = ElysiumForConditionalGeneration.from_pretrained(options.model, dtype=torch.float32).eval()
    processor = ElysiumProcessor.from_pretrained(options.model)
    said, truly = presence_of_windows(model, processor, Pool(options.pool), options.bf16)
    result = reliability(said, truly)
    title = f"{len(said)} windows, {int((~truly).sum())} without the object, error {result['ece']:.3f}"
    draw(result, options.out, title)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
