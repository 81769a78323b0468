"""Losses against their formulas, their guards, and their value over several processes."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lofi_tal.heads import GTAD, ActionFormer, AnchorFree
from lofi_tal.heads.losses import boundary_loss, map_classification_loss, map_regression_loss

EPS = 1e-6


def balanced(scores, positive):
    """½ the mean loss of the positives + ½ that of the negatives, cell by cell (gtad_lib/loss_function.py)."""
    pairs = list(zip(scores.flatten().tolist(), positive.flatten().tolist(), strict=True))
    gains = [math.log(p + EPS) for p, y in pairs if y], [math.log(1 - p + EPS) for p, y in pairs if not y]
    return -0.5 * sum(sum(g) / max(1, len(g)) for g in gains)


def test_boundary_loss_equals_its_formula():
    torch.manual_seed(0)
    start, end, start_target, end_target = torch.rand(4, 3, 10)
    expected = balanced(start, start_target > 0.5) + balanced(end, end_target > 0.5)
    assert float(boundary_loss(start, end, start_target, end_target)) == pytest.approx(expected, rel=1e-5)


def test_classification_loss_sees_valid_cells_only():
    torch.manual_seed(0)
    scores, target = torch.rand(2, 2, 4, 4)
    target[0, 0, :2] = 0.95
    valid = torch.ones(4, 4).triu().flip(1)
    cells = valid.bool().expand(2, 4, 4)
    expected = balanced(scores[cells], target[cells] > 0.9)
    assert float(map_classification_loss(scores, target, valid)) == pytest.approx(expected, rel=1e-5)
    scores[~cells] = 0.123
    assert float(map_classification_loss(scores, target, valid)) == pytest.approx(expected, rel=1e-5)


def test_regression_loss_is_half_the_squared_error_when_every_cell_is_kept():
    scores, target = torch.rand(2, 6, 6)
    target = 0.75 + 0.2 * target
    target[0, 0], target[0, 1] = 0.5, 0.1  # one row a group: fewer than high ones, so all are kept
    valid = torch.ones(6, 6, dtype=torch.bool)
    expected = 0.5 * (scores - target).square().mean()
    torch.testing.assert_close(map_regression_loss(scores, target, valid), expected)


def test_regression_loss_draws_as_many_middle_and_low_cells_as_high_ones():
    target = torch.full((1, 40, 100), 0.5)
    target[:, 20:] = 0.1
    target[:, 0] = 0.8  # 100 high, 1,900 middle, 2,000 low
    scores = target.clone()
    scores[target == 0.5] = 1.5  # squared error 1 on middle cells only
    valid = torch.ones(40, 100)
    draws = [
        float(map_regression_loss(scores, target, valid, torch.Generator().manual_seed(seed))) for seed in range(20)
    ]
    assert sum(draws) / 20 == pytest.approx(0.5 / 3, rel=0.1)  # a third of the kept cells
    assert len(set(draws)) > 1
    again = float(map_regression_loss(scores, target, valid, torch.Generator().manual_seed(0)))
    assert again == draws[0]


def test_regression_loss_never_uses_cells_without_overlap_or_outside_the_map():
    target = torch.zeros(1, 4, 4)
    target[0, 0, 0] = target[0, 3, 3] = 0.9
    scores = torch.full((1, 4, 4), 7.0)
    scores[0, 0, 0] = 0.9
    valid = torch.ones(4, 4)
    valid[3, 3] = 0
    assert float(map_regression_loss(scores, target, valid)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_losses_and_gradients_stay_finite_without_positives_or_negatives(value):
    for iou in (0.0, 0.2, 0.5, 0.95):
        scores = torch.full((1, 3, 3), value, requires_grad=True)
        target = torch.full((1, 3, 3), iou)
        valid = torch.ones(3, 3)
        row, labels = scores[:, 0], target[:, 0]
        total = (
            boundary_loss(row, row, labels, labels)
            + map_classification_loss(scores, target, valid)
            + map_regression_loss(scores, target, valid)
        )
        total.backward()
        assert torch.isfinite(total)
        assert torch.isfinite(scores.grad).all()


def test_losses_are_fp32_whatever_the_scores():
    half = torch.rand(1, 4, 4).bfloat16()
    assert map_classification_loss(half, torch.rand(1, 4, 4), torch.ones(4, 4)).dtype == torch.float32


SEGMENTS = [
    torch.tensor([[0.1, 0.4], [0.5, 0.9]]),
    torch.zeros(0, 2),
    torch.tensor([[0.0, 1.0]]),
    torch.tensor([[0.3, 0.35]]),
]
LABELS = [torch.tensor([0, 1]), torch.zeros(0, dtype=torch.long), torch.tensor([1]), torch.tensor([0])]


def build(name):
    torch.manual_seed(1)
    if name == "gtad":
        return GTAD(8, hidden_1d=16, hidden_2d=8, hidden_3d=8, inner_bins=4, context_bins=2)
    if name.startswith("actionformer"):
        head = ActionFormer(8, 2, width=8, heads=2, levels=3, stem_blocks=1, windows=3, drop_path=0.0)
    else:
        head = AnchorFree(8, num_classes=2, hidden=8, heads=2, levels=3, stem_blocks=1, window=3)
    if name.endswith("weighted"):
        head.weigh_classes([0.5, 1.5])
    return head


def gradients(name, chosen):
    head = build(name)
    features = torch.randn(4, 8, 12, generator=torch.Generator().manual_seed(2))
    outputs = head(features[chosen])
    terms = head.loss(outputs, [SEGMENTS[i] for i in chosen], [LABELS[i] for i in chosen])
    # the draw of anchors is left out: it differs between one process and two
    total = terms["boundary"] + terms["classification"] if name == "gtad" else terms["total"]
    return torch.autograd.grad(total, list(head.parameters()), allow_unused=True)


HEADS = ("gtad", "anchor_free", "anchor_free weighted", "actionformer weighted")


def run_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for name in HEADS:
        grads = [torch.zeros(0) if g is None else g for g in gradients(name, [0, 1] if rank == 0 else [2, 3])]
        for grad in grads:
            dist.all_reduce(grad)
        if rank == 0:
            torch.save([grad / 2 for grad in grads], f"{folder}/{name}.pt")
    dist.destroy_process_group()


def test_gradients_of_two_ranks_average_to_those_of_the_global_batch(tmp_path):
    mp.spawn(run_rank, (str(tmp_path),), nprocs=2)
    for name in HEADS:
        together = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        for split, whole in zip(together, gradients(name, [0, 1, 2, 3]), strict=True):
            torch.testing.assert_close(split, torch.zeros(0) if whole is None else whole, atol=1e-5, rtol=1e-4)
