"""The ActionFormer head.

Zhang et al., "ActionFormer: Localizing Moments of Actions with Transformers" (ECCV 2022); names, shapes and numbers are
those of happyharrycn/actionformer_release, so its checkpoints load.

Shapes: B videos, C channels, T steps, T_l = ceil(T / 2^l) points of level l, K classes, P points of all levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lofi_tal.errors import LofiError
from lofi_tal.heads.actionformer.decode import ActionFormerOutputs, decode
from lofi_tal.heads.actionformer.loss import point_losses
from lofi_tal.heads.actionformer.network import Backbone, ClassBranch, Neck, OffsetBranch
from lofi_tal.heads.actionformer.options import check_options, pad_length
from lofi_tal.heads.actionformer.trident import Borders
from lofi_tal.heads.contract import Head, Proposals, check_preset
from lofi_tal.heads.losses import Generators, global_counts, processes
from lofi_tal.heads.official import load_published

_MOMENTUM = 0.9  # of the running mean of positive points


class ActionFormer(Head):
    """The ActionFormer head.

    Step t of T lies in the middle of the t-th of T equal parts of the video, as in the published code for resized
    features. Left at its defaults, the head is the published THUMOS14 model for any length; :meth:`thumos` and
    :meth:`activitynet` build the published models with all their settings.

    Args:
        in_channels: C of the features.
        num_classes: K, each with a score of its own. 1 or None scores "any action": proposals without labels.
        width: Channels of the network, a multiple of ``heads``.
        heads: Attention heads.
        windows: Steps that attention sees, odd, or -1 for the whole sequence; one number, or one for each level.
        levels: Levels of the pyramid, each with half the points of the one below. All always run, so that every
            parameter has a gradient; those too coarse for the input learn background.
        stem_blocks: Blocks before the pyramid.
        positions: Add position encodings, for ``max_length`` steps.
        max_length: Steps that the published code pads shorter videos to, which shows at the end of a video. None pads
            to whole strides only.
        drop_path: Probability with which a residual branch is left out in training.
        label_smoothing: Share of each class target that is spread over K + 1 classes.
        regression_weight: Of the distance loss.
        normaliser: Where the running mean of positive points, which the losses are divided by, starts.
        bins: n of TriDet's trident regression (16 on THUMOS14, 12 on ActivityNet): distances are the mean over n + 1
            bins of one stride. None for ActionFormer's plain distances.
        iou_power: With bins: the class loss of a true class counts as much as its tIoU to this power (0.2 on THUMOS14).
        max_proposals: Most proposals of a level, before suppression.
        min_score: Points that score less propose nothing.
        min_length: Steps; shorter segments are not proposed.

    Raises:
        LofiError: If an argument is out of range.
    """

    name = "actionformer"
    takes_mask = True
    class_tensors: tuple[str, ...] = ("cls_head.cls_head.conv.weight", "cls_head.cls_head.conv.bias")
    running: Tensor

    def __init__(
        self,
        in_channels: int = 512,
        num_classes: int | None = None,
        *,
        width: int = 512,
        heads: int = 4,
        windows: int | Sequence[int] = 19,
        levels: int = 6,
        stem_blocks: int = 2,
        positions: bool = False,
        max_length: int | None = None,
        drop_path: float = 0.1,
        label_smoothing: float = 0.0,
        regression_weight: float = 1.0,
        normaliser: float = 100.0,
        bins: int | None = None,
        iou_power: float = 1.0,
        max_proposals: int = 2000,
        min_score: float = 0.001,
        min_length: float = 0.05,
    ) -> None:
        windows = windows if isinstance(windows, int) else list(windows)
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        check_options(config)
        super().__init__(in_channels=in_channels, config=config)
        self.classes = num_classes or 1
        self.num_classes = num_classes if self.classes > 1 else None
        self.max_proposals, self.min_score, self.min_length = max_proposals, min_score, min_length
        self.max_length, self.label_smoothing, self.regression_weight = max_length, label_smoothing, regression_weight
        self.windows = [windows] * levels if isinstance(windows, int) else windows
        self.backbone = Backbone(
            in_channels,
            width=width,
            heads=heads,
            windows=[window if window > 1 else None for window in self.windows],
            stem_blocks=stem_blocks,
            positions=max_length if positions else None,
            drop=drop_path,
        )
        self.neck = Neck(width, levels)
        self.cls_head = ClassBranch(width, self.classes)
        self.reg_head = OffsetBranch(width, levels, bins)
        self.bins, self.iou_power = bins, iou_power
        if bins is not None:
            self.start_head, self.end_head = (ClassBranch(width, self.classes, apart=True) for _ in "12")
            self.class_tensors += tuple(
                f"{side}_head.cls_head.conv.{part}" for side in ("start", "end") for part in ("weight", "bias")
            )
        self.register_buffer("running", torch.tensor(float(normaliser)), persistent=False)

    @classmethod
    def thumos(cls, in_channels: int = 2048, num_classes: int = 20, **options: Any) -> ActionFormer:
        """Return the published THUMOS14 model (``thumos_i3d.yaml``); ``options`` change some of its settings."""
        return cls(in_channels, num_classes, **{"max_length": 2304, **options})

    @classmethod
    def activitynet(cls, in_channels: int = 512, num_classes: int = 1, **options: Any) -> ActionFormer:
        """Return the published ActivityNet-1.3 model (``anet_tsp.yaml``), for features that are resized to 192 steps.

        ``options`` change some of its settings.
        """
        published = {
            "width": 256,
            "windows": [7, 7, 7, 7, 7, -1],
            "positions": True,
            "max_length": 192,
            "label_smoothing": 0.1,
            "regression_weight": 2.0,
            "normaliser": 200.0,
            "min_length": 0.001,
        }
        return cls(in_channels, num_classes, **{**published, **options})

    def forward(self, features: Tensor, mask: Tensor | None = None) -> ActionFormerOutputs:
        """Score the points of videos.

        Args:
            features: ``(B, C, T)``, 0 outside the mask.
            mask: ``(B, T)``, true at the valid steps of each video, which are its first; None if all are valid.

        Raises:
            LofiError: If the shapes do not fit, or a video has no valid step.
        """
        self.check_features(features)
        steps = features.shape[2]
        lengths = [steps] * len(features) if mask is None else _lengths(mask, features)
        mask = None if min(lengths) == steps else mask
        padded, published = pad_length(steps, self.windows, self.max_length)
        if padded > steps:
            inside = torch.ones(len(features), steps, dtype=torch.bool, device=features.device)
            mask = functional.pad(inside if mask is None else mask.bool(), (0, padded - steps))
            features = functional.pad(features, (0, padded - steps))
        levels = self.neck(self.backbone(features.transpose(1, 2), mask, published))
        counts = [-(-steps // 2**level) for level in range(len(levels))]

        def first(parts: Sequence[Tensor]) -> list[Tensor]:
            return [part[:, :count] for part, count in zip(parts, counts, strict=True)]

        masks = None if min(lengths) == steps else first([part for _, part in levels if part is not None])
        borders = None
        if self.bins is not None:
            borders = Borders(first(self.start_head(levels)), first(self.end_head(levels)))
        return ActionFormerOutputs(first(self.cls_head(levels)), first(self.reg_head(levels)), masks, lengths, borders)

    def loss(
        self,
        outputs: ActionFormerOutputs,
        segments: Sequence[Tensor],
        labels: Sequence[Tensor] | None = None,
        generator: Generators = None,
    ) -> dict[str, Tensor]:
        """Return focal loss + DIoU loss, each divided by a running mean of the positive points of the global batch.

        In training each call takes its batch into the mean before it divides; in eval mode the mean stays as it is, and
        the loss is what training would see.

        Raises:
            LofiError: If the head tells classes apart and there are no labels, or a label is out of range.
        """
        terms = point_losses(
            outputs,
            segments,
            _classes(self, segments, labels),
            divisor=self._divisor,
            smoothing=self.label_smoothing,
            iou_power=self.iou_power,
            weights=self.class_weights,
        )
        return {"total": terms["classification"] + self.regression_weight * terms["regression"], **terms}

    def proposals(self, outputs: ActionFormerOutputs, preset: str = "fixed") -> list[Proposals]:
        """Return the segments of each level's best points, a point once for each class. Both presets are the same."""
        check_preset(preset)
        return decode(outputs, max_proposals=self.max_proposals, min_score=self.min_score, min_length=self.min_length)

    def load_official(self, path: Path | str) -> None:
        """Load a checkpoint written by the published code; the averaged weights, if it has them.

        Args:
            path: ``.pth.tar`` file with a ``state_dict_ema`` or ``state_dict`` whose keys may begin with ``module.``.

        Raises:
            DataError: If the file cannot be read without executing code, or its weights do not fit.
        """
        load_published(self, Path(path), entry="state_dict_ema")

    def _divisor(self, positive: Tensor) -> Tensor:
        """Return what this process divides its losses by, so that the processes' gradients average to the batch's."""
        ranks = processes()
        mean = _MOMENTUM * self.running + (1 - _MOMENTUM) * (global_counts(positive)[0] * ranks).clamp(min=1)
        if self.training:
            self.running.copy_(mean)
        return mean / ranks


def _classes(head: ActionFormer, segments: Sequence[Tensor], labels: Sequence[Tensor] | None) -> Sequence[Tensor]:
    """Return the classes of the segments of each video."""
    if head.num_classes is None:
        return [torch.zeros(len(video), dtype=torch.long, device=video.device) for video in segments]
    if labels is None:
        raise LofiError(f"{head.name} tells {head.num_classes} classes apart: its loss needs labels.")
    for index, video in enumerate(labels):
        if len(video) and not 0 <= int(video.min()) <= int(video.max()) < head.classes:
            allowed = f"0 ... {head.classes - 1}"
            raise LofiError(f"labels of video {index} in the batch are not all in {allowed}: {video.tolist()}.")
    return labels


def _lengths(mask: Tensor, features: Tensor) -> list[int]:
    """Return the valid steps of each video."""
    if mask.shape != (features.shape[0], features.shape[2]):
        raise LofiError(
            f"mask has shape {tuple(mask.shape)}; expected {(features.shape[0], features.shape[2])}, (videos, steps)."
        )
    lengths: list[int] = mask.bool().sum(dim=1).tolist()
    if min(lengths) < 1:
        raise LofiError(f"video {lengths.index(0)} of the batch has no valid step in its mask.")
    return lengths
