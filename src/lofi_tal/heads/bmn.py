"""BMN: boundary-matching network over snippet features.

Lin et al., "BMN: Boundary-Matching Network for Temporal Action Proposal Generation" (ICCV 2019). Sizes are
those of the authors' own code (PaddlePaddle/models release/1.8): 2,782,980 parameters at 400 channels; module
names are those of the widely used port JJBOY/BMN-Boundary-Matching-Network, whose proposal branch is wider
(``hidden_proposal=256``). The boundary-matching layer and the 3D convolution behind it run in the order of
:mod:`lofi_tal.heads.alignment`.

Losses are G-TAD's, which took them from here; the authors draw one noise map for the whole batch and count
anchors of IoU 0 among the low ones.

Legend: B videos, C channels, L snippets, D durations, A valid anchors.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from lofi_tal.heads.alignment import Interpolation, Rows, sampling_mask_interpolation
from lofi_tal.heads.boundary_matching import (
    BoundaryMatchingHead,
    BoundaryMatchingOutputs,
    bin_slices,
    check_sizes,
    convolution_at,
    project_nodes,
    score_anchors,
)
from lofi_tal.heads.contract import Proposals, check_preset
from lofi_tal.heads.decoding import decode_boundary_map, end_cells


class BMN(BoundaryMatchingHead):
    """The BMN head.

    Args:
        in_channels: C of the features.
        hidden_1d: Channels of the base and boundary branches.
        hidden_proposal: Channels that enter the boundary-matching layer.
        hidden_2d: Channels of the map.
        hidden_3d: Channels of the aligned anchors.
        bins: Bins over the anchor and its surroundings.
        samples: Points a bin.
        max_duration: D, the longest anchor in snippets; None allows the whole video.

    Raises:
        LofiError: If an argument is out of range.
    """

    name = "bmn"

    def __init__(
        self,
        in_channels: int = 512,
        *,
        hidden_1d: int = 256,
        hidden_proposal: int = 128,
        hidden_2d: int = 128,
        hidden_3d: int = 512,
        bins: int = 32,
        samples: int = 3,
        max_duration: int | None = None,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        check_sizes("BMN", config)
        super().__init__(in_channels=in_channels, config=config, max_duration=max_duration)
        self.bins = bins
        self.samples = samples
        # 4 groups as published, fewer where a narrow head or odd features do not divide
        groups = math.gcd(4, hidden_1d)
        self.x_1d_b = nn.Sequential(
            nn.Conv1d(in_channels, hidden_1d, 3, padding=1, groups=math.gcd(groups, in_channels)),
            nn.ReLU(),
            nn.Conv1d(hidden_1d, hidden_1d, 3, padding=1, groups=groups),
            nn.ReLU(),
        )
        self.x_1d_s, self.x_1d_e = (
            nn.Sequential(
                nn.Conv1d(hidden_1d, hidden_1d, 3, padding=1, groups=groups),
                nn.ReLU(),
                nn.Conv1d(hidden_1d, 1, 1),
            )
            for _ in range(2)
        )
        self.x_1d_p = nn.Sequential(nn.Conv1d(hidden_1d, hidden_proposal, 3, padding=1), nn.ReLU())
        self.x_3d_p = nn.Sequential(nn.Conv3d(hidden_proposal, hidden_3d, (bins, 1, 1)))
        self.x_2d_p = nn.Sequential(
            nn.Conv2d(hidden_3d, hidden_2d, 1),
            nn.ReLU(),
            nn.Conv2d(hidden_2d, hidden_2d, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden_2d, hidden_2d, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden_2d, 2, 1),
        )

    def forward(self, features: Tensor) -> BoundaryMatchingOutputs:
        """Score boundaries and anchors of ``(B, C, L)`` features."""
        self.check_features(features)
        snippets = features.shape[2]
        durations = self.durations(snippets)
        base = self.x_1d_b(features)
        start, end = self.x_1d_s(base).squeeze(1), self.x_1d_e(base).squeeze(1)
        weight, bias = convolution_at(self.x_3d_p)
        nodes = project_nodes(self.x_1d_p(base), bin_slices(weight, self.bins), self.bins)

        def interpolations(rows: Rows) -> list[Interpolation]:
            bins, samples = self.bins, self.samples
            return [
                sampling_mask_interpolation(
                    snippets, durations, bins, samples, pad_row=True, rows=rows, device=features.device
                )
            ]

        layers = self.x_2d_p
        anchors = score_anchors([nodes], interpolations, bias, layers, snippets, durations, at_once=self.at_once)
        return BoundaryMatchingOutputs.from_logits(start, end, anchors, snippets, durations)

    def proposals(self, outputs: BoundaryMatchingOutputs, preset: str = "fixed") -> list[Proposals]:
        """Return the anchors between candidate boundaries.

        Scored by start × end × regression × classification. The authors look for the end in the anchor's last
        cell, so both presets are ``fixed``.
        """
        check_preset(preset)
        durations, snippets = outputs.iou_map.shape[2:]
        cell = end_cells(snippets, durations).clamp(max=snippets - 1).to(outputs.end.device)
        scores = outputs.iou_map.prod(dim=1) * outputs.start[:, None, :] * outputs.end[:, cell]
        return decode_boundary_map(outputs.start, outputs.end, scores, "fixed")
