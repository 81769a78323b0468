"""How large a module may become while it is built: a description may ask for more than there is memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from lofi_tal.errors import DataError, LofiError

MOST_WEIGHTS = 2**30
"""Elements of a module, 4 GiB in fp32: more than any public video encoder has."""
_MOST_TENSORS = 50_000
_SPARE = 2**26  # elements that a constructor makes and throws away, as torchvision's ResNets of other widths do
_MAKERS = frozenset({torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full})

Shapes = Mapping[str, tuple[int, ...]]


class SizeLimit(TorchFunctionMode):
    """Refuses to make tensors, before memory is asked for, once a module has grown too large.

    Args:
        what: What to call the module in the message.
        shapes: Of the tensors in its weights file, if there is one: then a module may not be much larger than these.
        path: That file.
    """

    def __init__(self, what: str, shapes: Shapes | None = None, path: Path | None = None) -> None:
        super().__init__()
        self.what, self.path = what, path
        self.elements, self.tensors = MOST_WEIGHTS, _MOST_TENSORS
        if shapes is not None:
            total = sum(map(math.prod, shapes.values()))
            self.elements, self.tensors = min(self.elements, 4 * total + _SPARE), 16 * len(shapes) + 10_000

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what a function would make before it is called."""
        kwargs = kwargs or {}
        if func in _MAKERS:
            size = kwargs.get("size", args[:1] if func is torch.full else args)
            self._spend(math.prod(size[0] if size and isinstance(size[0], list | tuple) else size))
        return func(*args, **kwargs)

    def _spend(self, elements: int) -> None:
        self.elements -= elements
        self.tensors -= 1
        if self.elements >= 0 and self.tensors >= 0:
            return
        if self.path is not None:
            raise DataError(
                f"{self.what} would be far larger than the weights in {self.path}: it does not belong to them."
            )
        raise LofiError(
            f"{self.what} would have more than {MOST_WEIGHTS:,} weights or {_MOST_TENSORS:,} tensors: make it smaller."
        )
