"""MixFormer (the paper's tracker) from the user's own checkout, in a process of its own.

Its code wants the versions of libraries that it was written for, so it runs in its own Python; boxes travel as JSON
and frames as raw bytes (`mixformer_worker.py` is the other side). Its online variants have a score head, whose
probability is the confidence; the others have none, and their confidence is 1.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from processing_elysium.boxes import px_to_unit, unit_to_px, xywh_to_xyxy, xyxy_to_xywh

__all__ = ["MixFormerTrackers"]

WORKER = Path(__file__).with_name("mixformer_worker.py")
ENTRANCE = "lib/test/evaluation/tracker.py"
LONGEST_ANSWER = 1 << 20  # bytes
END_S = 10.0  # for the process to end by itself
SAID = 2000  # characters of the process's last words that an error repeats


class MixFormerTrackers:
    """Makes trackers that live in one other process, see `StepTrackers`."""

    def __init__(
        self, checkout: str, model: str, python: str = sys.executable, name: str = "mixformer_vit_online",
        parameters: str = "baseline_large", dataset: str = "lasot", search_area_scale: float | None = None,
        device: str = "cuda",
    ) -> None:  # fmt: skip
        """Start the process and load the network.

        Args:
            checkout: folder of github.com/MCG-NJU/MixFormer, with its `lib/test/evaluation/local.py` written.
            model: file of the weights as its `parameter` module takes it, below the checkout's `save_dir`/models.
            python: the interpreter that the checkout runs in.
            name: of the tracker, a file in its `lib/test/tracker`.
            parameters: of the tracker, a yaml file in its `experiments/NAME`.
            dataset: whose update intervals the tracker takes from that file.
            search_area_scale: of the search region; None takes that file's.
            device: "cuda" or "cuda:N"; the checkout's code puts its network onto the first GPU it sees.

        Raises:
            ValueError: no checkout is there, or it cannot load the network.
        """
        folder = Path(checkout).expanduser().resolve()
        if not (folder / ENTRANCE).is_file():
            raise ValueError(f"tracker.options.checkout={checkout!r} has no {ENTRANCE}; clone MixFormer and name its "
                             "folder.")  # fmt: skip
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        try:
            self._process = subprocess.Popen(
                [os.path.expanduser(python), str(WORKER), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=self._said, env=_environment(device),
            )  # fmt: skip
        except OSError as error:
            raise ValueError(f"tracker.options.python={python!r} cannot be started: {error}") from error
        self._numbers, self._dropped = itertools.count(), list[int]()
        weakref.finalize(self, _end, self._process)
        try:
            self.ask({"do": "load", "name": name, "parameters": parameters, "dataset": dataset, "model": model,
                      "search_area_scale": search_area_scale})  # fmt: skip
        except RuntimeError as error:
            _end(self._process)
            raise ValueError(
                f"MixFormer at {checkout} does not load {name}/{parameters} with {model}: {error}"
            ) from error

    def new(self) -> _MixFormerTracker:
        """Return a tracker of one object."""
        number = next(self._numbers)
        tracker = _MixFormerTracker(self, number)
        weakref.finalize(tracker, self._dropped.append, number)  # the next request tells
        return tracker

    def ask(self, request: dict[str, Any], frame: np.ndarray | None = None) -> dict[str, Any]:
        """Send a request, and a frame (H, W, 3) behind it; return the answer.

        Raises:
            RuntimeError: the checkout's code raised, or its process ended.
        """
        dropped, self._dropped[:] = list(self._dropped), []
        header = {**request, "drop": dropped, **({} if frame is None else {"shape": list(frame.shape)})}
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(json.dumps(header).encode() + b"\n")
            if frame is not None:
                stdin.write(np.ascontiguousarray(frame).data)
            stdin.flush()
            line = stdout.readline(LONGEST_ANSWER)
            answer = json.loads(line) if line.endswith(b"\n") else None
        except (BrokenPipeError, json.JSONDecodeError):
            answer = None
        if not isinstance(answer, dict):
            raise RuntimeError(f"the process of MixFormer ended; its last words: {self._last_words()}")
        if "error" in answer:
            raise RuntimeError(f"{answer['error']}; its last words: {self._last_words()}")
        return answer

    def _last_words(self) -> str:
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - SAID))
        return self._said.read().decode(errors="replace").strip() or "none"


class _MixFormerTracker:
    """See `StepTracker`."""

    def __init__(self, trackers: MixFormerTrackers, number: int) -> None:
        self._trackers, self._number = trackers, number

    def init(self, frame: np.ndarray, box: np.ndarray) -> None:
        """See `StepTracker`."""
        box_xywh_px = xyxy_to_xywh(unit_to_px(np.clip(box, 0, 1), frame.shape[1], frame.shape[0]))
        request = {"do": "init", "number": self._number, "box_xywh_px": [float(v) for v in box_xywh_px]}
        self._trackers.ask(request, frame)

    def update(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        """See `StepTracker`."""
        answer = self._trackers.ask({"do": "update", "number": self._number}, frame)
        box = np.asarray(answer["box_xywh_px"], dtype=np.float64)
        score = 1.0 if answer["score"] is None else float(answer["score"])
        return px_to_unit(xywh_to_xyxy(box), frame.shape[1], frame.shape[0]), score


def _environment(device: str) -> dict[str, str]:
    """The environment in which the wanted GPU is the first."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    kind, _, index = device.partition(":")
    if kind == "cuda" and index:
        seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        environment["CUDA_VISIBLE_DEVICES"] = seen[int(index)] if seen else index
    return environment


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process, which ends by itself when its stdin does, unless it hangs."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue
    try:
        process.wait(timeout=END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
