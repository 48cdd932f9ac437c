"""`python -m dataset_scripts.annotate`: serve whole tracks to Label Studio."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..plain import load_yaml
from .config import AnnotateConfig
from .propagate import Propagator
from .server import AnnotationServer, Credentials

_EPILOG = r"""example:
  python -m dataset_scripts.annotate dataset_scripts/annotate/example.yaml \
      --set media_root=~/.local/share/label-studio/media

In Label Studio: Settings, Model, Connect Model, http://127.0.0.1:9090, interactive preannotations on. Basic
authentication: set BASIC_AUTH_USER and BASIC_AUTH_PASS here and type them there. docs/annotate.md says the rest.
"""


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_scripts.annotate",
        description="Serve whole tracks, from one box or a phrase, to Label Studio.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="settings, see annotate/config.py")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="change a setting, for instance port=9091 or tracker.kind=csrt; repeatable")  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: 0 after Ctrl-C, or 2 for settings that are wrong."""
    given = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        config: AnnotateConfig = load_yaml(AnnotateConfig, given.config, given.set)
        server = AnnotationServer(Propagator(config), credentials())
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with server:
        host, port = server.server_address[:2]
        print(f"{server.version} serves http://{host!s}:{port} (videos below {config.media_root}); Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def credentials() -> Credentials | None:
    """User and password of the environment, under the names that Label Studio's own backends read.

    Raises:
        ValueError: one of the two is missing.
    """
    user, password = os.environ.get("BASIC_AUTH_USER"), os.environ.get("BASIC_AUTH_PASS")
    if bool(user) != bool(password):
        raise ValueError("set both BASIC_AUTH_USER and BASIC_AUTH_PASS, or neither.")
    return Credentials(user, password) if user and password else None


if __name__ == "__main__":
    sys.exit(main())
