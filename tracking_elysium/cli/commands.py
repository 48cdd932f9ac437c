"""What `elysium track`, `describe` and `ask` do.

Every command checks its input before a model is loaded. Libraries that take long to import, and models, are loaded
when a command needs them.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..options import TrackingOptions, check_count

DEFAULT_MODEL = "elysium"
PATHS = ("video", "model", "output", "json", "csv", "contact_sheet")  # may have any bytes that a file system has
DTYPES = ("auto", "float32", "bfloat16", "float16")


def track(args: argparse.Namespace) -> int:
    """Run `elysium track`."""
    from ..extras import folder_for
    from ..queries import Subjects, make_queries
    from .output import Report, Stopwatch, progress

    _check(args, ("batch_size",))
    options = tracking_options(args)
    TrackingOptions(**options)
    subjects = Subjects(_boxes(args.box), args.expression, args.start_frame, args.label)
    report = Report.from_args(args)
    if args.visualize is not None:
        folder_for(args.visualize)
    source, processor = _open(args)
    queries = make_queries(source, processor, subjects, args.direction)
    pipe = load_pipeline(args, processor)
    frames = pipe(
        source,
        box=subjects.box,
        expression=subjects.expression,
        start_frame=subjects.start_frame,
        labels=subjects.labels,
        direction=args.direction,
        batch_size=args.batch_size,
        stream=True,
        masks=False if args.masks is None else args.masks,
        visualize=False if args.visualize is None else args.visualize,
        **options,
    )
    watch = Stopwatch()
    total = (
        None if source.num_frames is None else _frames_to_track(source.num_frames, args.start_frame, args.direction)
    )
    results = sorted(progress(frames, total, args.quiet), key=lambda item: item["frame"])
    report.write(args, source, queries, results, watch.seconds(), pipe.stats if args.stats else None)
    return 0


def describe(args: argparse.Namespace) -> int:
    """Run `elysium describe`."""
    from ..queries import Subjects, make_queries
    from .output import check_output_arguments, write_json

    _check(args, ("batch_size", "num_frames", "frame_interval", "max_new_tokens"))
    check_output_arguments(args, ("json",))
    subjects = Subjects(_boxes(args.box), None, args.start_frame, None)
    if subjects.box is None:
        raise ValueError("--box is missing; pass the box of the object to describe.")
    source, processor = _open(args)
    make_queries(source, processor, subjects)
    results = load_pipeline(args, processor)(
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


def ask(args: argparse.Namespace) -> int:
    """Run `elysium ask`."""
    _check(args, ("batch_size", "num_frames", "max_new_tokens"))
    if not args.question.strip():
        raise ValueError("the question is empty; say what you want to know.")
    source, processor = _open(args)
    print(
        load_pipeline(args, processor).ask(
            source,
            args.question,
            num_frames=args.num_frames,
            max_new_tokens=args.max_new_tokens,
            prompt=args.prompt,
            batch_size=args.batch_size,
        )
    )
    return 0


def tracking_options(args: argparse.Namespace) -> dict[str, Any]:
    """Collect the options of `TrackingOptions` that were typed."""
    return {one.name: getattr(args, one.name) for one in fields(TrackingOptions) if hasattr(args, one.name)}


def _check(args: argparse.Namespace, counts: tuple[str, ...]) -> None:
    """Check what needs neither video nor model, and find the model's folder.

    Raises:
        ValueError: a text that is no UTF-8, a count below 1, an unknown number format, or see `resolve_model`.
    """
    for name, value in vars(args).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and name not in PATHS and text != text.encode("utf-8", "ignore").decode():
                raise ValueError(f"{name} {text!a} is no UTF-8 text; check the encoding of your terminal.")
    for name in counts:
        check_count(name, getattr(args, name), optional=name == "batch_size")
    if args.dtype not in DTYPES:
        raise ValueError(f"--dtype {args.dtype!r} is unknown; use one of {', '.join(DTYPES)}.")
    args.model = resolve_model(args.model)


def _boxes(texts: list[str] | None) -> list[list[float]] | None:
    """Read boxes as typed; whether they are boxes of this video is checked once it is open."""
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
    """Open the video and load the processor; the model itself is not needed to find most errors."""
    if "://" not in args.video and not Path(args.video).exists():
        raise ValueError(f"{args.video!r} does not exist; check the path.")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # The code of this package serves; a folder that asks for its own would ask the user, who may not be there.
    processor = _loaded(args, transformers.AutoProcessor.from_pretrained, args.model, trust_remote_code=False)
    if not hasattr(processor, "open_video"):
        raise ValueError(f"--model {args.model!r} is no Elysium checkpoint; pass one, or `elysium convert` it first.")
    return processor.open_video(args.video), processor


def _loaded(args: argparse.Namespace, load: Any, *words: Any, **options: Any) -> Any:
    """Return what `load` gives; whatever a damaged checkpoint makes it raise is one error.

    Raises:
        ValueError: the checkpoint cannot be loaded.
    """
    try:
        return load(*words, **options)
    except Exception as error:  # damaged weights and configurations raise anything
        if args.debug:
            raise
        reason = str(error) or type(error).__name__
        raise ValueError(f"--model {args.model!r} cannot be loaded: {reason}") from error


def load_pipeline(args: argparse.Namespace, processor: Any) -> Any:
    """Build the pipeline around the model that the arguments name."""
    from transformers import AutoModelForImageTextToText

    from ..pipeline_video_tracking import VideoTrackingPipeline

    check_device(args.device)
    spread = args.device == "auto"
    options = {"dtype": args.dtype, "device_map": "auto" if spread else None, "trust_remote_code": False}
    model = _loaded(args, AutoModelForImageTextToText.from_pretrained, args.model, **options).eval()
    _check_parts(args, model, processor)
    device = None if spread else args.device
    return VideoTrackingPipeline(model=model, processor=processor, task="video-tracking", device=device)


def _check_parts(args: argparse.Namespace, model: Any, processor: Any) -> None:
    """Raise ValueError where model and processor of one folder do not belong together."""
    wanted, given = getattr(model.config, "num_image_tokens", None), processor.num_image_tokens
    if wanted != given:
        raise ValueError(
            f"--model {args.model!r}: config.json says {wanted} tokens per frame (`num_image_tokens`) and "
            f"processor_config.json {given}; save both anew from one model."
        )


def check_device(name: str | None) -> None:
    """Raise ValueError unless torch can put something on the device ("auto" and None pass)."""
    import torch

    if name in (None, "auto"):
        return
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = " ".join(str(error).split())[:120]
        allowed = "cpu, cuda, cuda:1, mps ... or auto"
        raise ValueError(f"--device {name!r} is not a device of this machine; use {allowed} ({reason}).") from None


def resolve_model(name: str | None) -> str:
    """Find the folder or Hub id to load; the default is the small checkpoint that lies beside the packages in a clone.

    Args:
        name: what was typed; None for nothing.

    Raises:
        ValueError: a folder without a checkpoint, a path that does not exist, or the default where there is no clone.
    """
    beside = Path(__file__).resolve().parents[2] / DEFAULT_MODEL
    typed = Path(DEFAULT_MODEL if name is None else os.path.expanduser(name))
    for folder in (beside, typed) if name is None else (typed, beside) if name == DEFAULT_MODEL else (typed,):
        if (folder / "config.json").is_file():
            return str(folder)
    if name in (None, DEFAULT_MODEL):
        raise ValueError(f"the default checkpoint {str(beside)!r} is not there; run from a clone or pass --model DIR.")
    if typed.is_dir():
        inner = typed / DEFAULT_MODEL
        hint = (
            f"; did you mean {str(inner)!r}?" if (inner / "config.json").is_file() else "; pass a checkpoint folder."
        )
        raise ValueError(f"--model {name!r} is a folder without config.json{hint}")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name  # a Hub id
    raise ValueError(f"--model {name!r} is neither a folder nor a Hub id (owner/name).")
