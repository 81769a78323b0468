"""Every encoder keeps the same contract."""

import pytest
import torch
from torch import nn

from lofi_tal.encoders import (
    FOUNDATION,
    JoinedEncoder,
    adapt_encoder,
    layer_groups,
    load_encoder,
    outline_encoder,
    save_encoder,
    set_batchnorm_mode,
    trainable,
)
from lofi_tal.encoders.adapters import is_of_an_adapter
from lofi_tal.encoders.tsm import TSMResNet, temporal_shift
from lofi_tal.errors import LofiError
from tests.encoders import clips, every_encoder, tiny

OPTIONS = {"width": 8, "stem": "compact"}
EVERY = (*every_encoder(), "joined")


@pytest.fixture(params=EVERY)
def encoder(request):
    return tiny(request.param).eval()


def test_clips_of_any_size_give_one_feature_vector_each(encoder):
    """Odd sizes and numbers of frames too: where an encoder does not take them, it says what is nearest."""
    for frames, height, width in ((4, 32, 32), (5, 79, 79), (3, 33, 47)):
        shown = clips(encoder, 2, frames, height, width)
        with torch.no_grad():
            features = encoder(shown)
        assert features.shape == (2, encoder.channels)
        assert features.dtype == torch.float32
        assert torch.isfinite(features).all()


def test_what_is_not_taken_is_refused_with_the_nearest_that_is(encoder):
    takes = encoder.takes
    shape = {"frames": takes.nearest_frames(8), "height": takes.nearest_size(64), "width": takes.nearest_size(64)}
    odd = {"frames": 9, "height": 79, "width": 158}
    for name, value in odd.items():
        frames, height, width = {**shape, name: value}.values()
        allowed = takes.takes_frames(frames) and all(map(takes.takes_size, (height, width)))
        if allowed and (height == width or not takes.square):
            continue
        fitting = takes.nearest_frames(value) if name == "frames" else takes.nearest_size(value)
        with pytest.raises(LofiError, match=rf"The nearest is ({fitting}|{min(height, width)}) "):
            encoder(torch.zeros(1, frames, 3, height, width, dtype=torch.uint8))


def test_158_pixels_pass_or_become_160(encoder):
    """158 = 224 / √2, the size of ST-LoFi; patches of 16 take 160, patches of 18 take 162."""
    size = encoder.takes.nearest_size(158)
    assert size in {158, 160, 162}
    with torch.no_grad():
        for frames, side in ((2, size), (1, 40), (5, 36)):
            assert encoder(clips(encoder, 1, frames, side)).shape == (1, encoder.channels)


@pytest.mark.parametrize("name", EVERY)
def test_folders_rebuild_the_encoder_with_the_same_features(name, tmp_path):
    encoder = tiny(name).eval()
    save_encoder(encoder, name.split()[0], tmp_path)
    again = load_encoder(tmp_path).eval()
    shown = clips(encoder, 2)
    with torch.no_grad():
        assert torch.equal(encoder(shown), again(shown))


def test_layers_hold_every_parameter_once_and_the_blocks_in_order(encoder):
    groups = encoder.layers()
    grouped = [id(parameter) for _, module in groups for parameter in module.parameters()]
    assert sorted(grouped) == sorted(id(parameter) for parameter in encoder.parameters())
    assert len({name for name, _ in groups}) == len(groups)
    if not isinstance(encoder, JoinedEncoder):
        blocks = [module for _, module in groups if any(module is block for block in encoder.blocks())]
        assert len(blocks) == len(encoder.blocks())
        assert all(one is other for one, other in zip(blocks, encoder.blocks(), strict=True))


def test_groups_of_layers_come_in_the_order_of_the_forward_pass(encoder):
    """What is changed in a group does not reach what the groups before it compute."""
    if isinstance(encoder, JoinedEncoder):
        pytest.skip("its parts run side by side")
    order = []
    for index, (_, module) in enumerate(encoder.layers()):
        for inner in module.modules():
            if not isinstance(inner, nn.ModuleList | nn.ParameterList):
                inner.register_forward_hook(lambda *_, index=index: order.append(index))
    with torch.no_grad():
        encoder(clips(encoder, 1))
    assert order == sorted(order)


def test_joined_features_are_those_of_the_parts():
    joined = tiny("joined").eval()
    shown = clips(joined, 2)
    with torch.no_grad():
        assert torch.equal(joined(shown), torch.cat([part(shown) for part in joined.parts], 1))


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("r2plus1d_18", 31.3),
        ("mc3_18", 11.5),
        ("r3d_18", 33.2),
        ("swin3d_t", 27.9),
        ("swin3d_s", 49.5),
        ("swin3d_b", 87.6),
        ("s3d", 7.9),
    ],
)
def test_parameter_counts_are_torchvisions_without_the_classifier(name, millions):
    count = sum(p.numel() for p in outline_encoder(name, {}).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.05)


def test_no_information_passes_between_snippets(encoder):
    shown = clips(encoder, 4)
    changed = shown.clone()
    changed[2] = 255 - changed[2]
    with torch.no_grad():
        before, after = encoder(shown), encoder(changed)
    assert torch.equal(before[[0, 1, 3]], after[[0, 1, 3]])
    assert not torch.equal(before[2], after[2])


def test_uint8_frames_are_normalised_with_the_encoders_own_constants(encoder):
    shown = clips(encoder, 2, 2)
    with torch.no_grad():
        own = encoder.parts if isinstance(encoder, JoinedEncoder) else [encoder]
        for part in own:
            by_hand = (shown / 255 - part.mean) * part.inverse_std
            assert torch.allclose(part(shown), part(by_hand), atol=2e-4)


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
@pytest.mark.parametrize("name", EVERY)
def test_batchnorm_modes_freeze_what_they_say(name, mode, statistics_move, weights_learn):
    encoder = tiny(name).train()
    set_batchnorm_mode(encoder, mode)
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)]
    assert norms or name.startswith("swin3d") or name == "timm vit" or name in FOUNDATION
    before = [norm.running_mean.clone() for norm in norms]
    encoder(clips(encoder, 2, 2)).sum().backward()
    for norm, mean in zip(norms, before, strict=True):
        assert (not torch.equal(mean, norm.running_mean)) is statistics_move
        assert (norm.weight.grad is not None) is weights_learn
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    assert all(module.weight.grad is not None for module in convolutions)


@pytest.mark.parametrize("train", ["frozen", "last 1", "temporal", "lora"])
@pytest.mark.parametrize("name", every_encoder())
def test_what_is_trained_is_what_was_asked_for_and_the_rest_stays_to_the_bit(name, train):
    encoder = tiny(name)
    if train in ("temporal", "lora"):
        if train == "lora":
            pytest.importorskip("peft")
        if not any(isinstance(module, nn.LayerNorm) for module in encoder.modules()):
            with pytest.raises(LofiError, match=f"does not fit {encoder.name}"):
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
    features = encoder(clips(encoder, 2))
    if wanted:
        features.sum().backward()
        assert all(encoder.get_parameter(key).grad is not None for key in wanted)
    assert all(one.grad is None for key, one in encoder.named_parameters() if key not in wanted)
    moved = {
        key.rpartition(".")[0] for key, value in encoder.state_dict().items() if not torch.equal(value, before[key])
    }
    assert moved <= {key.rpartition(".")[0] for key in wanted}  # statistics of what is trained, and no others
