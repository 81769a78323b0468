"""The checkpoint of a training stage: all that a run needs to go on exactly where it stopped."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lofi_tal.errors import DataError
from lofi_tal.files import write_bytes


@dataclass(frozen=True)
class Course:
    """How far a run has come.

    Args:
        step: Optimiser steps that have been taken.
        seconds: Time that they took.
        lost: Why files could not be read, by name.
    """

    step: int
    seconds: float
    lost: dict[str, str]


class Checkpoint:
    """The file that holds weights, optimiser and course of a stage.

    Args:
        path: The file.
        fingerprint: Of the inputs of the stage: a checkpoint with another one is refused.
        fabric: Device and precision.
        modules: Modules to save and load, unwrapped.
        optimizer: As Fabric set it up.
    """

    def __init__(
        self, path: Path, fingerprint: str, fabric: Fabric, modules: Mapping[str, nn.Module], optimizer: Any
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
        }
        buffer = io.BytesIO()  # torch.save to a file hides the reason of a failed write, such as a full disk
        torch.save(state, buffer)
        write_bytes(self.path, buffer.getbuffer())

    def load(self) -> Course:
        """Load weights and optimiser, and return the course.

        Raises:
            DataError: If the file cannot be read, does not fit, or belongs to other inputs.
        """
        try:
            state = torch.load(self.path, map_location=self.fabric.device, weights_only=True)
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
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
            raise DataError(
                f"{self.path} cannot be read ({type(error).__name__}: {str(error).splitlines()[0]}); "
                "add --overwrite to begin this stage again."
            ) from error
        return Course(int(state["step"]), float(state["seconds"]), lost)


def _other_buffers(module: Any) -> dict[str, Tensor]:
    """Return what a module keeps beside its published state, such as a running mean that its loss divides by."""
    if not isinstance(module, nn.Module):
        return {}
    saved = module.state_dict().keys()
    return {name: buffer for name, buffer in module.named_buffers() if name not in saved}
