"""Every encoder keeps the same contract."""

import pytest
import torch
from torch import nn

from lofi_tal.encoders import (
    JoinedEncoder,
    adapt_encoder,
    create_encoder,
    layer_groups,
    list_encoders,
    load_encoder,
    save_encoder,
    set_batchnorm_mode,
    trainable,
)
from lofi_tal.encoders.adapters import is_of_an_adapter
from lofi_tal.encoders.tsm import TSMResNet, temporal_shift
from lofi_tal.errors import LofiError

OPTIONS = {"width": 8, "stem": "compact"}


def options_of(name):
    """Small variants, where there are some."""
    if name.startswith("tsm"):
        return OPTIONS
    return {} if name == "swin3d_t" else {"width": 8}


def make(name):
    torch.manual_seed(0)
    if name == "joined":
        parts = [{"name": "tsm_resnet18", **OPTIONS}, {"name": "r2plus1d_18", "width": 8}]
        return create_encoder("joined", parts=parts)
    return create_encoder(name, **options_of(name))


@pytest.fixture(params=[*list_encoders(), "joined"])
def encoder(request):
    return make(request.param).eval()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (79, 79), (33, 47)])
def test_clips_of_any_size_give_one_feature_vector_each(encoder, height, width):
    clips = torch.randint(0, 256, (3, 4, 3, height, width), dtype=torch.uint8)
    features = encoder(clips)
    assert features.shape == (3, encoder.channels)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()


def test_158_pixels_and_any_number_of_frames_pass(encoder):
    """158 = 224 / √2, the size of ST-LoFi."""
    with torch.no_grad():
        for frames, size in ((2, 158), (1, 40), (5, 36)):
            clips = torch.randint(0, 256, (1, frames, 3, size, size), dtype=torch.uint8)
            assert encoder(clips).shape == (1, encoder.channels)


@pytest.mark.parametrize("name", [*list_encoders(), "joined"])
def test_folders_rebuild_the_encoder_with_the_same_features(name, tmp_path):
    encoder = make(name).eval()
    save_encoder(encoder, name, tmp_path)
    again = load_encoder(tmp_path).eval()
    clips = torch.randint(0, 256, (2, 4, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(encoder(clips), again(clips))


def test_joined_features_are_those_of_the_parts():
    joined = make("joined").eval()
    clips = torch.randint(0, 256, (2, 4, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        first, second = (part(clips) for part in joined.parts)
        assert torch.equal(joined(clips), torch.cat([first, second], 1))


@pytest.mark.parametrize(
    ("name", "millions"), [("r2plus1d_18", 31.3), ("mc3_18", 11.5), ("r3d_18", 33.2), ("swin3d_t", 27.9)]
)
def test_parameter_counts_are_torchvisions_without_the_classifier(name, millions):
    assert sum(p.numel() for p in create_encoder(name).parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


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
    with torch.no_grad():
        own = encoder.parts if isinstance(encoder, JoinedEncoder) else [encoder]
        for part in own:
            by_hand = (clips / 255 - part.mean) * part.inverse_std
            assert torch.allclose(part(clips), part(by_hand), atol=2e-4)


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
@pytest.mark.parametrize("name", [*list_encoders(), "joined"])
def test_batchnorm_modes_freeze_what_they_say(name, mode, statistics_move, weights_learn):
    encoder = make(name).train()
    set_batchnorm_mode(encoder, mode)
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)]
    assert norms or name == "swin3d_t"
    before = [norm.running_mean.clone() for norm in norms]
    encoder(torch.randint(0, 256, (2, 2, 3, 32, 32), dtype=torch.uint8)).sum().backward()
    for norm, mean in zip(norms, before, strict=True):
        assert (not torch.equal(mean, norm.running_mean)) is statistics_move
        assert (norm.weight.grad is not None) is weights_learn
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    assert all(module.weight.grad is not None for module in convolutions)


@pytest.mark.parametrize("train", ["frozen", "last 1", "temporal", "lora"])
@pytest.mark.parametrize("name", list_encoders())
def test_what_is_trained_is_what_was_asked_for_and_the_rest_stays_to_the_bit(name, train):
    encoder = make(name)
    if train in ("temporal", "lora"):
        if train == "lora":
            pytest.importorskip("peft")
        if not any(isinstance(module, nn.LayerNorm) for module in encoder.modules()):
            with pytest.raises(LofiError, match=f"does not fit {name}"):
                adapt_encoder(encoder, "adapter", {"name": train})
            return
        adapt_encoder(encoder, "adapter", {"name": train})
        wanted = {key for key, _ in encoder.named_parameters() if is_of_an_adapter(key)}
    else:
        adapt_encoder(encoder, train)
        last = {id(one) for one in trainable(layer_groups(encoder)[-1][1], everything=True)}
        wanted = {key for key, one in encoder.named_parameters() if train != "frozen" and id(one) in last}
    set_batchnorm_mode(encoder.train(), "train")
    learnt = {key for key, one in encoder.named_parameters() if one.requires_grad}
    assert learnt == wanted
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    features = encoder(torch.randint(0, 256, (2, 4, 3, 32, 32), dtype=torch.uint8))
    if wanted:
        features.sum().backward()
        assert all(encoder.get_parameter(key).grad is not None for key in wanted)
    assert all(one.grad is None for key, one in encoder.named_parameters() if key not in wanted)
    moved = {
        key.rpartition(".")[0] for key, value in encoder.state_dict().items() if not torch.equal(value, before[key])
    }
    assert moved <= {key.rpartition(".")[0] for key in wanted}  # statistics of what is trained, and no others
