"""Which public encoder a new recipe proposes: the best that this machine can train and whose weights can be had.

Random weights are the last resort.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lofi_tal.encoders import IdentifiedEncoder, create_encoder, public_source
from lofi_tal.errors import LofiError
from lofi_tal.fidelity import full_fidelity, t_lofi
from lofi_tal.heads import create_head
from lofi_tal.planning import StepModel
from lofi_tal.planning.choosing import CUDA_RESERVE
from lofi_tal.stages.strategies import STRATEGIES, Strategy

LICENCES = ("any", "permissive")
"""What a user may accept: any licence, or those that allow commercial use."""
RANDOM_WEIGHTS_COST = (
    "on the embedded benchmark, average mAP was 1.4 with random weights, and 38.3 after training on trimmed clips"
)
_TORCHVISION = "BSD-3-Clause (torchvision)"
_SNIPPETS, _FRAMES = 100, 8
_PATIENCE = 3.0  # seconds


@dataclass(frozen=True)
class Candidate:
    """An encoder with public weights that may be proposed.

    Args:
        name: Of the encoder.
        pretrained: Name of its weights, as ``encoder.pretrained``.
        licence: Of the weights.
        permissive: Whether it allows commercial use.
        cpu: Whether it is small enough to be trained on a CPU.
        why: What it is.
        size: Pixels of the frames on a GPU.
        snippets: Settings of the snippets that it was trained with.
    """

    name: str
    pretrained: str
    licence: str
    permissive: bool
    cpu: bool
    why: str
    size: int = 224
    snippets: dict[str, Any] = field(default_factory=dict)


CANDIDATES = (
    Candidate("swin3d_t", "kinetics400", _TORCHVISION, True, False, "77.7 % top-1 on Kinetics-400 as published"),
    Candidate(
        "r2plus1d_18", "kinetics400", _TORCHVISION, True, False, "67.5 % top-1 on Kinetics-400 as published; the "
        "paper's second encoder", 112, {"size": 112},
    ),
    Candidate("tsm_resnet18", "imagenet", _TORCHVISION, True, True, "the paper's encoder, from ImageNet weights"),
)  # fmt: skip
"""What may be proposed, the best first; a line for each."""


@dataclass(frozen=True)
class Proposed:
    """A candidate that fits.

    Args:
        candidate: The encoder.
        reasons: By setting of the recipe.
        lofi: Settings of stage 2 that make it fit.
    """

    candidate: Candidate
    reasons: dict[str, str]
    lofi: dict[str, Any]

    @property
    def start(self) -> IdentifiedEncoder:
        """What the other values of a recipe are derived from."""
        path = public_source(self.candidate.pretrained, self.candidate.name)[1]
        return IdentifiedEncoder(self.candidate.name, {}, path, self.candidate.snippets)


def check_licence(licence: str) -> str:
    """Return ``licence`` if it is one of :data:`LICENCES`.

    Raises:
        LofiError: If it is not.
    """
    if licence not in LICENCES:
        raise LofiError(f"--licence {licence!r} is unknown; allowed: {', '.join(LICENCES)}.")
    return licence


def gpu_memory() -> int | None:
    """Return the bytes of this machine's GPU, or None without one."""
    return int(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else None


def is_reachable(url: str) -> bool:
    """Say whether a file can be downloaded, without downloading it."""
    try:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (https, of torchvision)
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, RuntimeError, ValueError):
        return False


def propose_encoder(
    licence: str,
    *,
    gpu: int | None,
    batch: int,
    candidates: Sequence[Candidate] = CANDIDATES,
    reachable: Callable[[str], bool] | None = None,
) -> tuple[Proposed | None, list[str]]:
    """Return the best encoder that this machine can train and whose weights can be had, and why the others are not.

    Args:
        licence: What the user accepts, one of :data:`LICENCES`.
        gpu: Bytes of the GPU; None on a CPU.
        batch: Videos an optimiser step of stage 2.
        candidates: The best first.
        reachable: Says whether a URL can be downloaded; asked once, since what is public lies in one place.

    Raises:
        LofiError: If the licence is unknown.
    """
    check_licence(licence)
    asked: dict[str, bool] = {}
    rejected = []
    for candidate in candidates:
        title = f"{candidate.name} ({candidate.pretrained})"
        if licence == "permissive" and not candidate.permissive:
            rejected.append(f"{title}: its weights are {candidate.licence} (--licence any accepts them)")
            continue
        if gpu is None and not candidate.cpu:
            rejected.append(f"{title}: too slow to train on a CPU")
            continue
        url, path = public_source(candidate.pretrained, candidate.name)
        host = url.split("/")[2]
        if not path.is_file() and host not in asked:
            asked[host] = (reachable or is_reachable)(url)
        if not path.is_file() and not asked[host]:
            rejected.append(f"{title}: its weights are not in {path.parent}, and {host} cannot be reached")
            continue
        lofi, memory = ({}, "") if gpu is None else _fitting(candidate, gpu, batch)
        if lofi is None:
            rejected.append(f"{title}: {memory}")
            continue
        return Proposed(candidate, _reasons(candidate, path, memory, gpu), lofi), rejected
    return None, rejected


def _reasons(candidate: Candidate, path: Path, memory: str, gpu: int | None) -> dict[str, str]:
    machine = "small enough for a CPU" if gpu is None else memory
    source = f"in {path.parent}" if path.is_file() else "downloaded once, at the first run"
    return {
        "encoder.name": f"{candidate.why}; {machine}",
        "encoder.pretrained": f"{source}; licence: {candidate.licence}",
    }


def _fitting(candidate: Candidate, gpu: int, batch: int) -> tuple[dict[str, Any] | None, str]:
    """Return what of stage 2 makes a step of T-LoFi fit into a GPU's memory, if anything does, and what it needs."""
    encoder = create_encoder(candidate.name)
    model = StepModel(encoder, create_head("gtad", encoder.channels), frames=_FRAMES, optimizer="adamw", momentum=0.0)
    fidelity, usable = t_lofi(full_fidelity(_SNIPPETS, candidate.size)), gpu - CUDA_RESERVE
    for strategy in map(Strategy, STRATEGIES):
        fits = [
            count for count in range(1, batch + 1) if model.memory(count, fidelity, strategy, "bf16").peak <= usable
        ]
        if fits:
            needed = model.memory(max(fits), fidelity, strategy, "bf16").peak
            parts = -(-batch // max(fits))
            lofi: dict[str, Any] = {} if strategy.name == "plain" else {"strategy": strategy.name}
            if parts > 1:
                lofi["accumulate"] = parts
            return lofi, (
                f"a step of {max(fits)} videos at {fidelity} needs {needed / 2**30:.1f} GiB ({strategy}) of this GPU's "
                f"{gpu / 2**30:.1f}"
            )
    least = model.memory(1, fidelity, Strategy("chunked"), "bf16").peak + CUDA_RESERVE
    return None, f"one video at {fidelity} needs {least / 2**30:.1f} GiB of this GPU's {gpu / 2**30:.1f}"
