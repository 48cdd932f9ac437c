"""The other side of `mixformer.py`: runs in the Python of the user's MixFormer checkout, where our packages are not.

    python mixformer_worker.py CHECKOUT

Requests come on stdin, answers go to stdout: a line of JSON each, a request's frame behind its line as raw bytes. What
the checkout prints goes to stderr. The process ends with its stdin.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any, BinaryIO

import numpy as np


class Worker:
    """Trackers of one network; one that is no longer used is given to the next object."""

    def __init__(self, request: dict[str, Any]) -> None:
        parameters = {"model": request["model"]}
        if request.get("search_area_scale") is not None:
            parameters["search_area_scale"] = request["search_area_scale"]
        code = importlib.import_module("lib.test.evaluation.tracker")
        self._factory = code.Tracker(
            request["name"], request["parameters"], request["dataset"], tracker_params=parameters
        )
        if self._factory.tracker_class is None:
            raise ValueError(f"the checkout has no lib/test/tracker/{request['name']}.py")
        self._used: dict[int, Any] = {}
        self._free: list[Any] = []

    def drop(self, numbers: list[int]) -> None:
        """Take back trackers."""
        self._free += [self._used.pop(number) for number in numbers if number in self._used]

    def init(self, number: int, frame: np.ndarray, box_xywh_px: list[float]) -> dict[str, Any]:
        """Begin to track an object."""
        tracker = self._free.pop() if self._free else _watched(self._factory.create_tracker(self._factory.params))
        self._used[number] = tracker
        tracker.initialize(frame, {"init_bbox": box_xywh_px})
        return {}

    def update(self, number: int, frame: np.ndarray) -> dict[str, Any]:
        """Track an object into the next frame."""
        tracker = self._used[number]
        tracker.seen_scores.clear()
        box = [float(value) for value in tracker.track(frame)["target_bbox"]]
        return {"box_xywh_px": box, "score": tracker.seen_scores[-1] if tracker.seen_scores else None}


def _watched(tracker: Any) -> Any:
    """Note the network's `pred_scores`, which `track` computes and does not return."""
    tracker.seen_scores = seen = []
    network = getattr(tracker, "network", None)

    def note(output: Any) -> Any:
        found = output[0] if isinstance(output, tuple) else output
        if isinstance(found, dict) and found.get("pred_scores") is not None:
            seen.append(float(found["pred_scores"].reshape(-1)[0].sigmoid()))
        return output

    if network is not None:
        network.register_forward_hook(lambda module, inputs, output: note(output))
        if hasattr(network, "forward_test"):  # not through __call__, so that no hook sees it
            inner = network.forward_test
            network.forward_test = lambda *given, **named: note(inner(*given, **named))
    return tracker


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    worker: Worker | None = None
    while line := requests.readline():
        request = json.loads(line)
        frame = None
        if "shape" in request:
            size = int(np.prod(request["shape"]))
            frame = np.frombuffer(requests.read(size), dtype=np.uint8).reshape(request["shape"]).copy()
        try:
            if request["do"] == "load":
                worker, answer = Worker(request), {}
            else:
                assert worker is not None and frame is not None
                worker.drop(request["drop"])
                if request["do"] == "init":
                    answer = worker.init(request["number"], frame, request["box_xywh_px"])
                else:
                    answer = worker.update(request["number"], frame)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def main(checkout: str) -> None:
    """Keep stdout for answers and serve from inside the checkout."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.chdir(checkout)
    sys.path.insert(0, checkout)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main(sys.argv[1])
