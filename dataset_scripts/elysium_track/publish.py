"""`python -m dataset_scripts.elysium_track.publish BUILD OUT`: a build as a data set of the Hub, without a script."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm import tqdm

from ..construction.measures import measure
from ..construction.rows import Trajectory, read_trajectories
from .card import Facts, card_text, check_card, datasheet_text
from .elysium_track import CONFIGS, SPLITS
from .plan import PublishSettings, planned_rows, row_shards, rows_of
from .tables import VideoShelf, write_frames, write_trajectory_rows

__all__ = ["check_loads", "main", "make_parser", "publish", "push"]

_ON_SHEET = 12
_EPILOG = """examples:
  python -m dataset_scripts.elysium_track.publish build out/track              write the folder, look at it, load it
  python -m dataset_scripts.elysium_track.publish build out/track --decisions decisions.jsonl --require-review test
  python -m dataset_scripts.elysium_track.publish build out/track --max-frames 32 --max-side 336
  python -m dataset_scripts.elysium_track.publish build out/track --push ORG/NAME   and upload it (private)

Nothing is uploaded without --push. OUT must not exist: it appears when all is written and has been loaded back; until
then the work is in OUT.partial, where the same command goes on after an interruption.
"""


def publish(settings: PublishSettings, out: str | os.PathLike[str]) -> dict[str, Any]:
    """Write a data set folder that `load_dataset(out, "rsot")` reads.

    Args:
        settings: what to publish.
        out: folder to make.

    Returns:
        The measures of the published rows, as in its `statistics.json`.

    Raises:
        ValueError: `out` exists, the half-finished work is of other settings, or a row cannot be published.
    """
    out = Path(out)
    if out.exists():
        raise ValueError(f"{out} exists and is not overwritten; give a new folder, or upload it with --push as it is.")
    part = out.with_name(out.name + ".partial")
    shards, facts = _plan(settings, part)
    names = _videos(settings, shards, part)
    _tables(settings, shards, names, part, facts)
    measured = measure(facts.see(rows_of([file for files in shards.values() for file in files])))
    _texts(settings, shards, part, facts, measured)
    check_loads(part)
    for name in ("rows", "plan.json"):
        path = part / ".work" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (part / ".work").rmdir()
    os.replace(part, out)
    return measured.as_json()


def _plan(settings: PublishSettings, part: Path) -> tuple[dict[str, list[Path]], Facts]:
    """Write the rows that will be published, or find them written; the plan comes last and says that they are."""
    work, facts = part / ".work", Facts()
    plan = work / "plan.json"
    if plan.is_file():
        done = json.loads(plan.read_text(encoding="utf-8"))
        if done["fingerprint"] != settings.fingerprint():
            raise ValueError(f"{part} holds unfinished work with other settings or another build; remove it to go on.")
        shards = {name: [work / "rows" / file for file in files] for name, files in done["shards"].items()}
        facts.reviewed.update(done["reviewed"])
    else:
        shutil.rmtree(work / "rows", ignore_errors=True)
        shards = row_shards(planned_rows(settings, facts.reviewed), work / "rows", settings.rows_per_shard)
        if not shards:
            raise ValueError(
                f"{settings.build} has no row to publish; see what reviewers rejected, and --require-review."
            )
        names = {split: [file.name for file in files] for split, files in shards.items()}
        facts_written = {"fingerprint": settings.fingerprint(), "shards": names, "reviewed": facts.reviewed}
        _write_text(plan, json.dumps(facts_written))
    facts.rows = {split: sum(pq.read_metadata(file).num_rows for file in files) for split, files in shards.items()}
    return shards, facts


def _videos(settings: PublishSettings, shards: dict[str, list[Path]], part: Path) -> dict[str, str]:
    """Copy the videos and write their metadata; returns their names in the data set."""
    names: dict[str, str] = {}
    for split, files in shards.items():
        shelf = VideoShelf(part, split, settings)
        for row in tqdm(rows_of(files), desc=f"videos, {split}", unit=" rows", disable=None):
            shelf.add(row)
        shelf.write()
        names |= shelf.names
    return names


def _tables(
    settings: PublishSettings, shards: dict[str, list[Path]], names: dict[str, str], part: Path, facts: Facts
) -> None:
    """Write the parquet files, those that are there already excepted, and note their sizes."""
    for split, files in shards.items():
        for file in tqdm(files, desc=f"frames, {split}", unit=" shards", disable=None):
            rows: list[Trajectory] = list(read_trajectories(file))
            if not (part / "frames" / file.name).exists():
                write_frames(rows, settings, part / "frames" / file.name)
            if not (part / "trajectories" / file.name).exists():
                write_trajectory_rows(rows, names, part / "trajectories" / file.name)
        for folder in ("frames", "trajectories"):
            facts.sizes[folder, split] = sum((part / folder / file.name).stat().st_size for file in files)


def _texts(settings: PublishSettings, shards: dict[str, list[Path]], part: Path, facts: Facts, measured: Any) -> None:
    """Write statistics, contact sheet, datasheet and card."""
    from ..construction.stats import save_sheet  # draws, which takes seconds to import

    first = next(files for files in shards.values())
    sheet = [row for row, _ in zip(rows_of(first), range(_ON_SHEET), strict=False)]
    save_sheet(sheet, settings.videos, part / "contact_sheet.jpg")
    _write_text(part / "statistics.json", json.dumps(measured.as_json(), indent=1, ensure_ascii=False))
    known = {k: v for k, v in dataclasses.asdict(settings).items() if k not in ("build", "videos", "decisions")}
    _write_text(part / "publish.json", json.dumps(known, indent=1))
    _write_text(part / "DATASHEET.md", datasheet_text(settings, measured, facts))
    _write_text(part / "README.md", card_text(settings, measured, facts))


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def check_loads(folder: str | os.PathLike[str]) -> None:
    """Load every configuration as a stream, as the Hub's readers do, and compare what its card says with the files.

    Raises:
        ValueError: the card is not valid, or a configuration does not load or has other columns than it says.
    """
    import datasets

    card = check_card(Path(folder) / "README.md")
    for config in CONFIGS:
        try:
            streams = datasets.load_dataset(str(folder), config, streaming=True)
            for stream in streams.values():
                row = next(iter(stream))
                if list(row) != list(stream.features):
                    raise ValueError(f"columns {list(row)}")
        except Exception as error:  # of whatever kind the library raises: nothing that does not load is published
            raise ValueError(f"configuration {config} of {folder} does not load: {error}") from error
        (info,) = [info for info in card.data["dataset_info"] if info["config_name"] == config]
        if {split["name"] for split in info["splits"]} != set(streams):
            raise ValueError(f"configuration {config}: the card names other splits than {sorted(streams)}.")


def push(folder: str | os.PathLike[str], name: str, public: bool = False, api: Any = None) -> str:
    """Upload a published folder; an upload that was interrupted goes on.

    Args:
        folder: that `publish` wrote.
        name: ORG/NAME on the Hub.
        public: whether everyone may see it; only for a repository that does not exist yet.
        api: a `huggingface_hub.HfApi`.

    Returns:
        Its address.

    Raises:
        ValueError: the Hub finds the card not valid.
    """
    from huggingface_hub import HfApi

    check_card(Path(folder) / "README.md", online=True)
    api = api or HfApi()
    address = api.create_repo(name, repo_type="dataset", private=not public, exist_ok=True)
    api.upload_large_folder(repo_id=name, repo_type="dataset", folder_path=str(folder))
    return str(address)


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_scripts.elysium_track.publish",
        description="Write a build of trajectories as a data set that load_dataset reads, with card and datasheet.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("build", type=Path, metavar="BUILD", help="folder (or parquet file) that the pipeline wrote")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make; it must not exist")
    parser.add_argument("--videos", type=Path, metavar="FOLDER", help="where the videos are (default: BUILD)")
    parser.add_argument("--decisions", type=Path, metavar="FILE", help="apply this log of reviewers")
    parser.add_argument(
        "--require-review", nargs="+", default=[], choices=SPLITS, metavar="SPLIT",
        help="publish only accepted rows of these splits (the paper checked all of its test videos)",
    )  # fmt: skip
    parser.add_argument("--name", default="ElysiumTrack", help="of the data set, for people (default: %(default)s)")
    parser.add_argument(
        "--license", default="other", help="of the annotations, by the Hub's names (default: %(default)s)"
    )
    parser.add_argument(
        "--validation", type=float, default=0.01, metavar="SHARE", help="of the videos (default: 0.01)"
    )
    parser.add_argument(
        "--test", type=float, default=0.01, metavar="SHARE",
        help="of the videos, where rows name no split (default: 0.01)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of that division (default: 0)")
    parser.add_argument("--max-frames", type=int, metavar="N", help="frames of a trajectory, evenly (default: all)")
    parser.add_argument(
        "--max-side", type=int, metavar="PIXELS", help="shrink frames to this side (default: as they are)"
    )
    parser.add_argument("--quality", type=int, default=90, help="of the JPEGs (default: %(default)s)")
    parser.add_argument("--rows-per-shard", type=int, default=500, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--push", metavar="ORG/NAME", help="upload OUT, made now or before, to the Hub")
    parser.add_argument("--public", action="store_true", help="with --push: visible to all (default: private)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: 0, or 2 for arguments or data that are wrong."""
    options = make_parser().parse_args(arguments)
    try:
        if not (options.push and options.out.exists()):
            settings = PublishSettings(
                build=str(options.build),
                videos=str(options.videos or (options.build if options.build.is_dir() else options.build.parent)),
                decisions=None if options.decisions is None else str(options.decisions),
                require_review=tuple(options.require_review),
                **{
                    name: getattr(options, name)
                    for name in ("name", "license", "validation", "test", "seed", "max_frames", "max_side", "quality")
                },
                rows_per_shard=options.rows_per_shard,
            )
            table: Counter[str] = publish(settings, options.out)["table"]
            print("\n".join(f"{name:>22}  {number:,}" for name, number in table.items()))
            print(f'{options.out}\nload_dataset("{options.out}", "rsot")')
        if options.push:
            print(push(options.out, options.push, options.public))
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on from {options.out}.partial.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
