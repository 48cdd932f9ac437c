"""What `elysium track`, `describe` and `ask` do.

Every command checks its input before a model is loaded. Libraries that take long to import, and models, are loaded
when a command needs them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

DEFAULT_MODEL = "elysium"


def track(args: argparse.Namespace) -> int:
    """Run `elysium track`."""
    from ..queries import Subjects, make_queries
    from .output import Report, Stopwatch, progress

    subjects = Subjects(_boxes(args.box), args.expression, args.start_frame, args.label)
    report = Report.from_args(args)
    source, processor = _open(args)
    queries = make_queries(source, processor, subjects, args.direction)
    names = ("clip_len", "overlap", "single_pass_up_to", "gap_policy", "rsot_continuation", "prompt")
    names += ("decoding", "constrained", "compile", "vision_memory_mb")
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
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
    from .output import write_json

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

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    processor = transformers.AutoProcessor.from_pretrained(args.model)
    return processor.open_video(args.video), processor


def load_pipeline(args: argparse.Namespace, processor: Any) -> Any:
    """The pipeline around the model that the arguments name."""
    from transformers import AutoModelForImageTextToText

    from ..pipeline_video_tracking import VideoTrackingPipeline

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
        beside = Path(__file__).resolve().parents[2] / DEFAULT_MODEL
        if (beside / "config.json").is_file():
            return str(beside)
        raise ValueError(f"the default checkpoint {str(beside)!r} is not there; run from a clone or pass --model DIR.")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name  # a Hub id
    raise ValueError(f"--model {name!r} is neither a folder nor a Hub id (owner/name).")
