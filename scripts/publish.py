"""Write what goes to the Hub into a folder, load it back and compare, and only then upload it, if asked.

python -m scripts.publish out                               a dry run: model, metrics, Space
python -m scripts.publish out --dataset BUILD               and trajectories that the construction pipeline built
python -m scripts.publish out --owner ORG --push            upload what lies there, as private repositories
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .hub_cards import check_model_card, check_model_license, check_space_card, published_model_card, space_card
from .hub_compare import compare_metric, compare_model, compare_space

__all__ = ["Part", "main", "make_parser", "plan", "push", "write"]

ROOT = Path(__file__).resolve().parents[1]
METRICS = ("tracking_ope", "rec_accuracy", "video_reg", "videoqa")
PACKAGES = ("processing_elysium", "modeling_elysium", "tracking_elysium")
EXAMPLE = "sample.mp4"
LICENSE = "apache-2.0"  # of the code
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "*.part", ".*")
_EPILOG = """examples:
  python -m scripts.publish out                       write and check model, metrics and Space; nothing is uploaded
  python -m scripts.publish out --only metrics
  python -m scripts.publish out --dataset build       trajectories, too (see docs/hub_dataset.md)
  python -m scripts.publish out --owner ORG --push    upload to private repositories of ORG; OUT may be there already

OUT appears when all is written and has been loaded back; an OUT that exists is not overwritten, and can be uploaded as
it is. --push asks the Hub to validate the cards, too; that check needs the internet, a dry run makes all others.
"""


@dataclass(frozen=True)
class Part:
    """One repository.

    Attributes:
        kind: `"model"`, `"dataset"` or `"space"`, the Hub's word.
        folder: in OUT.
        name: of the repository, without its owner.
        write: writes it into a folder, given the repository's full name.
        compare: raises ValueError where the folder is not what it was written from.
    """

    kind: str
    folder: str
    name: str
    write: Callable[[Path, str], None]
    compare: Callable[[Path], None]

    def check_card(self, folder: Path, online: bool = False) -> None:
        """Raise ValueError where the card in a folder is not valid."""
        readme = folder / "README.md"
        if self.kind == "model":
            check_model_card(readme, online)
        elif self.kind == "space":
            check_space_card(readme, online)
        else:
            from dataset_scripts.elysium_track.card import check_card

            check_card(readme, online)


def plan(model: Path, name: str, only: Sequence[str], dataset: Path | None = None) -> list[Part]:
    """Say what is published.

    Args:
        model: checkpoint folder.
        name: of the model's repository.
        only: of `"model"`, `"metrics"`, `"space"`.
        dataset: folder of a build; None publishes no data set.
    """
    parts = []
    if "model" in only:
        parts.append(Part("model", "model", name, _model_writer(model), lambda folder: compare_model(model, folder)))
    if "metrics" in only:
        for metric in METRICS:
            source = ROOT / "evaluate_metrics" / metric
            parts.append(Part("space", f"metrics/{metric}", metric, _metric_writer(source), _metric_comparer(source)))
    if "space" in only:
        parts.append(Part("space", "space", f"{name}-demo", _space_writer(model), _space_comparer(model)))
    if dataset is not None:
        parts.append(Part("dataset", "dataset", "ElysiumTrack", _dataset_writer(dataset), _check_dataset))
    return parts


def write(out: Path, owner: str, parts: Sequence[Part]) -> None:
    """Write all parts, check their cards, load each back and compare; OUT appears when all is well.

    Args:
        out: folder to make.
        owner: user or organization that cards name.
        parts: see `plan`.

    Raises:
        ValueError: `out` exists, or something is not as it should be.
    """
    if out.exists():
        raise ValueError(f"{str(out)!r} exists and is not overwritten; give a new folder, or --push it as it is.")
    part_folder = out.with_name(out.name + ".partial")
    shutil.rmtree(part_folder, ignore_errors=True)
    for part in parts:
        folder = part_folder / part.folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.write(folder, f"{owner}/{part.name}")
        part.check_card(folder)
        part.compare(folder)
        links = [path for path in folder.rglob("*") if path.is_symlink()]
        if links:
            raise ValueError(f"{links[0]} is a link, which an upload would follow or lose.")
    os.replace(part_folder, out)


def push(out: Path, owner: str, parts: Sequence[Part], public: bool = False, api: Any = None) -> list[str]:
    """Upload a written folder; what is there already of an interrupted upload is not sent again.

    Args:
        out: that `write` made.
        owner: user or organization.
        parts: see `plan`.
        public: whether new repositories can be seen by everyone.
        api: a `huggingface_hub.HfApi`; None makes one, with the token of `hf auth login`.

    Returns:
        The addresses.

    Raises:
        ValueError: a part is not in the folder, or the Hub finds a card not valid.
    """
    from huggingface_hub import HfApi

    api = api or HfApi()
    missing = [part.folder for part in parts if not (out / part.folder / "README.md").is_file()]
    if missing:
        raise ValueError(f"{str(out)!r} holds no {missing[0]!r}; write it first, or leave it out with --only.")
    for part in parts:  # all of them before the first upload
        part.check_card(out / part.folder, online=True)
    addresses = []
    for part in parts:
        more = {"space_sdk": "gradio"} if part.kind == "space" else {}
        name = f"{owner}/{part.name}"
        addresses.append(str(api.create_repo(name, repo_type=part.kind, private=not public, exist_ok=True, **more)))
        api.upload_folder(repo_id=name, repo_type=part.kind, folder_path=str(out / part.folder))
    return addresses


# --------------------------------------------------------------------------------------------------------------
# what is written
# --------------------------------------------------------------------------------------------------------------
def _model_writer(model: Path) -> Callable[[Path, str], None]:
    def write_model(folder: Path, repo: str) -> None:
        shutil.copytree(model, folder, ignore=_LEFT_OUT)  # of links, what they lead to
        shutil.copyfile(ROOT / "examples" / EXAMPLE, folder / EXAMPLE)
        readme = folder / "README.md"
        readme.write_text(str(published_model_card(readme.read_text(encoding="utf-8"), repo, EXAMPLE)), "utf-8")

    return write_model


def _metric_writer(source: Path) -> Callable[[Path, str], None]:
    def write_metric(folder: Path, repo: str) -> None:
        shutil.copytree(source, folder, ignore=_LEFT_OUT)
        _replace(folder / "app.py", f'evaluate.load("{source.name}")', f'evaluate.load("{repo}")')
        readme = folder / "README.md"
        _replace(
            readme, f'evaluate.load("evaluate_metrics/{source.name}")  # from a clone', f'evaluate.load("{repo}")'
        )
        readme.write_text(str(space_card(readme.read_text(encoding="utf-8"), license=LICENSE)), "utf-8")

    return write_metric


def _space_writer(model: Path) -> Callable[[Path, str], None]:
    def write_space(folder: Path, repo: str) -> None:
        shutil.copytree(ROOT / "space", folder, ignore=_LEFT_OUT)
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=_LEFT_OUT)
        shutil.copytree(model, folder / "elysium", ignore=_LEFT_OUT)
        (folder / "examples").mkdir()
        shutil.copyfile(ROOT / "examples" / EXAMPLE, folder / "examples" / EXAMPLE)
        readme = folder / "README.md"
        card = space_card(readme.read_text(encoding="utf-8"), models=[repo.removesuffix("-demo")])
        weights = check_model_license(model / "README.md")
        if weights["license"] != LICENSE:  # the weights are part of the Space, and their terms are the narrower ones
            card.data.license, card.data["license_name"] = weights["license"], weights["license_name"]
            card.data["license_link"] = "elysium/README.md"
        readme.write_text(str(card), "utf-8")

    return write_space


def _dataset_writer(build: Path) -> Callable[[Path, str], None]:
    def write_dataset(folder: Path, repo: str) -> None:
        from dataset_scripts.elysium_track.plan import PublishSettings
        from dataset_scripts.elysium_track.publish import publish

        publish(PublishSettings(build=str(build), videos=str(build)), folder)
        _replace(folder / "README.md", '"PATH_OR_NAME"', f'"{repo}"')

    return write_dataset


def _check_dataset(folder: Path) -> None:
    from dataset_scripts.elysium_track.publish import check_loads

    check_loads(folder)


def _metric_comparer(source: Path) -> Callable[[Path], None]:
    return lambda folder: compare_metric(source, folder)


def _space_comparer(model: Path) -> Callable[[Path], None]:
    return lambda folder: compare_space({**{name: ROOT / name for name in PACKAGES}, "elysium": model}, folder)


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    if old not in text:
        raise ValueError(f"{path} lacks {old!r}, which would be replaced by {new!r}; update scripts/publish.py.")
    path.write_text(text.replace(old, new), encoding="utf-8")


# --------------------------------------------------------------------------------------------------------------
# the command
# --------------------------------------------------------------------------------------------------------------
def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.publish",
        description="Write model, metrics, Space and data set as they go to the Hub; upload them if asked.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make; with --push it may be there already")
    parser.add_argument("--model", type=Path, default=ROOT / "elysium", metavar="DIR", help="checkpoint folder")
    parser.add_argument("--name", default="elysium-small", help="of the model's repository (default: %(default)s)")
    parser.add_argument("--owner", default="elysium", help="user or organization that cards name")
    parser.add_argument(
        "--only", nargs="+", choices=("model", "metrics", "space"), default=("model", "metrics", "space"),
        metavar="PART", help="model, metrics, space (default: all three)",
    )  # fmt: skip
    parser.add_argument("--dataset", type=Path, metavar="BUILD", help="trajectories to publish as a data set, too")
    parser.add_argument("--push", action="store_true", help="upload OUT; without it nothing leaves this machine")
    parser.add_argument("--public", action="store_true", help="with --push: visible to all (default: private)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: 0, or 2 for arguments or folders that are wrong."""
    options = make_parser().parse_args(arguments)
    try:
        if not (options.model / "config.json").is_file():
            raise ValueError(f"--model {str(options.model)!r} holds no config.json; pass a checkpoint folder.")
        parts = plan(options.model, options.name, options.only, options.dataset)
        if not (options.push and options.out.exists()):
            write(options.out, options.owner, parts)
        for part in parts:
            files = [path for path in (options.out / part.folder).rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files) / 1e6
            print(f"{part.kind:<8}{options.owner}/{part.name:<22}{len(files):>5} files{size:>9.1f} MB  {part.folder}")
        if options.push:
            print("\n".join(push(options.out, options.owner, parts, options.public)))
        else:
            print(f"dry run: {options.out} was written, loaded back and compared; --push uploads it.")
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
