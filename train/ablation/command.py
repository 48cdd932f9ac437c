"""The paper's Table 7 in miniature, as one command that can be stopped and given again.

    python -m train.ablation ablation --output runs/ablation

Every compressor, number of kept tokens and kind of positions that the recipe names trains at equal budget from one
start, with every seed, and is scored. The table (`ablation.md`, `ablation.json` in the output folder) is written anew
after each run, from what has finished.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from evaluate_metrics.runners.machine import provenance
from modeling_elysium import ElysiumConfig

from ..finish import FINISHED
from ..miniature.cpu import prepare_cpu
from ..plain import load_yaml
from ..sft import find_recipe
from .config import AblationConfig
from .runs import claim, read_results, run_ablation
from .scores import limits
from .table import write_tables

__all__ = ["main"]


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.ablation",
        description="Compare compressors, numbers of kept tokens and positions at equal budget, over seeds. The same "
        "command goes on where it stopped: finished runs are passed over, an unfinished one resumes.",
        epilog="Example: python -m train.ablation ablation --output runs/ablation --set seeds=[0]",
    )
    parser.add_argument("recipe", help="YAML file, or the name of one in train/recipes")
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs, their results and the table")
    parser.add_argument(
        "--only", nargs="+", metavar="CELL", help="run only these cells (all by default); the table shows all"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe; dots go inward"
    )
    parser.add_argument("--table-only", action="store_true", help="write the table from what has finished, and stop")
    parser.add_argument("--keep-models", action="store_true", help="keep the folder of each run (about 100 MB)")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    options = make_parser().parse_args(arguments)
    use_cpu = options.cpu or not torch.cuda.is_available()
    try:
        config: AblationConfig = load_yaml(AblationConfig, find_recipe(options.recipe), options.set)
        names = [cell.name for cell in config.cells]
        if unknown := sorted(set(options.only or []) - set(names)):
            raise ValueError(f"--only: no cell {unknown} in {options.recipe}; it has {names}.")
        claim(config, options.output)
        if not options.table_only:
            if use_cpu:
                prepare_cpu()
            run_ablation(
                config,
                options.output,
                use_cpu,
                options.only,
                options.keep_models,
                lambda: _write(config, options.output, use_cpu),
            )
        print(f"wrote {_write(config, options.output, use_cpu)}")
    except ValueError as error:
        raise SystemExit(str(error)) from error


def _write(config: AblationConfig, output: Path, use_cpu: bool) -> Path:
    """Write the tables from what has finished."""
    rows = read_results(config, output)
    start = output / "start" / config.start.stages[-1].name / FINISHED
    known, num_patches = None, None
    if rows:
        shape: Any = ElysiumConfig.from_pretrained(start)
        known, num_patches = limits(config.evaluation, shape.vision_config.image_size), shape.num_patches
    return write_tables(config, rows, output, known, provenance("cpu" if use_cpu else "cuda"), num_patches)
