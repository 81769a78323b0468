"""The checkpoint of a training stage: all that a run needs to go on exactly where it stopped.

A checkpoint is a file of ``torch.save``, which is a zip archive. The comment of the archive holds a check word (XXH3)
of all that comes before it: other programs read the file as before, and no flipped bit goes unnoticed here.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import xxhash
from lightning_fabric import Fabric
from torch import Tensor, nn

from lofi_tal.errors import DataError
from lofi_tal.files import write_bytes

_LENGTH = 2  # bytes of a zip archive that hold the length of its comment, which ends the archive
_WORD = re.compile(rb"lofi-tal xxh3 ([0-9a-f]{16})")
_COMMENT = 30  # bytes


class Stateful(Protocol):
    """What a checkpoint can keep: a module, or the average of its weights."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Take a state over."""


@dataclass(frozen=True)
class Course:
    """How far a run has come.

    Args:
        step: Optimiser steps that have been taken.
        seconds: Time that they took.
        lost: Why files could not be read, by name.
        metrics: Check words of the lines of metrics up to here; none in checkpoints of earlier versions.
    """

    step: int
    seconds: float
    lost: dict[str, str]
    metrics: dict[str, Any] = field(default_factory=dict)


class Checkpoint:
    """The file that holds weights, optimiser and course of a stage.

    Args:
        path: The file.
        fingerprint: Of the inputs of the stage: a checkpoint with another one is refused.
        fabric: Device and precision.
        modules: Modules and averages to save and load, unwrapped.
        optimizer: As Fabric set it up.
    """

    def __init__(
        self, path: Path, fingerprint: str, fabric: Fabric, modules: Mapping[str, Stateful], optimizer: Any
    ) -> None:
        self.path, self.fingerprint, self.fabric = path, fingerprint, fabric
        self.modules, self.optimizer = dict(modules), optimizer

    def save(self, course: Course) -> None:
        """Write the file in one step; of several processes, the first does.

        Raises:
            DiskFullError: If the disk is full.
        """
        if self.fabric.global_rank != 0:
            return
        state = {
            "fingerprint": self.fingerprint,
            "step": course.step,
            "seconds": course.seconds,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "buffers": {name: _other_buffers(module) for name, module in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # fp16: the scale of the gradients
            "lost": course.lost,
            "metrics": course.metrics,
        }
        buffer = io.BytesIO()  # torch.save to a file hides the reason of a failed write, such as a full disk
        torch.save(state, buffer)
        _seal(buffer)
        write_bytes(self.path, buffer.getbuffer())

    def load(self) -> Course:
        """Load weights and optimiser, and return the course.

        Raises:
            DataError: If the file cannot be read, does not fit, or belongs to other inputs.
        """
        try:
            state = torch.load(_unsealed(self.path), map_location=self.fabric.device, weights_only=True)
            if state["fingerprint"] != self.fingerprint:
                raise DataError(f"{self.path} belongs to other inputs; add --overwrite to begin this stage again.")
            for name, module in self.modules.items():
                module.load_state_dict(state["modules"][name])
                for key, kept in state.get("buffers", {}).get(name, {}).items():  # earlier versions have none
                    _other_buffers(module)[key].copy_(kept)
            self.optimizer.load_state_dict(state["optimizer"])
            if scale := state.get("precision"):  # checkpoints of earlier versions have none
                self.fabric.strategy.precision.load_state_dict(scale)
            lost = dict(state.get("lost", {}))
            return Course(int(state["step"]), float(state["seconds"]), lost, dict(state.get("metrics", {})))
        except DataError:
            raise
        except Exception as error:  # the library raises whatever a damaged file makes it
            why = " ".join(str(error).split())[:200]
            raise DataError(
                f"{self.path} cannot be read ({type(error).__name__}: {why}). "
                "Add --overwrite to begin this stage again."
            ) from error


def _seal(archive: io.BytesIO) -> None:
    """Add a check word to what ``torch.save`` wrote."""
    content = archive.getbuffer()[:-_LENGTH]
    comment = f"lofi-tal xxh3 {xxhash.xxh3_64_hexdigest(content)}".encode()
    content.release()
    archive.seek(-_LENGTH, io.SEEK_END)
    archive.write(len(comment).to_bytes(_LENGTH, "little") + comment)


def _unsealed(path: Path) -> io.BytesIO:
    """Return the content of a checkpoint that is whole; checkpoints of earlier versions have no check word.

    Raises:
        DataError: If it is not.
    """
    data = path.read_bytes()
    end = len(data) - _COMMENT
    word = _WORD.fullmatch(data[max(0, end) :])
    if word is not None:
        whole = xxhash.xxh3_64_hexdigest(memoryview(data)[: end - _LENGTH]).encode() == word[1]
    else:
        whole = data[-22:-18] == b"PK\5\6" and data.endswith(bytes(_LENGTH))  # an archive that ends without a comment
    if not whole:
        reason = "is not as it was written" if data else "is empty"
        raise DataError(
            f"{path} cannot be read: it {reason}. Put a copy of it back if you have one, or add --overwrite to begin "
            "this stage again."
        )
    return io.BytesIO(data)


def _other_buffers(module: Any) -> dict[str, Tensor]:
    """Return what a module keeps beside its published state, such as a running mean that its loss divides by."""
    if not isinstance(module, nn.Module):
        return {}
    saved = module.state_dict().keys()
    return {name: buffer for name, buffer in module.named_buffers() if name not in saved}
