"""The encoder contract: clips in, one feature vector a clip out.

Shapes: N clips (snippets), T frames a clip, H × W pixels (any), C feature channels.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from lofi_tal.errors import LofiError
from lofi_tal.fidelity.takes import Takes

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
"""Every layer with batch statistics; good for annotations and for ``isinstance``."""

BATCHNORM_MODES = ("train", "frozen_stats", "frozen")


class Encoder(nn.Module, abc.ABC):
    """A video encoder whose preprocessing travels with it.

    Args:
        channels: C.
        config: Constructor arguments, kept beside the weights so that the encoder can be rebuilt.
        mean: Of each colour channel, for frames scaled to [0, 1].
        std: Of each colour channel.
    """

    name: str | None = None
    """The name by which :func:`lofi_tal.create_encoder` has built it."""
    takes: Takes = Takes()
    """Sizes and numbers of frames that it can take, and its own resize; the default fits networks of convolutions."""
    licence: str = ""
    """Licence of the weights that it was loaded with, where one is known."""
    frozen: tuple[nn.Module, ...] = ()
    """Modules that stay as they are, statistics too, and never train (:func:`lofi_tal.encoders.adapt_encoder`)."""
    adapter: dict[str, Any] | None = None
    """Name and options of the adapters that have been put into it (:func:`lofi_tal.encoders.add_adapter`)."""
    base: dict[str, str] | None = None
    """Where its own weights come from, if a saved folder is to hold adapters alone."""
    mean: Tensor
    inverse_std: Tensor

    def __init__(
        self,
        *,
        channels: int,
        config: dict[str, Any],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.channels = channels
        self.config = config
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("inverse_std", 1 / torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Set training mode or evaluation mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.training = False
        return self

    @property
    def std(self) -> Tensor:
        """Standard deviation of each colour channel ``(1, 3, 1, 1)``, for frames scaled to [0, 1]."""
        return 1 / self.inverse_std

    def forward(self, clips: Tensor) -> Tensor:
        """Encode clips.

        Args:
            clips: ``(N, T, 3, H, W)``; uint8 frames in RGB, or floating point frames that are normalised already.

        Returns:
            Features ``(N, C)`` in fp32: the mean over the T frames. No information passes between clips.

        Raises:
            LofiError: If it does not take clips of this shape (``takes``).
        """
        if clips.ndim != 5 or clips.shape[2] != 3:
            raise LofiError(f"clips have shape {tuple(clips.shape)}; expected (N, T, 3, H, W).")
        count, frames = clips.shape[:2]
        self.takes.check(self.name or type(self).__name__, frames, *clips.shape[3:])
        features = self.encode(self.normalise(clips.flatten(0, 1)), frames)
        return features.float().view(count, self.channels)  # autocast may have left them in half precision

    def normalise(self, frames: Tensor) -> Tensor:
        """Return uint8 frames ``(N·T, 3, H, W)`` as normalised float; floating point frames pass unchanged."""
        if frames.dtype != torch.uint8:
            return frames
        # (x / 255 - mean) / std in one multiply and one add over the pixels
        return torch.addcmul(-self.mean * self.inverse_std, frames.to(self.mean.dtype), self.inverse_std / 255)

    @abc.abstractmethod
    def blocks(self) -> list[nn.Module]:
        """Return the blocks in the order of the forward pass, each a function of one tensor: activation checkpoints."""

    def layers(self) -> list[tuple[str, nn.Module]]:
        """Return groups of layers from input to output, each with a name: every parameter is in exactly one.

        What comes before the first block is ``stem``, what comes behind the last one ``end``; each block is a group, as
        is what lies between two of them. A group is a module that holds parameters; it need not be callable.
        """
        return grouped(self, self.blocks())

    def token_order(self, block: nn.Module) -> str:
        """Return how a transformer block lays out its tokens, where their shape alone does not say where time is.

        ``places`` is ``(N·P, T', C)``, each of the P places by itself; ``time last`` is ``(N, 1 + P·T', C)``, a class
        token and then the steps of each place in a row; empty: time comes before the places.
        """
        return ""

    @abc.abstractmethod
    def encode(self, frames: Tensor, frames_per_clip: int) -> Tensor:
        """Return features ``(N, C)`` of normalised frames ``(N·T, 3, H, W)``."""


def grouped(model: nn.Module, blocks: Sequence[nn.Module]) -> list[tuple[str, nn.Module]]:
    """Return the blocks of a model by the names that they have in it, and between them what else holds parameters.

    Args:
        model: Registers its layers in the order of the forward pass.
        blocks: In that order.
    """
    heads = {id(block) for block in blocks}
    inside = {id(module) for block in blocks for module in block.modules()}
    groups: list[tuple[str, nn.Module]] = []
    between: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        if id(module) in heads:
            if between:
                group = nn.ModuleList(one for _, one in between)
                groups.append((between[0][0] if groups else "stem", group))
            groups.append((name, module))
            between = []
        elif id(module) not in inside and (own := list(module.parameters(recurse=False))):
            holds_others = any(next(child.parameters(), None) is not None for child in module.children())
            between.append((name, nn.ParameterList(own) if holds_others else module))
    return [*groups, *([("end", nn.ModuleList(one for _, one in between))] if between else [])]


def batchnorms(module: nn.Module) -> list[BatchNorm]:
    """Return the BatchNorm layers of a module, in the order of their registration."""
    return [layer for layer in module.modules() if isinstance(layer, BatchNorm)]


def set_batchnorm_mode(encoder: nn.Module, mode: str) -> None:
    """Choose how BatchNorm behaves while ``encoder`` is trained; call it after every ``encoder.train()``.

    Layers that are frozen are left alone.

    Args:
        encoder: Any module.
        mode: ``train`` (batch statistics, everything learns: the paper's plain training), ``frozen_stats`` (running
            statistics are used and kept, weight and bias learn) or ``frozen`` (weight and bias are fixed as well).

    Raises:
        LofiError: If the mode is unknown.
    """
    if mode not in BATCHNORM_MODES:
        raise LofiError(f"batchnorm {mode!r} is unknown; allowed: {', '.join(BATCHNORM_MODES)}.")
    frozen = {id(module) for module in getattr(encoder, "frozen", ())}
    for norm in batchnorms(encoder):
        if id(norm) in frozen:
            continue
        norm.train(encoder.training and mode == "train")
        for parameter in norm.parameters():
            parameter.requires_grad_(mode != "frozen")
