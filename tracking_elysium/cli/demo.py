"""`elysium demo`: the web page of `tracking_elysium/demo/`."""

from __future__ import annotations

import argparse
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..demo.limits import Limits
from .commands import DTYPES, resolve_model

_EXAMPLES = """examples:
  elysium demo
  elysium demo --model elysium --model elysium-7b --device cuda
  elysium demo --host 0.0.0.0 --port 7860 --upload-mb 50 --seconds 30

Needs `pip install 'elysium[demo]'`. Ctrl+C ends it and removes what visitors brought. --host 0.0.0.0 lets other
machines in; without it only this one can open the page. See docs/space.md.
"""
_ABOUT = {
    "upload_mb": "largest upload in MB",
    "seconds": "longest video in seconds",
    "frames": "longest video in frames",
    "megapixels": "largest frame in million pixels",
    "objects": "objects that one visitor follows at once",
    "job_seconds": "longest job; what is tracked by then is kept",
    "queue": "jobs that may wait",
    "concurrency": "jobs at the same time through the one model",
    "keep_minutes": "how long an idle visitor's files are kept",
}


def add_demo(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = commands.add_parser(
        "demo",
        usage="elysium demo [--model DIR]... [options]",
        help="a web page that tracks, corrects and exports",
        description="Open a web page to track objects in your videos, correct them and download the tracks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=demo)
    parser.add_argument(
        "--model",
        action="append",
        metavar="DIR",
        help="checkpoint folder or Hub id (default: the clone's elysium/); repeat to offer a choice",
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps ... (default: the GPU if any)")
    parser.add_argument("--dtype", default="auto", metavar="NAME", help="auto (default), float32, bfloat16, float16")
    parser.add_argument("--host", default="127.0.0.1", metavar="NAME", help="default: 127.0.0.1, this machine alone")
    parser.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860 on")
    parser.add_argument("--sample", metavar="FILE", help="a video to offer (default: the clone's examples/sample.mp4)")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    bounds = parser.add_argument_group("limits for one visitor")
    for one in fields(Limits):
        flag, about = "--" + one.name.replace("_", "-"), f"{_ABOUT[one.name]} (default: {one.default})"
        bounds.add_argument(flag, type=int, default=one.default, metavar="N", help=about)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def demo(args: argparse.Namespace) -> int:
    """Run `elysium demo` until it is interrupted."""
    from ..demo.launch import Settings, running

    if args.dtype not in DTYPES:
        raise ValueError(f"--dtype {args.dtype!r} is unknown; use one of {', '.join(DTYPES)}.")
    settings = Settings(
        models=tuple(resolve_model(name) for name in args.model or [None]),
        host=args.host,
        port=args.port,
        device=args.device,
        dtype=args.dtype,
        sample=find_sample(args.sample),
        inbrowser=args.open,
        limits=Limits(**{one.name: getattr(args, one.name) for one in fields(Limits)}),
    )
    with running(settings) as address:
        print(f"Open {address} (Ctrl+C ends it)", flush=True)
        threading.Event().wait()
    return 0


def find_sample(name: str | None) -> Path | None:
    """Find the video that visitors can take: the one that was named, else the clone's, else none.

    Raises:
        ValueError: the named file does not exist.
    """
    if name is None:
        beside = Path(__file__).resolve().parents[2] / "examples" / "sample.mp4"
        return beside if beside.is_file() else None
    if not Path(name).is_file():
        raise ValueError(f"--sample {name!r} does not exist; check the path.")
    return Path(name)
