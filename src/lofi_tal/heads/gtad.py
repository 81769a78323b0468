"""G-TAD: sub-graph localisation over snippet features.

Xu et al., "G-TAD: Sub-Graph Localization for Temporal Action Detection" (CVPR 2020). Architecture and
parameter names are those of Frostinassiky/gtad, branch ``anet`` (``gtad_lib/models.py``), so its checkpoints
load. Three steps are computed in another order, with equal results: the alignment (see
:mod:`lofi_tal.heads.alignment`), the edge convolution (its two halves act on the nodes before neighbours are
gathered), and 1 × 1 map convolutions (on valid anchors only).

Legend: B videos, C channels, L snippets, D durations, A valid anchors, K neighbours.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lofi_tal.errors import LofiError
from lofi_tal.heads.alignment import Interpolation, Rows, roi_align_interpolation
from lofi_tal.heads.boundary_matching import (
    BoundaryMatchingHead,
    BoundaryMatchingOutputs,
    bin_slices,
    check_sizes,
    convolution_at,
    project_nodes,
    score_anchors,
)
from lofi_tal.heads.official import load_published


def nearest_nodes(nodes: Tensor, neighbours: int) -> Tensor:
    """Return the indices ``(B, L, K)`` of each node's nearest nodes of its own video, itself included.

    Args:
        nodes: ``(B, C, L)``.
        neighbours: K; all nodes if there are fewer.
    """
    # In fp32 without autocast: rounding would decide which neighbour is nearer.
    with torch.no_grad(), torch.autocast(nodes.device.type, enabled=False):
        nodes = nodes.detach().float()
        square = nodes.square().sum(dim=1)
        nearness = 2 * nodes.transpose(1, 2) @ nodes - square[:, :, None] - square[:, None, :]
        return torch.topk(nearness, min(neighbours, nodes.shape[2]), dim=2).indices


def gather_nodes(nodes: Tensor, index: Tensor) -> Tensor:
    """Return ``(B, C, L, K)``: the nodes ``(B, C, L)`` at positions ``(B, L, K)``."""
    flat = index.flatten(1)[:, None].expand(-1, nodes.shape[1], -1)
    return nodes.gather(2, flat).view(*nodes.shape, index.shape[2])


class GCNeXt(nn.Module):
    """Graph convolution over time edges and semantic edges, in grouped bottlenecks.

    ``y = ReLU(T(x) + max over neighbours j of S([x_j; x_i]) + x_i)``: T is a temporal convolution, S acts on
    pairs of a node and one of its nearest nodes in feature space. At the published width of 256 the
    bottleneck has 128 channels in 32 groups.

    Args:
        channels: C, a multiple of 8.
        neighbours: K.
    """

    def __init__(self, channels: int, *, neighbours: int = 3) -> None:
        super().__init__()
        width = channels // 2
        groups = width // 4
        self.neighbours = neighbours
        self.tconvs = nn.Sequential(
            nn.Conv1d(channels, width, 1),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=1, groups=groups),
            nn.ReLU(),
            nn.Conv1d(width, channels, 1),
        )
        self.sconvs = nn.Sequential(
            nn.Conv2d(channels * 2, width, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(width, channels, 1),
        )

    def forward(self, nodes: Tensor, neighbours: Tensor | None = None) -> Tensor:
        """Map ``(B, C, L)`` to ``(B, C, L)``; ``neighbours (B, L, K)`` spares finding them again."""
        if neighbours is None:
            neighbours = nearest_nodes(nodes, self.neighbours)
        return functional.relu(self.tconvs(nodes) + self._semantic(nodes, neighbours) + nodes)

    def _semantic(self, nodes: Tensor, neighbours: Tensor) -> Tensor:
        """Return ``max over neighbours j of S([x_j; x_i])``; S is 1 × 1, so every layer of it is a matrix product."""
        (first, bias), (second, second_bias), (third, third_bias) = (
            convolution_at(self.sconvs, index) for index in (0, 2, 4)
        )
        of_neighbour, of_node = torch.chunk(first.flatten(1), 2, dim=1)
        pairs = gather_nodes(of_neighbour @ nodes, neighbours)
        pairs = functional.relu(pairs + (of_node @ nodes + bias[:, None])[:, :, :, None])
        # one product for all groups: convolution loops over them on the CPU
        groups = second.shape[0] // second.shape[1]
        grouped = pairs.view(len(pairs), groups, second.shape[1], -1)
        hidden = (second.view(groups, -1, second.shape[1]) @ grouped).view(len(pairs), second.shape[0], -1)
        hidden = third.flatten(1) @ functional.relu(hidden + second_bias[:, None]) + third_bias[:, None]
        return hidden.view(*nodes.shape, -1).amax(dim=3)


class GTAD(BoundaryMatchingHead):
    """The G-TAD head.

    Args:
        in_channels: C of the features.
        hidden_1d: Channels of the graph, a multiple of 8.
        hidden_2d: Channels of the map.
        hidden_3d: Channels of the aligned anchors.
        neighbours: Semantic edges a node, itself included.
        inner_bins: Bins over the anchor and its surroundings.
        context_bins: Bins over the mean of each node's nearest nodes.
        map_kernel: Size of the two middle map convolutions: 1 (ActivityNet, HACS) or 3 (THUMOS).
        max_duration: D, the longest anchor in snippets; None (ActivityNet, HACS) allows the whole video.

    Raises:
        LofiError: If an argument is out of range.
    """

    name = "gtad"

    def __init__(
        self,
        in_channels: int = 512,
        *,
        hidden_1d: int = 256,
        hidden_2d: int = 128,
        hidden_3d: int = 512,
        neighbours: int = 3,
        inner_bins: int = 32,
        context_bins: int = 4,
        map_kernel: int = 1,
        max_duration: int | None = None,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        check_sizes("G-TAD", config)
        if hidden_1d % 8:
            raise LofiError(f"hidden_1d={hidden_1d} of G-TAD must be a multiple of 8 (groups of the bottlenecks).")
        if map_kernel not in (1, 3):
            raise LofiError(f"map_kernel={map_kernel} of G-TAD must be 1 or 3.")
        super().__init__(in_channels=in_channels, config=config, max_duration=max_duration)
        self.neighbours = neighbours
        self.inner_bins = inner_bins
        self.context_bins = context_bins
        self.map_kernel = map_kernel
        # 4 groups as published, fewer where a narrow head or odd features do not divide
        groups = math.gcd(4, in_channels, hidden_1d)
        self.backbone1 = nn.Sequential(
            nn.Conv1d(in_channels, hidden_1d, 3, padding=1, groups=groups),
            nn.ReLU(),
            GCNeXt(hidden_1d, neighbours=neighbours),
        )
        self.regu_s = nn.Sequential(GCNeXt(hidden_1d, neighbours=neighbours), nn.Conv1d(hidden_1d, 1, 1))
        self.regu_e = nn.Sequential(GCNeXt(hidden_1d, neighbours=neighbours), nn.Conv1d(hidden_1d, 1, 1))
        self.backbone2 = nn.Sequential(GCNeXt(hidden_1d, neighbours=neighbours))
        same = map_kernel // 2
        self.localization = nn.Sequential(
            nn.Conv2d(hidden_1d * (inner_bins + context_bins), hidden_3d, 1),
            nn.ReLU(),
            nn.Conv2d(hidden_3d, hidden_2d, 1),
            nn.ReLU(),
            nn.Conv2d(hidden_2d, hidden_2d, map_kernel, padding=same),
            nn.ReLU(),
            nn.Conv2d(hidden_2d, hidden_2d, map_kernel, padding=same),
            nn.ReLU(),
            nn.Conv2d(hidden_2d, 2, 1),
        )

    def forward(self, features: Tensor) -> BoundaryMatchingOutputs:
        """Score boundaries and anchors of ``(B, C, L)`` features."""
        self.check_features(features)
        snippets = features.shape[2]
        base = self.backbone1(features)
        neighbours = nearest_nodes(base, self.neighbours)
        start, end = (branch[1](branch[0](base, neighbours)).squeeze(1) for branch in (self.regu_s, self.regu_e))
        graph = self.backbone2[0](base, neighbours)
        durations = self.durations(snippets)
        weight, bias = convolution_at(self.localization)
        slices = bin_slices(weight, self.inner_bins + self.context_bins)
        inner = self.inner_bins * weight.shape[0]
        context = gather_nodes(graph, nearest_nodes(graph, self.neighbours)).mean(dim=3)
        nodes = [
            project_nodes(graph, slices[:inner], self.inner_bins),
            project_nodes(context, slices[inner:], self.context_bins),
        ]

        def interpolations(rows: Rows) -> list[Interpolation]:
            wide, device = self.map_kernel > 1, features.device
            return [
                roi_align_interpolation(snippets, durations, bins, pad_row=wide, rows=rows, device=device)
                for bins in (self.inner_bins, self.context_bins)
            ]

        layers = self.localization[2:]
        anchors = score_anchors(nodes, interpolations, bias, layers, snippets, durations, at_once=self.at_once)
        return BoundaryMatchingOutputs.from_logits(start, end, anchors, snippets, durations)

    def load_official(self, path: Path | str) -> None:
        """Load a checkpoint written by the published G-TAD code.

        Args:
            path: ``.pth.tar`` file with a ``state_dict`` whose keys may begin with ``module.``.

        Raises:
            DataError: If the file cannot be read without executing code, its weights do not fit, or a number in it is
                not finite.
        """
        # the buffers of the published alignment layer depend on L alone, and are built here instead
        load_published(self, Path(path), passed_over="goi_align.")
