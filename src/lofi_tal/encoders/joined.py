"""Several frozen encoders side by side: their features are concatenated (the paper's ACP+Arrow and ACP+Speed)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lofi_tal.encoders.contract import Encoder
from lofi_tal.fidelity.takes import Takes


class JoinedEncoder(Encoder):
    """Encoders whose features stand one behind the other; each one normalises the frames in its own way.

    Args:
        encoders: At least one.
        names: Their names in :func:`lofi_tal.encoders.create_encoder`.
    """

    def __init__(self, encoders: Sequence[Encoder], names: Sequence[str]) -> None:
        config: dict[str, Any] = {
            "parts": [{"name": name, **encoder.config} for name, encoder in zip(names, encoders, strict=True)]
        }
        super().__init__(
            channels=sum(encoder.channels for encoder in encoders), config=config, mean=(0.0,) * 3, std=(1.0,) * 3
        )
        self.parts = nn.ModuleList(encoders)
        self.takes = Takes.together([encoder.takes for encoder in encoders])

    def forward(self, clips: Tensor) -> Tensor:
        """Encode clips ``(N, T, 3, H, W)`` with every part: ``(N, C₁ + C₂ + ...)``."""
        return torch.cat([encoder(clips) for encoder in self.parts], 1)

    def blocks(self) -> list[nn.Module]:
        """Return the blocks of all parts."""
        return [block for encoder in self.parts for block in encoder.blocks()]  # type: ignore[operator]

    def layers(self) -> list[tuple[str, nn.Module]]:
        """Return the groups of all parts side by side, counted from the output."""
        parts = [encoder.layers()[::-1] for encoder in self.parts]  # type: ignore[operator]
        rows = [[part[index] for part in parts if index < len(part)] for index in range(max(map(len, parts)))]
        return [(" + ".join(name for name, _ in row), nn.ModuleList(module for _, module in row)) for row in rows[::-1]]

    def encode(self, frames: Tensor, frames_per_clip: int) -> Tensor:
        """Not used: the parts normalise frames by themselves."""
        return torch.cat([encoder.encode(frames, frames_per_clip) for encoder in self.parts], 1)  # type: ignore[operator]
