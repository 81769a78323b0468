"""What a finished run has left, or a result file of any tool: read and checked, nothing is run.

A run is a folder, and may hold several arms. ``RUN:ARM`` names one of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lofi_tal.artefacts import MEND, damage, read_record, told
from lofi_tal.errors import DataError, LofiError, nearest
from lofi_tal.evaluation import ScoreSheet, Thresholds, load_sheet
from lofi_tal.evaluation.documents import GroundTruth, load_detections
from lofi_tal.evaluation.records import check_numbers, columns
from lofi_tal.files import plain_file, read_json, read_text, with_home
from lofi_tal.folders import settled
from lofi_tal.recipes import load_recipe, parse_yaml
from lofi_tal.run.arms import ARMS
from lofi_tal.run.context import arm_folder
from lofi_tal.runtime import StageRecord
from lofi_tal.segments import Segments

STAGES = ("pretrain", "second", "finetune", "lofi", "features", "head")
"""What costs time, in order: the stages that train an encoder, the extraction, and all trainings of heads."""
_ENCODERS = {"lofi": STAGES[:4], "baseline": STAGES[:3]}
"""Stages that train the encoder of an arm."""


@dataclass(frozen=True)
class StageCost:
    """What a stage took; of several trainings, the sum of the times and the largest memory.

    Args:
        name: Of the stage.
        seconds: Time.
        peak_memory_bytes: Peak memory; 0 if it was not measured.
    """

    name: str
    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, eq=False)
class Saved:
    """Detections with all that is known of where they come from; a result file has no more than its detections.

    Args:
        name: What to call it.
        path: The run folder, or the file.
        arm: Name of the arm; empty for a file.
        detections: By video id, with raw scores.
        thresholds: Lowest scores shown; None if they are not known.
        sheet: What the scores of the model mean, if it knows.
        labels: Classes that the run knows; None if that is not known.
        annotations: File that the run was evaluated against.
        truth_hash: Hash of that file at the time; empty if it is not known.
        recipe: The resolved recipe, as plain values.
        environment: Versions, devices and precision.
        stages: What each stage took, in order.
        notes: What could not be read, and why.
    """

    name: str
    path: Path
    arm: str
    detections: dict[str, Segments]
    thresholds: Thresholds | None = None
    sheet: ScoreSheet | None = None
    labels: tuple[str, ...] | None = None
    annotations: Path | None = None
    truth_hash: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    stages: tuple[StageCost, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def several(self) -> bool:
        """Whether a span is shown with all its labels (``detect.multi_label``)."""
        section = self.recipe.get("detect")
        return isinstance(section, Mapping) and section.get("multi_label") is True

    @property
    def events(self) -> float | None:
        """Width in seconds of the segments that stand for point events (``data.events``); None without events."""
        section = self.recipe.get("data")
        value = section.get("events") if isinstance(section, Mapping) else None
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def setting(self, name: str, default: str) -> str:
        """Return a text of the recipe's section ``data``."""
        section = self.recipe.get("data")
        value = section.get(name) if isinstance(section, Mapping) else None
        return value if isinstance(value, str) else default


def find_source(text: str) -> tuple[Path, str]:
    """Return the run folder or file that a text names, and the arm, if it names one.

    Raises:
        LofiError: If there is nothing of this name.
    """
    path, arm = with_home(text), ""
    if not path.exists() and ":" in text:
        head, _, arm = text.rpartition(":")
        path = with_home(head)
    if not path.exists():
        raise LofiError(f"{text} does not exist: give a run folder, RUN:ARM, or a result file in ActivityNet's form.")
    if path.is_dir() and not arm and path.absolute().parent.name == "arms":
        return path.absolute().parents[1], path.name
    return path, arm


def arms_in(folder: Path) -> tuple[str, ...]:
    """Return the arms of a run that are evaluated: the one of stage 2 first, then its baseline, then others."""
    records = folder.glob("arms/*/evaluation/stage.json")
    names = {path.parents[1].name for path in records}
    return (*(arm for arm in ARMS if arm in names), *sorted(names - set(ARMS)))


def choose_arm(folder: Path, arm: str) -> str:
    """Return an arm of a run: the one that is asked for, or else the first of :func:`arms_in`.

    Raises:
        LofiError: If there is no such arm; the message lists those that there are.
    """
    known = arms_in(folder)
    if not known:
        raise LofiError(
            f"{folder} holds no evaluated arm (arms/ARM/evaluation/stage.json): finish it with `lofi run`, or "
            "give another run or a result file."
        )
    if arm and arm not in known:
        raise LofiError(f"{folder} has no evaluated arm {arm!r}; it has: {', '.join(known)}.{nearest(arm, known)}")
    return arm or known[0]


def read_saved(path: Path, arm: str, name: str) -> Saved:
    """Read an arm of a run folder.

    Raises:
        LofiError: If the run has no such arm.
        DataError: If its record or its detections are damaged.
    """
    folder = arm_folder(path, choose_arm(path, arm))
    record = StageRecord.read(folder / "evaluation")
    _check(folder / "evaluation", record, "../detections.json")
    notes: list[str] = []
    recipe, sheet = _recipe(path, notes), load_sheet(settled(folder / "model"))
    data = recipe.get("data")
    annotations = data.get("annotations") if isinstance(data, Mapping) else None
    return Saved(
        name=name,
        path=path,
        arm=folder.name,
        detections=read_results(folder / "detections.json"),
        thresholds=_threshold(record) if sheet is None else sheet.thresholds(),
        sheet=sheet,
        labels=_labels(path, folder, notes),
        annotations=Path(annotations) if isinstance(annotations, str) else None,
        truth_hash=str(record.inputs.get("truth", "")),
        recipe=recipe,
        environment=_environment(path, notes),
        stages=tuple(_stages(path, folder)),
        notes=tuple(f"{name}: {note}" for note in notes),
    )


def read_file(path: Path, name: str, truth: GroundTruth) -> Saved:
    """Read a result file in ActivityNet's form.

    Raises:
        DataError: If it is malformed, or has a label that the truth does not know; the message says where.
    """
    content = read_json(path)
    load_detections(content, truth)  # all checks of `lofi evaluate`
    return Saved(name, path, "", _segments(content["results"]))


def read_results(path: Path) -> dict[str, Segments]:
    """Return the detections of a run by video id.

    Raises:
        DataError: If the file is missing, or no result file.
    """
    plain_file(path, path.parent)
    content = read_json(path)
    results = content.get("results") if isinstance(content, Mapping) else None
    if not isinstance(results, Mapping):
        raise DataError(f"{path} has no 'results'. {MEND}")
    _, score, segment = columns(results, str(path), ("label", "score", "segment"))
    check_numbers(results, score, segment, str(path))
    return _segments(results)


def _segments(results: Mapping[str, Any]) -> dict[str, Segments]:
    try:
        return {video_id: Segments.from_activitynet(video_id, records) for video_id, records in results.items()}
    except TypeError as error:  # one of the other scores
        raise DataError(f"A detection has a score that is no number: {error}.") from error


def _check(folder: Path, record: StageRecord, name: str) -> None:
    """Refuse a file of a stage that is not as it was written; records of earlier versions have no hashes."""
    words = {name: record.files[name]} if name in record.files else {}
    if wrong := damage(folder, words):
        raise DataError(f"{told(wrong)}. {MEND}")


def _threshold(record: StageRecord) -> Thresholds | None:
    """Return from which raw score on a model without a sheet shows something."""
    chosen = record.result.get("chosen")
    threshold = chosen.get("threshold") if isinstance(chosen, Mapping) else None
    return Thresholds(float(threshold)) if isinstance(threshold, int | float) else None


def _labels(path: Path, folder: Path, notes: list[str]) -> tuple[str, ...] | None:
    """Return the classes of a run; runs of earlier versions have them in their models alone."""
    for file, key in ((path / "data.json", "classes"), (settled(folder / "model") / "localizer.json", "labels")):
        with contextlib.suppress(DataError):
            content = read_json(file)
            labels = content.get(key) if isinstance(content, Mapping) else None
            if isinstance(labels, list) and labels and all(isinstance(label, str) for label in labels):
                return tuple(labels)
    notes.append("its classes are not known (neither data.json nor a model): those of the annotations are taken.")
    return None


def _recipe(path: Path, notes: list[str]) -> dict[str, Any]:
    """Return the resolved recipe; one that this version refuses, as it is written."""
    file = path / "recipe.yaml"
    try:
        return load_recipe(file, needs_data=False).model_dump(mode="json")
    except LofiError as error:
        reason = str(error)
    try:
        content = parse_yaml(read_text(file, "YAML"), str(file))
    except LofiError:
        content = None
    if isinstance(content, dict):
        notes.append(f"its recipe is of another version and compared as it is written: {reason}")
        return content
    notes.append(f"its recipe cannot be read, so its settings are not compared: {reason}")
    return {}


def _environment(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        return read_record(path / "environment.json")
    except DataError as error:
        notes.append(f"its environment is not known: {error}")
        return {}


def _stages(path: Path, folder: Path) -> list[StageCost]:
    """Return what the stages of an arm took: encoders, extraction, heads and evaluation."""
    found = [cost for name in _ENCODERS.get(folder.name, ()) if (cost := _cost(path / name))]
    with contextlib.suppress(DataError, KeyError, TypeError, ValueError):
        facts = read_record(folder / "features.json")
        found.append(StageCost("features", float(facts["seconds"]), int(facts["peak_memory_bytes"])))
    heads = [cost for one in sorted(folder.glob("head/*/stage.json")) if (cost := _cost(one.parent))]
    if heads:
        peak = max(cost.peak_memory_bytes for cost in heads)
        found.append(StageCost("head", sum(cost.seconds for cost in heads), peak))
    return found


def _cost(folder: Path) -> StageCost | None:
    with contextlib.suppress(DataError):
        record = StageRecord.read(folder)
        return StageCost(folder.name, record.seconds, record.peak_memory_bytes)
    return None
