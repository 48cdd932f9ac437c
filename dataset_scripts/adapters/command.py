"""The command `python -m dataset_scripts.adapters`: a corpus as a file of records, and a look at it."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ..records import VideoRecord, part_file, write_records
from . import ADAPTERS, Reading, Skipped, load_adapter, open_corpus

__all__ = ["main", "make_parser"]

_ON_SHEET = 16  # records drawn
_EPILOG = """examples:
  python -m dataset_scripts.adapters my-boxes                       what my-boxes reads: formats and layout on disk
  python -m dataset_scripts.adapters my-boxes my_videos --contact-sheet look.png
                                                                    look at the boxes before anything is trained
  python -m dataset_scripts.adapters my-boxes my_videos --out data/mine.jsonl
                                                                    the file that a recipe names as a source
  python -m dataset_scripts.adapters refcoco data/refer --images data/coco --split val --out data/refcoco_val.jsonl
  python -m dataset_scripts.adapters grit-20m shards --extract-to data/grit --limit 100000 --out data/grit.jsonl

Nothing is copied: records name the pictures and videos where they are, relative to the records' file. Items that
cannot be used are skipped; how many, why and which is told at the end. docs/data.md has a row for every corpus.
"""


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    names = "\n".join(f"  {name:<17}{what}" for name, (_, what) in ADAPTERS.items())
    parser = argparse.ArgumentParser(
        prog="python -m dataset_scripts.adapters",
        description="Read a published corpus, or your own annotated videos, and write a file of records, which "
        f"training and evaluation read.\n\nNAME is one of\n{names}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="the corpus; alone, it tells the layout that is read")
    parser.add_argument("path", metavar="PATH", nargs="?", help="its folder or file, or hf://OWNER/NAME of the Hub")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the records here (.jsonl)")
    parser.add_argument("--overwrite", action="store_true", help="replace --out and --contact-sheet where they exist")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after so many records")
    parser.add_argument("--split", help="part of the corpus (default: its first, mostly train)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="pictures or videos, where they are not in PATH")
    parser.add_argument("--extract-to", type=Path, metavar="FOLDER", help="unpack pictures that are in tars to here")
    parser.add_argument(
        "--contact-sheet", type=Path, metavar="PNG", help=f"draw the first {_ON_SHEET} records with their boxes"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: 0, 1 if nothing could be used, 2 for arguments or data that are wrong."""
    options = make_parser().parse_args(arguments)
    try:
        adapter = load_adapter(options.name)
        if options.path is None:
            print((adapter.__doc__ or "").strip())
            if adapter.SPLITS:
                print(f"\nSplits: {', '.join(adapter.SPLITS)}")
            return 0
        _check(options)
        return _run(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was written.", file=sys.stderr)
        return 130


def _check(options: argparse.Namespace) -> None:
    """Refuse what would fail or destroy later."""
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"--limit {options.limit}: give 1 or more, or leave it out.")
    if options.out is None and options.contact_sheet is None:
        raise ValueError("nothing to do; give --out FILE to write records, --contact-sheet PNG to look at some.")
    for name in ("out", "contact_sheet"):
        file = getattr(options, name)
        if file is not None and file.is_dir():
            raise ValueError(f"--{name.replace('_', '-')} {file} is a folder; give the name of a file.")
        if file is not None and file.exists() and not options.overwrite:
            raise ValueError(f"--{name.replace('_', '-')} {file} exists; give another name, or --overwrite.")
    if options.contact_sheet is not None and options.contact_sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"--contact-sheet {options.contact_sheet}: the name has to end in .png or .jpg.")
    if options.images is not None and not options.images.is_dir():
        raise ValueError(f"--images {options.images} is no folder.")


def _run(options: argparse.Namespace) -> int:
    skipped = Skipped()
    reading = Reading(
        split=options.split, images=options.images, extract_to=options.extract_to, skipped=skipped
    )  # fmt: skip
    records: Iterable[VideoRecord] = _once(open_corpus(options.name, options.path, reading), skipped)
    if options.limit is not None or options.out is None:
        records = itertools.islice(records, options.limit or _ON_SHEET)
    drawn: list[VideoRecord] = []
    counted: Counter[str] = Counter()
    records = _watched(tqdm(records, unit=" records", disable=None), drawn, counted)
    if options.out is not None:
        _write(options.out, records, counted)
    else:
        for _ in records:
            pass
    if options.contact_sheet is not None and drawn:
        _save(options, drawn)
    _report(options, counted, skipped)
    return 0 if counted["records"] else 1


def _once(records: Iterable[VideoRecord], skipped: Skipped) -> Iterator[VideoRecord]:
    """Records whose id was not there before: a file of records names each once."""
    seen = set()
    for record in records:
        if record.id in seen:
            skipped.add("id that was there before", record.id)
        else:
            seen.add(record.id)
            yield record


def _watched(records: Iterable[VideoRecord], drawn: list[VideoRecord], counted: Counter[str]) -> Iterator[VideoRecord]:
    """Records as they pass, counted, the first ones kept for the contact sheet."""
    for record in records:
        if len(drawn) < _ON_SHEET:
            drawn.append(record)
        counted["records"] += 1
        counted["objects"] += len(record.objects)
        counted["boxes"] += sum(int(track.known.sum()) for track in record.objects)
        counted["with words"] += sum(track.expression is not None for track in record.objects)
        counted["answers"] += sum(message["role"] == "assistant" for message in record.messages)
        yield record


class _Nothing(Exception):  # noqa: N818 - ends writing when no record came
    """No record came."""


def _write(file: Path, records: Iterable[VideoRecord], counted: Counter[str]) -> None:
    """Write the records with `video` relative to the file; without any record no file appears."""

    def moved() -> Iterator[VideoRecord]:
        for record in records:
            yield replace(record, video=_relative(record.video, file.parent))
        if not counted["records"]:
            raise _Nothing

    try:
        write_records(file, moved())
    except _Nothing:
        return


def _relative(video: str | list[str] | None, folder: Path) -> str | list[str] | None:
    """Paths from the working folder as paths from `folder`."""
    if isinstance(video, list):
        return [str(_relative(name, folder)) for name in video]
    return None if video is None else Path(os.path.relpath(video, folder)).as_posix()


def _save(options: argparse.Namespace, drawn: list[VideoRecord]) -> None:
    """Write the contact sheet whole or not at all."""
    from .contact_sheet import contact_sheet  # reads videos, which takes seconds to import

    target = options.contact_sheet
    sheet = contact_sheet(drawn)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, part = part_file(target, target.suffix)
    os.close(handle)
    try:
        sheet.save(part, quality=85)
        os.replace(part, target)
    finally:
        Path(part).unlink(missing_ok=True)


def _report(options: argparse.Namespace, counted: Counter[str], skipped: Skipped) -> None:
    """What came, what did not and why."""
    print(
        f"{counted['records']} records: {counted['objects']} objects ({counted['with words']} with an expression) "
        f"with {counted['boxes']} boxes, {counted['answers']} answers"
    )
    if skipped.counts:
        print(f"skipped {skipped.counts.total()}:")
        for line in skipped.lines():
            print(f"  {line}")
    if not counted["records"]:
        print("No record came of it; nothing was written.", file=sys.stderr)
        return
    for name in ("out", "contact_sheet"):
        if getattr(options, name) is not None:
            print(getattr(options, name))
