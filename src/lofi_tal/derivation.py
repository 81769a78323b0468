"""The values of a recipe that suit a data set and a machine, each with its reason: shipped recipes and figures decide.

Every function adds to ``reasons``, by ``section.key``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lofi_tal.data import TruthVideo
from lofi_tal.encoders import IdentifiedEncoder
from lofi_tal.errors import counted

FEW = 30
"""Training videos; figures of fewer say little."""

_RARE = 5  # segments of a class
_SMALL = 600  # training videos: below, stage 2 has some hundred steps
_MANY_CLIPS = 10_000
_OVERLAPPING = 0.1  # share of segments that overlap another class, from which on classes are several at once


@dataclass(frozen=True, eq=False)
class Facts:
    """What the values of a recipe depend on.

    Args:
        train: Training videos, each with a segment.
        gpu: Whether there is one.
        start: The encoder to start from, if weights are given.
        clips: Number of training clips of stage 1; None without any.
    """

    train: list[TruthVideo]
    gpu: bool
    start: IdentifiedEncoder | None
    clips: int | None

    @property
    def small(self) -> bool:
        """Whether the set is one for which stage 2 has some hundred steps at most."""
        return len(self.train) < _SMALL

    @property
    def full_width(self) -> bool:
        """Whether the encoder is as wide as the paper's."""
        if self.start is not None:
            return "narrow" not in self.start.name and self.start.options.get("width", 64) >= 64
        return self.gpu and len(self.train) >= FEW

    @property
    def compact(self) -> bool:
        """Whether the encoder keeps enough resolution for small frames."""
        if self.start is not None:
            return "narrow" in self.start.name or self.start.options.get("stem") == "compact"
        return not self.full_width

    @property
    def rate(self) -> float:
        """Learning rate of AdamW, as the shipped recipes have it for such an encoder."""
        return 1e-3 if self.full_width else 2e-3


def warnings(facts: Facts, labels: Sequence[str]) -> list[str]:
    """Return what the owner of a small set should know before hours are spent.

    Args:
        facts: Of the data.
        labels: Class names in the order of their ids.
    """
    told = []
    videos = len(facts.train)
    if videos < FEW:
        told.append(
            f"{videos} training videos are few (under {FEW}): the run will work, but its figures will differ by many "
            "points from seed to seed, and say little about new videos. Label more, or begin with public --weights or "
            "--clips; a few dozen videos a class are a good goal."
        )
    counts = Counter(int(label) for video in facts.train for label in video.labels)
    rare = [f"{labels[label]!r} ({count})" for label, count in counts.most_common()[::-1] if count < _RARE]
    if rare:
        named = ", ".join(rare[:5]) + (f" and {len(rare) - 5} more" if len(rare) > 5 else "")
        told.append(
            f"{len(rare)} of {len(counts)} classes have fewer than {_RARE} training segments: {named}. "
            "Do not expect them to be found: label more of them, or join classes."
        )
    return told


def share_unseen(videos: list[TruthVideo], snippets: int) -> float:
    """Return the share of segments that are shorter than one step of ``snippets`` over the whole video."""
    lengths = _relative_lengths(videos)
    return float((lengths < 1 / snippets).mean())


def _relative_lengths(videos: list[TruthVideo]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.concatenate([(v.segments[:, 1] - v.segments[:, 0]).double().numpy() for v in videos])


def snippets(facts: Facts, reasons: dict[str, str]) -> dict[str, Any]:
    """Return section ``snippets``: L, T, their stride and S."""
    videos = facts.train
    short = float(np.quantile(_relative_lengths(videos), 0.1))
    count = int(np.clip(4 * math.ceil(2 / max(short, 1e-6) / 4), 32, 100))
    reasons["snippets.count"] = (
        f"L: the shortest tenth of your segments takes {short:.1%} of its video or less; {count} snippets give it "
        f"about {short * count:.1f} of them (32 to 100 are considered)"
    )
    trained = facts.start.snippets if facts.start is not None else {}
    frames = int(trained.get("frames", 8))
    if "frames" in trained:
        reasons["snippets.frames"] = "as the encoder of the weights was trained"
    spacing = float(np.median([video.file.frames / count for video in videos]))
    stride = float(np.clip(round(2 * spacing / frames), 1, 8))
    reasons["snippets.stride"] = (
        f"snippets are {spacing:.0f} frames apart in your median video; {frames} frames of stride {stride:g} cover "
        f"{frames * stride:.0f} frames, about two steps (the paper: 64 frames)"
    )
    return {"count": count, "frames": frames, "stride": stride, "size": _size(facts, trained, reasons)}


def _size(facts: Facts, trained: dict[str, Any], reasons: dict[str, str]) -> int:
    """Return S: what the encoder is used to, or what such an encoder has been measured with."""
    more = "raise it if what tells your actions apart is small in the picture (twice the size takes four times as long)"
    if "size" in trained:
        reasons["snippets.size"] = "pixels; as the encoder of the weights was trained"
        return int(trained["size"])
    if facts.compact:
        reasons["snippets.size"] = f"pixels; as the shipped recipes demo and bench have; {more}"
        return 48
    if facts.gpu and (not facts.small or facts.start is not None):
        reasons["snippets.size"] = "pixels; the paper's"
        return 224
    reasons["snippets.size"] = f"pixels; as `bench_gpu` has with this encoder; 224 is the paper's; {more}"
    return 112


def fidelity(videos: list[TruthVideo], count: int, reasons: dict[str, str]) -> dict[str, Any]:
    """Return the fidelity of stage 2: what its ratios hide decides."""
    shares = {r_t: share_unseen(videos, max(1, round(count / r_t))) for r_t in (4.0, 2.0, 1.0)}
    r_t = next((ratio for ratio, share in shares.items() if share <= 0.25), 1.0)
    r_s = 2.0 if r_t > 1 else math.sqrt(4.0)
    text = ", ".join(f"{share:.0%} at r_t = {ratio:g}" for ratio, share in shares.items())
    reasons["lofi.r_t"] = (
        f"segments shorter than one snippet step, which low temporal fidelity cannot see: {text}; "
        "the largest ratio that hides at most 25 %"
    )
    reasons["lofi.schedule"] = (
        "Long Cyclic LoFi, the paper's best" if r_t == 4 else "r_t is below 4, so the phases cost more than a quarter"
    )
    return {"schedule": "long", "r_t": r_t, "r_s": r_s}


def schedule(facts: Facts, reasons: dict[str, str]) -> dict[str, Any]:
    """Return optimiser, epochs and batch of stage 2, and its class loss."""
    videos = len(facts.train)
    batch = 16 if videos >= 160 else 8 if videos >= 24 else 4
    if batch != 16:
        reasons["lofi.batch"] = "the paper has 16; with so few videos, smaller batches give more steps"
    reasons["lofi.reestimate"] = "BatchNorm's statistics of the full size instead of the last phases' smaller ones"
    common = {"batch": batch, "clip_norm": 10.0, "reestimate": min(25, -(-videos // batch))}
    if not facts.small:
        reasons["lofi.epochs"] = f"five full cycles, as we read the paper; you have {counted(videos, 'video')}"
        return {**common, "epochs": 15, "lr_step": 5, "lr": 0.1, "class_loss": 0.0}
    epochs = 15 if videos >= 100 else 18
    reasons["lofi.epochs"] = (
        f"whole cycles, about {epochs * -(-videos // batch)} steps; the shipped recipes `demo` and `bench` have 12 and "
        "15 epochs with AdamW, for 160 and 192 videos"
    )
    reasons["lofi.optimizer"] = "needs fewer steps than the paper's SGD on small sets"
    reasons["lofi.lr"] = "of AdamW: 2e-3 suits the narrow encoder and 1e-3 the whole one in the shipped recipes"
    reasons["lofi.class_loss"] = (
        "off in the paper; on small sets the localisation loss alone lets the encoder forget what it sees: average mAP "
        "with own class scores 49.1 with it and 25.2 without on the embedded benchmark (`lofi init --trial` tries both)"
    )
    adamw = {"epochs": epochs, "optimizer": "adamw", "lr": facts.rate, "weight_decay": 0.02, "class_loss": 1.0}
    if facts.start is not None:
        reasons["lofi.encoder_lr"] = "a good encoder has much to lose: 2e-4 was the best of three rates for one"
        adamw["encoder_lr"] = 2e-4
    return {**common, **adamw}


def detect(train: Sequence[TruthVideo], reasons: dict[str, str]) -> dict[str, Any]:
    """Return what of section ``detect`` follows from the labels: whether classes overlap."""
    pairs = [
        (video.segments[:, None, 0] < video.segments[None, :, 1])
        & (video.segments[None, :, 0] < video.segments[:, None, 1])
        & (video.labels[:, None] != video.labels)
        for video in train
    ]
    share = sum(int(one.any(1).sum()) for one in pairs) / sum(map(len, pairs))
    if share < _OVERLAPPING:
        return {}
    reasons["detect.multi_label"] = f"{100 * share:.0f} % of the training segments overlap one of another class"
    return {"multi_label": True}


def pretrain(facts: Facts, reasons: dict[str, str]) -> dict[str, Any] | None:
    """Return section ``pretrain``, or None without clips."""
    if facts.clips is None:
        reasons["pretrain"] = "no clips were given, so there is no stage 1"
        return None
    if facts.clips >= _MANY_CLIPS or facts.start is not None:
        reasons["pretrain.batch"] = "32 clips fit everywhere; the public recipe has 128 with lr 0.02"
        return {"epochs": 30, "batch": 32, "lr": 0.01}
    reasons["pretrain.optimizer"] = (
        f"trains an encoder from random weights on {facts.clips} clips in fewer steps than SGD"
    )
    reasons["pretrain.epochs"] = "as the shipped recipe `bench`, for 2,400 clips"
    return {
        "epochs": 12,
        "batch": 16,
        "optimizer": "adamw",
        "lr": facts.rate,
        "weight_decay": 0.02,
        "dropout": 0.2,
        "multi_scale": False,
    }


def finetune(facts: Facts, reasons: dict[str, str]) -> dict[str, Any] | None:
    """Return section ``finetune`` (ACP+) where nothing else teaches the encoder motion, or None."""
    if facts.clips is not None or (facts.start is not None and not facts.start.pictures):
        return None
    steps = math.ceil(sum(len(video.labels) for video in facts.train) / 16)
    why = "random weights know nothing" if facts.start is None else "weights of pictures know no motion"
    reasons["finetune.epochs"] = (
        f"ACP+, about 400 steps: {why}, so the encoder first learns the classes from your segments "
        "(docs/encoders.md has figures)"
    )
    return {
        "epochs": int(np.clip(math.ceil(400 / max(1, steps)), 10, 60)),
        "batch": 16,
        "optimizer": "adamw",
        "lr": facts.rate,
        "weight_decay": 0.02,
        "dropout": 0.3,
    }


def head(facts: Facts, reasons: dict[str, str]) -> dict[str, Any]:
    """Return section ``head``."""
    videos = len(facts.train)
    batch = 16 if videos >= 160 else 8
    epochs = int(np.clip(math.ceil(600 / max(1, videos / batch)), 10, 60))
    reasons["head.epochs"] = "10 in the paper for 9,649 videos; small sets get about 600 steps, at most 60 epochs"
    head: dict[str, Any] = {"name": "gtad", "epochs": epochs, "batch": batch}
    if videos < FEW:
        head["lrs"] = [2e-3]
        reasons["head.lrs"] = "one rate: so few selection videos could not tell several apart"
    elif facts.small:
        head["lrs"] = [1e-3, 2e-3, 5e-3]
        reasons["head.lrs"] = "tried on the selection videos; smaller ones never won on sets of some hundred videos"
    if not facts.gpu and videos < 1000:
        head["options"] = {"hidden_1d": 128, "hidden_2d": 64, "hidden_3d": 128}
        reasons["head.options"] = "a narrower G-TAD for a small set on a CPU; {} is the published size"
    return head
