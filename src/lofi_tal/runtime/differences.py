"""What differs between the inputs of a stage before and now, in words: settings, videos, segments.

The inputs of a stage hold hashes of its videos and clips. What these stand for is kept beside them as *contents*, by
the key of the hash: ``{"unit": "video", "items": {name: {"file": ..., "segments": [[start, end, label], ...]}}}`` for
files with their truth (``held out`` names those that the draw left out), ``{"inputs": {...}}`` for what another hash
was made from. Stages of earlier versions have no contents; their hashes are shown as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lofi_tal.errors import counted

Contents = Mapping[str, Mapping[str, Any]]

_MOST = 8  # differences that are told
_NAMED = 3  # files that each of them names
_RECIPE = {"flip": "data.flip", "search": "head", "class_scores": "classifier.scores", "tiou": "data.tiou"}
_HASHES = {
    "start": "the encoder that it starts from",
    "from": "the weights that it starts from (--from)",
    "features": "the features",
    "weights": "the file of weights",
    "truth": "the annotation file",
    "encoder": "the encoder",
    "second": "the second encoder",
}


def difference(before: Mapping[str, Any], now: Mapping[str, Any], then: Contents, contents: Contents) -> str:
    """Return what differs between two mappings of inputs, in one line.

    Args:
        before: Inputs of the stage that is there.
        now: Inputs that are asked for.
        then: Contents of the former, as far as they were kept.
        contents: Contents of the latter.
    """
    told = list(dict.fromkeys(_told(before, now, then, contents)))
    return "; ".join(told[:_MOST]) + (f"; and {len(told) - _MOST} more" if len(told) > _MOST else "")


def _told(before: Mapping[str, Any], now: Mapping[str, Any], then: Contents, contents: Contents) -> Iterator[str]:
    flat_before, flat_now = dict(_flatten(before)), dict(_flatten(now))
    for key in {**flat_before, **flat_now}:
        old, new = flat_before.get(key), flat_now.get(key)
        if old == new:
            continue
        if key in then and key in contents:
            yield from _content(key, then[key], contents[key])
        elif key in _HASHES and None not in (old, new):
            yield f"{_HASHES[key]} changed"
        else:
            first, *rest = key.split(".")
            yield f"{'.'.join([_RECIPE.get(first, first), *rest])}: {old!r} -> {new!r}"


def differing(contents: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Return the values of several settings that are not the same everywhere, by ``section.key``.

    A key that one of them lacks is None there. A section that is off is shown by its keys where it is on. What
    has no settings at all is not known and differs from nothing; its values are None.

    >>> differing([{"lofi": {"lr": 1, "epochs": 2}}, {"lofi": {"lr": 3, "epochs": 2}}])
    {'lofi.lr': (1, 3)}
    """
    flat = [dict(_flatten(one)) for one in contents]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    sections = {key.rsplit(".", depth)[0] for key in keys for depth in range(1, key.count(".") + 1)}
    found = {}
    for key in keys:
        values = tuple(one.get(key) for one in flat)
        known = [value for value, one in zip(values, flat, strict=True) if one]
        if any(value != known[0] for value in known) and not (key in sections and set(values) == {None}):
            found[key] = values
    return found


def _flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(prefix, value)]
    return [item for key, inner in value.items() for item in _flatten(inner, f"{prefix}.{key}" if prefix else str(key))]


def _content(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if "inputs" in now:
        for one in _told(before.get("inputs", {}), now["inputs"], {}, {}):
            yield f"{_HASHES.get(key, key)}: {one}"
        return
    unit, told = now["unit"], False
    for one in (*_changed(unit, before["items"], now["items"]), *_moved(unit, before, now)):
        told = True
        yield one
    if not told:
        yield f"order or rounding of the {unit}s"


def _changed(unit: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs between the files that are in both of two sets."""
    changes: dict[str, dict[str, int]] = {}  # kind of change: file: how many
    for name in before.keys() & now.keys():
        for what, count in _changes(before[name], now[name]):
            changes.setdefault(what, {})[name] = count
    for what in sorted(changes):
        files = dict(sorted(changes[what].items()))
        if what.startswith("segment"):
            yield f"{counted(sum(files.values()), 'segment')} of {_named(files, unit)} {what.split()[1]}"
        else:
            yield f"{what} of {_named(files, unit)} changed"


def _moved(unit: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is in one of two sets only."""
    gained = now["items"].keys() - before["items"].keys()
    lost = before["items"].keys() - now["items"].keys()
    drawn, freed = lost & set(now.get("held out", ())), gained & set(before.get("held out", ()))
    for what, names in (
        ("added", gained - freed),
        ("removed", lost - drawn),
        ("held out now", drawn),
        ("no longer held out", freed),
    ):
        if names:
            yield f"{counted(len(names), unit)} {what} ({_first(sorted(names))})"


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield kinds of change of one file, and how many segments they concern."""
    for key in ("file", "duration", "start"):
        if before.get(key) != now.get(key):
            yield key, 1
    old, new = (Counter(map(tuple, one.get("segments", []))) for one in (before, now))
    lost, gained = (old - new).total(), (new - old).total()
    for what, count in (
        ("changed", min(lost, gained)),
        ("added", max(0, gained - lost)),
        ("removed", max(0, lost - gained)),
    ):
        if count:
            yield f"segments {what}", count


def _named(files: Mapping[str, int], unit: str) -> str:
    names = list(files)
    return names[0] if len(names) == 1 else f"{counted(len(names), unit)} ({_first(names)})"


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
