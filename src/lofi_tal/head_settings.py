"""The head's section of a recipe: which one, and how stage 3 trains it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lofi_tal.heads import HEADS
from lofi_tal.settings import LaterSection, known


class HeadSection(LaterSection):
    """Stage 3: a fresh head on frozen full-fidelity features (paper sec. 4.3), used in stage 2 as well."""

    later = frozenset({"weights", "ema", "ema_constant", "optimizer", "warmup", "clip_norm"})

    name: Annotated[str, known(HEADS)] = "gtad"
    """One of `lofi models list`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the head, such as hidden_3d."""
    epochs: int = Field(10, ge=1)
    """Passes over the features; the learning rate falls to a tenth after half of them."""
    batch: int = Field(16, ge=1)
    """Videos an optimiser step."""
    lrs: tuple[float, ...] = Field((2e-4, 5e-4, 1e-3, 2e-3, 5e-3), min_length=1)
    """Learning rates of Adam that are tried on the selection videos."""
    weight_decay: float = Field(1e-4, ge=0)
    """L2 penalty."""
    optimizer: Literal["adamw"] | None = None
    """adamw decouples the penalty, and spares biases, norms and scales, as ActionFormer; null is Adam."""
    warmup: int | None = Field(None, ge=0)
    """Epochs of linear warm-up, before `epochs` of half a cosine (5 in ActionFormer); null lets the rate fall once."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest gradient norm (1 in ActionFormer)."""
    refit: bool = True
    """Train once more on all training videos with the learning rate that won."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of a moving average of the head's weights (0.999, say), evaluated and saved instead of the last ones."""
    ema_constant: bool = False
    """That decay holds from the first step on, as in ActionFormer; otherwise it is smaller at first."""
    weights: Path | None = None
    """Checkpoint of the published code (gtad, actionformer): stage 3 takes it as it is, and trains no head itself."""

    @model_validator(mode="after")
    def _average_is_kept(self) -> Self:
        if self.ema_constant and self.ema is None:
            raise ValueError("ema_constant is true and no average is kept: set head.ema (0.999 in ActionFormer)")
        return self

    @property
    def passes(self) -> int:
        """Passes over the features in all."""
        return self.epochs + (self.warmup or 0)
