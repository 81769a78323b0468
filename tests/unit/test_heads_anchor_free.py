"""Points, targets and losses of the anchor-free head."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi_tal.errors import LofiError
from lofi_tal.heads import AnchorFree
from lofi_tal.heads.anchor_free_losses import assign_points, distance_loss, focal_loss, level_points


def test_levels_cover_all_lengths_without_gap():
    points, strides, ranges = level_points([8, 4, 2], torch.device("cpu"))
    assert points.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 1, 3, 5, 7, 2, 6]
    assert strides.tolist() == [1] * 8 + [2] * 4 + [4] * 2
    assert ranges[[0, 8, 12]].tolist() == [[0, 4], [4, 8], [8, math.inf]]


def reference_assign(segments, labels, points, strides, ranges, classes, radius):
    """Point by point: the shortest instance that the point is responsible for."""
    target, distances = torch.zeros(len(points), classes), torch.zeros(len(points), 2)
    for i, (p, stride, (low, high)) in enumerate(zip(points.tolist(), strides.tolist(), ranges.tolist(), strict=True)):
        fits = []
        for (s, e), label in zip(segments, labels, strict=True):
            near = abs(p - (s + e) / 2) <= radius * stride
            if s < p < e and near and low <= max(p - s, e - p) <= high:
                fits.append((e - s, label, p - s, e - p))
        if fits:
            shortest = min(fits)[0]
            for length, label, _, _ in fits:
                if length <= shortest + 1e-3:
                    target[i, label] = 1
            first = next(f for f in fits if f[0] <= shortest + 1e-3)
            distances[i] = torch.tensor(first[2:]) / stride
    return target, distances


@given(
    raw=st.lists(st.tuples(st.integers(0, 31), st.integers(1, 32), st.integers(0, 2)), max_size=4),
    length=st.sampled_from([3, 16, 25]),
)
@settings(max_examples=60, deadline=None)
def test_assignment_equals_the_rule_point_by_point(raw, length):
    segments = [(s / 32, min(1.0, (s + n) / 32)) for s, n, _ in raw]  # exact in binary: so are the borderline cases
    labels = [label for _, _, label in raw]
    count = [length]
    while len(count) < 4:
        count.append((count[-1] + 1) // 2)
    points, strides, ranges = level_points(count, torch.device("cpu"))
    video = (torch.tensor(segments).reshape(-1, 2), torch.tensor(labels, dtype=torch.long))
    target, distances = assign_points([video], points, strides, ranges, length, 3, 1.5)
    scaled = (torch.tensor(segments).reshape(-1, 2) * length).tolist()
    expected, expected_distances = reference_assign(scaled, labels, points, strides, ranges, 3, 1.5)
    assert torch.equal(target[0], expected)
    positive = expected.sum(1) > 0
    torch.testing.assert_close(distances[0][positive], expected_distances[positive], atol=1e-4, rtol=1e-4)


def test_focal_loss_equals_its_formula():
    logits, target = torch.tensor([2.0, 2.0]), torch.tensor([1.0, 0.0])
    p = 1 / (1 + math.exp(-2))
    expected = [0.25 * (1 - p) ** 2 * -math.log(p), 0.75 * p**2 * -math.log(1 - p)]
    torch.testing.assert_close(focal_loss(logits, target), torch.tensor(expected))


def test_distance_loss_is_zero_for_equal_and_one_point_two_five_for_adjacent_halves():
    target = torch.tensor([[2.0, 3.0], [0.0, 2.0]])
    predicted = torch.tensor([[2.0, 3.0], [2.0, 0.0]])  # second: the halves left and right of the point
    torch.testing.assert_close(distance_loss(predicted, target), torch.tensor([0.0, 1.25]))


def test_learns_a_toy_problem_and_names_the_classes():
    torch.manual_seed(0)
    head = AnchorFree(4, num_classes=2, hidden=16, heads=2, levels=4, stem_blocks=1, mixer="convolution", window=5)
    features = torch.zeros(2, 4, 16)
    features[0, 0, 2:6] = features[1, 1, 4:14] = 1
    segments = [torch.tensor([[2 / 16, 6 / 16]]), torch.tensor([[4 / 16, 14 / 16]])]
    labels = [torch.tensor([0]), torch.tensor([1])]
    optimizer = torch.optim.Adam(head.parameters(), lr=5e-3)
    for _ in range(80):
        loss = head.loss(head(features), segments, labels)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for found, truth, label in zip(head.proposals(head(features)), segments, (0, 1), strict=True):
        best = int(found.scores.argmax())
        assert int(found.labels[best]) == label
        torch.testing.assert_close(found.segments[best], truth[0], atol=0.05, rtol=0)


def test_labels_are_needed_and_checked():
    head = AnchorFree(4, num_classes=2, hidden=8, heads=2, levels=2, stem_blocks=0)
    outputs = head(torch.zeros(1, 4, 8))
    with pytest.raises(LofiError, match="needs labels"):
        head.loss(outputs, [torch.tensor([[0.0, 1.0]])])
    with pytest.raises(LofiError, match=r"0 \.\.\. 1"):
        head.loss(outputs, [torch.tensor([[0.0, 1.0]])], [torch.tensor([2])])


@pytest.mark.parametrize(
    "options",
    [
        {"window": 4},
        {"mixer": "magic"},
        {"hidden": 10, "heads": 4},
        {"levels": 0},
        {"stem_blocks": -1},
        {"num_classes": 0},
    ],
)
def test_impossible_options_are_errors(options):
    with pytest.raises(LofiError, match=next(iter(options))):
        AnchorFree(4, **options)
