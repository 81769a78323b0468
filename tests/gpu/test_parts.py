"""On the GPU every part computes what it computes on the CPU."""

import copy

import numpy as np
import pytest
import torch

from lofi_tal.encoders import create_encoder, list_encoders, set_batchnorm_mode
from lofi_tal.heads import create_head, list_heads, takes_classes
from lofi_tal.heads.alignment import interpolate, roi_align_interpolation, sampling_mask_interpolation
from lofi_tal.heads.losses import boundary_loss, map_classification_loss, map_regression_loss
from lofi_tal.heads.targets import batch_targets
from lofi_tal.postprocess import Suppression, soft_nms_indices
from lofi_tal.stages.end_to_end import EndToEnd, class_loss
from lofi_tal.stages.strategies import Strategy
from lofi_tal.tasks import random_size

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("exact")]
CLOSE = 1e-4
SEGMENTS = [torch.tensor([[0.1, 0.5], [0.6, 1.0]]), torch.tensor([[0.25, 0.3]]), torch.zeros(0, 2)]
LABELS = [torch.tensor([0, 2]), torch.tensor([1]), torch.zeros(0, dtype=torch.long)]
SMALL = {
    "gtad": {"hidden_1d": 32, "hidden_2d": 16, "hidden_3d": 32},
    "bmn": {"hidden_1d": 32, "hidden_proposal": 16, "hidden_2d": 16, "hidden_3d": 32},
    "actionformer": {"width": 32, "windows": 5, "drop_path": 0.0},
    "anchor_free": {"hidden": 32},
}


def assert_close(ours, theirs, what=""):
    """Compare with a tensor on the CPU, to its largest value."""
    difference = (ours.detach().cpu().double() - theirs.detach().double()).abs().max()
    assert difference <= CLOSE * max(1e-6, float(theirs.detach().abs().max())), (what, float(difference))


def encoder_of(name):
    torch.manual_seed(0)
    if name.startswith("tsm"):
        return create_encoder(name, width=16, stem="compact")
    return create_encoder(name, **({} if name == "swin3d_t" else {"width": 16}))


def head_of(name, channels=24):
    torch.manual_seed(0)
    classes = {"num_classes": 3} if takes_classes(name) else {}
    return create_head(name, channels, **SMALL[name], **classes)


@pytest.mark.parametrize("name", list_encoders())
def test_encoders(device, name):
    ours, theirs = encoder_of(name).to(device), encoder_of(name)
    clips = torch.randint(0, 256, (3, 4, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert_close(ours.eval()(clips.to(device)), theirs.eval()(clips))
    if name == "swin3d_t":
        return  # stochastic depth draws on the device
    # in fp32 a ReLU whose input is almost 0 lets a gradient pass on one device only: per cents of the first layer's
    ours, theirs = ours.double(), theirs.double()
    features = [model.train()(batch) for model, batch in ((ours, clips.to(device)), (theirs, clips))]
    assert_close(*features)
    for one in features:
        (one * torch.linspace(-1, 1, one.shape[1], device=one.device)).sum().backward()
    scale = max(float(p.grad.abs().max()) for p in theirs.parameters())
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert float((p.grad.cpu() - q.grad).abs().max()) <= 1e-6 * scale, key


@pytest.mark.parametrize("name", list_heads())
@pytest.mark.parametrize("snippets", [25, 100])
def test_heads(device, name, snippets):
    ours, theirs = head_of(name).to(device), head_of(name)
    features = torch.randn(3, 24, snippets, generator=torch.Generator().manual_seed(1))
    losses, proposals = [], []
    for head, inputs in ((ours, features.to(device)), (theirs, features)):
        outputs = head(inputs)
        draws = [torch.Generator().manual_seed(place) for place in range(3)]
        losses.append(head.loss(outputs, SEGMENTS, LABELS, draws))
        losses[-1]["total"].backward()
        proposals.append(head.proposals(outputs))
    for key, term in losses[1].items():
        assert losses[0][key].item() == pytest.approx(term.item(), rel=CLOSE), key
    scale = max(float(p.grad.abs().max()) for p in theirs.parameters())
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert float((p.grad.cpu() - q.grad).abs().max()) <= 1e-3 * scale, key
    for found, expected in zip(*proposals, strict=True):
        assert found.segments.device.type == "cpu"
        assert abs(len(found.scores) - len(expected.scores)) <= 0.01 * len(expected.scores) + 2  # those at a threshold
        best = (found.scores.sort(descending=True)[0][:20], expected.scores.sort(descending=True)[0][:20])
        assert_close(*best)


@pytest.mark.parametrize("build", [roi_align_interpolation, sampling_mask_interpolation])
@pytest.mark.parametrize("pad_row", [False, True])
def test_alignment_forward_and_backward(device, build, pad_row):
    snippets, bins = 32, 8
    nodes = torch.randn(2, snippets * bins, 6, generator=torch.Generator().manual_seed(0))
    results = []
    for place in (device, torch.device("cpu")):
        inputs = nodes.to(place).requires_grad_()
        matrices = [build(snippets, snippets, bins, pad_row=pad_row, device=place)]
        output = interpolate([inputs], matrices)
        (output * torch.linspace(-1, 1, output.shape[1], device=place)[:, None]).sum().backward()
        results.append((output, inputs.grad))
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs)


@pytest.mark.usefixtures("deterministic")
def test_the_alignment_is_the_same_every_time(device):
    nodes = torch.randn(2, 100 * 32, 64, generator=torch.Generator().manual_seed(0)).to(device)
    matrices = [roi_align_interpolation(100, 100, 32, device=device)]
    results = []
    for _ in range(3):
        inputs = nodes.clone().requires_grad_()
        output = interpolate([inputs], matrices)
        (output * torch.linspace(-1, 1, output.shape[1], device=device)[:, None]).sum().backward()
        results.append((output.detach(), inputs.grad))
    assert all(torch.equal(one, other) for again in results[1:] for one, other in zip(results[0], again, strict=True))


def test_clips_of_random_size(device):
    frames = torch.randint(0, 256, (2, 4, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    scaled = []
    for place in (device, "cpu"):
        torch.manual_seed(3)
        scaled.append(random_size(frames.to(place)).cpu().int())
    assert scaled[0].shape == scaled[1].shape
    assert int((scaled[0] - scaled[1]).abs().max()) <= 1  # of 255: bytes are rounded on the way


def test_targets_are_equal_to_the_last_bit(device):
    random = np.random.default_rng(0)
    segments = [torch.from_numpy(np.sort(random.random((count, 2)), 1)).float() for count in (0, 1, 3, 40)]
    segments.append(torch.tensor([[0.25, 0.5], [0.1, 0.7]]))  # on cells' borders
    for snippets in (25, 50, 100):
        ours, theirs = batch_targets(segments, snippets, device=device), batch_targets(segments, snippets)
        for one, other in zip(ours, theirs, strict=True):
            assert one.device.type == device.type
            assert torch.equal(one.cpu(), other)


def test_losses(device):
    random = torch.Generator().manual_seed(0)
    start, end, start_target, end_target = torch.rand(4, 3, 20, generator=random)
    scores, target = torch.rand(2, 3, 20, 20, generator=random)
    valid = torch.ones(20, 20).triu().flip(1)
    logits = torch.randn(3, 20, 4, generator=random)

    def losses(place):
        draws = [torch.Generator().manual_seed(i) for i in range(3)]
        one, two, three, four, five, six = (x.to(place) for x in (start, end, start_target, end_target, scores, target))
        return [
            boundary_loss(one, two, three, four),
            map_classification_loss(five, six, valid),
            map_regression_loss(five, six, valid, draws),
            class_loss(logits.to(place), SEGMENTS, LABELS),
        ]

    for ours, theirs in zip(losses(device), losses("cpu"), strict=True):
        assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_soft_nms_takes_what_lies_on_the_device(device):
    random = np.random.default_rng(0)
    segments = [torch.from_numpy(np.sort(random.random((count, 2)), 1)) for count in (1, 5, 400)]
    scores = [torch.from_numpy(random.random(len(one))) for one in segments]
    rule = Suppression(top_k=50, keep_last=True)
    ours = soft_nms_indices([s.to(device) for s in segments], [s.to(device) for s in scores], rule)
    for (kept, decayed), (places, values) in zip(ours, soft_nms_indices(segments, scores, rule), strict=True):
        assert (kept == places).all()
        assert (decayed == values).all()


@pytest.mark.parametrize("strategy", [Strategy("checkpoint"), Strategy("chunked", 5)])
@pytest.mark.parametrize("head", list_heads())
def test_other_ways_of_back_propagation_give_the_same_gradient(device, strategy, head):
    encoder = encoder_of("tsm_resnet18")
    model = EndToEnd(encoder, head_of(head, encoder.channels), 3).to(device)
    frames = torch.randint(0, 256, (3, 8, 4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    grads = []
    for way in (Strategy(), strategy):
        one = copy.deepcopy(model).train()
        one.strategy = way
        if way.saves_in_head:
            one.head.save_memory()
        set_batchnorm_mode(one.encoder, "train" if strategy.name == "checkpoint" else "frozen_stats")
        outputs, logits = one(frames.to(device))
        draws = [torch.Generator().manual_seed(place) for place in range(3)]
        total = one.head.loss(outputs, SEGMENTS, LABELS, draws)["total"] + class_loss(logits, SEGMENTS, LABELS)
        total.backward()
        grads.append({key: p.grad for key, p in one.named_parameters() if p.grad is not None})
    scale = max(float(grad.abs().max()) for grad in grads[0].values())
    for key, grad in grads[0].items():
        assert float((grads[1][key] - grad).abs().max()) <= 1e-3 * scale, key


@pytest.mark.parametrize("name", ["gtad", "bmn"])
def test_a_loss_waits_for_nothing(cuda, name):
    """No value leaves the device between forward and backward: the processor stays ahead."""
    head = head_of(name).to(cuda)
    features = torch.randn(3, 24, 100, device=cuda)
    draws = [torch.Generator().manual_seed(place) for place in range(3)]
    head.loss(head(features), SEGMENTS, LABELS, draws)["total"].backward()  # makes what is kept
    torch.cuda.set_sync_debug_mode("error")
    try:
        total = head.loss(head(features), SEGMENTS, LABELS, draws)["total"]
        (total + class_loss(torch.randn(3, 100, 4, device=cuda), SEGMENTS, LABELS)).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
