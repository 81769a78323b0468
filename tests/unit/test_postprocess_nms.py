"""Soft-NMS against the published loop (wzmsltw/BSN-boundary-sensitive-network; Frostinassiky/gtad, branch ``anet``)."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi_tal.errors import DataError, LofiError
from lofi_tal.postprocess import BMN_SUPPRESSION, Suppression, soft_nms, soft_nms_indices, vote


def iou(a, b):
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - inter
    return inter / union if union > 0 else 0.0


def reference_soft_nms(segments, scores, rule):
    """One proposal at a time; the loop stops with one left, which is never emitted (unless ``keep_last``)."""
    left = list(range(len(scores)))
    scores = list(scores)
    kept = []
    while len(left) > (0 if rule.keep_last else 1) and len(kept) < rule.top_k:
        best = max(left, key=lambda i: (scores[i], -i))
        if scores[best] <= 0:
            break
        left.remove(best)
        kept.append((best, scores[best]))
        for i in left:
            overlap = iou(segments[i], segments[best])
            width = segments[best][1] - segments[best][0]
            gate = 0.0 if rule.gate is None else rule.gate[0] + (rule.gate[1] - rule.gate[0]) * width
            if overlap > gate:
                scores[i] *= math.exp(-(overlap**2) / rule.sigma)
    return kept


proposals = st.lists(
    st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(0, 4)).map(
        lambda p: (min(p[:2]) / 10, max(p[:2]) / 10, p[2] / 4)  # ties, duplicates, empty segments, zero scores
    ),
    max_size=12,
)
rules = st.builds(
    Suppression,
    sigma=st.sampled_from([0.01, 0.4, 0.84, 5.0]),
    top_k=st.sampled_from([1, 3, 100]),
    gate=st.sampled_from([None, (0.5, 0.9)]),
    keep_last=st.booleans(),
)


@given(videos=st.lists(proposals, max_size=4), rule=rules)
@settings(max_examples=150, deadline=None)
def test_a_batch_of_videos_equals_the_published_loop(videos, rule):
    segments = [np.array([p[:2] for p in video]).reshape(-1, 2) for video in videos]
    scores = [np.array([p[2] for p in video]) for video in videos]
    for s, p, (kept, decayed) in zip(segments, scores, soft_nms_indices(segments, scores, rule), strict=True):
        expected = reference_soft_nms(s.tolist(), p.tolist(), rule)
        assert kept.tolist() == [i for i, _ in expected]
        np.testing.assert_allclose(decayed, [v for _, v in expected], rtol=1e-9)


def test_many_videos_of_different_size_equal_themselves_alone():
    generator = np.random.default_rng(0)
    segments = [np.sort(generator.random((n, 2)), axis=1) for n in [0, 1, 2, 500, 30] * 40]
    scores = [generator.random(len(s)) for s in segments]
    for together, s, p in zip(soft_nms_indices(segments, scores), segments, scores, strict=True):
        alone = soft_nms_indices([s], [p])[0]
        assert together[0].tolist() == alone[0].tolist()
        np.testing.assert_array_equal(together[1], alone[1])


def test_arrays_give_arrays_and_tensors_give_tensors():
    segments, scores = [[0, 1], [0, 0.9], [2, 3]], [0.9, 0.8, 0.7]
    kept, decayed = soft_nms(segments, scores)
    assert kept.tolist() == [[0, 1], [2, 3]]
    assert decayed.tolist() == [0.9, 0.7]
    kept, decayed = soft_nms(torch.tensor(segments), torch.tensor(scores))
    assert torch.equal(kept, torch.tensor([[0.0, 1], [2, 3]]))
    assert decayed.dtype == torch.float32


def test_a_single_proposal_vanishes_as_published_unless_kept():
    assert len(soft_nms([[0, 1]], [0.5])[1]) == 0
    assert soft_nms([[0, 1]], [0.5], keep_last=True)[1].tolist() == [0.5]


def test_classes_suppress_their_own_only():
    segments = np.array([[0, 1], [0, 1], [0, 1.0]])
    scores, labels = np.array([0.9, 0.8, 0.7]), np.array([0, 1, 0])
    rule = Suppression(keep_last=True)
    ((kept, decayed),) = soft_nms_indices([segments], [scores], rule, [labels])
    assert kept.tolist() == [0, 1, 2]
    np.testing.assert_allclose(decayed, [0.9, 0.8, 0.7 * math.exp(-1 / 0.84)])
    ((kept, _),) = soft_nms_indices([segments], [scores], Suppression(top_k=2, keep_last=True), [labels])
    assert kept.tolist() == [0, 1]
    assert soft_nms_indices([np.zeros((0, 2))], [np.zeros(0)], rule, [np.zeros(0)])[0][0].tolist() == []


def test_the_gate_of_bmn_spares_small_overlaps():
    # IoU 0.5 with a long proposal: below 0.5 + 0.4 · 0.8
    segments, scores = [[0.0, 0.8], [0.4, 0.8], [0.9, 1.0]], [0.9, 0.8, 0.1]
    ((_, gated),) = soft_nms_indices([segments], [scores], BMN_SUPPRESSION)
    assert gated.tolist() == [0.9, 0.8]


@pytest.mark.parametrize(
    ("segments", "scores", "message"),
    [
        ([[0, 1]], [0.1, 0.2], "expected"),
        ([[0, 1, 2]], [0.1], "expected"),
        ([[0, 1]], [float("nan")], "finite"),
        ([[0, float("inf")]], [0.5], "finite"),
    ],
)
def test_malformed_input_is_refused(segments, scores, message):
    with pytest.raises(DataError, match=message):
        soft_nms(segments, scores)


def test_labels_must_match():
    with pytest.raises(DataError, match="1 labels for 2 scores"):
        soft_nms_indices([[[0, 1], [1, 2]]], [[0.1, 0.2]], labels=[[0]])


@pytest.mark.parametrize("options", [{"sigma": 0}, {"top_k": 0}])
def test_impossible_rules_are_errors(options):
    with pytest.raises(LofiError, match=next(iter(options))):
        Suppression(**options)


def test_voting_moves_a_segment_to_the_weighted_mean_of_its_supporters():
    segments = [[0.0, 10.0], [0.2, 10.0], [5.0, 10.0]]
    refined = vote([[0.0, 10.0], [7.0, 7.0]], segments, [0.6, 0.3, 0.9], threshold=0.95)
    # 0.6 at tIoU 1 and 0.3 at tIoU 0.98 have a vote
    np.testing.assert_allclose(refined, [[0.3 * 0.98 * 0.2 / (0.6 + 0.3 * 0.98), 10.0], [7.0, 7.0]])
    assert vote(np.zeros((0, 2)), segments, [1, 1, 1]).shape == (0, 2)
    with pytest.raises(LofiError, match="threshold"):
        vote(segments, segments, [1, 1, 1], threshold=0)
