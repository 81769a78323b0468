"""The record of a stage: what it was made from, so that it is skipped when it is up to date and never mixed up.

A stage folder holds `started.json` from the beginning and `stage.json` once it is complete; both carry the
inputs (settings and hashes of what was read) whose hash is the stage's fingerprint.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lofi_tal.errors import LofiError
from lofi_tal.files import hash_object, read_json, write_json
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
) -> StageFolder:
    """Look at a stage folder and say what is to be done.

    Args:
        path: Folder of the stage.
        stage: Name.
        inputs: Everything its result depends on (JSON-like).
        resume: Go on with an interrupted run of the same inputs.
        overwrite: Throw away what is there if it is interrupted or was made from other inputs.
        tracking: Loggers of its metrics with their options; TensorBoard without them.

    Returns:
        The folder; ``record`` is set if the stage is complete and up to date.

    Raises:
        LofiError: If something is there that would be lost; the message says what differs and what to do.
    """
    fingerprint = hash_object({"stage": stage, "inputs": inputs})
    tracking = tracking or DEFAULT_TRACKING
    finished, started = path / "stage.json", path / "started.json"
    if finished.exists():
        record = StageRecord(**read_json(finished))
        if record.fingerprint == fingerprint:
            return StageFolder(path, stage, fingerprint, inputs, False, record, tracking)
        if not overwrite:
            raise LofiError(
                f"{path} holds a finished stage {stage!r} made from other inputs "
                f"({_difference(record.stage, record.inputs, stage, inputs)}). "
                "Choose another output folder, or add --overwrite to replace it."
            )
    elif started.exists():
        before = read_json(started)
        if before["fingerprint"] == fingerprint and resume:
            return StageFolder(path, stage, fingerprint, inputs, True, None, tracking)
        if not overwrite:
            raise LofiError(_interrupted(path, stage, before, fingerprint, inputs))
    if path.exists() and overwrite:
        shutil.rmtree(path)
    facts = {"stage": stage, "fingerprint": fingerprint, "inputs": inputs}
    write_json(started, {**facts, "time": time.strftime("%Y-%m-%dT%H:%M:%S")})
    return StageFolder(path, stage, fingerprint, inputs, False, None, tracking)


def _interrupted(path: Path, stage: str, before: dict[str, Any], fingerprint: str, inputs: dict[str, Any]) -> str:
    """Say that an interrupted stage is in the way, and what to do."""
    if before["fingerprint"] != fingerprint:
        difference = _difference(before.get("stage", stage), before["inputs"], stage, inputs)
        return (
            f"{path} holds an interrupted stage {stage!r} of other inputs ({difference}). Restore them, choose "
            "another output folder, or add --overwrite to begin again."
        )
    return (
        f"{path} holds an interrupted stage {stage!r}. Add --resume to go on from its last checkpoint, "
        "or --overwrite to begin again."
    )


def _difference(stage_before: str, before: dict[str, Any], stage: str, now: dict[str, Any]) -> str:
    """Name the inputs that differ, and the stage if it does, with both values, shortly."""
    flat_before = {"stage": stage_before, **dict(_flatten(before))}
    flat_now = {"stage": stage, **dict(_flatten(now))}
    keys = [key for key in {**flat_before, **flat_now} if flat_before.get(key) != flat_now.get(key)]
    shown = [f"{key}: {flat_before.get(key)!r} then, {flat_now.get(key)!r} now" for key in keys[:3]]
    return "; ".join(shown) + (f"; and {len(keys) - 3} more" if len(keys) > 3 else "")


def _flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [item for key, inner in value.items() for item in _flatten(inner, f"{prefix}.{key}" if prefix else str(key))]
