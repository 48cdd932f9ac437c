"""The language model compiled by `torch.compile` for the passes of drafted decoding."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn


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
