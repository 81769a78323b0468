"""The encoder's section of a recipe: which one, what it starts from, and how much of it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lofi_tal.encoders import ENCODERS, check_adapter, check_part
from lofi_tal.settings import LaterSection, known


class EncoderSection(LaterSection):
    """Which encoder, what it starts from, and how much of it is trained."""

    later = frozenset({"train", "adapter", "save"})

    name: Annotated[str, known(ENCODERS)] = "tsm_resnet18"
    """One of `lofi models list`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the encoder, such as width."""
    weights: Path | None = None
    """Weights file or encoder folder to start from; random weights without it."""
    pretrained: str | None = None
    """Public weights instead: imagenet or kinetics400 (torchvision's, or timm's of the model), torchvision's name of
    weights, or for encoders of transformers a name on the Hugging Face hub."""
    train: Annotated[str, AfterValidator(check_part)] | None = None
    """full (or unset), last N (the N groups of layers nearest to the output), adapter, or frozen: in stage 2 and ACP+,
    and in stage 1 if it starts from weights."""
    adapter: dict[str, Any] = Field(default_factory=dict)
    """With train: adapter: {name: temporal, ratio: 0.25, kernel: 3}, as AdaTAD, or {name: lora, rank: 8, alpha: 16}."""
    save: Literal["all", "adapter"] | None = None
    """With train: adapter, what saved models hold: all weights (or unset), or the adapters and the name of the weights
    that they belong to."""

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.train != "adapter":
            if self.adapter or self.save == "adapter":
                key = "adapter" if self.adapter else "save"
                raise ValueError(
                    f"encoder.{key} says something of adapters: set encoder.train to adapter, or leave it out"
                )
            return self
        check_adapter(**self.adapter)
        if self.save == "adapter" and self.weights is None and self.pretrained is None:
            raise ValueError("encoder.save: adapter needs weights that can be named: encoder.pretrained or weights")
        return self

    @property
    def starts_from_weights(self) -> bool:
        """Whether it is trained already when the run begins."""
        return self.weights is not None or self.pretrained is not None

    def start(self) -> dict[str, Any]:
        """Return what an untrained encoder depends on, JSON-like."""
        return self.model_dump(mode="json", exclude=set(self.later))

    def adapting(self) -> dict[str, Any]:
        """Return how much of it is trained, as arguments of `adapt_encoder`; nothing if all is."""
        if self.train in (None, "full"):
            return {}
        return {"train": self.train, **({"adapter": check_adapter(**self.adapter)} if self.train == "adapter" else {})}

    def training(self) -> dict[str, Any]:
        """Return what a training depends on besides the encoder it starts from; nothing if all of it is trained."""
        adapting = self.adapting()
        if not adapting:
            return {}
        return {"adapting": {**adapting, **({"save": "adapter"} if self.save == "adapter" else {})}}
