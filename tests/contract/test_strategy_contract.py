"""Every way of back-propagation gives the gradient of plain back-propagation, for every encoder and head."""

import copy

import pytest
import torch
from torch import nn

from lofi_tal.encoders import FOUNDATION, adapt_encoder, set_batchnorm_mode
from lofi_tal.errors import LofiError
from lofi_tal.heads import create_head, list_heads, takes_classes
from lofi_tal.stages.end_to_end import EndToEnd
from lofi_tal.stages.strategies import Strategy, encode
from tests.encoders import RANDOM_DEPTH, every_encoder, tiny

ADAPTED = ("swin3d_t", "timm vit", *FOUNDATION)
SEGMENTS = [torch.tensor([[0.1, 0.6]]), torch.tensor([[0.2, 0.4], [0.5, 0.95]])]
LABELS = [torch.tensor([0]), torch.tensor([1, 0])]


def gradients(model, frames, strategy, batchnorm):
    """Return loss, gradients and buffers after one backward pass of a copy of the model."""
    model = copy.deepcopy(model).train()
    model.strategy = strategy
    set_batchnorm_mode(model.encoder, batchnorm)
    torch.manual_seed(3)  # stochastic depth of the transformer; draws of the regression loss
    outputs, logits = model(frames)
    generator = torch.Generator().manual_seed(4)
    loss = model.head.loss(outputs, SEGMENTS, LABELS, generator)["total"] + logits.square().mean()
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return loss.detach(), grads, dict(model.encoder.named_buffers())


def assert_same(ours, plain):
    assert ours[0].item() == pytest.approx(plain[0].item(), rel=1e-5)
    assert ours[1].keys() == plain[1].keys()
    scale = max(grad.abs().max() for grad in plain[1].values())
    for name, grad in plain[1].items():
        difference = (ours[1][name] - grad).abs().max()
        assert difference <= 1e-4 * max(grad.abs().max(), 1e-2 * scale), name
    for name, buffer in plain[2].items():
        torch.testing.assert_close(ours[2][name], buffer, msg=name)


def end_to_end(encoder_name, head_name):
    encoder = tiny(encoder_name)
    options = {"num_classes": 2} if takes_classes(head_name) else {}
    head = create_head(head_name, encoder.channels, **options)
    return EndToEnd(encoder, head, 2)


def random_frames(frames, size):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 6, frames, size, size, 3), dtype=torch.uint8, generator=generator)


FRAMES = random_frames(4, 32)


@pytest.mark.parametrize("encoder", every_encoder())
@pytest.mark.parametrize(("strategy", "batchnorm"), [("checkpoint", "train"), ("chunked", "frozen_stats")])
def test_gradients_equal_plain_for_every_encoder(encoder, strategy, batchnorm):
    if encoder in RANDOM_DEPTH and strategy == "chunked":
        pytest.skip("its random depth is drawn for each group")
    model = end_to_end(encoder, "gtad")
    takes, chosen = model.encoder.takes, Strategy(strategy, chunk=5)  # the last group is smaller
    frames, size = takes.nearest_frames(4), takes.nearest_size(32)
    shown = FRAMES if (frames, size) == (4, 32) else random_frames(frames, size)
    assert_same(gradients(model, shown, chosen, batchnorm), gradients(model, shown, Strategy(), batchnorm))


@pytest.mark.parametrize(
    ("encoder", "train"), [*((name, "last 1") for name in every_encoder()), *((name, "adapter") for name in ADAPTED)]
)
def test_gradients_of_a_part_equal_plain_for_every_encoder(encoder, train):
    """That no encoders of other kinds take an adapter is in the contract of encoders."""
    model = end_to_end(encoder, "gtad")
    takes = model.encoder.takes
    adapt_encoder(model.encoder, train)
    with torch.no_grad():
        for name, parameter in model.encoder.named_parameters():
            if "temporal_adapter" in name:  # which begins as the identity, where little is learnt
                parameter.add_(0.03 * torch.randn_like(parameter))
    frames = random_frames(takes.nearest_frames(4), takes.nearest_size(32))[:, :3]
    plain = gradients(model, frames, Strategy(), "frozen_stats")
    assert any(name.startswith("encoder.") for name in plain[1])
    assert_same(gradients(model, frames, Strategy("checkpoint"), "frozen_stats"), plain)
    if encoder not in RANDOM_DEPTH or train != "last 1":  # the random depth of its last block is drawn for each group
        assert_same(gradients(model, frames, Strategy("chunked", chunk=4), "frozen_stats"), plain)


@pytest.mark.parametrize("head", list_heads())
@pytest.mark.parametrize(("strategy", "batchnorm"), [("checkpoint", "train"), ("chunked", "frozen_stats")])
def test_gradients_equal_plain_for_every_head(head, strategy, batchnorm):
    model = end_to_end("tsm_resnet18_narrow", head)
    chosen = Strategy(strategy, chunk=5)
    assert_same(gradients(model, FRAMES, chosen, batchnorm), gradients(model, FRAMES, Strategy(), batchnorm))


def test_chunked_takes_statistics_group_by_group_and_the_same_ones_twice():
    """In train mode the gradient is that of encoding the groups one after the other, which notes each group once."""
    model = end_to_end("tsm_resnet18_narrow", "gtad")
    ours = gradients(model, FRAMES, Strategy("chunked", chunk=4), "train")

    grouped = copy.deepcopy(model).train()
    torch.manual_seed(3)
    clips = FRAMES.flatten(0, 1).permute(0, 1, 4, 2, 3)
    features = torch.cat([grouped.encoder(part) for part in torch.split(clips, 4)]).view(2, 6, -1)
    logits = grouped.snippet_classifier(features)
    outputs = grouped.head(features.transpose(1, 2).contiguous())
    loss = grouped.head.loss(outputs, SEGMENTS, LABELS, torch.Generator().manual_seed(4))["total"]
    loss = loss + logits.square().mean()
    loss.backward()
    expected = (
        loss.detach(),
        {n: p.grad for n, p in grouped.named_parameters()},
        dict(grouped.encoder.named_buffers()),
    )
    assert_same(ours, expected)
    norm = next(m for m in grouped.encoder.modules() if isinstance(m, nn.BatchNorm2d))
    assert norm.num_batches_tracked.item() == 3


@pytest.mark.parametrize("strategy", ["plain", "chunked"])
def test_a_sampled_gradient_is_the_whole_one_on_average(strategy):
    encoder = tiny("tsm_resnet18_narrow").train()
    set_batchnorm_mode(encoder, "frozen_stats")
    clips = FRAMES.flatten(0, 1).permute(0, 1, 4, 2, 3)
    weights = torch.randn(12, encoder.channels, generator=torch.Generator().manual_seed(5))
    first = encoder.base_model.conv1.weight

    def gradient(chosen):
        encoder.zero_grad()
        features = encode(encoder, clips, chosen)
        (features * weights).sum().backward()
        return features.detach(), first.grad.clone()

    features, whole = gradient(Strategy())
    torch.manual_seed(0)
    sampled = [gradient(Strategy(strategy, 4, 0.5)) for _ in range(60)]
    for found, _ in sampled:
        torch.testing.assert_close(found, features, rtol=1e-4, atol=1e-4)
    mean = torch.stack([grad for _, grad in sampled]).mean(0)
    assert (mean - whole).norm() < 0.35 * whole.norm()
    assert not torch.allclose(sampled[0][1], sampled[1][1])


def test_impossible_strategies_are_refused():
    with pytest.raises(LofiError, match="plain, checkpoint, chunked"):
        Strategy("none")
    with pytest.raises(LofiError, match="chunk=0"):
        Strategy("chunked", chunk=0)
    with pytest.raises(LofiError, match=r"gradient_share=1\.5"):
        Strategy(gradient_share=1.5)
