"""lofi-tal: low-fidelity video-encoder optimisation for temporal action localisation.

    from lofi_tal import Localizer
    segments = Localizer.from_pretrained("runs/demo/arms/lofi/model").predict("video.mp4")

Importing the package is light: a public name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; a test holds these to the table below
    from lofi_tal.api import batches as batches
    from lofi_tal.api import detect as detect
    from lofi_tal.api import evaluate as evaluate
    from lofi_tal.api import extract as extract
    from lofi_tal.api import fit_head as fit_head
    from lofi_tal.api import load_videos as load_videos
    from lofi_tal.api import plan as plan
    from lofi_tal.config import Recipe as Recipe
    from lofi_tal.data import Batch as Batch
    from lofi_tal.data import Videos as Videos
    from lofi_tal.encoders import Encoder as Encoder
    from lofi_tal.encoders import create_encoder as create_encoder
    from lofi_tal.encoders import list_encoders as list_encoders
    from lofi_tal.errors import LofiError as LofiError
    from lofi_tal.features import FeatureSet as FeatureSet
    from lofi_tal.fidelity import Fidelity as Fidelity
    from lofi_tal.fidelity import create_schedule as create_schedule
    from lofi_tal.fidelity import full_fidelity as full_fidelity
    from lofi_tal.fidelity import list_schedules as list_schedules
    from lofi_tal.heads import Head as Head
    from lofi_tal.heads import create_head as create_head
    from lofi_tal.heads import list_heads as list_heads
    from lofi_tal.localizer import Localizer as Localizer
    from lofi_tal.postprocess import soft_nms as soft_nms
    from lofi_tal.recipes import load_recipe as load_recipe
    from lofi_tal.run import Run as Run
    from lofi_tal.run.comparing import compare_runs as compare_runs
    from lofi_tal.segments import Segment as Segment
    from lofi_tal.segments import Segments as Segments
    from lofi_tal.stages.end_to_end import EndToEnd as EndToEnd

__version__ = "0.1.0"

_MODULES = {
    "Batch": "lofi_tal.data",
    "batches": "lofi_tal.api",
    "compare_runs": "lofi_tal.run.comparing",
    "create_encoder": "lofi_tal.encoders",
    "create_head": "lofi_tal.heads",
    "create_schedule": "lofi_tal.fidelity",
    "detect": "lofi_tal.api",
    "Encoder": "lofi_tal.encoders",
    "EndToEnd": "lofi_tal.stages.end_to_end",
    "evaluate": "lofi_tal.api",
    "extract": "lofi_tal.api",
    "FeatureSet": "lofi_tal.features",
    "Fidelity": "lofi_tal.fidelity",
    "fit_head": "lofi_tal.api",
    "full_fidelity": "lofi_tal.fidelity",
    "Head": "lofi_tal.heads",
    "list_encoders": "lofi_tal.encoders",
    "list_heads": "lofi_tal.heads",
    "list_schedules": "lofi_tal.fidelity",
    "load_recipe": "lofi_tal.recipes",
    "load_videos": "lofi_tal.api",
    "Localizer": "lofi_tal.localizer",
    "LofiError": "lofi_tal.errors",
    "plan": "lofi_tal.api",
    "Recipe": "lofi_tal.config",
    "Run": "lofi_tal.run",
    "Segment": "lofi_tal.segments",
    "Segments": "lofi_tal.segments",
    "soft_nms": "lofi_tal.postprocess",
    "Videos": "lofi_tal.data",
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
