"""`python -m dataset_scripts.review`: review trajectories on a local page."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..construction.builds import read_build
from .agreement import agreement_of
from .decisions import read_log
from .desk import ReviewDesk
from .page import LAUNCH, build_page

_EPILOG = """examples:
  python -m dataset_scripts.review build --log decisions.jsonl --reviewer ann --split test
  python -m dataset_scripts.review build --log decisions.jsonl --agreement      no page: how far reviewers agree
  python -m dataset_scripts.elysium_track.publish build out --decisions decisions.jsonl --require-review test

Keys: a accepts, r rejects, e accepts with the words that were edited, b goes back. Every decision is one line of the
log, on the disk before the next clip comes; the same command goes on where it stopped. Several reviewers may share a
log and a page; all see the same order. The page is served on this machine only, unless --host says otherwise.
"""


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_scripts.review",
        description="Check trajectories by hand, as the paper's 500 held-out videos were.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("build", type=Path, metavar="BUILD", help="folder (or parquet file) that the pipeline wrote")
    parser.add_argument("--log", type=Path, required=True, metavar="FILE", help="decisions, .jsonl")
    parser.add_argument("--reviewer", default="", metavar="NAME", help="your name; the page asks for it otherwise")
    parser.add_argument("--split", help="only the rows of this split")
    parser.add_argument("--videos", type=Path, metavar="FOLDER", help="where the videos are (default: BUILD)")
    parser.add_argument("--seed", type=int, default=0, help="of the order, the same for all (default: %(default)s)")
    parser.add_argument("--agreement", action="store_true", help="print how far reviewers agree, and end")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7861, help="(default: %(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: 0, or 2 for arguments or data that are wrong."""
    options = make_parser().parse_args(arguments)
    try:
        if options.agreement:
            print("\n".join(agreement_of(read_log(options.log)).lines()))
            return 0
        rows = [row for row in read_build(options.build) if options.split in (None, row.split)]
        if not rows:
            raise ValueError(f"{options.build} has no row of the split {options.split!r}; leave out --split.")
        videos = options.videos or (options.build if options.build.is_dir() else options.build.parent)
        read_log(options.log)
        with tempfile.TemporaryDirectory(prefix="elysium-review-") as clips:
            desk = ReviewDesk(rows, videos, options.log, clips, options.seed)
            build_page(desk, options.reviewer).launch(
                server_name=options.host, server_port=options.port, allowed_paths=[clips], quiet=False, **LAUNCH
            )
        return 0
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
