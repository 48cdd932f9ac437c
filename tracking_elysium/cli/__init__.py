"""The command `elysium`: track, describe, ask, convert.

What cannot be done is one line on stderr and exit code 2.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .arguments import make_parser
from .commands import resolve_model


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments without the program name; None takes those of the process.

    Returns:
        Exit code: 0, or 2 for input that cannot be used, 130 when interrupted, 143 when ended, 141 when nobody reads
        the output any more.
    """
    try:
        args = make_parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed its line, or the help
        return int(stop.code or 0)
    prog = f"elysium {args.command}"

    def show(message: Any, *_: Any, **__: Any) -> None:
        print(f"{prog}: warning: {_one_line(message)}", file=sys.stderr)

    with warnings.catch_warnings(), _ended_as_interrupted():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=r"(modeling|processing|tracking)_elysium")
        warnings.filterwarnings("default", category=UserWarning, module=r"__main__")
        warnings.showwarning = show
        try:
            code = args.run(args)
            sys.stdout.flush()  # a full disk or a closed pipe is told here, not at the end of the process
            return code
        except _EndedError:
            print(f"{prog}: ended", file=sys.stderr)
            return 143
        except KeyboardInterrupt:
            print(f"{prog}: interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:  # `| head` has seen enough; what is left must not be flushed at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
            if args.debug:
                raise
            print(f"{prog}: error: {_one_line(error) or type(error).__name__}", file=sys.stderr)
            return 2


class _EndedError(KeyboardInterrupt):
    """The process is asked to end; files half written are removed on the way, as after an interrupt."""


@contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """Let SIGTERM raise, so that what is half written is cleaned up."""

    def end(*_: Any) -> None:
        raise _EndedError

    if threading.current_thread() is not threading.main_thread():  # only there handlers can be set
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())


__all__ = ["main", "make_parser", "resolve_model"]
