"""Runs that lie beside the labels: which there are, what they detected and cost, and runs side by side.

Nothing here needs torch. What a run wrote is read as data, and a damaged part of it counts as missing.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lofi_tal.annotations import Annotations, load_annotations
from lofi_tal.artefacts import read_record
from lofi_tal.errors import DataError, LofiError, nearest
from lofi_tal.evaluation import load_sheet
from lofi_tal.files import is_companion, plain_file, read_json
from lofi_tal.model_folders import find_model, holds_model
from lofi_tal.report.page import WAYS
from lofi_tal.segments import Segments, detections_from_activitynet
from lofi_tal.showing import Shown
from lofi_tal.studio.drafts import shown_by
from lofi_tal.studio.refusals import MissingError

RUNS = "runs"
"""Folder beside the labels into which new runs go."""
ARMS = ("lofi", "features", "baseline")
"""Arms of a run, the one that counts first."""
_STAGES = ("pretrain", "second", "finetune", "lofi")
_MOST_RECIPE = 256 * 1024  # bytes
_MOST_SETTINGS = 2000
_MOST_DETECTIONS = 2 * 2**30  # bytes


class UnknownRunError(MissingError):
    """There is no such run."""


@dataclass(frozen=True)
class RunFacts:
    """A run folder as far as it has come.

    Args:
        name: How the page calls it: its path relative to the labels' folder.
        path: The folder.
    """

    name: str
    path: Path

    @property
    def arms(self) -> list[str]:
        """Arms that are finished, the one that counts first."""
        return [arm for arm in ARMS if (self.path / "arms" / arm / "evaluation" / "stage.json").is_file()]

    @property
    def finished(self) -> bool:
        """Whether every arm that was begun is finished."""
        begun = [arm for arm in ARMS if (self.path / "arms" / arm).is_dir()]
        return bool(begun) and begun == self.arms

    @property
    def has_model(self) -> bool:
        """Whether it can detect."""
        return holds_model(find_model(self.path))

    def map(self) -> dict[str, dict[str, float]]:
        """Return the average mAP of each finished arm, by how classes count: ``fused``, ``agnostic``, ``oracle``."""
        found: dict[str, dict[str, float]] = {}
        for arm in self.arms:
            scores = self._record(f"arms/{arm}/evaluation").get("result", {}).get("scores", {})
            with contextlib.suppress(AttributeError, KeyError, TypeError):
                found[arm] = {way: float(score["average_mAP"]) for way, score in scores.items()}
        return found

    def settings(self) -> dict[str, Any]:
        """Return the recipe as ``section.key`` to value; nothing if it cannot be read."""
        path = self.path / "recipe.yaml"
        try:
            if plain_file(path, self.path).st_size > _MOST_RECIPE:
                return {}
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (LofiError, OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
            return {}
        found: dict[str, Any] = {}
        for key, value in _flat("", content, 0):
            found[key] = value
            if len(found) >= _MOST_SETTINGS:
                break
        return found

    def events(self) -> float:
        """Return how long a point event lasts for it (``data.events``) in seconds; 0 if it takes labels as they are."""
        width = self.settings().get("data.events")
        return float(width) if isinstance(width, int | float) and math.isfinite(width) and width > 0 else 0.0

    def labels(self) -> Annotations | None:
        """Return the labels that it was made from; None of a run that has not kept them, or whose file is damaged."""
        path = self.path / "labels.json"
        try:
            plain_file(path, self.path)
            return load_annotations(path)
        except (LofiError, OSError):
            return None

    def cost(self) -> tuple[float, int]:
        """Return the seconds of all finished stages, and the largest peak memory of one in bytes."""
        heads = [path.parent.relative_to(self.path).as_posix() for path in self.path.glob("arms/*/head/*/stage.json")]
        folders = [*_STAGES, *heads, *(f"arms/{arm}/evaluation" for arm in self.arms)]
        records = [self._record(folder) for folder in folders]
        seconds = [one.get("seconds") for one in records]
        peaks = [one.get("peak_memory_bytes") for one in records]
        numbers = (int, float)
        return (
            float(sum(value for value in seconds if isinstance(value, numbers))),
            max((int(value) for value in peaks if isinstance(value, numbers)), default=0),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the run as the page reads it."""
        seconds, peak = self.cost()
        return {
            "name": self.name,
            "finished": self.finished,
            "model": self.has_model,
            "map": self.map(),
            "settings": self.settings(),
            "seconds": seconds,
            "peak_memory_bytes": peak,
            "changed": _changed(self.path / "recipe.yaml"),
        }

    def _record(self, folder: str) -> dict[str, Any]:
        try:
            return read_record(self.path / folder / "stage.json")
        except (DataError, OSError):
            return {}

    def detections(self, arm: str | None = None) -> tuple[list[Segments], Shown]:
        """Return the detections of the evaluated videos of an arm, and what of them is shown.

        Args:
            arm: The first that is finished if None.

        Raises:
            LofiError: If the arm is unknown or not finished, or its files cannot be read.
        """
        known = self.arms
        if not known or (arm is not None and arm not in known):
            raise LofiError(f"Run {self.name!r} has no finished arm{f' {arm!r}' if arm else ''}; finished: {known}.")
        folder = self.path / "arms" / (arm or known[0])
        if plain_file(folder / "detections.json", self.path).st_size > _MOST_DETECTIONS:
            raise DataError(f"{folder / 'detections.json'} has more than {_MOST_DETECTIONS:,} bytes.")
        found = detections_from_activitynet(read_json(folder / "detections.json"), str(folder / "detections.json"))
        sheet = load_sheet(folder / "model")
        return [one if sheet is None else sheet.calibrated(one) for one in found], shown_by(folder / "model", sheet)


def find_runs(roots: Sequence[Path], given: Path | None = None) -> dict[str, RunFacts]:
    """Return the runs in some folders by name, the latest first.

    Args:
        roots: Folders that hold run folders, or a folder ``runs`` of them; names are relative to the first.
        given: A run folder, or the model of one, that counts wherever it lies.
    """
    found: dict[Path, RunFacts] = {}
    for root in dict.fromkeys(path.resolve() for path in roots):
        for folder in (root, root / RUNS):
            for path in _folders(folder, root):
                found.setdefault(path, RunFacts(_name(path, roots[0]), path))
    if given is not None:
        path = run_of(given.resolve())
        if _is_run(path):
            found.setdefault(path, RunFacts(_name(path, roots[0]), path))
    latest = sorted(found.values(), key=lambda run: -_changed(run.path / "recipe.yaml"))
    return {run.name: run for run in latest}


def run_of(path: Path) -> Path:
    """Return the run folder that a model folder, or its ``localizer.json``, belongs to; the path itself otherwise."""
    model = find_model(path)
    run = model.parent.parent.parent if model.name == "model" and model.parent.parent.name == "arms" else path
    return run if _is_run(run) else path


def require_run(runs: Mapping[str, RunFacts], name: str) -> RunFacts:
    """Return a run by its name.

    Raises:
        UnknownRunError: If it is none of the runs.
    """
    if name not in runs:
        raise UnknownRunError(f"There is no run {name!r}; there are: {', '.join(runs) or 'none'}.{nearest(name, runs)}")
    return runs[name]


def _folders(folder: Path, root: Path) -> Iterator[Path]:
    """Yield the run folders in a folder; a link that leads out of ``root`` is passed over."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not is_companion(entry.name) and entry.is_dir():
                path = Path(entry.path).resolve()
                if path.is_relative_to(root) and _is_run(path):
                    yield path


def _is_run(path: Path) -> bool:
    return (path / "recipe.yaml").is_file() and any((path / name).exists() for name in ("environment.json", "arms"))


def _name(path: Path, root: Path) -> str:
    root = root.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _flat(prefix: str, value: Any, level: int) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a recipe; what is deeper than a recipe can be is passed over."""
    if isinstance(value, dict) and level < 8:
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner, level + 1)
    elif prefix and (_is_plain(value) or (isinstance(value, list) and all(map(_is_plain, value)))):
        yield prefix, value


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int | None)


def side_by_side(runs: Sequence[RunFacts]) -> dict[str, Any]:
    """Return runs as columns of a table: mAP of every arm, time, memory, and the settings that differ."""
    maps = [run.map() for run in runs]
    keys = dict.fromkeys((arm, way) for one in maps for arm, ways in one.items() for way in ways)
    rows = [
        {
            "name": f"{arm}, {WAYS[way][0].lower() if way in WAYS else way}",
            "unit": "mAP",
            "values": [one.get(arm, {}).get(way) for one in maps],
        }
        for arm, way in keys
    ]
    costs = [run.cost() for run in runs]
    rows.append({"name": "time", "unit": "s", "values": [seconds for seconds, _ in costs]})
    rows.append({"name": "peak memory", "unit": "bytes", "values": [peak for _, peak in costs]})
    settings = [run.settings() for run in runs]
    differ = [
        {"name": key, "values": [one.get(key) for one in settings]}
        for key in dict.fromkeys(key for one in settings for key in one)
        if len({repr(one.get(key)) for one in settings}) > 1
    ]
    return {"runs": [run.name for run in runs], "rows": rows, "settings": differ}
