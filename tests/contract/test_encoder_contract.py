"""Every encoder keeps the same contract."""

import pytest
import torch
from torch import nn

from lofi_tal.encoders import create_encoder, list_encoders, set_batchnorm_mode
from lofi_tal.encoders.tsm import TSMResNet, temporal_shift

OPTIONS = {"width": 8, "stem": "compact"}


@pytest.fixture(params=list_encoders())
def encoder(request):
    torch.manual_seed(0)
    return create_encoder(request.param, **OPTIONS).eval()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (79, 79), (33, 47)])
def test_clips_of_any_size_give_one_feature_vector_each(encoder, height, width):
    clips = torch.randint(0, 256, (3, 4, 3, height, width), dtype=torch.uint8)
    features = encoder(clips)
    assert features.shape == (3, encoder.channels)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()


def test_no_information_passes_between_snippets(encoder):
    clips = torch.randint(0, 256, (4, 4, 3, 32, 32), dtype=torch.uint8)
    changed = clips.clone()
    changed[2] = 255 - changed[2]
    with torch.no_grad():
        before, after = encoder(clips), encoder(changed)
    assert torch.equal(before[[0, 1, 3]], after[[0, 1, 3]])
    assert not torch.equal(before[2], after[2])


def test_uint8_frames_are_normalised_with_the_encoders_own_constants(encoder):
    clips = torch.randint(0, 256, (2, 2, 3, 32, 32), dtype=torch.uint8)
    by_hand = (clips / 255 - encoder.mean) * encoder.inverse_std
    with torch.no_grad():
        assert torch.allclose(encoder(clips), encoder(by_hand), atol=1e-4)


def test_the_order_of_frames_matters_only_with_the_shift():
    clips = torch.randint(0, 256, (1, 8, 3, 32, 32), dtype=torch.uint8)
    for shift in (True, False):
        torch.manual_seed(0)
        encoder = TSMResNet(**OPTIONS, shift=shift).eval()
        with torch.no_grad():
            same = torch.allclose(encoder(clips), encoder(clips.flip(1)), atol=1e-5)
        assert same is not shift


def test_shift_follows_the_published_definition_worked_by_hand():
    """Public TSM: the first eighth of the channels takes the next frame, the second eighth the previous one."""
    frames = torch.arange(2 * 3 * 8, dtype=torch.float32).view(6, 8, 1, 1)  # N=2 clips, T=3 frames, 8 channels
    out = temporal_shift(frames, 3, 1).view(2, 3, 8)
    x = frames.view(2, 3, 8)
    assert out[:, :, 0].tolist() == [[8.0, 16.0, 0.0], [32.0, 40.0, 0.0]]
    assert out[:, :, 1].tolist() == [[0.0, 1.0, 9.0], [0.0, 25.0, 33.0]]
    assert torch.equal(out[:, :, 2:], x[:, :, 2:])


def test_shift_gradient_is_exact():
    frames = torch.randn(6, 8, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: temporal_shift(x, 3, 2), frames)


def test_shift_keeps_channels_last_memory():
    frames = torch.randn(4, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    assert temporal_shift(frames, 2, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("mode", "statistics_move", "weights_learn"),
    [
        ("train", True, True),
        ("frozen_stats", False, True),
        ("frozen", False, False),
    ],
)
def test_batchnorm_modes_freeze_what_they_say(mode, statistics_move, weights_learn):
    encoder = TSMResNet(**OPTIONS).train()
    set_batchnorm_mode(encoder, mode)
    norm = next(module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d))
    before = norm.running_mean.clone()
    encoder(torch.randint(0, 256, (2, 2, 3, 32, 32), dtype=torch.uint8)).sum().backward()
    assert (not torch.equal(before, norm.running_mean)) is statistics_move
    assert (norm.weight.grad is not None) is weights_learn
    assert encoder.base_model.conv1.weight.grad is not None
