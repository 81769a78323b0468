"""The fidelity of a mini-batch (paper sec. 3.2): L snippets a video at S pixels, and the paper's three reductions.

With full fidelity (L, S), temporal ratio r_t and spatial ratio r_s, a video costs about 1 / (r_t · r_s²) of the
full memory and compute. The paper's configurations all have r_t · r_s² = 4:

    S-LoFi   r_t = 1, r_s = 2         100 snippets, 112 px
    T-LoFi   r_t = 4, r_s = 1          25 snippets, 224 px
    ST-LoFi  r_t = 2, r_s = sqrt(2)    50 snippets, 158 px

L / r_t and S / r_s are rounded to the nearest whole number (224 / sqrt(2) = 158.39 -> 158, as the paper has it), or to
the nearest size that the encoder takes (160 for patches of 16 pixels).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from lofi_tal.errors import LofiError
from lofi_tal.fidelity.takes import Takes


@dataclass(frozen=True)
class Fidelity:
    """What one video of a mini-batch looks like.

    Args:
        name: Short name for logs and plots, such as ``"T"``.
        snippets: L, the number of snippets that cover the whole video.
        size: Side of the square frames in pixels.
        takes: What the encoder takes: sizes that are derived from this one are among these.

    Raises:
        LofiError: If there is less than one snippet or a frame is smaller than 16 pixels.
    """

    name: str
    snippets: int
    size: int
    takes: Takes = field(default=Takes(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.snippets < 1:
            raise LofiError(f"fidelity {self.name}: snippets is {self.snippets}; at least 1 is needed: lower r_t.")
        if self.size < 16:
            raise LofiError(f"fidelity {self.name}: size is {self.size} px; at least 16 px are needed: lower r_s.")

    def cost(self) -> int:
        """Return snippets × pixels, to which the encoder's memory and compute are proportional."""
        return self.snippets * self.size**2

    def to_json(self) -> dict[str, Any]:
        """Return name, snippets and size."""
        return {"name": self.name, "snippets": self.snippets, "size": self.size}

    def __str__(self) -> str:
        return f"{self.name} {self.snippets}×{self.size}px"


def full_fidelity(snippets: int, size: int, takes: Takes | None = None) -> Fidelity:
    """Return the fidelity of feature extraction and detection; stage 2 never sees it in the paper.

    Args:
        snippets: L.
        size: S.
        takes: What the encoder takes (``encoder.takes``); sizes of phases are rounded to it.
    """
    return Fidelity("full", snippets, size, takes or Takes())


def reduced(name: str, full: Fidelity, r_t: float, r_s: float) -> Fidelity:
    """Return ``full`` with L / r_t snippets of S / r_s pixels, both rounded, S to a multiple that the encoder takes.

    Raises:
        LofiError: If a ratio is not a finite number of at least 1, nothing is left of the video, or the encoder takes
            no frames of another size.
    """
    for symbol, ratio in (("r_t", r_t), ("r_s", r_s)):
        if not (math.isfinite(ratio) and ratio >= 1):
            raise LofiError(
                f"{symbol} = {ratio} is not a fidelity ratio: it divides the resolution and is a number >= 1 "
                "(1 keeps the full resolution, the paper's largest is 4)."
            )
    takes = full.takes
    size = takes.size_multiple * round(full.size / r_s / takes.size_multiple)
    if size != full.size and not takes.sizes_change:
        raise LofiError(f"fidelity {name}: the encoder takes frames of {full.size} px only: set r_s = 1.")
    if size < takes.smallest:
        raise LofiError(
            f"fidelity {name}: size is {size} px; at least {takes.smallest} px are needed by the encoder: lower r_s."
        )
    return Fidelity(name, round(full.snippets / r_t), size, takes)


def s_lofi(full: Fidelity, r_s: float = 2.0) -> Fidelity:
    """Return the spatial reduction: all snippets, smaller frames."""
    return reduced("S", full, 1.0, r_s)


def t_lofi(full: Fidelity, r_t: float = 4.0) -> Fidelity:
    """Return the temporal reduction: fewer snippets over the same video, full-size frames."""
    return reduced("T", full, r_t, 1.0)


def st_lofi(full: Fidelity, r_t: float = 2.0, r_s: float = math.sqrt(2)) -> Fidelity:
    """Return the reduction of both, each to the square root by default."""
    return reduced("ST", full, r_t, r_s)
