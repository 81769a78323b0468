"""Where a model lies, and which files belong to it; telling that needs no torch."""

from __future__ import annotations

from pathlib import Path

from lofi_tal.folders import settled

RECORD = "localizer.json"
SHEET = "scores.json"
CARD = "README.md"
"""For people; never read, and anybody may change it."""
OWN_FILES = (
    RECORD,
    *(f"{part}.{kind}" for part in ("encoder", "head", "classifier") for kind in ("safetensors", "json")),
    SHEET,
)
"""All that a model folder holds; other files in it are left alone."""


def find_model(folder: Path) -> Path:
    """Return the model folder in a run folder (the `lofi` arm before the baseline), or ``folder`` itself."""
    folder = folder.parent if folder.name == RECORD else folder
    candidates = [folder, folder / "model", *(folder / "arms" / arm / "model" for arm in ("lofi", "baseline"))]
    return next((path for path in candidates if holds_model(path)), folder)


def holds_model(folder: Path) -> bool:
    """Say whether a folder holds a file of a model: one that lacks others is refused, and no other taken for it."""
    return any((settled(folder) / name).exists() for name in OWN_FILES)
