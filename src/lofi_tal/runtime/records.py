"""The record of a stage: what it was made from, so that it is skipped when it is up to date and never mixed up.

A stage folder holds `started.json` from the beginning and `stage.json` once it is complete; both carry the
inputs (settings and hashes of what was read) whose hash is the stage's fingerprint. `contents.json` holds what the
hashes of videos and clips stand for, so that a difference can be told in words.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import hash_object, read_json, write_json
from lofi_tal.runtime.differences import Contents, difference
from lofi_tal.tracking import DEFAULT_TRACKING


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
    """

    stage: str
    fingerprint: str
    inputs: dict[str, Any]
    seconds: float
    peak_memory_bytes: int
    result: dict[str, Any]


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

    def finish(self, outcome: Outcome) -> StageRecord:
        """Write ``stage.json``: from now on the stage is complete. Its artefacts must be written before."""
        record = StageRecord(self.stage, self.fingerprint, self.inputs, **vars(outcome))
        write_json(self.path / "stage.json", vars(record))
        (self.path / "checkpoint.pt").unlink(missing_ok=True)
        return record


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
        The folder; ``record`` is set if the stage is complete and up to date.

    Raises:
        LofiError: If something is there that would be lost; the message says what differs and what to do.
    """
    fingerprint = hash_object({"stage": stage, "inputs": inputs})
    tracking, contents = tracking or DEFAULT_TRACKING, contents or {}
    finished, started = path / "stage.json", path / "started.json"
    if finished.exists():
        record = StageRecord(**read_json(finished))
        if record.fingerprint == fingerprint:
            return StageFolder(path, stage, fingerprint, inputs, False, record, tracking)
        if not overwrite:
            told = _difference(path, vars(record), stage, inputs, contents)
            raise LofiError(_outdated(path, stage, told))
    elif started.exists():
        before = read_json(started)
        if before["fingerprint"] == fingerprint and resume:
            return StageFolder(path, stage, fingerprint, inputs, True, None, tracking)
        if not overwrite:
            told = _difference(path, before, stage, inputs, contents)
            raise LofiError(_interrupted(path, stage, told))
    if path.exists() and overwrite:
        shutil.rmtree(path)
    begun = StageFolder(path, stage, fingerprint, inputs, False, None, tracking)
    _note(begun, contents)
    return begun


def _note(begun: StageFolder, contents: Contents) -> None:
    """Write what a stage begins with."""
    if contents:
        write_json(begun.path / "contents.json", {"fingerprint": begun.fingerprint, "contents": contents})
    facts = {"stage": begun.stage, "fingerprint": begun.fingerprint, "inputs": begun.inputs}
    write_json(begun.path / "started.json", {**facts, "time": time.strftime("%Y-%m-%dT%H:%M:%S")})


def _outdated(path: Path, stage: str, told: str) -> str:
    """Say that a finished stage is in the way, what differs, and what to do."""
    return (
        f"{path} holds a finished stage {stage!r} made from other inputs ({told}). "
        "Choose another output folder, or add --overwrite to replace it."
    )


def _interrupted(path: Path, stage: str, told: str) -> str:
    """Say that an interrupted stage is in the way, and what to do; ``told`` is what differs, if anything does."""
    if told:
        return (
            f"{path} holds an interrupted stage {stage!r} of other inputs ({told}). Restore them, choose "
            "another output folder, or add --overwrite to begin again."
        )
    return (
        f"{path} holds an interrupted stage {stage!r}. Add --resume to go on from its last checkpoint, "
        "or --overwrite to begin again."
    )


def _difference(path: Path, before: Mapping[str, Any], stage: str, now: dict[str, Any], contents: Contents) -> str:
    """Say how the stage that is there differs from what is asked for."""
    try:
        kept = read_json(path / "contents.json")
        then: Contents = kept["contents"] if kept["fingerprint"] == before["fingerprint"] else {}
    except (DataError, KeyError, TypeError):  # of an earlier version, or damaged: the hashes are shown as they are
        then = {}
    was = {"stage": before.get("stage", stage), **before["inputs"]}
    return difference(was, {"stage": stage, **now}, then, contents)
