"""lofi-tal: low-fidelity video-encoder optimisation for temporal action localisation.

    from lofi_tal import Localizer
    segments = Localizer.from_pretrained("runs/demo/arms/lofi/model").predict("video.mp4")

Importing the package is light; names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lofi_tal.localizer import Localizer
    from lofi_tal.segments import Segments

__all__ = ["Localizer", "Segments"]


def __getattr__(name: str) -> Any:
    if name == "Localizer":
        from lofi_tal.localizer import Localizer

        return Localizer
    if name == "Segments":
        from lofi_tal.segments import Segments

        return Segments
    raise AttributeError(f"module 'lofi_tal' has no attribute {name!r}")
