"""Take in an uploaded video: only from where uploads lie, only a real video, only within the limits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .limits import Limits

_PROBE_TIMEOUT_S = 60.0  # a busy machine; the time of the processor is bounded besides
_PACKAGES = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True)
class Clip:
    """A video that was taken in.

    Attributes:
        path: the visitor's own file.
        name: what the visitor calls it.
        width: pixels.
        height: pixels.
        num_frames: frames.
        fps: frames per second, None when unknown.
    """

    path: str
    name: str
    width: int
    height: int
    num_frames: int
    fps: float | None


def take_in(upload: str | None, folder: Path, uploads: Path, limits: Limits) -> Path:
    """Check an upload and give the visitor a file of their own.

    Args:
        upload: the path that the browser's upload led to.
        folder: the visitor's folder; the file is put there.
        uploads: the only folder that an upload may lie in, whatever link or spelling leads there; what lies in its
            folder of visitors (`sessions.py`) is no upload.
        limits: of size, length and pixels.

    Returns:
        The file in `folder`.

    Raises:
        ValueError: no file, one outside `uploads`, no video, or one beyond a limit; a sentence for the visitor.
    """
    real = find_upload(upload, uploads)
    size = real.stat().st_size
    if size > limits.upload_mb * 10**6:
        raise ValueError(
            f"The file has {size / 10**6:.0f} MB; at most {limits.upload_mb} MB can be taken. Shorten it."
        )
    check_facts(probe(real), limits)
    own = folder / f"video{_ending(real)}"
    own.unlink(missing_ok=True)
    try:
        os.link(real, own)  # the upload itself may be another visitor's too: equal files are stored once
    except OSError:
        shutil.copyfile(real, own)
    return own


def find_upload(upload: str | None, uploads: Path) -> Path:
    """Give the real path of an upload.

    Raises:
        ValueError: none was named, or it is no file below `uploads`, or it lies in a visitor's folder.
    """
    if not upload:
        raise ValueError("There is no video yet; choose a file, record one, or take the sample.")
    real, root = Path(os.path.realpath(upload)), Path(os.path.realpath(uploads))
    if not real.is_relative_to(root) or real.is_relative_to(root / "visitors") or not real.is_file():
        raise ValueError("That file was not uploaded here; choose it with the upload button.")
    return real


def probe(path: Path) -> dict[str, Any]:
    """Look into a file in a process of its own (`probe.py`); one that dies or hangs found no video."""
    command = [sys.executable, "-m", "tracking_elysium.demo.probe", str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([_PACKAGES, os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_TIMEOUT_S, env=environment, check=True)
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"problem": f"reading its header took longer than {_PROBE_TIMEOUT_S:.0f} s"}
    except (subprocess.CalledProcessError, ValueError, IndexError):
        return {"problem": "reading its header failed"}


def check_facts(facts: dict[str, Any], limits: Limits) -> None:
    """Hold what a header says against the limits.

    Raises:
        ValueError: a sentence for the visitor.
    """
    if "problem" in facts:
        raise ValueError(
            f"The file is no video that can be used: {facts['problem']}. Use mp4, mov, webm, mkv or avi; most editors "
            "and phones export mp4 (H.264)."
        )
    check_size(facts["width"], facts["height"], facts["frames"], facts["seconds"], limits)


def check_size(width: int, height: int, frames: int | None, seconds: float | None, limits: Limits) -> None:
    """Hold the size of a video against the limits; what is unknown (None) passes.

    Raises:
        ValueError: a sentence for the visitor.
    """
    if width * height > limits.megapixels * 10**6:
        raise ValueError(
            f"Its frames have {width} x {height} pixels; at most {limits.megapixels} million pixels can be taken. "
            "Export it smaller, for example at 1080p."
        )
    if seconds is not None and seconds > limits.seconds:
        raise ValueError(f"It is {seconds:.0f} s long; at most {limits.seconds} s can be taken. Cut out a part.")
    if frames is not None and frames > limits.frames:
        raise ValueError(f"It has {frames} frames; at most {limits.frames} can be taken. Cut out a part.")


def open_clip(open_video: Any, path: Path, limits: Limits, name: str = "video") -> Clip:
    """Open a file that was taken in and find its frames; its header may have said less than is there.

    Raises:
        ValueError: it cannot be read, or is beyond a limit.
    """
    try:
        source = open_video(str(path))
    except ValueError as error:
        raise ValueError(_without_paths(str(error), path)) from error
    with source:
        count = source.num_frames or 0
        seconds = source.timestamp(count - 1) if count else None
        check_size(source.width, source.height, count, seconds, limits)
        return Clip(str(path), name, source.width, source.height, count, source.fps)


def _without_paths(message: str, path: Path) -> str:
    """An error in the visitor's terms: our folders are none of theirs."""
    return message.replace(repr(str(path)), "the file").replace(str(path), "the file")


def _ending(path: Path) -> str:
    """The ending of a name, if it is a plain one."""
    ending = path.suffix.lower()
    return ending if ending[1:].isalnum() and ending.isascii() and len(ending) <= 6 else ""
