"""TriDet's trident regression on ActionFormer's network against the published code of both.

``trident.json`` holds what the heads of dingfengshi/TriDet returned behind the backbone of
happyharrycn/actionformer_release, for the cases of ``actionformer_cases.py``, on a CPU.
"""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from tests.parity.actionformer_cases import CASES, batch, build, truth

EXPECTED = json.loads((Path(__file__).parent / "trident.json").read_text())


def distances_of(outputs, lengths):
    """Return sums and single values of the distances of every video, level and class."""
    found, first = [], 0
    classes, rows = outputs.logits[0].shape[2], [[] for _ in lengths]
    for level, part in enumerate(outputs.logits):
        for video, length in enumerate(lengths):
            count = -(-length // 2**level)
            label = torch.arange(classes).repeat_interleave(count)
            point = first + torch.arange(count).repeat(classes)
            one = outputs.distances(torch.full_like(point, video), point, label).double().reshape(classes, count, 2)
            rows[video] += [
                one.sum().item(),
                one[0, 0].sum().item(),
                one[-1, -1, 0].item(),
                one[0, count // 2, 1].item(),
            ]
        first += part.shape[1]
    for row in rows:
        found += row
    return found


@pytest.mark.parametrize("name", EXPECTED)
def test_distances_losses_gradients_and_decoding_equal_the_published_code(name):
    case, expected = CASES[name], EXPECTED[name]
    options = {"bins": expected["bins"], "iou_power": expected["iou_power"], "regression_weight": 1.0}  # as TriDet
    head = build(case, **options).eval()
    shapes = sorted((key, list(value.shape)) for key, value in head.named_parameters())
    assert sum(p.numel() for p in head.parameters()) == expected["parameters"]
    assert hashlib.sha256(json.dumps(shapes).encode()).hexdigest() == expected["shapes"]

    features, mask = batch(case, head.in_channels)
    outputs = head(features, None if len(set(case.lengths)) == 1 else mask)
    found = distances_of(outputs, case.lengths)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected["distances"]), atol=1e-4, rtol=1e-5)

    losses = head.loss(outputs, *truth(case))
    found = [losses[key].item() for key in ("classification", "regression", "total")]
    assert found == pytest.approx(expected["losses"], rel=1e-4)
    losses["total"].backward()
    parameters = dict(head.named_parameters())
    for key, (size, total) in expected["gradients"].items():
        gradient = parameters[key].grad.double()
        assert gradient.abs().sum().item() == pytest.approx(size, rel=1e-3, abs=1e-6), key
        assert gradient.sum().item() == pytest.approx(total, abs=1e-3 * size + 1e-6), key

    for proposals, (count, score, _) in zip(head.proposals(outputs), expected["proposals"], strict=True):
        assert len(proposals.scores) == pytest.approx(count, abs=0.02 * count)  # what lies outside the video is cut
        assert proposals.scores.sum().item() == pytest.approx(score, rel=0.02)


def test_borders_that_stand_out_draw_the_distances_to_them():
    case = CASES["thumos, masks"]
    head = build(case, bins=4)
    outputs = head(*batch(case, head.in_channels))
    for part in (*outputs.offsets, *outputs.borders.starts, *outputs.borders.ends):
        part.data.zero_()
    outputs.borders.starts[0].data[0, 47, 3] = outputs.borders.ends[0].data[0, 51, 3] = 50.0
    at = torch.tensor([50, 50, 300]), torch.tensor([3, 4, 3])
    found = outputs.distances(torch.zeros(3, dtype=torch.long), *at)
    torch.testing.assert_close(found, torch.tensor([[3.0, 1.0], [2.0, 2.0], [2.0, 2.0]]))
