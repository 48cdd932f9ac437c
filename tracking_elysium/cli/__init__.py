"""The command `elysium`: track, describe, ask, convert.

What cannot be done is one line on stderr and exit code 2.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

from .arguments import make_parser
from .commands import resolve_model


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
        warnings.filterwarnings("default", module=r"(modeling|processing|tracking)_elysium")
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


__all__ = ["main", "make_parser", "resolve_model"]
