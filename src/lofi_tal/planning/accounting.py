"""How much memory a training step holds at once, without running it: tensors are counted, not computed.

The encoder is run on fake tensors, which have shapes but no data, so that any size takes the same fraction of a second
on any machine; the head, which is small and looks at its data, is run for real. Either way every storage is counted
from the operation that makes it until it is freed, which includes what back-propagation needs for a moment only.

Shapes: N snippets, T frames, S × S pixels, C channels, B videos, L snippets a video.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakIdKeyDictionary

from lofi_tal.encoders import Encoder, trainable
from lofi_tal.heads import Head
from lofi_tal.stages.strategies import Strategy, encode


class LiveMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts while the mode is on: bytes of all storages that are alive and that operations make, and multiplications.

    Attributes:
        live: Bytes that are alive.
        peak: The most that were.
        adding: The most that were, but for what has been set aside.
        flops: Floating-point operations of matrix products and convolutions, as torch's own counter has them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = WeakIdKeyDictionary()
        self.live = self.peak = self.adding = self.aside = self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)  # noqa: SLF001 (torch has no public name for it)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        for leaf in (out,) if isinstance(out, Tensor) else tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                self._note(leaf.untyped_storage())
        return out

    def forget(self, tensor: Tensor) -> None:
        """Leave a tensor that exists already, or is counted elsewhere, out of the account."""
        storage = tensor.untyped_storage()
        if storage not in self.known:
            self.known[storage] = True

    def set_aside(self, parameter: Tensor) -> None:
        """Count the gradient of a parameter, which is there now, no more in ``adding``."""
        assert parameter.grad is not None
        self.aside += parameter.grad.untyped_storage().nbytes()

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage in self.known:
            return
        size = storage.nbytes()
        self.known[storage] = True
        self.live += size
        self.peak = max(self.peak, self.live)
        self.adding = max(self.adding, self.live - self.aside)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one forward and backward pass, without parameters and input.

    Args:
        saved: What back-propagation holds when the forward pass is over.
        peak: The most that is alive at any time, gradients of the parameters included.
        adding: The same where these gradients exist already, are added to, and are not counted.
        flops: Operations of the forward pass.
        backward: Operations of the backward pass.
        forward: The most that is alive in the forward pass. With many snippets it can be the most of all, for layers
            that are frozen keep nothing and work on large tensors.
    """

    saved: float
    peak: float
    adding: float
    flops: float
    backward: float
    forward: float


def encoder_memory(
    encoder: Encoder, snippets: int, frames: int, size: int, *, strategy: Strategy, bf16: bool
) -> StepMemory:
    """Return the memory of encoding snippets and back-propagating through them, on fake tensors.

    Args:
        encoder: Not changed.
        snippets: N.
        frames: T.
        size: S.
        strategy: How it is back-propagated.
        bf16: Under bf16 autocast.
    """
    fake = FakeTensorMode()
    with fake:
        model = _faked(encoder)
        clips = torch.empty((snippets, frames, size, size, 3), dtype=torch.uint8).permute(0, 1, 4, 2, 3)
    with fake, LiveMemory() as live:
        for tensor in (clips, *model.parameters(), *model.buffers()):
            live.forget(tensor)
        for parameter in trainable(model.modules()):
            parameter.register_post_accumulate_grad_hook(live.set_aside)  # type: ignore[no-untyped-call]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            features = encode(model, clips, strategy)
        saved, forward, flops = live.live, live.peak, live.flops
        if features.requires_grad:  # not of an encoder that is frozen
            torch.autograd.backward(features.sum())
        return StepMemory(saved, live.peak, live.adding, flops, live.flops - flops, forward)


def head_memory(head: Head, videos: int, snippets: int, *, saving: bool = False) -> StepMemory:
    """Return the memory of running a head on ``videos`` of L snippets and back-propagating, loss aside.

    It really runs, on the CPU in fp32: heads look at their data. ``saving``: after :meth:`Head.save_memory`.
    """
    model = copy.deepcopy(head).cpu().train()
    if saving:
        model.save_memory()
    features = torch.zeros(videos, head.in_channels, snippets).normal_().requires_grad_()
    with torch.no_grad():
        model(features)  # makes the alignment matrices of this L, which are kept
    with LiveMemory() as live:
        for tensor in (features, *model.parameters(), *model.buffers()):
            live.forget(tensor)
        outputs = model(features)
        saved, forward, flops = live.live, live.peak, live.flops
        total = torch.stack([leaf.float().sum() for leaf in _differentiable(outputs)]).sum()
        torch.autograd.backward(total)
        return StepMemory(saved, live.peak, live.adding, flops, live.flops - flops, forward)


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def affine(measure: Callable[[int], StepMemory], low: int, high: int) -> tuple[StepMemory, StepMemory]:
    """Return what one unit costs and what is fixed, from two measurements."""
    first, second = measure(low), measure(high)

    def slope(name: str) -> float:
        return float((getattr(second, name) - getattr(first, name)) / (high - low))

    unit = StepMemory(*map(slope, vars(first)))
    return unit, StepMemory(*(getattr(first, name) - low * getattr(unit, name) for name in vars(first)))


def _faked(module: Encoder) -> Encoder:
    """Return a copy whose parameters and buffers have no data; called inside a fake mode."""
    memo: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        empty = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
        learnt = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad) if learnt else empty
    return copy.deepcopy(module, memo).train()


def _differentiable(outputs: Any) -> list[Tensor]:
    """Return the tensors with a gradient in what a head returned."""
    leaves = tree_leaves(outputs) if isinstance(outputs, tuple | list | dict | Tensor) else tree_leaves(vars(outputs))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
