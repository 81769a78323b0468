"""BMN against the plain order of its published computation (PaddlePaddle/models release/1.8; JJBOY's port)."""

import pytest
import torch

from lofi_tal.heads import BMN
from lofi_tal.heads.alignment import sampling_mask_interpolation, valid_anchors


@pytest.mark.parametrize(
    ("options", "count"),
    [({}, 2_782_980), ({"hidden_proposal": 256}, 4_978_564)],  # the authors' version; the port's wider branch
)
def test_parameter_counts_at_400_channels(options, count):
    assert sum(p.numel() for p in BMN(400, **options).parameters()) == count


def test_outputs_equal_the_plain_computation():
    torch.manual_seed(0)
    length = 11
    head = BMN(16, hidden_1d=16, hidden_proposal=8, hidden_2d=8, hidden_3d=12, bins=6)
    features = torch.randn(2, 16, length)
    ours = head(features)
    base = head.x_1d_b(features)
    anchors = valid_anchors(length, length)
    mask = torch.zeros(length * length, length * 6)
    mask[anchors.cell] = sampling_mask_interpolation(length, length, 6, 3).matrix.to_dense()
    mask = mask.view(length, length, length, 6)  # durations, starts, nodes, bins
    volume = torch.einsum("bct,dstr->bcrds", head.x_1d_p(base), mask)
    expected = head.x_2d_p(head.x_3d_p(volume).relu().squeeze(2)).sigmoid()
    torch.testing.assert_close(ours.start, head.x_1d_s(base).sigmoid()[:, 0])
    torch.testing.assert_close(ours.end, head.x_1d_e(base).sigmoid()[:, 0])
    torch.testing.assert_close(ours.iou_map[:, :, anchors.valid], expected[:, :, anchors.valid], atol=1e-5, rtol=1e-5)


def test_proposals_multiply_boundary_probabilities():
    torch.manual_seed(0)
    head = BMN(16, hidden_1d=16, hidden_proposal=8, hidden_2d=8, hidden_3d=12, bins=6)
    outputs = head(torch.randn(1, 16, 9))
    (proposals,) = head.proposals(outputs)
    for (begin, end), score in zip((proposals.segments * 9).round().long().tolist(), proposals.scores, strict=True):
        cell = outputs.iou_map[0, :, end - begin - 1, begin]
        expected = outputs.start[0, begin] * outputs.end[0, end - 1] * cell.prod()
        torch.testing.assert_close(score, expected.detach())
    assert proposals.segments.max() == 1  # the end of the video can be reached
