"""The command `elysium`: track, describe, ask, convert.

Every command checks its input before a model is loaded; what cannot be done is one line on stderr and exit code 2.
Libraries that take long to import, and models, are loaded when a command needs them.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .cli_convert import add_convert

DEFAULT_MODEL = "elysium"
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments without the program name; None takes those of the process.

    Returns:
        Exit code: 0, or 2 for input that cannot be used, 130 when interrupted.
    """
    try:
        args = make_parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed its line, or the help
        return int(stop.code or 0)
    prog = f"elysium {args.command}"

    def show(message: Any, *_: Any, **__: Any) -> None:
        print(f"{prog}: warning: {_one_line(message)}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=r"(modeling|processing)_elysium")
        warnings.filterwarnings("default", category=UserWarning, module=r"__main__")
        warnings.showwarning = show
        try:
            return args.run(args)
        except KeyboardInterrupt:
            print(f"{prog}: interrupted", file=sys.stderr)
            return 130
        except (ValueError, OSError, ImportError) as error:
            if args.debug:
                raise
            print(f"{prog}: error: {_one_line(error)}", file=sys.stderr)
            return 2


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())


# --------------------------------------------------------------------------------------------------------------
# arguments
# --------------------------------------------------------------------------------------------------------------
def _add_track(commands: Any) -> None:
    track = commands.add_parser(
        "track",
        usage="elysium track VIDEO (--box X1,Y1,X2,Y2 | --expression TEXT)... [options]",
        help="box of an object in every frame, from a box or a description",
        description="Track one or several objects through a video.",
        epilog=_TRACK_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    track.set_defaults(run=_track)
    track.add_argument("video", help="path or URL of a video")
    objects = track.add_argument_group("what to track (at least one; repeat for several objects)")
    objects.add_argument("--box", action="append", metavar="X1,Y1,X2,Y2", help="the object's box in the start frame")
    objects.add_argument("--expression", action="append", metavar="TEXT", help='a description: "the black swan"')
    objects.add_argument("--label", action="append", metavar="TEXT", help="a name for the results, one per object")
    objects.add_argument("--start-frame", type=int, default=0, metavar="N", help="start here, from 0 (default: 0)")
    objects.add_argument(
        "--direction", default="forward", metavar="NAME", help="forward (default), backward or both; needs --box"
    )
    output = track.add_argument_group("what to write")
    output.add_argument("--output", metavar="OUT.mp4", help="the video with the boxes drawn in (H.264)")
    output.add_argument("--json", metavar="FILE", help="frames, seconds, pixel boxes, scores; - prints it")
    output.add_argument("--csv", metavar="FILE", help="the same as a table, one line per object and frame")
    output.add_argument("--contact-sheet", metavar="FILE.png", help="twelve frames of the result in one picture")
    how = track.add_argument_group("how")
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
    _add_common(track)


def _add_describe(commands: Any) -> None:
    describe = commands.add_parser(
        "describe",
        usage="elysium describe VIDEO --box X1,Y1,X2,Y2... [options]",
        help="a description of the object in a box",
        description="Describe the object in a box.",
        epilog=_DESCRIBE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    describe.set_defaults(run=_describe)
    describe.add_argument("video", help="path or URL of a video")
    describe.add_argument("--box", action="append", metavar="X1,Y1,X2,Y2", help="pixels; repeat for several objects")
    describe.add_argument("--start-frame", type=int, default=0, metavar="N", help="frame of the box (default: 0)")
    describe.add_argument("--num-frames", type=int, default=8, metavar="N", help="frames to look at (default: 8)")
    describe.add_argument(
        "--frame-interval", type=int, default=1, metavar="N", help="frames between them (default: 1)"
    )
    describe.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="length of the answer")
    describe.add_argument("--prompt", metavar="TEXT", help="own question with {box} in it")
    describe.add_argument("--json", metavar="FILE", help="write the answers; - prints them as JSON")
    _add_common(describe)


def _add_ask(commands: Any) -> None:
    ask = commands.add_parser(
        "ask",
        usage="elysium ask VIDEO QUESTION [options]",
        help="answer a question about a video",
        description="Answer a question about a video.",
        epilog=_ASK_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ask.set_defaults(run=_ask)
    ask.add_argument("video", help="path or URL of a video")
    ask.add_argument("question", help="the question, in quotes")
    ask.add_argument("--num-frames", type=int, default=16, metavar="N", help="evenly spaced frames (default: 16)")
    ask.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="length of the answer")
    ask.add_argument("--prompt", metavar="TEXT", help="own wording with {question} in it")
    _add_common(ask)


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


# --------------------------------------------------------------------------------------------------------------
# commands
# --------------------------------------------------------------------------------------------------------------
def _track(args: argparse.Namespace) -> int:
    from .cli_output import Report, Stopwatch, progress
    from .queries import Subjects, make_queries

    subjects = Subjects(_boxes(args.box), args.expression, args.start_frame, args.label)
    report = Report.from_args(args)
    source, processor = _open(args)
    queries = make_queries(source, processor, subjects, args.direction)
    names = ("clip_len", "overlap", "single_pass_up_to", "gap_policy", "rsot_continuation", "prompt")
    names += ("decoding", "constrained", "compile", "vision_memory_mb")
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    pipe = _pipeline(args, processor)
    frames = pipe(
        source,
        box=subjects.box,
        expression=subjects.expression,
        start_frame=subjects.start_frame,
        labels=subjects.labels,
        direction=args.direction,
        batch_size=args.batch_size,
        stream=True,
        **options,
    )
    watch = Stopwatch()
    total = (
        None if source.num_frames is None else _frames_to_track(source.num_frames, args.start_frame, args.direction)
    )
    results = sorted(progress(frames, total, args.quiet), key=lambda item: item["frame"])
    report.write(args, source, queries, results, watch.seconds(), pipe.stats if args.stats else None)
    return 0


def _describe(args: argparse.Namespace) -> int:
    from .cli_output import write_json
    from .queries import Subjects, make_queries

    subjects = Subjects(_boxes(args.box), None, args.start_frame, None)
    if subjects.box is None:
        raise ValueError("--box is missing; pass the box of the object to describe.")
    source, processor = _open(args)
    make_queries(source, processor, subjects)
    results = _pipeline(args, processor)(
        source,
        box=subjects.box,
        start_frame=args.start_frame,
        task="describe",
        num_frames=args.num_frames,
        frame_interval=args.frame_interval,
        max_new_tokens=args.max_new_tokens,
        batch_size=args.batch_size,
        **({} if args.prompt is None else {"prompt": args.prompt}),
    )
    if args.json:
        write_json(args.json, {"video": args.video, "objects": results})
    if args.json != "-":
        for item in results:
            print(item["description"] if len(results) == 1 else f"{item['id']}: {item['description']}")
    return 0


def _ask(args: argparse.Namespace) -> int:
    if not args.question.strip():
        raise ValueError("the question is empty; say what you want to know.")
    source, processor = _open(args)
    print(
        _pipeline(args, processor).ask(
            source,
            args.question,
            num_frames=args.num_frames,
            max_new_tokens=args.max_new_tokens,
            prompt=args.prompt,
            batch_size=args.batch_size,
        )
    )
    return 0


# --------------------------------------------------------------------------------------------------------------
# steps
# --------------------------------------------------------------------------------------------------------------
def _boxes(texts: list[str] | None) -> list[list[float]] | None:
    """Boxes as typed; whether they are boxes of this video is checked once it is open."""
    if texts is None:
        return None
    boxes = []
    for text in texts:
        try:
            boxes.append([float(word) for word in text.replace(";", ",").strip("[]() ").split(",")])
        except ValueError:
            raise ValueError(f"--box {text!r} is not four numbers; pass x1,y1,x2,y2 in pixels.") from None
    return boxes


def _frames_to_track(num_frames: int, start: int, direction: str) -> int:
    return {"forward": num_frames - start, "backward": start + 1}.get(direction, num_frames)


def _open(args: argparse.Namespace) -> tuple[Any, Any]:
    """The opened video and the model's processor; the model itself is not needed to find most errors."""
    if "://" not in args.video and not Path(args.video).exists():
        raise ValueError(f"{args.video!r} does not exist; check the path.")
    args.model = resolve_model(args.model)
    import transformers

    import processing_elysium  # noqa: F401  (registers the processor)

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    processor = transformers.AutoProcessor.from_pretrained(args.model)
    return processor.open_video(args.video), processor


def _pipeline(args: argparse.Namespace, processor: Any) -> Any:
    from transformers import AutoModelForImageTextToText

    from .pipeline_video_tracking import VideoTrackingPipeline

    allowed = ("auto", "float32", "bfloat16", "float16")
    if args.dtype not in allowed:
        raise ValueError(f"--dtype {args.dtype!r} is unknown; use one of {', '.join(allowed)}.")
    _check_device(args.device)
    spread = args.device == "auto"
    model = AutoModelForImageTextToText.from_pretrained(
        args.model, dtype=args.dtype, device_map="auto" if spread else None
    ).eval()
    device = None if spread else args.device
    return VideoTrackingPipeline(model=model, processor=processor, task="video-tracking", device=device)


def _check_device(name: str | None) -> None:
    import torch

    try:
        kind = None if name in (None, "auto") else torch.device(name).type
    except RuntimeError:
        raise ValueError(f"--device {name!r} is not a device; use cpu, cuda, cuda:1, mps ... or auto.") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name!r}: torch sees no CUDA device here; leave --device out or pass cpu.")


def resolve_model(name: str) -> str:
    """The folder or Hub id to load; the default is the small checkpoint that lies beside the packages in a clone.

    Raises:
        ValueError: a path that does not exist, or the default where there is no clone.
    """
    if Path(name).is_dir():
        return name
    if name == DEFAULT_MODEL:
        beside = Path(__file__).resolve().parent.parent / DEFAULT_MODEL
        if (beside / "config.json").is_file():
            return str(beside)
        raise ValueError(f"the default checkpoint {str(beside)!r} is not there; run from a clone or pass --model DIR.")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name  # a Hub id
    raise ValueError(f"--model {name!r} is neither a folder nor a Hub id (owner/name).")


if __name__ == "__main__":
    sys.exit(main())
