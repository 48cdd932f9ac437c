"""The arguments of the command `elysium`."""

from __future__ import annotations

import argparse
from dataclasses import Field, fields
from importlib import metadata
from typing import Any, NoReturn

from ..options import TrackingOptions, takes_none
from .commands import ask, describe, track
from .convert import add_convert
from .demo import add_demo

_TRACK_EXAMPLES = """examples:
  elysium track swans.mp4 --expression "the black swan" --output swans_tracked.mp4
  elysium track swans.mp4 --box 34,40,120,160 --json swans.json
  elysium track game.mp4 --box 10,20,60,90 --box 200,40,260,130 --start-frame 48 --direction both
  elysium track swans.mp4 --expression "the black swan" --prompt "Follow {expression} closely." --json -

A box is x1,y1,x2,y2 in pixels of the original frame: left, top, right, bottom.
Repeat --box (or --expression) to track several objects; boxes and expressions do not mix in one call.
A score is the mean probability of the box's digits; 1.00 is a box you gave, 0.00 one that --gap-policy filled in.
"""
_DESCRIBE_EXAMPLES = """examples:
  elysium describe swans.mp4 --box 34,40,120,160
  elysium describe swans.mp4 --box 34,40,120,160 --start-frame 30 --num-frames 8 --frame-interval 5
"""
_ASK_EXAMPLES = """examples:
  elysium ask swans.mp4 "What is on the lake?"
  elysium ask swans.mp4 "Which bird leads?" --num-frames 32
"""


_EXAMPLES = """examples:
  elysium track examples/sample.mp4 --expression "the bottle" --output outputs/tracked.mp4
  elysium track swans.mp4 --box 34,40,120,160 --json swans.json
  elysium describe swans.mp4 --box 34,40,120,160
  elysium ask swans.mp4 "What is on the lake?"
  elysium convert sty-yyj/elysium_7b elysium-7b --dtype bf16
  elysium demo

A box is x1,y1,x2,y2 in pixels of the original frame: left, top, right, bottom.
Without --model the small checkpoint of the clone answers: it follows a box in real video and finds common things by
name. For free wording and for questions convert the authors' (the last example) and pass --model elysium-7b.
`elysium COMMAND --help` says more.
"""


class _Parser(argparse.ArgumentParser):
    """Argument errors as one line; the usage is what --help is for."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see `{self.prog} --help`)\n")


def make_parser() -> argparse.ArgumentParser:
    """Build the argument parser of all commands."""
    parser = _Parser(
        prog="elysium",
        usage="elysium COMMAND VIDEO [options]",
        description="Object perception in videos: where an object is in every frame, what it is, what happens.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version(), help="show the versions, and exit")
    commands = parser.add_subparsers(
        dest="command", required=True, title="commands", metavar="COMMAND", parser_class=_Parser
    )
    _add_track(commands)
    _add_describe(commands)
    _add_ask(commands)
    add_convert(commands)
    add_demo(commands)
    return parser


def _version() -> str:
    """Say the versions of this package and of what it runs on, without importing any of them."""
    found = []
    for name in ("elysium", "torch", "transformers"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} (not installed)")
    return ", ".join(found)


def _add_track(commands: Any) -> None:
    parser = commands.add_parser(
        "track",
        usage="elysium track VIDEO (--box X1,Y1,X2,Y2 | --expression TEXT)... [options]",
        help="box of an object in every frame, from a box or a description",
        description="Track one or several objects through a video.",
        epilog=_TRACK_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=track)
    parser.add_argument("video", help="path or URL of a video")
    objects = parser.add_argument_group("what to track (at least one; repeat for several objects)")
    objects.add_argument("--box", action="append", metavar="X1,Y1,X2,Y2", help="the object's box in the start frame")
    objects.add_argument("--expression", action="append", metavar="TEXT", help='a description: "the black swan"')
    objects.add_argument("--label", action="append", metavar="TEXT", help="a name for the results, one per object")
    objects.add_argument("--start-frame", type=int, default=0, metavar="N", help="start here, from 0 (default: 0)")
    objects.add_argument(
        "--direction", default="forward", metavar="NAME", help="forward (default), backward or both; needs --box"
    )
    output = parser.add_argument_group("what to write")
    output.add_argument("--output", metavar="OUT.mp4", help="the video with the boxes drawn in (H.264)")
    output.add_argument("--json", metavar="FILE", help="frames, seconds, pixel boxes, scores; - prints it")
    output.add_argument("--csv", metavar="FILE", help="the same as a table, one line per object and frame")
    output.add_argument("--contact-sheet", metavar="FILE.png", help="twelve frames of the result in one picture")
    output.add_argument(
        "--visualize",
        metavar="FOLDER",
        help="video, contact sheet, plots, what the T-Selector kept, into a folder",
    )
    output.add_argument("--masks", metavar="SAM", help="masks by SAM 2 or SAM 3 (folder or Hub id): drawn, in --json")
    how = parser.add_argument_group("how (a checkpoint may ask for other defaults)")
    for option in fields(TrackingOptions):
        _add_option(how, option)
    how.add_argument("--stats", action="store_true", help="say what the run cost (stderr, and in --json)")
    _add_common(parser)


def _add_option(group: Any, option: Field[Any]) -> None:
    """Add a flag for a field of `TrackingOptions`; what is not typed leaves the default to the pipeline."""
    flag, about, kind = "--" + option.name.replace("_", "-"), option.metadata["about"], str(option.type)
    if option.default is not None:
        shown = str(option.default).lower() if isinstance(option.default, bool) else option.default
        about += f" (default: {shown})"
    if kind == "bool":
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=about)
        return
    number = int if "int" in kind else float if "float" in kind else str

    def read(text: str) -> Any:
        return None if takes_none(option) and text.lower() == "none" else number(text)

    read.__name__ = number.__name__  # argparse names the type by it
    group.add_argument(flag, type=read, metavar=option.metadata["metavar"], default=argparse.SUPPRESS, help=about)


def _add_describe(commands: Any) -> None:
    parser = commands.add_parser(
        "describe",
        usage="elysium describe VIDEO --box X1,Y1,X2,Y2... [options]",
        help="a description of the object in a box",
        description="Describe the object in a box.",
        epilog=_DESCRIBE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=describe)
    parser.add_argument("video", help="path or URL of a video")
    parser.add_argument("--box", action="append", metavar="X1,Y1,X2,Y2", help="pixels; repeat for several objects")
    parser.add_argument("--start-frame", type=int, default=0, metavar="N", help="frame of the box (default: 0)")
    parser.add_argument("--num-frames", type=int, default=8, metavar="N", help="frames to look at (default: 8)")
    parser.add_argument("--frame-interval", type=int, default=1, metavar="N", help="frames between them (default: 1)")
    parser.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="length of the answer")
    parser.add_argument("--prompt", metavar="TEXT", help="own question with {box} in it")
    parser.add_argument("--json", metavar="FILE", help="write the answers; - prints them as JSON")
    _add_common(parser)


def _add_ask(commands: Any) -> None:
    parser = commands.add_parser(
        "ask",
        usage="elysium ask VIDEO QUESTION [options]",
        help="answer a question about a video",
        description="Answer a question about a video.",
        epilog=_ASK_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=ask)
    parser.add_argument("video", help="path or URL of a video")
    parser.add_argument("question", help="the question, in quotes")
    parser.add_argument("--num-frames", type=int, default=16, metavar="N", help="evenly spaced frames (default: 16)")
    parser.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="length of the answer")
    parser.add_argument("--prompt", metavar="TEXT", help="own wording with {question} in it")
    _add_common(parser)


def _add_common(parser: argparse.ArgumentParser) -> None:
    common = parser.add_argument_group("model")
    common.add_argument("--model", metavar="DIR", help="checkpoint folder or Hub id (default: the clone's elysium/)")
    common.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps ..., or auto to spread (default: the GPU if any)"
    )
    common.add_argument("--dtype", default="auto", metavar="NAME", help="auto (default), float32, bfloat16, float16")
    common.add_argument("--batch-size", type=int, metavar="N", help="prompts per forward pass (default: 16)")
    common.add_argument("--quiet", action="store_true", help="no progress bar, no table")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
