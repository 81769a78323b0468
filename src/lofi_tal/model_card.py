"""The card of a model folder: what the model finds, what it was made of and under which licence, how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from lofi_tal.encoders import Encoder
from lofi_tal.heads import Head

_MOST = 50
_START = """---
library_name: lofi-tal
tags: [video, temporal-action-localization]
---
"""
_USE = """
## Use

```sh
lofi detect video.mp4 --model FOLDER --out found/
```

```python
from lofi_tal import Localizer

segments = Localizer.from_pretrained("FOLDER").predict("video.mp4")
```
"""


def model_card(settings: Mapping[str, Any], encoder: Encoder | None, name: str, head: Head, *, calibrated: bool) -> str:
    """Return the card in Markdown, with the header that model hubs read.

    Args:
        settings: Content of the model's ``localizer.json``.
        encoder: None if the model reads features.
        name: Of the encoder.
        head: The head.
        calibrated: Whether scores are probabilities.
    """
    facts = settings["facts"]
    rows = [
        ("encoder", "none: it reads features" if encoder is None else _module(name, encoder)),
        ("licence of the weights that it started from", "" if encoder is None else encoder.licence),
        ("head", _module(head.name, head)),
        ("input", _input(settings["snippets"], encoder)),
        ("scores", "probabilities of being right at tIoU 0.5" if calibrated else "not calibrated"),
        ("average mAP on the selection videos", _selection(facts)),
        ("recipe", ", ".join(f"{key} {_code(facts[key])}" for key in ("recipe", "arm", "seed") if key in facts)),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows if value)
    return (
        f"{_START}\n# {_plain(facts.get('recipe', 'model'))}\n\n{_finds(settings['labels'])}\n\n"
        f"| | |\n|---|---|\n{table}\n{_USE}"
    )


def _finds(labels: Sequence[str]) -> str:
    shown = ", ".join(map(_code, labels[:_MOST]))
    more = f" and {len(labels) - _MOST} more" if len(labels) > _MOST else ""
    return f"Finds start, end and class of actions in videos: {shown}{more}. It knows no other classes."


def _module(name: str, module: nn.Module) -> str:
    count = sum(parameter.numel() for parameter in module.parameters())
    return f"{_code(name)}, {count / 1e6:.1f} million parameters"


def _input(snippets: Mapping[str, Any], encoder: Encoder | None) -> str:
    if encoder is None:
        return f"{snippets['count']} features"
    window = f" in each window of {snippets['window']:g} s" if "window" in snippets else ""
    return f"{snippets['count']} snippets of {snippets['frames']} frames{window}, {snippets['size']} pixels"


def _selection(facts: Mapping[str, Any]) -> str:
    """Return what the run measured when it chose; a model that was made by hand has nothing of it."""
    chosen = facts.get("chosen") or {}
    scores = (chosen.get("selection_mAP") or {}).get(chosen.get("pooling")) or {}
    kinds = {"fused": "own class scores", "agnostic": "class-agnostic"}
    return ", ".join(f"{100 * scores[kind]:.1f} % ({word})" for kind, word in kinds.items() if scores.get(kind))


def _code(value: object) -> str:
    return f"`{_plain(value)}`"


def _plain(value: object) -> str:
    """Return text that ends no table cell, code span or line."""
    return " ".join(str(value).replace("`", "'").replace("|", "/").split())
