"""The record of a stage: what it was made from, so that it is skipped when it is up to date and never mixed up.

A stage folder holds `started.json` from the beginning and `stage.json` once it is complete; both carry the
inputs (settings and hashes of what was read) whose hash is the stage's fingerprint. `contents.json` holds what the
hashes of videos and clips stand for, so that a difference can be told in words.

`stage.json` also holds the hashes of what the stage wrote. A finished stage whose results are damaged is run again; one
whose own record is damaged counts as interrupted.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lofi_tal.artefacts import check_words, damage, read_record, sealed, told
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import hash_object, write_json
from lofi_tal.runtime.differences import Contents, difference
from lofi_tal.tracking import DEFAULT_TRACKING

logger = logging.getLogger("lofi_tal")
_RECORDS = ("stage.json", "started.json", "checkpoint.pt")
_TYPES: dict[str, Any] = {
    "stage": str,
    "fingerprint": str,
    "inputs": dict,
    "seconds": int | float,
    "peak_memory_bytes": int,
    "result": dict,
    "files": dict,
    "notes": dict,
}


@dataclass(frozen=True)
class Outcome:
    """What a stage hands back when its work is done: time, peak memory and figures (JSON-like)."""

    seconds: float
    peak_memory_bytes: int
    result: dict[str, Any]


@dataclass(frozen=True)
class StageRecord:
    """A finished stage.

    Args:
        stage: Name.
        fingerprint: Hash of the inputs.
        inputs: What the result depends on.
        seconds: Time it took, resumed parts included.
        peak_memory_bytes: Peak memory of the process or the GPU.
        result: Figures of the stage.
        files: Check words of what it made, by name relative to its folder. None in records of earlier versions.
        notes: Check words of what it wrote about that, such as metrics: no later stage reads them.
    """

    stage: str
    fingerprint: str
    inputs: dict[str, Any]
    seconds: float
    peak_memory_bytes: int
    result: dict[str, Any]
    files: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> StageRecord:
        """Read the record in the folder of a finished stage.

        Raises:
            DataError: If there is none, or it is damaged.
        """
        path = folder / "stage.json"
        content = read_record(path)
        try:
            record = cls(**content)
        except TypeError as error:
            raise DataError(f"{path} is damaged: {error}.") from error
        for name, kind in _TYPES.items():
            if not isinstance(value := getattr(record, name), kind):
                raise DataError(f"{path} is damaged: {name} is {value!r}.")
        return record


@dataclass(frozen=True)
class StageFolder:
    """A stage that is to be run, or whose finished ``record`` is there."""

    path: Path
    stage: str
    fingerprint: str
    inputs: dict[str, Any]
    resumed: bool
    record: StageRecord | None = None
    tracking: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: DEFAULT_TRACKING)

    def finish(self, outcome: Outcome, results: Iterable[str] = ()) -> StageRecord:
        """Write ``stage.json``: from now on the stage is complete.

        Args:
            outcome: What it hands back.
            results: Names, relative to the folder, of the files that it made. They must be there.
        """
        files = check_words(self.path, results)
        notes = check_words(self.path, sorted(path.name for path in self.path.iterdir() if _is_note(path, files)))
        record = StageRecord(self.stage, self.fingerprint, self.inputs, **vars(outcome), files=files, notes=notes)
        write_json(self.path / "stage.json", sealed(vars(record)))
        (self.path / "checkpoint.pt").unlink(missing_ok=True)
        return record


def _is_note(path: Path, results: Mapping[str, Any]) -> bool:
    """Say whether a file is one that a stage wrote beside its results; folders belong to the loggers of metrics."""
    return path.is_file() and path.name not in (*_RECORDS, *results) and not path.name.startswith(".")


def open_stage(
    path: Path,
    stage: str,
    inputs: dict[str, Any],
    *,
    resume: bool = False,
    overwrite: bool = False,
    tracking: Mapping[str, Mapping[str, Any]] | None = None,
    contents: Contents | None = None,
) -> StageFolder:
    """Look at a stage folder and say what is to be done.

    Args:
        path: Folder of the stage.
        stage: Name.
        inputs: Everything its result depends on (JSON-like).
        resume: Go on with an interrupted run of the same inputs.
        overwrite: Throw away what is there if it is interrupted or was made from other inputs.
        tracking: Loggers of its metrics with their options; TensorBoard without them.
        contents: What hashes among the inputs stand for; see :mod:`lofi_tal.runtime.differences`.

    Returns:
        The folder; ``record`` is set if the stage is complete and up to date. A complete stage of these inputs of which
        a result is damaged is begun again.

    Raises:
        LofiError: If something is there that would be lost; the message says what differs and what to do.
    """
    contents = contents or {}
    fingerprint = hash_object({"stage": stage, "inputs": inputs})
    asked = StageFolder(path, stage, fingerprint, inputs, False, None, tracking or DEFAULT_TRACKING)
    record, broken = _finished(path)
    if record is not None and record.fingerprint == fingerprint:
        if not (wrong := damage(path, record.files)):
            _tell_notes(path, record)
            return replace(asked, record=record)
        logger.warning("Stage %r is run again: %s.", stage, told(wrong))
        overwrite = True
    elif record is not None and not overwrite:
        raise LofiError(_outdated(path, stage, _difference(path, vars(record), stage, inputs, contents)))
    elif record is None and (before := _started(path)) is not None:
        mine = before.get("fingerprint", fingerprint) == fingerprint
        if mine and resume:
            return _resumed(asked, broken, contents)
        if not overwrite:
            told_difference = "" if mine else _difference(path, before, stage, inputs, contents)
            raise LofiError(_interrupted(path, stage, told_difference, broken))
    return _begun(asked, contents, anew=overwrite, broken=broken)


class OutOfDateError(LofiError):
    """A stage that was only looked at is not finished, damaged, or made from other inputs."""


def look_at_stage(path: Path, stage: str, inputs: dict[str, Any]) -> StageFolder:
    """Return a stage that is complete and up to date; unlike :func:`open_stage`, nothing is changed.

    Raises:
        OutOfDateError: If it is not.
    """
    record, _ = _finished(path)
    fingerprint = hash_object({"stage": stage, "inputs": inputs})
    if record is None or record.fingerprint != fingerprint or damage(path, record.files):
        raise OutOfDateError(f"Stage {stage!r} in {path} is not up to date.")
    return StageFolder(path, stage, fingerprint, inputs, False, record)


def fault(path: Path) -> str:
    """Return why a folder does not hold a finished stage with all that it made; an empty string if it does."""
    record, broken = _finished(path)
    if record is None:
        return broken or f"{path} holds no stage.json"
    return told(damage(path, record.files))


def _finished(path: Path) -> tuple[StageRecord | None, str]:
    """Return the record of a finished stage, or why the record that is there cannot be read."""
    if not (path / "stage.json").exists():
        return None, ""
    try:
        return StageRecord.read(path), ""
    except DataError as error:
        return None, str(error).rstrip(".")


def _started(path: Path) -> dict[str, Any] | None:
    """Return what a stage that is not finished began with: nothing is known if that is damaged; None if none began."""
    with contextlib.suppress(DataError):
        started = read_record(path / "started.json")
        if isinstance(started.get("fingerprint"), str) and isinstance(started.get("inputs"), dict):
            return started
    return {} if any((path / name).exists() for name in _RECORDS) else None


def _begun(asked: StageFolder, contents: Contents, *, anew: bool, broken: str) -> StageFolder:
    """Return a stage that begins; ``anew`` deletes what is in its folder."""
    if anew and asked.path.exists():
        if broken:
            logger.warning("Stage %r is run again: %s.", asked.stage, broken)
        shutil.rmtree(asked.path)
    _note(asked, contents)
    return asked


def _resumed(asked: StageFolder, broken: str, contents: Contents) -> StageFolder:
    """Return an interrupted stage to go on with, with its records in order."""
    if broken:
        logger.warning("Stage %r counts as interrupted: %s.", asked.stage, broken)
        (asked.path / "stage.json").unlink()
    if not _started(asked.path):
        logger.warning("%s is missing or damaged, and written anew.", asked.path / "started.json")
        _note(asked, contents)
    return replace(asked, resumed=True)


def _tell_notes(path: Path, record: StageRecord) -> None:
    """Say which files about a stage are damaged; what it made is whole."""
    if wrong := damage(path, record.notes):
        text = "%s. What stage %r made is whole; curves and texts about it may be wrong."
        logger.warning(text, told(wrong), record.stage)


def _note(begun: StageFolder, contents: Contents) -> None:
    """Write what a stage begins with."""
    if contents:
        kept = {"fingerprint": begun.fingerprint, "contents": contents}
        write_json(begun.path / "contents.json", sealed(kept))
    facts = {"stage": begun.stage, "fingerprint": begun.fingerprint, "inputs": begun.inputs}
    write_json(begun.path / "started.json", sealed({**facts, "time": time.strftime("%Y-%m-%dT%H:%M:%S")}))


def _outdated(path: Path, stage: str, differs: str) -> str:
    """Say that a finished stage is in the way, what differs, and what to do."""
    return (
        f"{path} holds a finished stage {stage!r} made from other inputs ({differs}). "
        "Choose another output folder, or add --overwrite to replace it."
    )


def _interrupted(path: Path, stage: str, differs: str, broken: str) -> str:
    """Say that an interrupted stage is in the way, and what to do.

    Args:
        path: Its folder.
        stage: Its name.
        differs: How its inputs differ, if they do.
        broken: Why the record of its end cannot be read, if there is one.
    """
    why = f" ({broken})" if broken else ""
    if differs:
        return (
            f"{path} holds an interrupted stage {stage!r}{why} of other inputs ({differs}). Restore them, choose "
            "another output folder, or add --overwrite to begin again."
        )
    return (
        f"{path} holds an interrupted stage {stage!r}{why}. Add --resume to go on from its last checkpoint, "
        "or --overwrite to begin again."
    )


def _difference(path: Path, before: Mapping[str, Any], stage: str, now: dict[str, Any], contents: Contents) -> str:
    """Say how the stage that is there differs from what is asked for."""
    try:
        kept = read_record(path / "contents.json")
        then: Contents = kept["contents"] if kept["fingerprint"] == before["fingerprint"] else {}
    except (DataError, KeyError, TypeError):  # of an earlier version, or damaged: the hashes are shown as they are
        then = {}
    was = {"stage": before.get("stage", stage), **before["inputs"]}
    return difference(was, {"stage": stage, **now}, then, contents)
