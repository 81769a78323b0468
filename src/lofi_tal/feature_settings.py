"""The section of a recipe that names features which others published."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from lofi_tal.settings import LaterSection


class FeaturesSection(LaterSection):
    """Features that others published, instead of an encoder: stage 3 alone (`lofi head`)."""

    later = frozenset({"axes", "stride", "span", "fps"})
    sources: tuple[Path, ...] = Field(min_length=1)
    """Folders of .npy, .npz, .csv, .pt, .safetensors or .h5 (one a video), or HDF5 files; joined on the channels."""
    resize: Literal["interpolate", "roi_align", "bmn", "keep"] = "interpolate"
    """How T features become L: linear as G-TAD, roi_align as OpenTAD, three points a part as BMN; keep lets them be T,
    for a head that takes any length (actionformer)."""
    axes: Literal["TC", "CT"] | None = None
    """Order of the arrays: TC (time steps, channels) or CT. Left out, files and durations decide; TC if they cannot."""
    stride: float | None = Field(None, gt=0)
    """Frames from one feature to the next (ActionFormer: 4 on THUMOS14, 16 on ActivityNet): the features lie where they
    were computed, as in ActionFormer. Left out, they are spread over the video."""
    span: float | None = Field(None, gt=0)
    """Frames that one feature sees (16 there); left out, the stride."""
    fps: float | None = Field(None, gt=0)
    """Frames a second of which the stride counts; left out, `fps` of each video in the annotations."""

    @model_validator(mode="after")
    def _one_grid(self) -> Self:
        if self.stride is None and (self.span is not None or self.fps is not None or self.resize == "keep"):
            raise ValueError("features.stride is missing: resize: keep, span and fps need it to place features in time")
        return self
