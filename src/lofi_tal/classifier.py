"""Class scores of proposals from frozen features: nobody's external file is needed.

Localisation heads such as G-TAD and BMN say where something happens; published systems then multiply with the scores
of a video classifier that somebody else trained. Averaging frozen features over a whole video says little when actions
fill a third of it, so this classifier looks at each proposal: features inside it, around it, and of the whole video.

Shapes: B videos, C channels, L snippets, N segments, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from lofi_tal.artefacts import check_files
from lofi_tal.bounds import PlainDict
from lofi_tal.errors import DataError
from lofi_tal.files import write_bytes, write_json
from lofi_tal.model_files import Description, build_for, load_exactly, read_description

POOLINGS = ("proposal", "video")
_BATCH = 64  # segments
_WINDOWS = (1 / 8, 1 / 4, 1 / 2, 1.0)


def mean_between(features: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Average piecewise-constant features over spans of real length.

    Args:
        features: ``(C, L)``; snippet l covers [l / L, (l + 1) / L].
        start: ``(N,)`` in [0, 1].
        end: ``(N,)`` in [0, 1]; a span shorter than a hundredth of a snippet is widened to that.

    Returns:
        ``(N, C)``.
    """
    count = features.shape[1]
    integral = functional.pad(features.double().cumsum(1), (1, 0)).T  # (L + 1, C)
    low = start.double().clamp(0, 1) * count
    high = torch.maximum(end.double().clamp(0, 1) * count, low + 0.01).clamp(max=count)
    low = torch.minimum(low, high - 0.01)

    def at(position: Tensor) -> Tensor:
        whole = position.floor().long().clamp(0, count - 1)
        return torch.lerp(integral[whole], integral[whole + 1], (position - whole)[:, None])

    return ((at(high) - at(low)) / (high - low)[:, None]).to(features.dtype)


def pool(features: Tensor, segments: Tensor) -> Tensor:
    """Describe segments of one video: inside, half a length before and after, and the whole video.

    Args:
        features: ``(C, L)``.
        segments: ``(N, 2)`` in [0, 1].

    Returns:
        ``(N, 3C)``.
    """
    start, end = segments.unbind(1)
    margin = (end - start) / 2
    around = (mean_between(features, start - margin, start) + mean_between(features, end, end + margin)) / 2
    whole = features.mean(1).expand(len(segments), -1)
    return torch.cat([mean_between(features, start, end), around, whole], 1)


class ProposalClassifier(nn.Module):
    """Two layers on standardised pooled features.

    Args:
        channels: C.
        classes: K.
        hidden: Hidden units.
        dropout: On the inputs and the hidden units.
        multi_label: Classes do not exclude each other: each has a probability of its own.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, channels: int, classes: int, *, hidden: int = 128, dropout: float = 0.5, multi_label: bool = False
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"channels": channels, "classes": classes, "hidden": hidden, "dropout": dropout}
        self.config |= {"multi_label": True} if multi_label else {}
        self.multi_label = multi_label
        self.register_buffer("mean", torch.zeros(3 * channels))
        self.register_buffer("std", torch.ones(3 * channels))
        self.layers = nn.Sequential(
            nn.Dropout(dropout / 2),
            nn.Linear(3 * channels, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of pooled features ``(N, 3C)``."""
        logits: Tensor = self.layers((pooled - self.mean) / self.std)
        return logits

    def probabilities(self, pooled: Tensor) -> Tensor:
        """Return ``(N, K)``: of one class among all, or of each class by itself."""
        logits: Tensor = self(pooled)
        return logits.sigmoid() if self.multi_label else logits.softmax(1)


def fit_classifier(
    features: Sequence[Tensor],
    segments: Sequence[Tensor],
    labels: Sequence[Tensor],
    classes: int,
    *,
    epochs: int,
    lr: float,
    hidden: int,
    dropout: float,
    seed: int,
    jitter: float = 0.2,
    class_weights: Sequence[float] | None = None,
    multi_label: bool = False,
) -> ProposalClassifier:
    """Fit a classifier to true segments whose ends are moved at random, as those of proposals are off.

    With ``multi_label`` it learns, of each class, the best tIoU of the segment with an instance of the class; as many
    random segments of the same videos are looked at besides.

    Args:
        features: ``(C, L_i)`` on the CPU for each video.
        segments: ``(N_i, 2)`` in [0, 1] for each video.
        labels: ``(N_i,)`` class numbers for each video.
        classes: K.
        epochs: Passes over the segments.
        lr: Learning rate of AdamW, annealed to zero by a cosine.
        hidden: Hidden units.
        dropout: See :class:`ProposalClassifier`.
        seed: Of initial weights, order, jitter and dropout.
        jitter: Standard deviation of each end, in lengths of the segment.
        class_weights: K weights of the classes in the loss; None for none.
        multi_label: Classes do not exclude each other.

    Raises:
        DataError: If no video has a segment.
    """
    if not any(map(len, labels)):
        raise DataError("The class scores cannot be fitted: no training video has a segment.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels = features[0].shape[0]
        model = ProposalClassifier(channels, classes, hidden=hidden, dropout=dropout, multi_label=multi_label)
        plain = _pool_all(features, segments)
        model.mean.copy_(plain.mean(0))
        model.std.copy_(plain.std(0, correction=0).clamp(min=1e-4))
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        _train(model, features, segments, labels, epochs, lr, jitter, weights)
    return model.eval()


def _train(
    model: ProposalClassifier,
    features: Sequence[Tensor],
    segments: Sequence[Tensor],
    labels: Sequence[Tensor],
    epochs: int,
    lr: float,
    jitter: float,
    weights: Tensor | None,
) -> None:
    count = sum(map(len, labels)) * (2 if model.multi_label else 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-count // _BATCH))
    for _ in range(epochs):
        spans = [_jittered(video, jitter) for video in segments]
        if model.multi_label:
            spans = [torch.cat([video, torch.rand_like(video).sort(1).values]) for video in spans]
        pooled, target = _pool_all(features, spans), _targets(model, spans, segments, labels)
        for chosen in torch.split(torch.randperm(count), _BATCH):
            loss = _loss(model, pooled[chosen], target[chosen], weights)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


def _loss(model: ProposalClassifier, pooled: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    if model.multi_label:
        return functional.binary_cross_entropy_with_logits(model(pooled), target, weights)
    return functional.cross_entropy(model(pooled), target, weights, label_smoothing=0.05)


def _targets(
    model: ProposalClassifier, spans: Sequence[Tensor], segments: Sequence[Tensor], labels: Sequence[Tensor]
) -> Tensor:
    """Return the classes ``(N,)``, or with several labels the best tIoU with each class ``(N, K)``."""
    if not model.multi_label:
        return torch.cat(list(labels))
    classes = model.config["classes"]
    return torch.cat([class_overlaps(*video, classes) for video in zip(spans, segments, labels, strict=True)])


def class_overlaps(spans: Tensor, segments: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the best tIoU of spans ``(N, 2)`` with the segments ``(M, 2)`` of each class: ``(N, K)``."""
    both = torch.minimum(spans[:, None, 1], segments[:, 1]) - torch.maximum(spans[:, None, 0], segments[:, 0])
    both = both.clamp(min=0)
    union = (spans[:, 1] - spans[:, 0])[:, None] + (segments[:, 1] - segments[:, 0]) - both
    overlap = both / union.clamp(min=1e-9)
    best = overlap.new_zeros(len(spans), classes)
    return best.scatter_reduce(1, labels.expand(len(spans), -1), overlap, "amax")


def _jittered(spans: Tensor, jitter: float) -> Tensor:
    length = spans[:, 1:] - spans[:, :1]
    return (spans + torch.randn_like(spans) * jitter * length).clamp(0, 1).sort(1).values


def _pool_all(features: Sequence[Tensor], segments: Sequence[Tensor]) -> Tensor:
    return torch.cat([pool(video, spans) for video, spans in zip(features, segments, strict=True)])


@torch.inference_mode()
def class_probabilities(
    classifier: ProposalClassifier, features: Tensor, segments: Tensor, scores: Tensor, pooling: str
) -> Tensor:
    """Return the class probabilities ``(N, K)`` of one video's proposals.

    Args:
        classifier: Fitted.
        features: ``(C, L)`` on the CPU.
        segments: ``(N, 2)`` in [0, 1].
        scores: ``(N,)`` of the head.
        pooling: ``proposal`` judges each one alone; ``video`` gives all the score-weighted mean of them, which is
            better where a video holds one class.
    """
    probabilities = classifier.probabilities(pool(features, segments))
    if pooling == "video" and len(segments):
        weights = (scores / scores.sum().clamp(min=1e-9))[:, None]
        probabilities = (weights * probabilities).sum(0, keepdim=True).expand_as(probabilities)
    return probabilities


@torch.inference_mode()
def video_probabilities(classifier: ProposalClassifier, features: Tensor) -> Tensor:
    """Return the class probabilities ``(K,)`` of a whole video without any proposals.

    Windows of an eighth, a quarter, a half and the whole of the video are classified and averaged; a window that says
    little (its distribution is flat) counts little: the weight is (1 − entropy / log K)².

    Args:
        classifier: Fitted.
        features: ``(C, L)`` on the CPU.
    """
    starts = [torch.linspace(0, 1 - share, round(2 / share) - 1) for share in _WINDOWS]
    windows = torch.cat([torch.stack([start, start + share], 1) for start, share in zip(starts, _WINDOWS, strict=True)])
    probabilities: Tensor = classifier(pool(features, windows)).softmax(1)
    entropy = torch.special.entr(probabilities).sum(1) / math.log(max(2, probabilities.shape[1]))
    weights = ((1 - entropy) ** 2).clamp(min=1e-6)[:, None]
    mean: Tensor = (weights * probabilities).sum(0) / weights.sum()
    return mean


def save_classifier(classifier: ProposalClassifier, folder: Path, facts: dict[str, Any]) -> None:
    """Write ``classifier.safetensors`` and ``classifier.json``."""
    state = {key: value.contiguous() for key, value in classifier.state_dict().items()}
    write_bytes(folder / "classifier.safetensors", save(state))
    write_json(folder / "classifier.json", {"config": classifier.config, "facts": facts})


class _Arguments(Description):
    """Arguments of :class:`ProposalClassifier`."""

    channels: int = Field(ge=1, le=100_000)
    classes: int = Field(ge=1, le=100_000)
    hidden: int = Field(ge=1, le=65_536)
    dropout: float = Field(ge=0, lt=1)
    multi_label: bool = False


class _ClassifierFile(Description):
    """``classifier.json``."""

    config: _Arguments
    facts: PlainDict = Field(default_factory=dict)


def load_classifier(folder: Path) -> tuple[ProposalClassifier, dict[str, Any]]:
    """Read what :func:`save_classifier` wrote.

    Raises:
        DataError: If the folder does not hold a classifier of this version, or a file is not as it was written.
    """
    check_files(folder, "classifier.safetensors", "classifier.json")
    described = read_description(folder / "classifier.json", _ClassifierFile)
    weights, config = folder / "classifier.safetensors", described.config
    classifier = build_for(weights, "the classifier", lambda: ProposalClassifier(**config.model_dump()))
    load_exactly(classifier, weights)
    return classifier.eval(), described.facts
