"""Muon for the hidden matrices of a network and AdamW for everything else, as one optimizer.

Small models trained from nothing learn two to three times faster per step with it (docs/LOG.md). Muon is PyTorch's
own; its steps are scaled to the size of AdamW's, so both share one schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

__all__ = ["MuonAdamW", "is_hidden_matrix"]


def is_hidden_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    """Whether Muon should train the parameter: a matrix between two hidden layers, no embedding and no output head."""
    return parameter.ndim == 2 and ".layers." in name and "embed" not in name


class MuonAdamW(torch.optim.Optimizer):
    """Two optimizers behind one interface: groups, state and steps are theirs.

    Args:
        muon: parameter groups of matrices.
        adamw: all other parameter groups.
        betas: of AdamW.
    """

    def __init__(
        self, muon: Iterable[dict[str, Any]], adamw: Iterable[dict[str, Any]], betas: tuple[float, float] = (0.9, 0.98)
    ) -> None:
        muon, adamw = list(muon), list(adamw)
        self.optimizers: list[torch.optim.Optimizer] = []
        if muon:
            self.optimizers.append(torch.optim.Muon(muon, adjust_lr_fn="match_rms_adamw"))
        if adamw:
            self.optimizers.append(torch.optim.AdamW(adamw, betas=betas))
        super().__init__([p for group in muon + adamw for p in group["params"]], {})
        # The same dictionaries as the two optimizers', so that a schedule that writes here is read there.
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step of both; `closure` is called once, before."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of both, by number."""
        return {str(i): optimizer.state_dict() for i, optimizer in enumerate(self.optimizers)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for i, optimizer in enumerate(self.optimizers):
            optimizer.load_state_dict(state_dict[str(i)])
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
