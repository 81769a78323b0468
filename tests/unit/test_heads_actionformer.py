"""Parts of ActionFormer: attention in blocks, padding, targets, optimiser groups, the course of the rate, the grid."""

import math

import pytest
import torch
from torch.nn import functional

from lofi_tal.errors import LofiError
from lofi_tal.features import FeatureGrid, stack_features
from lofi_tal.heads import ActionFormer
from lofi_tal.heads.actionformer.attention import attend
from lofi_tal.heads.actionformer.options import pad_length
from lofi_tal.heads.actionformer.points import assign, level_points
from lofi_tal.snippets import Window, Windows
from lofi_tal.stages.head_rate import decay_groups, rate_at_step

SMALL = {"width": 8, "heads": 2, "levels": 3, "windows": 5, "stem_blocks": 1}


@pytest.mark.parametrize("steps", [1, 16, 129, 160, 193])
@pytest.mark.parametrize("window", [3, 19, None])
def test_attention_in_blocks_equals_the_band_written_out(steps, window):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, steps, 4) for _ in range(3))
    mask = torch.arange(steps) < torch.tensor([[steps], [max(1, steps - 7)]])
    distance = (torch.arange(steps)[:, None] - torch.arange(steps)).abs()
    for valid in (mask, None):
        seen = torch.ones(2, 1, 1, steps, dtype=torch.bool) if valid is None else valid[:, None, None]
        seen = seen & (distance <= (steps if window is None else window // 2))
        weights = (query @ key.transpose(2, 3) / 2).masked_fill(~seen, -math.inf).softmax(3)
        found = attend(query, key, value, valid, window)
        assert torch.isfinite(found).all()
        kept = torch.ones(2, steps, dtype=torch.bool) if valid is None else valid
        expected = (weights @ value).transpose(1, 2)[kept]
        torch.testing.assert_close(found.transpose(1, 2)[kept], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("steps", "windows", "longest", "expected"),
    [
        (25, [19] * 6, None, (32, 32)),  # whole strides of the coarsest level
        (100, [19] * 6, 2304, (160, 2304)),  # one such stride behind the end does as much as 2,304 steps
        (2304, [19] * 6, 2304, (2304, 2304)),
        (2500, [19] * 6, 2304, (2560, 2880)),  # a multiple of 32 · 18
        (192, [7] * 5 + [-1], 192, (192, 192)),
        (200, [7] * 5 + [-1], 192, (256, 288)),
    ],
)
def test_padding_is_as_long_as_it_shows(steps, windows, longest, expected):
    assert pad_length(steps, windows, longest) == expected


def test_padding_further_changes_nothing():
    torch.manual_seed(0)
    short, long = (ActionFormer(4, 2, **SMALL, max_length=length).eval() for length in (64, 512))
    long.load_state_dict(short.state_dict())
    features = torch.randn(1, 4, 37)
    for ours, theirs in zip(short(features).logits, long(features).logits, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_video_is_scored_alike_alone_and_behind_a_mask():
    torch.manual_seed(0)
    head = ActionFormer(4, 2, **SMALL, max_length=64).eval()
    videos = [torch.randn(4, length) for length in (13, 40)]
    batch, more = stack_features(videos)
    together, alone = head(batch, **more), head(videos[0][None])
    assert together.lengths == [13, 40]
    for ours, theirs in zip(alone.logits, together.logits, strict=True):
        torch.testing.assert_close(ours[0], theirs[0, : ours.shape[1]], atol=1e-5, rtol=1e-5)
    segments, labels = [torch.tensor([[0.2, 0.7]])], [torch.tensor([1])]
    one = [proposals[0] for proposals in (head.proposals(alone), head.proposals(together))]
    torch.testing.assert_close(one[0].segments, one[1].segments, atol=1e-4, rtol=1e-4)
    assert torch.isfinite(head.loss(alone, segments, labels)["total"])
    assert stack_features(videos[:1])[1] == {}


def test_a_point_learns_strictly_inside_and_both_classes_of_equal_actions():
    points = level_points([8, 4], torch.device("cpu"))
    assert points.time.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 2, 4, 6]
    assert points.low.tolist()[:9] == [0] * 8 + [4]
    assert points.high.tolist()[::8] == [4, 10000]
    segments = torch.tensor([[2.0, 5.0], [2.0, 5.0], [1.0, 7.0]])
    classes, distances = assign(segments, torch.tensor([0, 2, 1]), points, 3)
    assert classes[3].tolist() == [1, 0, 1]  # the shorter two; 2 and 5 are their ends, and 2 is 1.5 strides away
    assert distances[3].tolist() == [1, 2]
    assert classes[2].sum() == 0
    assert classes[10].tolist() == [0, 0, 0]  # the long action reaches 3 from here: not this level's
    assert classes[9].tolist() == [0, 1, 0]
    assert distances[9].tolist() == [0.5, 2.5]


def test_overlapping_classes_are_told_apart_after_a_few_steps():
    torch.manual_seed(0)
    head = ActionFormer(2, 2, **{**SMALL, "width": 16}, drop_path=0.0, normaliser=5.0)
    features = torch.zeros(1, 2, 16)
    features[0, 0, 2:10] = features[0, 1, 6:14] = 1
    segments, labels = [torch.tensor([[2 / 16, 10 / 16], [6 / 16, 14 / 16]])], [torch.tensor([0, 1])]
    optimizer = torch.optim.AdamW(decay_groups(head, 0.01), lr=2e-2)
    for _ in range(80):
        optimizer.zero_grad()
        head.loss(head(features), segments, labels)["total"].backward()
        optimizer.step()
    (found,) = head.eval().proposals(head(features))
    for label in (0, 1):
        mine = found.labels == label
        best = found.segments[mine][found.scores[mine].argmax()]
        torch.testing.assert_close(best, segments[0][label], atol=0.06, rtol=0)


def test_norms_scales_and_biases_do_not_decay():
    head = ActionFormer(4, 2, **SMALL)
    names = {id(parameter): name for name, parameter in head.named_parameters()}
    decaying, spared = ({names[id(p)] for p in group["params"]} for group in decay_groups(head, 0.05))
    assert decaying | spared == set(names.values())
    assert all(name.endswith((".conv.weight", "query.weight", "key.weight", "value.weight", "proj.weight",
                              "mlp.0.weight", "mlp.3.weight")) for name in decaying)  # fmt: skip
    assert not any(name.endswith("conv.weight") for name in spared)


def test_the_rate_rises_along_a_line_and_falls_along_a_cosine():
    rate = rate_at_step(0.1, 5, 25)
    assert [rate(step) for step in range(6)] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1, 0.1])
    assert rate(15) == pytest.approx(0.05, abs=1e-7)
    assert rate(25) == pytest.approx(1e-8)
    assert rate_at_step(0.1, 0, 10)(0) == 0.1


def test_features_lie_where_their_frames_do():
    kept, spread = FeatureGrid(4, 16, None, keep=True).clock(50, 30), FeatureGrid(16, 16, 15, keep=False).clock(30, 15)
    assert kept.seconds(0.5 / 50) == pytest.approx(8 / 30)  # the middle of the first 16 frames
    assert kept.seconds(49.5 / 50) == pytest.approx((49 * 4 + 8) / 30)
    assert (spread.start, spread.duration) == (0, pytest.approx(30 * 16 / 15))


def test_videos_that_keep_their_snippets_are_cut_only_if_longer():
    windows = Windows(10, None, 0.5, keep=True)
    assert windows.cut(7) == [Window(0, 7, 7)]
    assert [window.first for window in windows.cut(23)] == [0, 5, 10, 13]


@pytest.mark.parametrize(
    "options",
    [{"windows": 4}, {"windows": [5, 5]}, {"width": 9}, {"heads": 0}, {"num_classes": 0}, {"drop_path": 1.0},
     {"positions": True}, {"normaliser": 0}, {"stem_blocks": -1}],
)  # fmt: skip
def test_impossible_options_are_errors(options):
    with pytest.raises(LofiError, match=next(iter(options))):
        ActionFormer(4, **{**SMALL, **options})


def test_masks_and_labels_that_do_not_fit_are_explained():
    head, features = ActionFormer(4, 2, **SMALL), torch.randn(2, 4, 10)
    with pytest.raises(LofiError, match="mask has shape"):
        head(features, torch.ones(2, 9, dtype=torch.bool))
    with pytest.raises(LofiError, match="video 1 of the batch has no valid step"):
        head(features, functional.pad(torch.ones(1, 10), (0, 0, 0, 1)).bool())
    segments = [torch.tensor([[0.1, 0.9]])] * 2
    with pytest.raises(LofiError, match="needs labels"):
        head.loss(head(features), segments)
    with pytest.raises(LofiError, match="video 1 in the batch"):
        head.loss(head(features), segments, [torch.tensor([1]), torch.tensor([2])])


def test_two_processes_divide_by_what_one_with_the_whole_batch_would(monkeypatch):
    torch.manual_seed(0)
    head = ActionFormer(4, 2, **SMALL, drop_path=0.0)
    features, video, label = torch.randn(1, 4, 16), torch.tensor([[0.1, 0.6]]), torch.tensor([1])
    whole = head.loss(head(features.expand(2, -1, -1)), [video] * 2, [label] * 2)
    after = head.running.item()
    head.running.fill_(100.0)
    monkeypatch.setattr("lofi_tal.heads.actionformer.head.processes", lambda: 2)
    monkeypatch.setattr("lofi_tal.heads.actionformer.head.global_counts", lambda mask: mask.sum()[None].float())
    half = head.loss(head(features), [video], [label])  # the other process has the same video
    for key, value in whole.items():
        torch.testing.assert_close(half[key], value)
    assert head.running.item() == pytest.approx(after)


def test_one_class_is_any_action_and_is_named_by_the_classifier():
    head = ActionFormer.activitynet(4, width=8)
    assert head.num_classes is None
    (found,) = head.proposals(head.eval()(torch.randn(1, 4, 192)))
    assert found.labels is None
    assert len(found.scores)
