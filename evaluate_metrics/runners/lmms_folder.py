"""The command line of `python -m evaluate_metrics.lmms_tasks`: rows, frames and YAML files for `--include_path`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from processing_elysium.boxes import px_to_unit, xywh_to_xyxy
from tracking_elysium.whole_files import written_whole

from ..lmms_tasks.answers import FORMATS
from ..readers.items import TrackSequence, file_name
from ..readers.tasks import TASKS, load_items
from .store import write_lines

__all__ = ["main", "write_folder"]

TEMPLATES = Path(__file__).resolve().parents[1] / "lmms_tasks"
ASKED = ("sot", "rsot", "video_reg")
EPILOG = """example, from the clone's root:
  python -m evaluate_metrics.lmms_tasks --task lasot --data DATA/LaSOT --box-format json_pixels --out tasks
  python -m lmms_eval --model qwen2_5_vl --model_args pretrained=Qwen/Qwen2.5-VL-7B-Instruct \\
      --include_path tasks --tasks elysium_sot_json_pixels,elysium_rsot_json_pixels --log_samples --output_path out"""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluate_metrics.lmms_tasks",
        description="Write a tracking benchmark as tasks of lmms-eval: evenly spaced frames of every sequence, asked "
        "by box, by words, and for a description, for any model that writes boxes as text or JSON.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tracking = [name for name, spec in TASKS.items() if {"sot", "rsot"} & set(spec.asks)]
    parser.add_argument(
        "--task", required=True, choices=tracking, metavar="TASK", help=f"one of {', '.join(tracking)}"
    )
    parser.add_argument("--data", type=Path, help="folder of the benchmark as it is published (docs/evaluate.md)")
    parser.add_argument("--split", help="of the benchmark, by default the one that papers report")
    parser.add_argument("--ask", nargs="+", choices=ASKED, help="default: all that the benchmark has")
    parser.add_argument(
        "--box-format", choices=FORMATS, default="relative", metavar="NAME",
        help=f"how the model writes boxes: {', '.join(FORMATS)} (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--frames", type=int, default=8, help="evenly spaced frames of a sequence (default: 8)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N sequences")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, for lmms-eval's --include_path")
    options = parser.parse_args(arguments)
    try:
        for name, count in write_folder(options).items():
            print(f"{name}: {count} items", file=sys.stderr)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def write_folder(options: argparse.Namespace) -> dict[str, int]:
    """Write rows, frames and YAML files.

    Args:
        options: of the command line.

    Returns:
        Name of each task -> number of its items.

    Raises:
        ValueError: too few frames, an ask that the benchmark does not have, or nothing to ask.
    """
    if options.frames < 2:
        raise ValueError(f"`--frames`={options.frames} must be at least 2: tracking needs a frame to track to.")
    spec = TASKS[options.task]
    asks = options.ask or [ask for ask in ASKED if ask in spec.asks]
    written = {}
    for ask in asks:
        items = load_items(options.task, ask, options.split or spec.splits[0], options.data)[: options.limit]
        sequences = [item for item in items if isinstance(item, TrackSequence) and item.scored]
        if not sequences:
            raise ValueError(f"{options.task} has no sequence with public truth for `--ask {ask}`.")
        rows = [_row(sequence, options) for sequence in tqdm(sequences, desc=ask)]
        write_lines(options.out / f"{ask}.jsonl", rows)
        name = f"elysium_{ask}_{options.box_format}"
        text = (TEMPLATES / f"{ask}.yaml").read_text("utf-8").replace(f"task: elysium_{ask}\n", f"task: {name}\n")
        with written_whole(options.out / f"{ask}.yaml") as part:
            part.write_text(text, encoding="utf-8")
        written[name] = len(rows)
    return written


def _row(sequence: TrackSequence, options: argparse.Namespace) -> dict[str, Any]:
    """One item; frames that are no files are written beside it."""
    # From the first frame on, whose box is given.
    shown = np.unique(np.linspace(0, len(sequence) - 1, options.frames).round().astype(int)).tolist()
    with sequence.open() as video:
        size = (int(video.width), int(video.height))
        if callable(sequence.frames):
            paths = [options.out / "frames" / file_name(sequence.name) / f"{index:06d}.png" for index in shown]
            wanted = [place for place, path in enumerate(paths) if not path.is_file()]
            for place, frame in zip(wanted, video.read([shown[place] for place in wanted]), strict=True):
                with written_whole(paths[place]) as part:
                    Image.fromarray(frame).save(part, format="PNG")
        else:
            paths = [Path(sequence.frames[index]) for index in shown]
    unit = np.clip(px_to_unit(xywh_to_xyxy(sequence.boxes_xywh_px[shown]), *size), 0.0, 1.0)
    flags = None if sequence.absent is None else np.asarray(sequence.absent)[shown].astype(int).tolist()
    return {
        "name": sequence.name,
        "frames": [str(path.resolve()) for path in paths],
        "width": size[0],
        "height": size[1],
        "boxes": [None if np.isnan(box).any() else box.tolist() for box in unit],
        "absent": flags,
        "words": sequence.words,
        "references": list(sequence.descriptions),
        "box_format": options.box_format,
    }
