"""What all sections of the GPU benchmark are given, and where their rows go."""

from __future__ import annotations

import functools
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lofi_tal.files import write_json
from lofi_tal.runtime import environment

Row = dict[str, Any]
LATER = "later"
"""Key of a row that was put off for want of time: why. No failure, and tried at the next call."""
Work = Callable[[float], Row]
"""Makes a row in at most so many seconds, as far as that is in its hands."""
Jobs = Iterator[tuple[str, Work]]


@dataclass(frozen=True)
class Setting:
    """Where and how large.

    Args:
        device: ``cuda`` or, for a smoke run, ``cpu``.
        smoke: Toy sizes: the same code, in seconds.
        out: Folder of the results.
        scratch: Folder for what is made on the way; what is there is used again.
    """

    device: torch.device
    smoke: bool
    out: Path
    scratch: Path

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions that are measured, the usual one first."""
        return ("bf16",) if self.smoke else ("bf16", "fp32")


@dataclass
class Results:
    """The rows of one section in a JSON file, which is written anew after each of them."""

    path: Path
    title: str
    rows: dict[str, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.exists():
            self.rows = json.loads(self.path.read_text())["rows"]

    def has(self, key: str) -> bool:
        """Say whether a row is there; one that failed, or was put off, is tried again."""
        row = self.rows.get(key, {"error": "missing"})
        return not (row.get("failed") or row.keys() & {"error", "out_of_memory", LATER})

    def add(self, key: str, row: Row) -> None:
        """Write a row."""
        row = json.loads(json.dumps(row), parse_constant=lambda name: None)  # NaN is no JSON
        self.rows[key] = {**row, "at": time.strftime("%Y-%m-%dT%H:%M:%S")}
        write_json(self.path, {"title": self.title, **machine(), "rows": self.rows})


@functools.cache
def machine() -> Row:
    """Return command, device, driver and versions."""
    found: Row = {
        "command": f"python -m benchmarks.gpu {shlex.join(sys.argv[1:])}".strip(),
        "host": {"cores": os.cpu_count(), "memory_gib": round(_memory() / 2**30), "platform": platform.platform()},
        "environment": environment(),
        "commit": _said(["git", "rev-parse", "--short", "HEAD"]),
    }
    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        found["device"] = {
            "name": facts.name,
            "memory_gib": round(facts.total_memory / 2**30, 1),
            "capability": f"{facts.major}.{facts.minor}",
            "driver": _said(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()
