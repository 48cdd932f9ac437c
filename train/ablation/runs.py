"""The runs of an ablation: each cell and seed trains and is scored once, whatever stops the process in between.

A run that has finished is one small file, written whole or not at all; the same command passes over it. One that has
not goes on from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import set_seed

from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor
from tracking_elysium.whole_files import written_whole

from ..config import Recipe
from ..finish import METRICS, save_model
from ..parts import part_of
from ..sft import run_recipe
from .config import AblationConfig, CellConfig
from .scores import score_model

__all__ = ["claim", "new_adapter", "read_results", "run_ablation"]

NEW = ("selector", "multi_modal_projector")


def run_ablation(
    config: AblationConfig,
    output: Path,
    use_cpu: bool,
    only: Sequence[str] | None = None,
    keep_models: bool = False,
    finished: Callable[[], object] = lambda: None,
) -> None:
    """Train and score what is not finished yet: all cells with the first seed, then with the next.

    Args:
        config: what is compared.
        output: folder of the ablation.
        use_cpu: whether to stay on the CPU.
        only: names of cells to run; None for all.
        keep_models: keep the folder of a run after it is scored.
        finished: called after each run.

    Raises:
        ValueError: a result in the folder is of other settings; the message names it.
    """
    claim(config, output)
    done = {(row["cell"], row["seed"]) for row in read_results(config, output)}
    wanted = [cell for cell in config.cells if only is None or cell.name in only]
    left = [(seed, cell) for seed in config.seeds for cell in wanted if (cell.name, seed) not in done]
    if not left:
        return
    start = run_recipe(config.start, output / "start", use_cpu)
    for seed, cell in tqdm(left, desc="runs", unit="run"):
        _run(config, cell, seed, start, output, use_cpu, keep_models)
        finished()


def _run(
    config: AblationConfig, cell: CellConfig, seed: int, start: Path, output: Path, use_cpu: bool, keep_models: bool
) -> None:
    """Train and score one cell with one seed, and write its result."""
    folder = _run_folder(config, cell, seed, output)
    fresh, began = not folder.exists(), time.perf_counter()
    if not (folder / "start" / "config.json").exists():
        save_model(*new_adapter(start, cell.elysium, seed), folder / "start")
    # From here on it is a recipe like any other, which finds its start made.
    recipe = Recipe(
        seed=seed,
        workers=config.start.workers,
        threads=config.start.threads,
        model=str(folder / "start"),
        stages=config.stages,
    )
    final = run_recipe(recipe, folder, use_cpu)
    seconds = time.perf_counter() - began
    metrics = json.loads((final / METRICS).read_text(encoding="utf-8"))
    result = {
        "cell": cell.name,
        "seed": seed,
        "settings": _fingerprint(config, cell),
        "train_loss": metrics.get("train_loss"),
        "seconds": round(seconds, 1) if fresh else None,  # of a run in several sittings nobody knows
        **score_model(final, config.evaluation, "cpu" if use_cpu else "cuda"),
    }
    with written_whole(_result_file(output, cell.name, seed)) as path:
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if not keep_models:
        shutil.rmtree(folder)


def new_adapter(
    source: Path, fields: dict[str, Any], seed: int
) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """The model in `source` with another selector and projector, newly drawn.

    Args:
        source: folder of a model.
        fields: of `ElysiumConfig`, to change.
        seed: of the new weights.

    Returns:
        The model, whose tower and language model are those of `source`, and its processor.
    """
    held = ElysiumForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    config = ElysiumConfig.from_dict({**held.config.to_dict(), **fields})
    set_seed(seed)
    model = ElysiumForConditionalGeneration(config)
    kept = {name: value for name, value in held.state_dict().items() if part_of(name) not in NEW}
    missing, unexpected = model.load_state_dict(kept, strict=False)
    assert not unexpected and {part_of(name) for name in missing} <= set(NEW), (missing, unexpected)
    return model, ElysiumProcessor.from_pretrained(source, num_image_tokens=config.num_image_tokens)


# --------------------------------------------------------------------------------------------------------------
# results
# --------------------------------------------------------------------------------------------------------------
def claim(config: AblationConfig, output: Path) -> None:
    """Note in a folder which start, stages and evaluation its results are of.

    Raises:
        ValueError: it holds those of others, which cannot stand in one table with these.
    """
    path = output / "shared.json"
    shared = json.loads(json.dumps(config.shared()))
    if not path.exists():
        with written_whole(path) as part:
            part.write_text(json.dumps(shared, indent=2) + "\n", encoding="utf-8")
        return
    held = json.loads(path.read_text(encoding="utf-8"))
    if differing := [name for name in shared if held.get(name) != shared[name]]:
        raise ValueError(
            f"--output {output} holds an ablation with another {' and '.join(differing)}, whose results cannot stand "
            f"in one table with these; give another folder, or the settings in {path}."
        )


def read_results(config: AblationConfig, output: Path) -> list[dict[str, Any]]:
    """Results of the finished runs of this ablation, cell by cell.

    Args:
        config: whose cells and seeds are looked for.
        output: folder of the ablation.

    Raises:
        ValueError: a result is of other settings; the message names its file.
    """
    rows = []
    for cell in config.cells:
        for seed in config.seeds:
            path = _result_file(output, cell.name, seed)
            if not path.exists():
                continue
            row = json.loads(path.read_text(encoding="utf-8"))
            if row["settings"] != _fingerprint(config, cell):
                raise ValueError(
                    f"{path} is the result of other settings of the cell {cell.name!r} (its elysium); give the cell "
                    "another name, or remove the file."
                )
            rows.append(row)
    return rows


def _result_file(output: Path, cell: str, seed: int) -> Path:
    return output / "results" / f"{cell}.seed{seed}.json"


def _run_folder(config: AblationConfig, cell: CellConfig, seed: int, output: Path) -> Path:
    """Where a run trains; its name says for which settings, so that no other is taken for it."""
    return output / "runs" / f"{cell.name}.seed{seed}.{_fingerprint(config, cell)[:8]}"


def _fingerprint(config: AblationConfig, cell: CellConfig) -> str:
    """What decides a result beside the seed, as a short hash."""
    text = json.dumps([config.shared(), cell.elysium], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
