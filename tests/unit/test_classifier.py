"""Class scores of proposals."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.classifier import (
    class_probabilities,
    fit_classifier,
    load_classifier,
    mean_between,
    pool,
    save_classifier,
    video_probabilities,
)
from lofi_tal.errors import DataError

OPTIONS = {"epochs": 30, "lr": 5e-3, "hidden": 16, "dropout": 0.2, "seed": 0}


@given(st.integers(1, 12), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10))
def test_mean_between_equals_a_fine_sum(count, a, b, seed):
    """Oracle: the mean of 20,000 samples of the piecewise-constant function."""
    start, end = min(a, b), max(a, b)
    if (end - start) * count < 0.05:
        return
    features = torch.randn(2, count, generator=torch.Generator().manual_seed(seed))
    positions = start + (end - start) * (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    expected = features[:, (positions * count).long().clamp(max=count - 1)].mean(1)
    found = mean_between(features, torch.tensor([start]), torch.tensor([end]))[0]
    assert torch.allclose(found, expected, atol=2e-3)


def test_empty_and_outside_spans_stay_finite():
    features = torch.randn(3, 8)
    segments = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5], [0.0, 1.0]])
    assert torch.isfinite(pool(features, segments)).all()
    assert torch.allclose(
        mean_between(features, torch.tensor([0.0]), torch.tensor([1.0]))[0], features.mean(1), atol=1e-6
    )


def made_set(videos, generator):
    """Two classes whose features differ inside the segment only; the rest is noise."""
    features = torch.randn(videos, 6, 20, generator=generator)
    segments, labels = [], []
    for i in range(videos):
        label = i % 2
        features[i, label, 5:12] += 3
        segments.append(torch.tensor([[0.25, 0.6]]))
        labels.append(torch.tensor([label]))
    return features, segments, labels


def test_a_fitted_classifier_tells_classes_apart_and_is_deterministic(tmp_path):
    generator = torch.Generator().manual_seed(1)
    features, segments, labels = made_set(40, generator)
    first = fit_classifier(features, segments, labels, 2, **OPTIONS)
    again = fit_classifier(features, segments, labels, 2, **OPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    unseen, spans, truth = made_set(40, generator)
    scores = torch.ones(1)
    right = [
        int(class_probabilities(first, f, s, scores, "proposal").argmax()) == int(t)
        for f, s, t in zip(unseen, spans, truth, strict=True)
    ]
    assert sum(right) >= 36
    save_classifier(first, tmp_path, {"a": 1})
    loaded, facts = load_classifier(tmp_path)
    assert facts == {"a": 1}
    assert torch.equal(loaded(pool(unseen[0], spans[0])), first(pool(unseen[0], spans[0])))


def test_video_pooling_gives_all_proposals_the_same_scores():
    features, segments, labels = made_set(8, torch.Generator().manual_seed(0))
    classifier = fit_classifier(features, segments, labels, 2, **OPTIONS)
    spans = torch.tensor([[0.0, 0.2], [0.25, 0.6], [0.7, 0.9]])
    found = class_probabilities(classifier, features[0], spans, torch.tensor([0.1, 1.0, 0.1]), "video")
    assert torch.allclose(found, found[:1].expand_as(found))
    assert torch.allclose(found.sum(1), torch.ones(3))


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(DataError, match="no training video has a segment"):
        fit_classifier(torch.randn(1, 6, 8), [torch.zeros(0, 2)], [torch.zeros(0, dtype=torch.long)], 2, **OPTIONS)


def test_a_window_that_says_little_counts_little():
    """The action fills an eighth of the video; the rest looks like nothing that was ever seen."""
    torch.manual_seed(0)
    segments = [torch.tensor([[0.25, 0.5]]) for _ in range(60)]
    labels = [torch.tensor([i % 3]) for i in range(60)]
    features = torch.randn(60, 4, 32) * 0.1
    for video, label in zip(features, labels, strict=True):
        video[int(label), 8:16] += 3
    classifier = fit_classifier(features, segments, labels, 3, epochs=60, lr=1e-2, hidden=32, dropout=0.1, seed=0)
    short = torch.randn(4, 32) * 0.1
    short[2, 20:24] += 3
    found = video_probabilities(classifier, short)
    assert found.shape == (3,)
    assert found.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert int(found.argmax()) == 2
