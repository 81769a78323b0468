"""Temporal alignment as a sparse linear map: anchors of any length, described by a fixed number of bins.

G-TAD's SGAlign and BMN's boundary-matching layer interpolate node features ``(C, L)`` into ``(C·R, anchors)``
and hand the result to a 1 × 1 convolution. Both steps are linear, so they commute: the convolution's R slices
act on the L nodes first, and a sparse matrix that depends on L alone then interpolates what comes out,

    H = Σ_r W_r (X A_r) = Σ_r (W_r X) A_r.

The numbers are the same, the ``C·R × D × L`` tensor is never made, and only valid anchors are computed.

An anchor (s, d) begins at snippet s and is d + 1 snippets long; it is valid where s + d < L and d < D.

Legend: B videos, L snippets (nodes), D durations, A valid anchors, R bins an anchor, C channels.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lofi_tal.errors import LofiError

_CPU = torch.device("cpu")
_BLOCK = 1024  # anchors whose samples are laid out together


class Anchors(NamedTuple):
    """Valid anchors of a ``(D, L)`` map in row-major order: first by duration index, then by start.

    ``start`` and ``duration`` are indices ``(A,)``; ``cell`` ``(A,)`` is the position in the flattened map;
    ``valid`` is the boolean map.
    """

    start: Tensor
    duration: Tensor
    cell: Tensor
    valid: Tensor


Rows = tuple[int, int]
"""A range of anchors: the first, and the one after the last."""


class Interpolation(NamedTuple):
    """A sparse matrix ``(A, L·R)`` and its transpose, for the forward and the backward pass."""

    matrix: Tensor
    transpose: Tensor


@functools.lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # training may be next to use what a detection asked for first
def valid_anchors(snippets: int, max_duration: int, device: torch.device = _CPU) -> Anchors:
    """Return the valid anchors among ``snippets`` starts (L) and ``max_duration`` durations (D).

    Raises:
        LofiError: If either is less than 1.
    """
    if snippets < 1 or max_duration < 1:
        raise LofiError(
            f"{snippets} snippets with max_duration {max_duration}: both must be at least 1 for there to be an anchor."
        )
    valid = torch.arange(max_duration)[:, None] + torch.arange(snippets) < snippets
    cell = valid.flatten().nonzero().squeeze(1)
    return Anchors(*(part.to(device) for part in (cell % snippets, cell // snippets, cell, valid)))


def row_blocks(count: int, at_once: int | None) -> list[Rows]:
    """Return ``count`` anchors in ranges of at most ``at_once``; None puts them all into one."""
    size = at_once or max(1, count)
    return [(first, min(first + size, count)) for first in range(0, max(1, count), size)]


def interpolate(nodes: Sequence[Tensor], interpolations: Sequence[Interpolation]) -> Tensor:
    """Return ``Σ_i M_i · nodes_i`` in the precision of the matrices, whatever the autocast mode.

    Args:
        nodes: Tensors ``(B, L·R_i, C)``.
        interpolations: As many matrices ``(A, L·R_i)``.

    Returns:
        ``(B, A, C)``.
    """
    result: Tensor = _Interpolate.apply(tuple(interpolations), *nodes)
    return result


class _Interpolate(torch.autograd.Function):
    """Sparse products whose gradient is the product with the transposes that were built once.

    One product a video: its operands stay in the cache, which is faster than one wide product for the batch.
    """

    @staticmethod
    def forward(ctx: Any, interpolations: tuple[Interpolation, ...], *nodes: Tensor) -> Tensor:
        ctx.interpolations = interpolations
        ctx.dtypes = [node.dtype for node in nodes]
        return _multiply([interpolation.matrix for interpolation in interpolations], nodes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(
            _multiply([transpose], gradients).to(dtype) if needed else None
            for (_, transpose), dtype, needed in zip(
                ctx.interpolations, ctx.dtypes, ctx.needs_input_grad[1:], strict=True
            )
        )


def _multiply(matrices: Sequence[Tensor], nodes: Sequence[Tensor]) -> Tensor:
    """Return ``Σ_i M_i · nodes_i`` for every video, in the precision of the matrices."""
    first = matrices[0]
    if first.is_cuda and torch.are_deterministic_algorithms_enabled():
        with torch.autocast(first.device.type, enabled=False):
            products = [repeatable_product(*pair) for pair in zip(matrices, nodes, strict=True)]
            return functools.reduce(torch.add, products)
    shape = (nodes[0].shape[0], first.shape[0], nodes[0].shape[2])
    output = torch.empty(shape, dtype=first.dtype, device=nodes[0].device)
    with torch.autocast(output.device.type, enabled=False):
        for index, (matrix, node) in enumerate(zip(matrices, nodes, strict=True)):
            for video, target in zip(node.to(first.dtype).contiguous(), output, strict=True):
                # beta = 0 overwrites: the first product finds uninitialised memory
                torch.addmm(target, matrix, video, beta=float(index > 0), out=target)
    return output


def repeatable_product(matrix: Tensor, nodes: Tensor) -> Tensor:
    """Return ``M · nodes``, ``(B, A, C)``, to the same last bit every time, on CUDA too in deterministic mode.

    cuSPARSE's products of compressed rows add up in any order; of what torch has, only `torch.bmm` minds the mode.
    """
    videos, _, channels = nodes.shape
    side_by_side = nodes.to(matrix.dtype).transpose(0, 1).flatten(1)
    coordinates = matrix.to_sparse_coo()  # type: ignore[no-untyped-call]
    product = torch.bmm(coordinates[None], side_by_side[None])[0]
    return product.reshape(-1, videos, channels).transpose(0, 1)


@functools.lru_cache(maxsize=256)
@torch.inference_mode(mode=False)
def roi_align_interpolation(
    snippets: int,
    max_duration: int,
    bins: int,
    *,
    pad_row: bool = False,
    rows: Rows | None = None,
    device: torch.device = _CPU,
    dtype: torch.dtype = torch.float32,
) -> Interpolation:
    """Build G-TAD's alignment for all valid anchors.

    The region of anchor (s, d) is ``[s - n/2, s + d + n/2]`` with ``n = d + 1``: the anchor to its last node,
    and half its length on either side (Frostinassiky/gtad, branch ``anet``, ``gtad_lib/models.py``).

    Args:
        snippets: L.
        max_duration: D.
        bins: R.
        pad_row: Append a row for the region [0, 0]. The reference computes it in every invalid cell, and map
            convolutions wider than 1 × 1 see it.
        rows: These anchors alone, the appended row among them.
        device: Where the matrices live.
        dtype: fp32, or fp64 for gradient checks.

    Returns:
        Matrices ``(A, L·R)``; column ``t·R + r`` is bin r of node t.
    """
    anchors = valid_anchors(snippets, max_duration)
    length = anchors.duration.double() + 1
    lower = anchors.start - length / 2
    upper = anchors.start + anchors.duration + length / 2
    if pad_row:
        lower, upper = (torch.cat([edge, edge.new_zeros(1)]) for edge in (lower, upper))
    if rows is not None:
        lower, upper = lower[slice(*rows)], upper[slice(*rows)]
    # block by block: the samples of all regions at once would take a gigabyte at L = 200
    edges = zip(torch.split(lower, _BLOCK), torch.split(upper, _BLOCK), strict=True)
    blocks = [roi_align_weights(low, high, bins, snippets).to(dtype) for low, high in edges]
    return _prepare(torch.cat(blocks).coalesce(), device, dtype)


def roi_align_weights(lower: Tensor, upper: Tensor, bins: int, snippets: int) -> Tensor:
    """Return one-dimensional RoIAlign as a sparse fp64 matrix ``(A, L·R)``.

    The definition is that of ``torchvision.ops.roi_align`` with ``sampling_ratio=-1, aligned=False`` on a map
    of height
    L: node i at coordinate i, ``ceil(bin length)`` evenly spread samples a bin and their mean; samples beyond
    ``[-1, L]`` count as zero, the others are clamped to the first and last node.

    Args:
        lower: ``(A,)`` fp64, first coordinate of each region.
        upper: ``(A,)`` fp64, last coordinate; a region shorter than 1 is extended to 1.
        bins: R.
        snippets: L.
    """
    bin_length = (upper - lower).clamp(min=1.0)[:, None, None] / bins
    samples = bin_length.ceil()
    step = torch.arange(int(samples.max()), dtype=torch.float64)
    bin_index = torch.arange(bins)[:, None]
    # (A, R, samples of the longest region); shorter regions are masked
    position = lower[:, None, None] + bin_index * bin_length + (step + 0.5) * (bin_length / samples)
    inside = (step < samples) & (position >= -1) & (position <= snippets)
    position = position.clamp(0, snippets - 1)
    low = position.floor()
    fraction = position - low
    high = (low + 1).clamp(max=snippets - 1)
    return _assemble([(low, (1 - fraction) / samples, inside), (high, fraction / samples, inside)], bins, snippets)


@functools.lru_cache(maxsize=256)
@torch.inference_mode(mode=False)
def sampling_mask_interpolation(
    snippets: int,
    max_duration: int,
    bins: int,
    samples: int = 3,
    *,
    pad_row: bool = False,
    rows: Rows | None = None,
    device: torch.device = _CPU,
    dtype: torch.dtype = torch.float32,
) -> Interpolation:
    """Build BMN's boundary-matching layer for all valid anchors.

    The region is G-TAD's. ``bins · samples`` points are spread over it evenly, both ends included, and each
    bin is the mean of ``samples`` of them. A point gives ``1 - f`` to the node at its truncated coordinate
    and ``f`` to the node at its ceiling; nodes outside ``[0, L - 1]`` are dropped, not clamped
    (PaddlePaddle/models release/1.8, BMN; also JJBOY/BMN-Boundary-Matching-Network, ``models.py``).

    Returns:
        Matrices ``(A, L·R)``; column ``t·R + r`` is bin r of node t.
    """
    anchors = valid_anchors(snippets, max_duration)
    length = anchors.duration.double() + 1
    step = (anchors.duration + length) / (bins * samples - 1)
    position = (anchors.start - length / 2)[:, None] + torch.arange(bins * samples) * step[:, None]
    position = position.view(-1, bins, samples)
    # Truncation is toward zero: a point in (-1, 0) has a negative fraction, and node 0 gets 1 in all.
    low, high = position.trunc(), position.ceil()
    fraction = position - low
    parts: list[tuple[Tensor, ...]] = [
        (node, part / samples, (node >= 0) & (node < snippets))
        for node, part in ((low, 1 - fraction), (high, fraction))
    ]
    if pad_row:  # what lies in no cell is zero there, not the region [0, 0]
        parts = [tuple(functional.pad(part, (0, 0, 0, 0, 0, 1)) for part in triple) for triple in parts]
    if rows is not None:
        parts = [tuple(part[slice(*rows)] for part in triple) for triple in parts]
    return _prepare(_assemble(parts, bins, snippets), device, dtype)


def _assemble(parts: Sequence[tuple[Tensor, ...]], bins: int, snippets: int) -> Tensor:
    """Add up (node, weight, keep) triples, each ``(A, R, samples)``, into a sparse matrix ``(A, L·R)``."""
    anchors = parts[0][0].shape[0]
    rows, columns, weights = [], [], []
    for node, weight, keep in parts:
        row, bin_index, _ = keep.nonzero(as_tuple=True)
        rows.append(row)
        columns.append(node[keep].long() * bins + bin_index)
        weights.append(weight[keep])
    index = torch.stack([torch.cat(rows), torch.cat(columns)])
    with _quiet():
        return torch.sparse_coo_tensor(
            index, torch.cat(weights), (anchors, snippets * bins), check_invariants=True
        ).coalesce()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch tells of every sparse tensor: 2.11 of checks that are off, all of a layout in beta."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
        yield


def _prepare(matrix: Tensor, device: torch.device, dtype: torch.dtype) -> Interpolation:
    """Return ``matrix`` and its transpose on ``device``, in the layout whose product is fastest there."""
    # Elsewhere (macOS, ARM) the products of compressed rows are missing, and coordinates work as well.
    mkl = bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]
    with _quiet():
        matrix = matrix.to(device, dtype)
        pair = (matrix, matrix.t().coalesce())
        if device.type == "cuda" or (device.type == "cpu" and mkl):
            pair = (pair[0].to_sparse_csr(), pair[1].to_sparse_csr())
            if device.type == "cpu":
                pair = (_short_indices(pair[0]), _short_indices(pair[1]))
    return Interpolation(*pair)


def _short_indices(matrix: Tensor) -> Tensor:
    """Return a matrix of compressed rows with 32-bit indices: a third of its memory less."""
    rows, columns = matrix.crow_indices().int(), matrix.col_indices().int()
    values = matrix.values().clone()  # the view itself would keep the whole old matrix alive
    return torch.sparse_csr_tensor(rows, columns, values, size=matrix.shape, check_invariants=True)
