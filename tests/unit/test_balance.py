"""Rare classes: weights and draws by hand, and a recipe that says nothing of them has the fingerprint that it had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lofi_tal.balance import NO_BALANCE, BalanceSection, class_weights, draw, video_shares
from lofi_tal.classifier import fit_classifier, pool
from lofi_tal.config import make_recipe
from lofi_tal.data import TruthVideo, VideoFile
from lofi_tal.data.order import epoch_batches
from lofi_tal.heads import create_head
from lofi_tal.stages.beginning import weigh_classes
from lofi_tal.stages.end_to_end import class_loss


def test_balanced_weights_give_every_class_the_same_say():
    weights = class_weights([60, 30, 10, 0], "balanced")
    assert (weights * [60, 30, 10, 0]).tolist() == pytest.approx([100 / 3] * 3 + [0])
    assert weights[3] == 0


def test_effective_numbers_are_milder_and_follow_their_formula():
    counts = [2000, 20]
    weights = class_weights(counts, "effective")
    # (1 - 0.999^n) / 0.001: 864.8 and 19.8 samples, a ratio of 43.67, not of 100.
    assert weights[1] / weights[0] == pytest.approx((1 - 0.999**2000) / (1 - 0.999**20))
    assert weights[1] / weights[0] == pytest.approx(43.67, abs=0.1)
    assert (weights * counts).sum() / sum(counts) == pytest.approx(1)


def test_videos_with_rare_classes_are_drawn_more_often():
    labels = [[0]] * 9 + [[0, 1]] + [[]]
    shares = video_shares(labels)
    # Class 0 is in 10 of 10 videos with actions, class 1 in 1: the mean share is 0.55, sqrt(0.55 / 0.1) = 2.345.
    assert shares[9] / shares[0] == pytest.approx(2.345, abs=1e-3)
    assert shares[10] == shares[0]  # a video without actions counts once
    assert shares.mean() == pytest.approx(1)


def test_a_draw_takes_each_as_often_as_its_share():
    shares = np.array([0.5] * 6 + [2.5, 2.5])
    counts = [np.bincount(draw(shares, np.random.default_rng(seed)), minlength=8) for seed in range(400)]
    assert all(one.sum() == 8 for one in counts)
    assert all(set(one[:6]) <= {0, 1} and set(one[6:]) <= {2, 3} for one in counts)
    assert np.mean(counts, axis=0) == pytest.approx(shares, abs=0.1)


def test_epochs_are_as_long_as_without_and_repeat():
    shares = video_shares([[0]] * 9 + [[1]])
    one = epoch_batches(10, 4, 7, 3, shares)
    assert one == epoch_batches(10, 4, 7, 3, shares)
    assert [len(batch) for batch in one] == [len(batch) for batch in epoch_batches(10, 4, 7, 3)]
    assert sum(batch.count(9) for batch in one) in (1, 2)


def test_weights_act_on_the_class_loss():
    logits = torch.zeros(1, 4, 3)
    logits[..., 0] = 2.0  # everything looks like class 0
    segments, labels = [torch.tensor([[0.0, 0.5], [0.5, 1.0]])], [torch.tensor([0, 1])]
    plain = class_loss(logits, segments, labels)
    weighted = class_loss(logits, segments, labels, torch.tensor([0.5, 1.5]))
    right, wrong = torch.log(torch.tensor(np.exp(2) + 2)) - 2, torch.log(torch.tensor(np.exp(2) + 2))
    assert plain.item() == pytest.approx(float(right + wrong) / 2, rel=1e-5)
    assert weighted.item() == pytest.approx(float(0.5 * right + 1.5 * wrong) / 2, rel=1e-5)


HEADS = {
    "actionformer": {"width": 8, "heads": 2, "levels": 3, "windows": 5, "stem_blocks": 1, "label_smoothing": 0.1},
    "anchor_free": {"hidden": 8, "heads": 2, "levels": 3, "window": 5, "stem_blocks": 1},
}


def logit_gradients(name, weights, parts=((0, 1),)):
    """Return the gradient of the class loss by the class logits ``(B, P, K)``, of micro-batches one after another."""
    torch.manual_seed(0)
    head = create_head(name, 6, num_classes=3, **HEADS[name]).eval()  # the running mean of positives stays as it is
    if weights is not None:
        head.weigh_classes(weights)
    features = torch.randn(2, 6, 16)
    segments = [torch.tensor([[0.0, 0.4], [0.4, 0.9]]), torch.tensor([[0.2, 0.7]])]
    labels, grads = [torch.tensor([0, 2]), torch.tensor([0])], []
    for part in parts:
        outputs = head(features[list(part)])
        logits = outputs.logits if name == "actionformer" else [outputs.class_logits]
        loss = head.loss(outputs, [segments[i] for i in part], [labels[i] for i in part])["classification"]
        grads.append(torch.cat(torch.autograd.grad(loss, logits), dim=1))
    return torch.cat(grads)


@pytest.mark.parametrize("name", HEADS)
def test_positives_of_a_rare_class_weigh_more_in_heads_that_score_classes(name):
    """Every positive's gradient is multiplied by the weight of its class; background and divisor stay."""
    plain, weighted = logit_gradients(name, None), logit_gradients(name, [0.5, 1.0, 3.0])
    ratio = weighted / plain
    positive = (plain < 0).flatten(0, 1)  # more of what is there, less of what is not
    assert ratio.flatten(0, 1)[positive[:, 0], 0].tolist() == pytest.approx([0.5] * int(positive[:, 0].sum()))
    assert ratio.flatten(0, 1)[positive[:, 2], 2].tolist() == pytest.approx([3.0] * int(positive[:, 2].sum()))
    assert positive.any(dim=0).tolist() == [True, False, True]
    assert torch.equal(weighted[plain > 0], plain[plain > 0])
    torch.testing.assert_close(logit_gradients(name, [1.0, 1.0, 1.0]), plain, rtol=0, atol=0)


def test_weights_are_the_same_in_every_micro_batch():
    ways = [logit_gradients("actionformer", weights, ((0,), (1,))) for weights in (None, [0.5, 1.0, 3.0])]
    positive = ways[0][..., 2] < 0
    assert (ways[1] / ways[0])[..., 2][positive].tolist() == pytest.approx([3.0] * int(positive.sum()))


def test_a_stage_weighs_heads_that_score_classes_alone():
    spans = torch.tensor([[0.0, 1.0]])
    file = VideoFile(Path("a.mp4"), "a", 1.0, 10)
    videos = [TruthVideo(str(i), file, spans, torch.tensor([label])) for i, label in enumerate([0, 0, 0, 1])]
    head, boundary = create_head("actionformer", 4, num_classes=2, **HEADS["actionformer"]), create_head("gtad", 4)
    for one in (head, boundary):
        weigh_classes(one, videos, NO_BALANCE)
        assert one.class_weights is None
        weigh_classes(one, videos, BalanceSection(weights="balanced"))
    assert head.class_weights.tolist() == pytest.approx([2 / 3, 2.0])
    assert boundary.class_weights is None
    assert not any("weights" in name for name in head.state_dict())


def test_weights_help_the_rare_class_of_class_scores():
    generator = torch.Generator().manual_seed(0)
    labels = [torch.tensor([0])] * 57 + [torch.tensor([1])] * 3
    features = [torch.randn(4, 8, generator=generator) + one.item() for one in labels]
    segments = [torch.tensor([[0.0, 1.0]])] * 60
    options = {"epochs": 15, "lr": 2e-3, "hidden": 16, "dropout": 0.0, "seed": 0}
    mean = []
    for weights in (None, class_weights([57, 3], "balanced").tolist()):
        model = fit_classifier(features, segments, labels, 2, class_weights=weights, **options)
        rare = torch.cat([pool(one, spans) for one, spans in zip(features[57:], segments[57:], strict=True)])
        mean.append(model(rare).softmax(1)[:, 1].mean().item())
    assert mean[1] > mean[0] + 0.1


def test_recipes_that_do_not_set_it_are_as_they_were():
    plain = make_recipe({"data": {"annotations": "a.json", "videos": "v"}})
    assert "balance" not in plain.model_dump(mode="json")
    set_ = make_recipe({"data": {"annotations": "a.json", "videos": "v"}, "balance": {"weights": "effective"}})
    assert set_.model_dump(mode="json")["balance"] == {"weights": "effective"}
    assert set_.balance == BalanceSection(weights="effective")
