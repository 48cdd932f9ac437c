"""The models of the demo and the three things they do: track, describe, answer.

One model is in memory at a time. Where the package `spaces` is there (ZeroGPU, Hugging Face's shared GPUs), the work
runs inside `spaces.GPU`, which calls it in a process of its own: only plain values go in and come out.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import threading
from argparse import Namespace
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from ..cli.commands import load_pipeline
from .objects import Run

GPU_SECONDS = 120  # that ZeroGPU is asked for


def on_gpu(function: Callable[..., Any], seconds: int = GPU_SECONDS) -> Callable[..., Any]:
    """Wrap what runs a model for ZeroGPU; elsewhere it stays as it is."""
    if importlib.util.find_spec("spaces") is None:
        return function
    return importlib.import_module("spaces").GPU(function, duration=seconds)


class Models:
    """Checkpoints that visitors may choose from, loaded one at a time.

    Args:
        names: folders or Hub ids; the first is the default. Nothing of a checkpoint's own code is run: it must be of
            a type that this package, or transformers, knows.
        device: as in `elysium track --device`.
        dtype: as in `elysium track --dtype`.
    """

    def __init__(self, names: list[str], device: str | None = None, dtype: str = "auto") -> None:
        if not names:
            raise ValueError("`names` is empty; name at least one checkpoint folder or Hub id.")
        self.names = list(names)
        self._device, self._dtype = device, dtype
        self._loaded: tuple[str, Any] | None = None
        self._lock = threading.Lock()

    def pipeline(self, name: str | None = None) -> Any:
        """Give the pipeline of a checkpoint, loading it if another is in memory.

        Raises:
            ValueError: a name that was not offered, or a checkpoint that cannot be loaded.
        """
        wanted = self.names[0] if name is None else name
        if wanted not in self.names:
            raise ValueError(f"The model {wanted!r} is not offered here; choose one of {', '.join(self.names)}.")
        with self._lock:
            if self._loaded is None or self._loaded[0] != wanted:
                self._loaded = None  # the old one goes first: two may not fit
                release_memory()
                self._loaded = (wanted, self._load(wanted))
            return self._loaded[1]

    def _load(self, name: str) -> Any:
        from transformers import AutoProcessor, logging

        logging.disable_progress_bar()
        args = Namespace(model=name, device=self._device, dtype=self._dtype, debug=False)
        try:
            processor = AutoProcessor.from_pretrained(name, trust_remote_code=False)
        except Exception as error:  # damaged folders make the library raise anything
            raise ValueError(f"The model {name!r} cannot be loaded: {error or type(error).__name__}") from error
        if not hasattr(processor, "open_video"):
            raise ValueError(f"The model {name!r} is no Elysium checkpoint; pass one, or `elysium convert` it first.")
        return load_pipeline(args, processor)


class Engine:
    """What the page asks of the model.

    Args:
        models: the checkpoints.
    """

    def __init__(self, models: Models) -> None:
        self.models = models

        # Closures, since a process of ZeroGPU gets its arguments pickled, and a model is nothing to pickle.
        def track(name: str | None, path: str, runs: list[Run]) -> Generator[tuple[int, dict[str, Any]], None, None]:
            yield from _track(models.pipeline(name), path, runs)

        def describe(name: str | None, path: str, frame: int, box: list[float]) -> str:
            found = models.pipeline(name)(path, box=box, start_frame=frame, task="describe")
            return found[0]["description"]

        def ask(name: str | None, path: str, question: str) -> str:
            return models.pipeline(name).ask(path, question)

        self._track, self._describe, self._ask = on_gpu(track), on_gpu(describe), on_gpu(ask)

    def track(self, name: str | None, path: str, runs: list[Run]) -> Generator[tuple[int, dict[str, Any]], None, None]:
        """Track; yield (position of the call in `runs`, frame) as frames are decided.

        Closing the iterator stops the model; memory of the device is given back in any case.
        """
        stream = self._track(name, path, runs)
        try:
            yield from stream
        finally:
            stream.close()
            release_memory()

    def describe(self, name: str | None, path: str, frame: int, box: list[float]) -> str:
        """Say what is in a box (x1, y1, x2, y2 in pixels) of a frame."""
        try:
            return self._describe(name, path, frame, box)
        finally:
            release_memory()

    def ask(self, name: str | None, path: str, question: str) -> str:
        """Answer a question about the video."""
        try:
            return self._ask(name, path, question)
        finally:
            release_memory()

    def untaught(self, name: str | None, task: str, size: tuple[int, int]) -> str | None:
        """Say, in a sentence, if the model was not trained for a task on frames of this width and height."""
        return self.models.pipeline(name).processor.untaught(task, *size)

    def caution(self, name: str | None, task: str) -> str | None:
        """Say what to expect of a task that the model was trained for and does badly."""
        return self.models.pipeline(name).processor.caution(task)

    def open_video(self, path: str) -> Any:
        """Open a video as the model will see it."""
        return self.models.pipeline(None).processor.open_video(path)

    def check_box(self, box: list[float], width: int, height: int) -> tuple[float, float, float, float]:
        """Check a box in pixels.

        Raises:
            ValueError: it is none, or lies outside the frame.
        """
        x1, y1, x2, y2 = self.models.pipeline(None).processor.validate_box_px(box, width, height)
        return float(x1), float(y1), float(x2), float(y2)


def _track(pipe: Any, path: str, runs: list[Run]) -> Generator[tuple[int, dict[str, Any]], None, None]:
    """Take turns between the calls, so that objects in boxes and objects in words advance together."""
    streams = {position: pipe(path, **run.words(), stream=True) for position, run in enumerate(runs)}
    try:
        while streams:
            for position, stream in list(streams.items()):
                frame = next(stream, None)
                if frame is None:
                    del streams[position]
                else:
                    yield position, frame
    finally:
        for stream in streams.values():
            stream.close()


def release_memory() -> None:
    """Give memory that nothing uses back to the device and to the system.

    Each of Gradio's threads gets memory of its own from the C library, which keeps it when the step is over.
    """
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(AttributeError, OSError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
