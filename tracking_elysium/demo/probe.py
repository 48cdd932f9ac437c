"""Look into an untrusted file: is it a video, how long, how large? Run as a process of its own, which may die.

    python -m tracking_elysium.demo.probe FILE   # one line of JSON

Only containers that hold their own pictures are opened: a playlist, which would make the reader open other files or
addresses, is none. Nothing is decoded but the first frame.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf"
MAX_MEMORY_BYTES = 4 * 2**30  # of address space; libraries alone take about one
MAX_CPU_S = 20


def look_into(path: str) -> dict[str, Any]:
    """Read the header and the first frame of a file.

    Args:
        path: a file.

    Returns:
        `{"width", "height", "frames", "seconds"}`, the last two None where the container does not say, or
        `{"problem": a sentence}`.
    """
    import av

    only = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        with av.open(path, options=only) as container:
            if not container.streams.video:
                return {"problem": "it has no pictures, only sound or data"}
            stream = container.streams.video[0]
            seconds = None
            if container.duration:
                seconds = float(container.duration / av.time_base)
            facts = {"width": stream.codec_context.width, "height": stream.codec_context.height}
            if not facts["width"] or not facts["height"]:
                return {"problem": "its header does not say how large the pictures are"}
            return {**facts, "frames": stream.frames or None, "seconds": seconds}
    except (av.FFmpegError, OSError, ValueError, MemoryError, OverflowError) as error:
        return {"problem": f"it cannot be read as a video ({type(error).__name__})"}


def _bound() -> None:
    """Take away this process's means to hurt the machine; systems without `resource` go without."""
    try:
        import resource
    except ImportError:
        return
    for kind, most in (("RLIMIT_AS", MAX_MEMORY_BYTES), ("RLIMIT_CPU", MAX_CPU_S), ("RLIMIT_FSIZE", 0)):
        with suppress(ValueError, OSError):  # a lower limit is set already
            resource.setrlimit(getattr(resource, kind), (most, most))


def main(arguments: Sequence[str]) -> int:
    """Write what was found to standard output."""
    (path,) = arguments
    _bound()
    sys.stdout.write(json.dumps(look_into(path)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
