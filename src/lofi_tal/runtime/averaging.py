"""The exponential moving average of the weights of a training, which is often better than the last of them.

Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging" (1992), in the exponential form of
public code (timm; ActionFormer's ``ModelEma``, 0.999 without a ramp).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential moving average of what a module learns, beside the weights that are trained.

    It begins as the weights are, and after n steps becomes ``d · average + (1 - d) · weights``, with ``d = decay``, or
    with ``d = min(decay, (1 + n) / (10 + n))``: a short training would otherwise end near the weights that it began
    with. Averaged are the parameters that are trained and the floating-point buffers: BatchNorm's running statistics,
    too, so that they belong to the averaged weights. What is frozen and what counts (``num_batches_tracked``) stays.

    Args:
        module: On its device, with what is frozen frozen already; its weights are read at every update.
        decay: In (0, 1).
        ramp: Whether d is smaller at first.
    """

    def __init__(self, module: nn.Module, decay: float, *, ramp: bool = True) -> None:
        self.module, self.decay, self.ramp = module, decay, ramp
        self.updates = 0
        self.averages: dict[str, Tensor] = {
            name: tensor.detach().clone()
            for name, tensor in module.state_dict(keep_vars=True).items()
            if (tensor.requires_grad if isinstance(tensor, nn.Parameter) else _is_float(tensor))
        }

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after one step more."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.ramp else self.decay
        torch._foreach_lerp_(list(self.averages.values()), self._weights(), 1 - decay)  # as torch's own averages do

    @torch.no_grad()
    def apply(self) -> None:
        """Give the module the averaged weights, for good."""
        for weight, average in zip(self._weights(), self.averages.values(), strict=True):
            weight.copy_(average)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Let the module have the averaged weights for a while; afterwards all is as it was, to the bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """Return all that a checkpoint needs."""
        return {"updates": self.updates, "averages": dict(self.averages)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            KeyError: If it is of another module.
        """
        for name, average in self.averages.items():
            average.copy_(state["averages"][name])
        self.updates = int(state["updates"])

    def _weights(self) -> list[Tensor]:
        """Return the tensors of the module that are averaged, in the order of the averages."""
        own = self.module.state_dict(keep_vars=True)
        return [own[name].detach() for name in self.averages]

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self._weights(), self.averages.values(), strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
