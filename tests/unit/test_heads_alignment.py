"""The alignment operator against torchvision's roi_align and against a literal sampling mask."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from lofi_tal.errors import LofiError
from lofi_tal.heads.alignment import (
    interpolate,
    repeatable_product,
    roi_align_interpolation,
    roi_align_weights,
    row_blocks,
    sampling_mask_interpolation,
    valid_anchors,
)


def align(values, lower, upper, bins):
    matrix = roi_align_weights(
        torch.tensor([lower], dtype=torch.float64), torch.tensor([upper], dtype=torch.float64), bins, len(values)
    )
    return matrix.to_dense().view(len(values), bins).T @ values


@pytest.mark.parametrize(
    ("lower", "upper", "bins", "expected"),
    [
        (-0.5, 9.5, 10, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (0.1, 0.9, 10, [1.15 + 0.1 * i for i in range(10)]),  # shorter than 1: extended
        (5, 5, 10, [6.05 + 0.1 * i for i in range(10)]),
        (0, 7, 4, [1.875, 3.625, 5.375, 7.125]),  # anchor s=2, d=3
        (-5, 14, 4, [0.2, 3.125, 7.875, 2.0]),  # anchor s=0, d=9: both ends leave the video
    ],
)
def test_published_vectors(lower, upper, bins, expected):
    # oracle: Frostinassiky/gtad, Align1D on x = 1..10
    values = torch.arange(1, 11, dtype=torch.float64)
    torch.testing.assert_close(align(values, lower, upper, bins), torch.tensor(expected, dtype=torch.float64))


@given(
    snippets=st.integers(1, 24),
    lower=st.floats(-30, 30),
    length=st.floats(0, 60),
    bins=st.integers(1, 33),
    seed=st.integers(0, 9),
)
@settings(max_examples=80, deadline=None)
def test_equals_torchvision_roi_align(snippets, lower, length, bins, seed):
    values = torch.randn(snippets, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    boxes = torch.tensor([[0, 0, lower, 1, lower + length]], dtype=torch.float64)
    expected = roi_align(values.view(1, 1, -1, 1), boxes, (bins, 1), sampling_ratio=-1, aligned=False)
    torch.testing.assert_close(align(values, lower, lower + length, bins), expected.flatten())


def test_every_valid_anchor_in_row_major_order():
    anchors = valid_anchors(5, 3)
    expected = [(d, s) for d in range(3) for s in range(5) if s + d < 5]
    assert list(zip(anchors.duration.tolist(), anchors.start.tolist(), strict=True)) == expected
    assert anchors.valid.sum() == len(expected)
    assert anchors.cell.tolist() == [d * 5 + s for d, s in expected]


@pytest.mark.parametrize(("snippets", "durations"), [(0, 3), (3, 0)])
def test_no_anchor_is_an_error(snippets, durations):
    with pytest.raises(LofiError, match="at least 1"):
        valid_anchors(snippets, durations)


def test_pad_row_is_the_region_of_invalid_cells():
    padded = roi_align_interpolation(6, 4, 8, pad_row=True, dtype=torch.float64).matrix.to_dense()
    plain = roi_align_interpolation(6, 4, 8, dtype=torch.float64).matrix.to_dense()
    zero = torch.zeros(1, dtype=torch.float64)
    torch.testing.assert_close(padded[:-1], plain)
    torch.testing.assert_close(padded[-1:], roi_align_weights(zero, zero, 8, 6).to_dense())


def literal_sampling_mask(snippets, bins, samples):
    """The mask as the BMN paper's supplement and JJBOY/BMN-Boundary-Matching-Network build it, point by point."""
    anchors = valid_anchors(snippets, snippets)
    mask = torch.zeros(len(anchors.start), snippets, bins, dtype=torch.float64)
    for row, (s, d) in enumerate(zip(anchors.start.tolist(), anchors.duration.tolist(), strict=True)):
        length = d + 1
        low, high = s - length / 2, s + d + length / 2
        step = (high - low) / (bins * samples - 1)
        for point in range(bins * samples):
            fraction, whole = math.modf(low + point * step)
            for node, share in ((int(whole), 1 - fraction), (math.ceil(low + point * step), fraction)):
                if 0 <= node <= snippets - 1:
                    mask[row, node, point // samples] += share / samples
    return mask.flatten(1)


@pytest.mark.parametrize("snippets", [1, 7, 16])
def test_sampling_mask_equals_its_definition(snippets):
    ours = sampling_mask_interpolation(snippets, snippets, 8, 3, dtype=torch.float64).matrix.to_dense()
    torch.testing.assert_close(ours, literal_sampling_mask(snippets, 8, 3))


def test_gradients_are_exact():
    pair = [roi_align_interpolation(6, 6, b, dtype=torch.float64) for b in (4, 2)]
    nodes = [torch.randn(2, 6 * b, 3, dtype=torch.float64, requires_grad=True) for b in (4, 2)]
    assert torch.autograd.gradcheck(lambda a, b: interpolate([a, b], pair), nodes)


def test_interpolation_runs_in_fp32_under_autocast_and_hands_back_the_input_type():
    nodes = torch.randn(1, 6 * 4, 3, requires_grad=True)
    half = nodes.detach().bfloat16().requires_grad_()
    interpolation = [roi_align_interpolation(6, 6, 4)]
    with torch.autocast("cpu", torch.bfloat16):
        output = interpolate([half], interpolation)
    output.sum().backward()
    assert output.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(output, interpolate([half.float()], interpolation))


def test_repeated_runs_are_bit_identical():
    nodes = torch.randn(2, 50 * 8, 16)
    interpolation = [roi_align_interpolation(50, 50, 8)]
    assert torch.equal(interpolate([nodes], interpolation), interpolate([nodes], interpolation))


def test_what_deterministic_mode_computes_on_a_gpu_is_the_same_product():
    nodes = torch.randn(3, 20 * 8, 5)
    pair = roi_align_interpolation(20, 20, 8)
    for matrix, operand in ((pair.matrix, nodes), (pair.transpose, torch.randn(3, 210, 5))):
        dense = matrix.to_dense() @ operand
        torch.testing.assert_close(repeatable_product(matrix, operand), dense)


def test_alignment_in_parts_is_the_alignment():
    ranges = row_blocks(21 + 1, 8)
    assert ranges == [(0, 8), (8, 16), (16, 22)]
    for build in (roi_align_interpolation, sampling_mask_interpolation):
        whole = build(6, 6, 4, pad_row=True)
        parts = [build(6, 6, 4, pad_row=True, rows=rows) for rows in ranges]
        assert torch.equal(torch.cat([part.matrix.to_dense() for part in parts]), whole.matrix.to_dense())
        assert torch.equal(torch.cat([part.transpose.to_dense() for part in parts], dim=1), whole.transpose.to_dense())
