"""The tables of an ablation, from whatever runs have finished: Markdown to read, JSON to compute with."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from tracking_elysium.whole_files import written_whole

from .config import AblationConfig, CellConfig
from .scores import METRICS

__all__ = ["summarize", "write_tables"]

LARGEST_DENOMINATOR = 64  # of a share of kept tokens that is written as a fraction


def summarize(config: AblationConfig, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and spread over seeds, cell by cell.

    Args:
        config: its cells give the order.
        rows: results of finished runs, see `runs.read_results`.

    Returns:
        Per cell `{"cell", "elysium", "runs", METRIC: {"mean", "std", "values"}}`; `mean` is None without a run, `std`
        (of the sample, n - 1) without a second one.
    """
    found = []
    for cell in config.cells:
        mine = [row for row in rows if row["cell"] == cell.name]
        summary: dict[str, Any] = {"cell": cell.name, "elysium": cell.elysium, "runs": len(mine)}
        for metric in (*METRICS, "train_loss", "seconds"):
            values = [row[metric] for row in mine if row[metric] is not None]
            summary[metric] = {
                "mean": statistics.fmean(values) if values else None,
                "std": statistics.stdev(values) if len(values) > 1 else None,
                "values": values,
            }
        found.append(summary)
    return found


def write_tables(
    config: AblationConfig,
    rows: Sequence[dict[str, Any]],
    output: Path,
    limits: dict[str, float] | None,
    origin: str,
    num_patches: int | None,
) -> Path:
    """Write `ablation.json` and `ablation.md` into the folder of the ablation.

    Args:
        config: cells, tables and seeds.
        rows: results of finished runs.
        output: folder of the ablation.
        limits: `floor` and `ceiling` of SOT, see `scores.limits`; None leaves the line out.
        origin: where the numbers come from: commit, hardware, versions.
        num_patches: N, patches of a frame; None where no model is there yet.

    Returns:
        The path of the Markdown page.
    """
    cells = summarize(config, rows)
    whole = {"origin": origin, "seeds": config.seeds, "limits": limits, "num_patches": num_patches, "cells": cells}
    with written_whole(output / "ablation.json") as path:
        path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    page = output / "ablation.md"
    with written_whole(page) as path:
        path.write_text(_page(config, rows, cells, limits, origin, num_patches), encoding="utf-8")
    return page


def _page(
    config: AblationConfig,
    rows: Sequence[dict[str, Any]],
    cells: list[dict[str, Any]],
    limits: dict[str, float] | None,
    origin: str,
    num_patches: int | None,
) -> str:
    asked = config.evaluation
    steps = ", ".join(f"{s.name} {s.arguments.get('max_steps', '?')} steps" for s in config.stages)
    lines = [
        "# Compressors, kept tokens and positions in miniature",
        "",
        f"Written by `python -m train.ablation`; do not edit. {origin}.",
        "",
        f"{len(rows)} of {len(config.cells) * len(config.seeds)} runs have finished. Every run starts from one tower "
        f"and language model with a new selector and projector, and trains {steps}. Drawn *{asked.split}* scenes: "
        f"{asked.images} images (REC), {asked.clips} clips of {asked.frames} frames (SOT, RSOT). Percent, mean ± "
        "standard deviation over seeds.",
    ]
    if limits is not None:
        kept, written = limits["floor"], limits["ceiling"]
        lines.append(
            f"SOT AUC of a tracker that keeps the first box: {kept:.1%}; of the truth as text: {written:.1%}."
        )
    by_name = {cell["cell"]: cell for cell in cells}
    for title, names in config.tables.items():
        lines += ["", f"## {title}", "", f"| | tokens per frame | {' | '.join(METRICS.values())} | loss | runs |"]
        lines.append("|---" * (len(METRICS) + 4) + "|")
        for name in names:
            summary = by_name[name]
            scores = [_written(summary[metric], 100, 1) for metric in METRICS]
            loss = _written(summary["train_loss"], 1, 3)
            kept_tokens = _tokens(config.cell(name), num_patches)
            lines.append(f"| {name} | {kept_tokens} | {' | '.join(scores)} | {loss} | {summary['runs']} |")
    return "\n".join(lines) + "\n"


def _written(values: dict[str, Any], factor: float, digits: int) -> str:
    """`81.3 ± 0.9`; "-" where there is nothing."""
    if values["mean"] is None:
        return "-"
    mean = f"{values['mean'] * factor:.{digits}f}"
    return mean if values["std"] is None else f"{mean} ± {values['std'] * factor:.{digits}f}"


def _tokens(cell: CellConfig, num_patches: int | None) -> str:
    """`8 (1/8)`."""
    kept = cell.elysium.get("num_image_tokens")
    if kept is None:
        return "as the start"
    if num_patches is None:
        return str(kept)
    return f"{kept} ({Fraction(kept, num_patches).limit_denominator(LARGEST_DENOMINATOR)})"
