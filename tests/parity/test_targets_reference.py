"""Targets against the published loops, on real annotations.

Source: Frostinassiky/gtad, branch ``anet``, gtad_lib/dataset.py.
"""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi_tal.heads.targets import batch_targets

ANNOTATIONS = Path(__file__).resolve().parents[2].parent / "shared/data/activitynet_v1-3.json"


def reference_targets(segments, snippets):
    """Window overlaps of boundary regions and the best IoU of each anchor, cell by cell in fp64."""
    gap = 1 / snippets
    start, end = np.zeros(snippets), np.zeros(snippets)
    iou = np.zeros((snippets, snippets))
    for x_s, x_e in segments:
        for target, time in ((start, x_s), (end, x_e)):
            for j in range(snippets):
                low, high = max((j - 0.5) * gap, time - 1.5 * gap), min((j + 1.5) * gap, time + 1.5 * gap)
                target[j] = max(target[j], max(0.0, high - low) / (2 * gap))
        for d in range(snippets):
            for s in range(snippets - d):
                low, high = s * gap, (s + d + 1) * gap
                inter = max(0.0, min(high, x_e) - max(low, x_s))
                iou[d, s] = max(iou[d, s], inter / (high - low + max(0.0, x_e - x_s) - inter))
    return start, end, iou


def one_video(segments, snippets, max_duration=None):
    return [target[0] for target in batch_targets([segments], snippets, max_duration)]


def check(segments, snippets):
    ours = one_video(torch.tensor(segments, dtype=torch.float64).reshape(-1, 2), snippets)
    for got, expected in zip(ours, reference_targets(np.clip(segments, 0, 1), snippets), strict=True):
        assert got.dtype == torch.float32
        np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


@given(
    segments=st.lists(st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)), max_size=4),
    snippets=st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_equal_to_the_loops_for_any_segments(segments, snippets):
    check(np.array(segments).reshape(-1, 2), snippets)


@pytest.mark.shared
@pytest.mark.skipif(not ANNOTATIONS.exists(), reason="needs the shared annotations")
@pytest.mark.parametrize("snippets", [25, 50])
def test_equal_to_the_loops_on_real_annotations(snippets):
    database = json.loads(ANNOTATIONS.read_text())["database"]
    annotated = [v for v in database.values() if v["annotations"]]
    # the odd ones too: reversed, empty, beyond the end
    odd = [
        v
        for v in annotated
        if any(a["segment"][1] <= a["segment"][0] or a["segment"][0] > v["duration"] for a in v["annotations"])
    ]
    for video in random.Random(0).sample(annotated, 8) + odd[:6]:
        check(np.array([a["segment"] for a in video["annotations"]]) / video["duration"], snippets)


@pytest.mark.shared
@pytest.mark.skipif(not ANNOTATIONS.exists(), reason="needs the shared annotations")
def test_share_of_training_videos_with_a_positive_anchor():
    # Measured with the published code on all 9,649 training videos: 87.5 % at L=25, 5.0 anchors a video.
    database = json.loads(ANNOTATIONS.read_text())["database"]
    videos = [v for v in database.values() if v["subset"] == "training"]
    segments = [
        torch.tensor([a["segment"] for a in v["annotations"]], dtype=torch.float64).reshape(-1, 2) / v["duration"]
        for v in videos
    ]
    positive = (batch_targets(segments, 25).iou_map > 0.9).sum(dim=(1, 2)).float()
    assert len(videos) == 9649
    assert float(positive.mean()) == pytest.approx(5.0, abs=0.1)
    assert float((positive > 0).float().mean()) == pytest.approx(0.875, abs=0.005)


def test_a_batch_equals_its_videos():
    videos = [torch.rand(n, 2).sort(1).values for n in (3, 0, 1)]
    batch = batch_targets(videos, 12, 7)
    for index, video in enumerate(videos):
        for together, alone in zip(batch, one_video(video, 12, 7), strict=True):
            assert torch.equal(together[index], alone)
    assert batch.iou_map.shape == (3, 7, 12)
    assert not batch.start[1].any()
    assert not batch.iou_map[1].any()


def test_a_boundary_marks_the_three_cells_around_it():
    start, end, _ = one_video(torch.tensor([[0.45, 0.95]]), 10)
    assert (start > 0.5).nonzero().flatten().tolist() == [3, 4, 5]
    assert (end > 0.5).nonzero().flatten().tolist() == [8, 9]
