"""An anchor-free head in the manner of ActionFormer: every point of a pyramid says what happens and how far.

Zhang et al., "ActionFormer: Localizing Moments of Actions with Transformers" (ECCV 2022);
happyharrycn/actionformer_release.

Kept: a pyramid of local self-attention blocks, class scores and distances to both boundaries from shared
convolutions, one range of lengths a level, centre sampling, focal and DIoU losses. Different: all videos have
the same number of snippets, so nothing is masked; levels shrink by max pooling; the losses are normalised by
the positives of the global batch instead of a running mean; a convolutional mixer for CPUs.

Legend: B videos, C channels, L snippets, H hidden channels, K classes, P points of all levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lofi_tal.errors import LofiError, quoted
from lofi_tal.heads.anchor_free_losses import assign_points, distance_loss, focal_loss, level_points
from lofi_tal.heads.contract import Head, Proposals, check_preset
from lofi_tal.heads.losses import Generators, global_counts, ratio, weighted_positives

MIXERS = ("attention", "convolution")
# A point is foreground with this probability before training, so that background does not swamp the first
# steps.
_PRIOR = 0.01


class AnchorFreeOutputs(NamedTuple):
    """Outputs of the anchor-free head, in fp32.

    Args:
        class_logits: ``(B, P, K)``.
        distances: ``(B, P, 2)`` to start and end, in strides of the point's level, not negative.
        points: ``(P,)`` position in snippets, 0 to L.
        strides: ``(P,)`` snippets between the points of the level.
        ranges: ``(P, 2)`` lengths in snippets that the level is responsible for.
        snippets: L.
    """

    class_logits: Tensor
    distances: Tensor
    points: Tensor
    strides: Tensor
    ranges: Tensor
    snippets: int


class AnchorFree(Head):
    """The anchor-free head.

    Args:
        in_channels: C of the features.
        num_classes: K. None scores "any action": proposals without labels.
        hidden: H, a multiple of ``heads``.
        levels: Levels of the pyramid, each with half the points of the one below. All always run, so that
            every parameter has a gradient; those too coarse for the input learn background.
        stem_blocks: Blocks before the pyramid.
        mixer: ``attention`` (local self-attention) or ``convolution`` (depthwise, about half the cost on a
            CPU).
        window: Snippets that a block sees, odd.
        heads: Attention heads.
        head_layers: Convolutions of each output branch before its last.
        radius: Points this many strides around an instance's centre learn it.
        max_proposals: Most proposals a video, before suppression.
        min_score: Points that score less propose nothing.

    Raises:
        LofiError: If an argument is out of range.
    """

    name = "anchor_free"

    def __init__(
        self,
        in_channels: int = 512,
        *,
        num_classes: int | None = None,
        hidden: int = 256,
        levels: int = 6,
        stem_blocks: int = 2,
        mixer: str = "attention",
        window: int = 19,
        heads: int = 4,
        head_layers: int = 2,
        radius: float = 1.5,
        max_proposals: int = 2000,
        min_score: float = 0.001,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        _check_options(config)
        super().__init__(in_channels=in_channels, config=config)
        self.num_classes = num_classes
        self.radius = radius
        self.max_proposals = max_proposals
        self.min_score = min_score
        self.embedding = nn.Sequential(
            _Convolution(in_channels, hidden), nn.ReLU(), _Convolution(hidden, hidden), nn.ReLU()
        )

        def block() -> nn.Module:
            return _Block(hidden, mixer=mixer, window=window, heads=heads)

        self.stem = nn.Sequential(*(block() for _ in range(stem_blocks)))
        self.branches = nn.ModuleList(block() for _ in range(levels - 1))
        self.norms = nn.ModuleList(_ChannelNorm(hidden) for _ in range(levels))
        self.classify = _branch(hidden, head_layers, 1 if num_classes is None else num_classes)
        last = len(self.classify) - 1
        self.class_tensors = (f"classify.{last}.weight", f"classify.{last}.bias")
        self.locate = _branch(hidden, head_layers, 2)
        self.scales = nn.Parameter(torch.ones(levels))
        nn.init.constant_(_last_bias(self.classify), -math.log((1 - _PRIOR) / _PRIOR))
        # Untrained points reach one stride to either side, so that boxes overlap from the first step.
        nn.init.constant_(_last_bias(self.locate), 1.0)

    def forward(self, features: Tensor) -> AnchorFreeOutputs:
        """Score points of ``(B, C, L)`` features."""
        self.check_features(features)
        level = self.stem(self.embedding(features))
        pyramid = [level]
        for branch in self.branches:
            level = branch(functional.max_pool1d(level, 3, stride=2, padding=1))
            pyramid.append(level)
        logits, distances = [], []
        for norm, scale, level in zip(self.norms, self.scales, pyramid, strict=True):
            level = norm(level)
            logits.append(self.classify(level).float())
            distances.append(functional.relu(self.locate(level).float() * scale))
        points, strides, ranges = level_points([level.shape[2] for level in pyramid], features.device)
        return AnchorFreeOutputs(
            torch.cat(logits, dim=2).transpose(1, 2),
            torch.cat(distances, dim=2).transpose(1, 2),
            points,
            strides,
            ranges,
            features.shape[2],
        )

    def loss(
        self,
        outputs: AnchorFreeOutputs,
        segments: Sequence[Tensor],
        labels: Sequence[Tensor] | None = None,
        generator: Generators = None,
    ) -> dict[str, Tensor]:
        """Return focal loss + DIoU loss, each divided by the number of positive points of the global batch.

        Raises:
            LofiError: If the head classifies and there are no labels, or a label is out of range.
        """
        videos = []
        for index, video in enumerate(segments):
            count = len(video)
            if self.num_classes is None:
                classes = torch.zeros(count, dtype=torch.long)
            elif labels is None:
                raise LofiError(f"{self.name} tells {self.num_classes} classes apart: its loss needs labels.")
            else:
                classes = labels[index]
            videos.append((video, classes))
        class_target, distance_target = assign_points(
            videos,
            outputs.points,
            outputs.strides,
            outputs.ranges,
            outputs.snippets,
            outputs.class_logits.shape[2],
            self.radius,
        )
        positive = class_target.sum(dim=2) > 0
        (count,) = global_counts(positive, at_least=1)
        located = distance_loss(outputs.distances[positive], distance_target[positive])
        focal = weighted_positives(focal_loss(outputs.class_logits, class_target), class_target, self.class_weights)
        terms = {
            "classification": ratio(focal.sum(), count),
            "regression": ratio(located.sum(), count),
        }
        return {"total": terms["classification"] + terms["regression"], **terms}

    def proposals(self, outputs: AnchorFreeOutputs, preset: str = "fixed") -> list[Proposals]:
        """Return the segments of the best points; a point may propose several classes. Both presets are the same."""
        check_preset(preset)
        scores = outputs.class_logits.detach().sigmoid()
        distances = outputs.distances.detach() * outputs.strides[:, None]
        edges = torch.stack([outputs.points - distances[..., 0], outputs.points + distances[..., 1]], dim=2)
        edges = (edges / outputs.snippets).clamp(0, 1).cpu()
        classes = scores.shape[2]
        proposals = []
        for video_edges, video_scores in zip(edges, scores.flatten(1).cpu(), strict=True):
            best = video_scores.topk(min(self.max_proposals, len(video_scores)))
            segments = video_edges[best.indices // classes]
            keep = (best.values > self.min_score) & (segments[:, 1] > segments[:, 0])
            labels = None if self.num_classes is None else best.indices[keep] % classes
            proposals.append(Proposals(segments[keep], best.values[keep], labels))
        return proposals


class _ChannelNorm(nn.Module):
    """Layer normalisation over the channels of ``(B, C, L)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        normal: Tensor = self.norm(features.transpose(1, 2)).transpose(1, 2)
        return normal


class _Convolution(nn.Sequential):
    """Convolution over three snippets and normalisation."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(nn.Conv1d(channels, out_channels, 3, padding=1, bias=False), _ChannelNorm(out_channels))


class _LocalAttention(nn.Module):
    """Multi-head self-attention within a window; a depthwise convolution tells the order of the snippets."""

    def __init__(self, channels: int, *, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.order = nn.Conv1d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.inputs = nn.Conv1d(channels, 3 * channels, 1)
        self.outputs = nn.Conv1d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        count = features.shape[2]
        parts = self.inputs(self.order(features)).unflatten(1, (3, self.heads, -1)).transpose(3, 4)
        query, key, value = parts.unbind(1)
        position = torch.arange(count, device=features.device)
        near = (position[:, None] - position).abs() <= self.window // 2
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=near)
        result: Tensor = self.outputs(mixed.transpose(2, 3).flatten(1, 2))
        return result


class _Block(nn.Module):
    """Mixing over time, then over channels, each normalised first and added to its input."""

    def __init__(self, channels: int, *, mixer: str, window: int, heads: int) -> None:
        super().__init__()
        self.norm = _ChannelNorm(channels)
        self.mixer: nn.Module
        if mixer == "attention":
            self.mixer = _LocalAttention(channels, heads=heads, window=window)
        else:
            self.mixer = nn.Sequential(
                nn.Conv1d(channels, channels, window, padding=window // 2, groups=channels),
                nn.Conv1d(channels, channels, 1),
            )
        self.expand = nn.Sequential(
            _ChannelNorm(channels),
            nn.Conv1d(channels, 4 * channels, 1),
            nn.GELU(),
            nn.Conv1d(4 * channels, channels, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        features = features + self.mixer(self.norm(features))
        result: Tensor = features + self.expand(features)
        return result


def _branch(channels: int, layers: int, outputs: int) -> nn.Sequential:
    """Return an output branch: convolutions shared by all levels."""
    stages: list[nn.Module] = []
    for _ in range(layers):
        stages += [_Convolution(channels, channels), nn.ReLU()]
    return nn.Sequential(*stages, nn.Conv1d(channels, outputs, 3, padding=1))


def _last_bias(branch: nn.Sequential) -> Tensor:
    """Return the bias of a branch's last convolution."""
    last = branch[-1]
    assert isinstance(last, nn.Conv1d)
    assert last.bias is not None
    return last.bias


def _check_options(options: dict[str, object]) -> None:
    """Refuse options that cannot be built."""
    name = "the anchor-free head"
    for key in ("in_channels", "num_classes", "hidden", "levels", "window", "heads", "max_proposals"):
        value = options[key]
        if value is None and key == "num_classes":
            continue
        most = 32 if key == "levels" else 100_000
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise LofiError(f"{key}={quoted(value)} of {name} must be a positive whole number, at most {most:,}.")
    for key in ("stem_blocks", "head_layers"):
        if not isinstance(options[key], int) or not 0 <= options[key] <= 100:  # type: ignore[operator]
            raise LofiError(f"{key}={quoted(options[key])} of {name} must be a whole number from 0 to 100.")
    if options["mixer"] not in MIXERS:
        raise LofiError(f"mixer={options['mixer']!r} of {name}: allowed: {', '.join(MIXERS)}.")
    if options["window"] % 2 == 0:  # type: ignore[operator]
        raise LofiError(f"window={options['window']} of {name} must be odd, to have a middle.")
    if options["hidden"] % options["heads"]:  # type: ignore[operator]
        raise LofiError(f"hidden={options['hidden']} of {name} must be a multiple of heads={options['heads']}.")
