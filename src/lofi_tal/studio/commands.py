"""What the page can have started: the equivalent `lofi` commands, made from checked values, never from text."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lofi_tal.annotations import check_annotations, group_findings, load_annotations
from lofi_tal.annotations.values import shown
from lofi_tal.errors import DataError, LofiError
from lofi_tal.evaluation.agreement import changes_text, label_changes
from lofi_tal.files import json_text, write_bytes
from lofi_tal.studio.runs import RUNS, RunFacts

Commands = list[list[str]]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
_SETTING = re.compile(r"[a-z][a-z0-9_]{0,39}(\.[a-z][a-z0-9_]{0,39}){0,3}")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")
_BUDGET = re.compile(r"[0-9]{1,4}(\.[0-9]{1,2})?(s|min|h)|\d{1,3}:\d\d:\d\d")
MOST_ARGUMENTS = 1_000_000
"""Bytes of the files that a command names: systems allow two million in all, and more."""
_OPTIONS = ("from", "device", "settings", "budget", "resume", "overwrite", "unchecked")


@dataclass(frozen=True)
class Places:
    """Where things lie.

    Args:
        folder: Of the videos.
        labels: Labels file.
        work: Work folder.
        nested: Whether videos lie in folders below ``folder``, too.
        device: What commands run on, where a request does not say it.
    """

    folder: Path
    labels: Path
    work: Path
    nested: bool = False
    device: str = "auto"

    @property
    def runs(self) -> Path:
        """Folder of new runs."""
        return self.labels.parent / RUNS


@dataclass(frozen=True)
class Training:
    """A training that can start.

    Args:
        commands: Arguments of each ``lofi`` command.
        output: Run folder.
        notes: What the check of the labels says besides.
        labels: Where the labels as they are now are to be kept before it starts: what is labelled later is for the next
            training, and this one can be resumed. None if it goes on with those that it has.
    """

    commands: Commands
    output: Path
    notes: tuple[str, ...]
    labels: Path | None

    def keep(self, labels: Path) -> None:
        """Keep a labels file as it is now for this training."""
        if self.labels is not None:
            write_bytes(self.labels, labels.read_bytes())


def plan_training(places: Places, body: Mapping[str, Any], runs: Mapping[str, RunFacts]) -> Training:
    """Return the commands of a training: check the data, propose a recipe, run it.

    Args:
        places: Where things lie.
        body: ``output``: name of the run; ``recipe``: None for a new one, or the name of a run whose recipe is taken,
            or of a YAML file beside the labels; ``options``: see :data:`_OPTIONS`. With ``unchecked`` the check of the
            videos, which an error ends, is left out. ``from`` names a run whose weights are the start; without a
            recipe, its recipe is taken. With ``preview``, the commands name the labels file itself.
        runs: Runs by name.

    Raises:
        LofiError: If a value is not allowed.
        DataError: If the labels cannot be trained on, as ``lofi data check`` says.
    """
    output = _output(places, body.get("output"))
    options = _mapping(body.get("options"), "options")
    if unknown := sorted(set(options) - set(_OPTIONS)):
        raise LofiError(f"options: {shown(unknown[0])} is unknown; allowed: {', '.join(_OPTIONS)}.")
    resume, overwrite, unchecked = (_flag(options, name) for name in ("resume", "overwrite", "unchecked"))
    begun = (output / "recipe.yaml").exists()
    if begun and not (resume or overwrite):
        raise LofiError(f"Run {output.name!r} exists: give another name, or resume or overwrite it.")
    if resume and not begun:
        raise LofiError(f"There is no run {output.name!r} to resume.")
    notes = check_labels(places.labels)
    kept = None if resume else places.work / "trained" / output.name / "labels.json"
    labels = str(places.labels if kept is None or body.get("preview") is True else kept)
    videos = ["--videos", str(places.folder), *(["--recursive"] if places.nested else [])]
    commands: Commands = []
    if not unchecked:
        manifest = str(places.work / "videos.jsonl")
        commands.append(["data", "check", labels, *videos, "--manifest", manifest, "--workers", "2"])
    start = None if resume else _start(options.get("from"), runs)
    named = body.get("recipe") or (None if start is None else start.name)
    recipe, made = _recipe(places, named, output, runs, resume=resume)
    if made:
        commands.append(["init", "--annotations", labels, *videos, "-o", str(recipe), "--overwrite"])
    run = ["run", str(recipe), "-o", str(output), "--device", _device(options.get("device"), places)]
    if not (made or resume):  # a recipe of other labels
        data = places.folder / "**" if places.nested else places.folder
        run += ["--set", _set("data.annotations", labels), "--set", _set("data.videos", str(data))]
    run += [] if start is None else ["--from", str(start.path)]
    run += [part for setting in _settings(options.get("settings")) for part in ("--set", setting)]
    run += _budget(options.get("budget"))
    run += [f"--{name}" for name, on in (("resume", resume), ("overwrite", overwrite and begun)) if on]
    since = RunFacts(output.name, output) if begun else start
    return Training([*commands, run], output, (*notes, *_label_changes(since, places.labels)), kept)


def plan_comparison(places: Places, runs: Sequence[RunFacts], page: Path) -> list[str]:
    """Return the command that compares runs by the labels as they are now, and writes the page.

    Raises:
        LofiError: If there are fewer than two runs, or one is not finished.
    """
    if len(runs) < 2:
        raise LofiError("Give two runs or more to compare.")
    if lacking := [run.name for run in runs if not run.arms]:
        raise LofiError(f"Run {lacking[0]!r} has no finished arm: finish it first.")
    paths = [str(run.path) for run in runs]
    return ["compare", *paths, "--annotations", str(places.labels), "--output", str(page)]


def check_labels(labels: Path) -> tuple[str, ...]:
    """Return the warnings of ``lofi data check`` about the labels alone, which takes no time.

    Raises:
        DataError: With its errors, if there are any, or there are no labels yet.
    """
    if not labels.exists():
        raise DataError(f"{labels.name} does not exist yet: label some videos first.")
    report = check_annotations(load_annotations(labels), None)
    lines = group_findings(report.findings)
    if not report.ok:
        wrong = [one for one in lines if one.severity == "error"]
        hint = "Press “Split videos” first. " if any(one.kind == "missing-subset" for one in wrong) else ""
        raise DataError(f"Nothing can be trained yet. {hint}" + " ".join(map(str, wrong)))
    return tuple(map(str, lines))


def plan_detection(
    places: Places, model: Path, files: Sequence[Path], found: Path, device: Any = None, threshold: Any = None
) -> list[str]:
    """Return the command that detects in video files.

    Args:
        places: Where things lie.
        model: Model or run folder.
        files: The videos.
        found: Folder for what is found, a JSON file for each video.
        device: What it runs on, as a request says it.
        threshold: Lowest score of drafts; the model's own thresholds if None.

    Raises:
        LofiError: If there is no video, there are more than :func:`fitting` says, or a value is not allowed.
    """
    if not files:
        raise LofiError("There is no video to detect in: choose some that are not checked.")
    command = ["detect", *(str(path) for path in files), "--model", str(model)]
    command += ["--out", str(found), "--format", "json", "--device", _device(device, places)]
    if threshold is not None:
        command += ["--threshold", f"{read_threshold(threshold):g}"]
    if (most := fitting(files)) < len(files):
        raise LofiError(f"{len(files)} videos are too many for one command: choose {most}, and more afterwards.")
    return command


def fitting(files: Sequence[Path]) -> int:
    """Return how many of the first files one command can name."""
    sizes = itertools.accumulate(len(os.fsencode(path)) + 1 for path in files)
    return sum(size <= MOST_ARGUMENTS for size in sizes)


def read_threshold(value: Any) -> float:
    """Return a lowest score.

    Raises:
        LofiError: If it is no number from 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise LofiError(f"threshold: {shown(value)} is no score; allowed: a number from 0 to 1.")
    return float(value)


def recipes_beside(labels: Path) -> dict[str, Path]:
    """Return the YAML files beside the labels and among their runs, by name; links that lead out are left out."""
    root = labels.parent.resolve()
    found = {}
    for folder in (root, root / RUNS):
        for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
            if path.is_file() and path.resolve().is_relative_to(root):
                found[path.relative_to(root).as_posix()] = path
    return found


def _output(places: Places, name: Any) -> Path:
    """Return the run folder of a name, which lies in the folder of runs."""
    if not isinstance(name, str) or not _NAME.fullmatch(name.removeprefix(f"{RUNS}/")):
        raise LofiError(
            f"output: {shown(name)} is no name of a run; allowed: letters, digits, and - _ . after the first."
        )
    path = places.runs / name.removeprefix(f"{RUNS}/")
    if not path.resolve().is_relative_to(places.labels.parent.resolve()):
        raise LofiError(f"output: {path} is a link that leads out of {places.labels.parent}: remove it.")
    return path


def _recipe(
    places: Places, name: Any, output: Path, runs: Mapping[str, RunFacts], *, resume: bool
) -> tuple[Path, bool]:
    """Return the recipe to run, and whether ``lofi init`` is to make it."""
    if resume:
        return output / "recipe.yaml", False
    if name is None:
        return places.runs / f"{output.name}.yaml", True
    known = recipes_beside(places.labels) | {run: one.path / "recipe.yaml" for run, one in runs.items()}
    if not isinstance(name, str) or name not in known:
        raise LofiError(f"recipe: {shown(name)} is unknown; allowed: {', '.join(known) or 'none yet'}.")
    return known[name], False


def _start(name: Any, runs: Mapping[str, RunFacts]) -> RunFacts | None:
    """Return the run whose weights are the start of a training."""
    if name is None:
        return None
    known = {run: one for run, one in runs.items() if one.finished and one.has_model}
    if not isinstance(name, str) or name not in known:
        raise LofiError(f"from: {shown(name)} is no finished run; allowed: {', '.join(known) or 'none yet'}.")
    return known[name]


def _label_changes(run: RunFacts | None, labels: Path) -> tuple[str, ...]:
    """Return what changed in the labels since a run, in a line; nothing of a run that has not kept its labels."""
    if run is None or (before := run.labels()) is None:
        return ()
    now = load_annotations(labels)
    videos = len(before.videos.keys() | now.videos.keys())
    changes = list(label_changes(before, now))
    if not changes:
        return (f"The labels are those of {run.name}.",)
    return (f"Labels changed since {run.name}: {changes_text(changes, videos)}",)


def _settings(settings: Any) -> list[str]:
    """Return settings of a recipe as ``section.key=value``; only numbers and flags, since a text may be a path."""
    found = []
    for key, value in _mapping(settings, "settings").items():
        if not isinstance(key, str) or not _SETTING.fullmatch(key):
            raise LofiError(f"settings: {shown(key)} is no key of a recipe, such as lofi.epochs.")
        if not isinstance(value, bool | int | float):
            raise LofiError(f"settings, {key}: {shown(value)} is no number, true or false; put others into a recipe.")
        found.append(_set(key, value))
    return found


def _set(key: str, value: Any) -> str:
    return f"{key}={json_text(value).strip()}"


def _budget(value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, str) or not _BUDGET.fullmatch(value):
        raise LofiError(f"budget: {shown(value)} is no time; allowed: such as 30min, 2h or 1:30:00.")
    return ["--budget", value]


def _device(value: Any, places: Places) -> str:
    if value is None:
        return places.device
    if not isinstance(value, str) or not _DEVICE.fullmatch(value):
        raise LofiError(f"device: {shown(value)} is unknown; allowed: auto, cpu, cuda, cuda:N, mps.")
    return value


def _flag(options: Mapping[str, Any], name: str) -> bool:
    value = options.get(name, False)
    if not isinstance(value, bool):
        raise LofiError(f"options, {name}: {shown(value)} is neither true nor false.")
    return value


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise LofiError(f"{where}: expected an object, found {shown(value)}.")
    return value
