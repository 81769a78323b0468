"""Components of a package of one's own: lofi-tal finds them by the entry points in pyproject.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lofi_tal.annotations.formats import Collector
from lofi_tal.encoders import Encoder
from lofi_tal.errors import DataError
from lofi_tal.fidelity import CyclicSchedule, Fidelity, Schedule, s_lofi
from lofi_tal.files import read_text
from lofi_tal.heads import GTAD, Proposals
from lofi_tal.segments import Segments
from lofi_tal.tasks import Task
from lofi_tal.writers import Writer


class OwnEncoder(Encoder):
    """Two convolutions on each frame; the feature is the mean over pixels and frames."""

    def __init__(self, *, channels: int = 32) -> None:
        super().__init__(
            channels=channels,
            config={"channels": channels},  # OwnEncoder(**config) builds the same network
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )
        self.first = nn.Sequential(nn.Conv2d(3, 16, 3, stride=4, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, channels, 3, stride=2, padding=1), nn.ReLU())

    def blocks(self) -> list[nn.Module]:
        """Return the blocks in the order of the forward pass."""
        return [self.first, self.second]

    def encode(self, frames: Tensor, frames_per_clip: int) -> Tensor:
        """Return features ``(N, C)`` of normalised frames ``(N·T, 3, H, W)``."""
        maps = self.second(self.first(frames))
        return maps.mean((2, 3)).unflatten(0, (-1, frames_per_clip)).mean(1)


class OwnHead(GTAD):
    """G-TAD whose scores fall more steeply."""

    name = "own_head"

    def proposals(self, outputs: Any, preset: str = "fixed") -> list[Proposals]:
        """Return the proposals of G-TAD with squared scores."""
        return [found._replace(scores=found.scores**2) for found in super().proposals(outputs, preset)]


class UpsideDown(Task):
    """Whether a clip stands on its head; both versions of a clip are in one batch."""

    labels = ("upright", "upside down")

    def examples(self, frames: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return every clip as it is, then every clip turned over, of ``(B, T, S, S, 3)``."""
        answers = torch.arange(2, device=frames.device).repeat_interleave(len(frames))
        return torch.cat([frames, frames.flip(2)]), answers


class OwnLog:
    """Appends the metrics of every step to a file."""

    def __init__(self, folder: Path, *, name: str = "own.log") -> None:
        self.file = (folder / name).open("a", encoding="utf-8")

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write the metrics of a step."""
        self.file.write(f"{step} {metrics}\n")

    def finalize(self, status: str) -> None:
        """Close the file."""
        self.file.close()


def own_schedule(full: Fidelity, *, r_s: float, c_l: int) -> Schedule:
    """Return a schedule of ``c_l`` epochs of S-LoFi and ``c_l`` epochs at full fidelity, in turn."""
    return CyclicSchedule((s_lofi(full, r_s), full), c_l, "epoch")


def read_own(path: Path, into: Collector) -> None:
    """Read lines ``video start end label``, times in seconds."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        place = f"{path}, line {number}"
        with into.part():
            fields = line.split(maxsplit=3)
            if len(fields) != 4:
                raise DataError(f"{place}: expected video, start, end and label.")
            video = into.declare(place, fields[0])
            into.add(place, video, *fields[1:])


read_own.suffixes = (".own",)  # type: ignore[attr-defined]


def _audacity(segments: Segments) -> str:
    """Return a label track for the audio editor Audacity: start, end and label, with tabs between them."""
    rows = zip(segments.start, segments.end, segments.label, strict=True)
    return "".join(f"{start:.3f}\t{end:.3f}\t{label}\n" for start, end, label in rows)


audacity = Writer(_audacity, suffix=".labels.txt")
