"""`elysium convert`: arguments and report of the checkpoint converter."""

from __future__ import annotations

import argparse
from typing import Any

_EXAMPLES = """examples:
  elysium convert sty-yyj/elysium_7b elysium-7b --dtype bf16
  elysium convert llava-hf/llava-1.5-7b-hf start-for-training
  elysium convert elysium-7b as-released --to-original --vision openai/clip-vit-large-patch14-336
"""


def add_convert(commands: Any) -> None:
    """Add the command to the parser of `elysium`."""
    convert = commands.add_parser(
        "convert",
        usage="elysium convert SRC OUT [options]",
        help="the authors' checkpoint, or LLaVA-1.5, in the form that this package loads",
        description="Convert a checkpoint. OUT appears complete or not at all.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert.set_defaults(run=_convert)
    convert.add_argument("src", help="folder or Hub id: the authors' checkpoint, or LLaVA-1.5")
    convert.add_argument("out", help="folder to write; must be new or empty")
    convert.add_argument("--llm", metavar="PATH_OR_ID", help="language model (default: the one SRC names)")
    convert.add_argument("--vision", metavar="PATH_OR_ID", help="vision tower (default: the one SRC names)")
    convert.add_argument("--dtype", metavar="NAME", help="bf16, fp16 or fp32 (default: as stored)")
    convert.add_argument("--push-to", metavar="ORG/NAME", help="upload OUT to this Hub repository afterwards")
    convert.add_argument("--to-original", action="store_true", help="from our layout to the authors'")
    convert.add_argument("--no-verify", action="store_true", help="do not compare the logits of source and result")
    convert.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _convert(args: argparse.Namespace) -> int:
    import transformers

    from modeling_elysium.convert_elysium_weights_to_hf import convert, convert_to_original

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if args.to_original:
        result = convert_to_original(args.src, args.out, args.vision, args.dtype)
    else:
        result = convert(args.src, args.out, args.llm, args.vision, args.dtype, verify=not args.no_verify)
    print(f"{args.out}: {result.tensors} tensors, {result.parameters:,} parameters")
    for key, reason in sorted(result.dropped.items()):
        print(f"dropped {key}: {reason}")
    for key in result.absent:
        print(f"absent {key}: not in our model")
    if result.difference is not None:
        print(f"logits of source and result differ by at most {result.difference:g}")
    if args.push_to:
        _push(args.out, args.push_to)
    return 0


def _push(folder: str, repository: str) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        HfApi().create_repo(repository, exist_ok=True)
        HfApi().upload_folder(repo_id=repository, folder_path=folder)
    except (HfHubHTTPError, OfflineModeIsEnabled) as error:
        raise ValueError(f"{folder} is written, but --push-to {repository!r} failed: {error}") from None
    print(f"uploaded to {repository}")
