"""The head contract: features in; a loss from segments, or proposals, out.

Shapes: B videos, C feature channels, L snippets, N segments of one video.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lofi_tal.errors import LofiError
from lofi_tal.heads.losses import Generators

PRESETS = ("fixed", "official")


class Proposals(NamedTuple):
    """Candidate segments of one video, on the CPU, in no particular order.

    Args:
        segments: ``(N, 2)`` fp32, start and end as shares of the video.
        scores: ``(N,)`` fp32 confidence, larger is better.
        labels: ``(N,)`` int64 class indices, or None from a head that does not classify.
    """

    segments: Tensor
    scores: Tensor
    labels: Tensor | None = None


class Head(nn.Module, abc.ABC):
    """A localisation head over snippet features.

    One set of weights serves any number of snippets. What :meth:`forward` returns is the head's own business:
    the caller hands it to :meth:`loss` or :meth:`proposals`.

    Args:
        in_channels: C.
        config: Constructor arguments, kept beside the weights so that ``create_head(name, **config)``
            rebuilds the head.
    """

    name: str
    """The name under which :func:`lofi_tal.heads.create_head` knows the head, which sets it."""
    takes_mask: bool = False
    """Whether :meth:`forward` takes a mask ``(B, L)`` of valid snippets, so that a batch may hold videos of several
    lengths; segments are shares of a video's valid snippets then."""
    num_classes: int | None = None
    """Number of classes the head tells apart; None if its proposals have no labels."""
    class_weights: Tensor | None = None
    """``(K,)``, what :meth:`weigh_classes` was given."""
    class_tensors: tuple[str, ...] = ()
    """Names of the tensors in the state whose first dimension is the classes; none if all classes share all of them."""

    def __init__(self, *, in_channels: int, config: dict[str, Any]) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.config = config

    @abc.abstractmethod
    def forward(self, features: Tensor) -> Any:
        """Run the network.

        Args:
            features: ``(B, C, L)``.
        """

    @abc.abstractmethod
    def loss(
        self,
        outputs: Any,
        segments: Sequence[Tensor],
        labels: Sequence[Tensor] | None = None,
        generator: Generators = None,
    ) -> dict[str, Tensor]:
        """Return the loss terms and, under ``"total"``, what to minimise.

        Args:
            outputs: What :meth:`forward` returned.
            segments: B tensors ``(N_i, 2)``, start and end as shares of the video; best on the CPU, where they can be
                looked at without waiting for the device.
            labels: B tensors ``(N_i,)`` of class indices, on the CPU as well; read only by heads that classify.
            generator: Source of random draws, on the device of the outputs, or one on the CPU for each video.
        """

    @abc.abstractmethod
    def proposals(self, outputs: Any, preset: str = "fixed") -> list[Proposals]:
        """Return the candidate segments of each video, before non-maximum suppression.

        Args:
            outputs: What :meth:`forward` returned.
            preset: ``fixed`` (segments may end with the video) or ``official`` (as the published code
                decodes).
        """

    def load_official(self, path: Path | str) -> None:
        """Load a checkpoint of the head's published code.

        Raises:
            LofiError: If none is known for this head.
        """
        raise LofiError(
            f"head {self.name!r} reads no checkpoints of other code (head.weights); gtad and actionformer do."
        )

    def save_memory(self) -> None:
        """Compute again, from now on, what would take much memory to keep for the gradient."""

    def weigh_classes(self, weights: Sequence[float]) -> None:
        """Multiply the class loss of positives by the weight of their class, from now on.

        Heads that tell no classes apart ignore it.

        Args:
            weights: K numbers; the loss keeps its size if their mean over all instances is 1.
        """
        if self.num_classes is not None:
            self.class_weights = torch.tensor(weights, dtype=torch.float32)

    def check_features(self, features: Tensor) -> None:
        """Refuse features of the wrong shape.

        Raises:
            LofiError: If ``features`` is not ``(B, C, L)`` with the head's C and at least one snippet.
        """
        if features.ndim != 3 or features.shape[1] != self.in_channels or features.shape[2] < 1:
            raise LofiError(
                f"features have shape {tuple(features.shape)}; this head expects (videos, {self.in_channels} channels, "
                "snippets). Transpose (snippets, channels) arrays, or build the head with the right in_channels."
            )


def check_preset(preset: str) -> None:
    """Refuse an unknown decoding preset.

    Raises:
        LofiError: If ``preset`` is not one of :data:`PRESETS`.
    """
    if preset not in PRESETS:
        raise LofiError(f"preset {preset!r} is unknown; allowed: {', '.join(PRESETS)}.")
