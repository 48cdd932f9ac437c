"""Faster passes of drafted decoding: the language model compiled, its passes recorded as CUDA graphs and played back.

A pass over a few tokens is hundreds of small kernels, and on a GPU starting them takes longer than running them. A
recording starts all of them at once, but for one shape and fixed addresses in memory. So passes are padded to few
shapes, the cache's buffers are not moved, and the input of a pass is copied to where the recording reads it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

_WIDTHS = (1, 4, 8, 16, 24, 32, 48, 64)  # tokens of a pass; more: the next multiple of the last
MOST_PADDING = _WIDTHS[-1] - 1  # tokens that a pass gets beyond those asked for
_WARM_UPS = 2  # passes before recording: libraries take their workspaces, the compiler compiles

Run = Callable[..., torch.Tensor]
Replay = Callable[[], None]


class Compiled:
    """Calls a module compiled, or as it is where this machine cannot compile it: then with one warning.

    Sizes are free, because rows, drafts and the cache differ from pass to pass: one graph serves all. The first call
    compiles, which takes from half a minute on. Results are those of the module up to rounding.

    Args:
        module: the language model.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._compiled: Any = torch.compile(module, dynamic=True)

    def __call__(self, **inputs: Any) -> Any:
        """Return what the module returns."""
        if self._compiled is not None:
            try:
                return self._compiled(**inputs)
            except torch._dynamo.exc.TorchDynamoException as error:
                # A pass writes to the same positions of the cache again, so doing it again is harmless.
                self._compiled = None
                reason = str(error).strip().splitlines()[0]
                warnings.warn(
                    f"`compile=True`: the language model could not be compiled ({reason}); going on without. It needs "
                    "a C++ compiler on a CPU, Triton on a GPU.",
                    stacklevel=2,
                )
        return self._module(**inputs)


class RecordedPasses:
    """Calls a function of tensors from recordings, one per shape; by itself where it cannot be recorded.

    Args:
        run: takes named tensors and returns one. Running it twice on the same input must do no harm.
        record: makes a recording of a call without arguments: its result and what plays it again, into the same
            memory. None: a CUDA graph.
    """

    def __init__(self, run: Run, record: Callable[[Run], tuple[torch.Tensor, Replay]] | None = None) -> None:
        self._run, self._record = run, record or self._cuda_graph
        self._recordings: dict[tuple[Any, ...], tuple[dict[str, torch.Tensor], torch.Tensor, Replay]] = {}
        self._version: int | None = None
        self._pool: Any = None
        self._broken = False

    @property
    def count(self) -> int:
        """Recordings that are held."""
        return len(self._recordings)

    @staticmethod
    def shape(rows: int, width: int) -> tuple[int, int]:
        """Return the rows and tokens of the smallest recording that holds so many."""
        last = _WIDTHS[-1]
        wide = next((size for size in _WIDTHS if size >= width), -(-width // last) * last)
        return 1 << (rows - 1).bit_length(), wide

    def __call__(self, version: int, **inputs: torch.Tensor) -> torch.Tensor:
        """Return what `run` returns; it is valid until the next call.

        Args:
            version: of the other memory that `run` reads and writes; recordings end with it.
            **inputs: for `run`.
        """
        if self._broken:
            return self._run(**inputs)
        if version != self._version:
            self._version = version
            self._recordings.clear()
        key = tuple((name, tuple(tensor.shape)) for name, tensor in inputs.items())
        if key not in self._recordings:
            held = {name: tensor.clone() for name, tensor in inputs.items()}
            try:
                self._recordings[key] = (held, *self._record(partial(self._run, **held)))
            except RuntimeError as error:
                self._broken = True
                self._recordings.clear()
                reason = str(error).strip().splitlines()[0]
                warnings.warn(
                    f"`compile=True`: passes could not be recorded as CUDA graphs ({reason}); going on without.",
                    stacklevel=2,
                )
                return self._run(**inputs)
        held, output, replay = self._recordings[key]
        for name, tensor in inputs.items():
            held[name].copy_(tensor)
        replay()
        return output

    def _cuda_graph(self, run: Run) -> tuple[torch.Tensor, Replay]:
        """Record on a stream of its own; a reader's thread may use the device meanwhile."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            output = run()
        self._pool = graph.pool()  # recordings are played one at a time, so they share what lies between
        return output, graph.replay
