"""The arguments of the command `elysium`."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from .commands import DEFAULT_MODEL, ask, describe, track
from .convert import add_convert

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


class _Parser(argparse.ArgumentParser):
    """Argument errors as one line; the usage is what --help is for."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see `{self.prog} --help`)\n")


def make_parser() -> argparse.ArgumentParser:
    """The argument parser of all commands."""
    parser = _Parser(prog="elysium", description="Object perception in videos: track, describe, ask.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_track(commands)
    _add_describe(commands)
    _add_ask(commands)
    add_convert(commands)
    return parser


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
    how = parser.add_argument_group("how")
    how.add_argument("--prompt", metavar="TEXT", help="own question with {box} or {expression} in it")
    how.add_argument(
        "--gap-policy", metavar="NAME", help="frames without a box: hold (default), previous_velocity, none"
    )
    how.add_argument(
        "--rsot-continuation", metavar="NAME", help="later clips continue from the box (default) or expression"
    )
    how.add_argument("--clip-len", type=int, metavar="N", help="frames per clip of a long video (default: 8)")
    how.add_argument("--overlap", type=int, metavar="N", help="frames shared by neighbouring clips (default: 1)")
    how.add_argument(
        "--single-pass-up-to", type=int, metavar="N", help="videos up to N frames go in one piece (default: 32)"
    )
    how.add_argument(
        "--decoding", metavar="NAME", help="drafted (default): several tokens per pass; plain: one; same answers"
    )
    how.add_argument(
        "--constrained",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="hold answers to the box format, every frame gets a box (default), or leave the model its own words",
    )
    how.add_argument(
        "--compile",
        action="store_true",
        default=None,
        help="compile the language model: for long videos (drafted only)",
    )
    how.add_argument(
        "--vision-memory-mb",
        type=int,
        metavar="MB",
        help="memory of the vision tower's passes (default: the device's)",
    )
    how.add_argument("--stats", action="store_true", help="say what the run cost (stderr, and in --json)")
    _add_common(parser)


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
    common.add_argument("--model", default=DEFAULT_MODEL, metavar="DIR", help="checkpoint folder or Hub id (elysium)")
    common.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps ..., or auto to spread (default: the GPU if any)"
    )
    common.add_argument("--dtype", default="auto", metavar="NAME", help="auto (default), float32, bfloat16, float16")
    common.add_argument("--batch-size", type=int, metavar="N", help="prompts per forward pass (default: 16)")
    common.add_argument("--quiet", action="store_true", help="no progress bar, no table")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
