"""lofi-tal: low-fidelity video-encoder optimisation for temporal action localisation.

    from lofi_tal import Localizer
    segments = Localizer.from_pretrained("runs/demo/arms/lofi/model").predict("video.mp4")

Importing the package is light: a public name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; a test holds these to the table below
    from lofi_tal.localizer import Localizer as Localizer
    from lofi_tal.segments import Segment as Segment
    from lofi_tal.segments import Segments as Segments

__version__ = "0.1.0"

_MODULES = {
    "Localizer": "lofi_tal.localizer",
    "Segment": "lofi_tal.segments",
    "Segments": "lofi_tal.segments",
}
"""The module of each public name."""

__all__ = list(_MODULES)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


if not TYPE_CHECKING:  # a type checker that saw this function would accept any misspelt name

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value
