"""Backbones of timm: where the shift goes, what it does, and which sizes can be taken."""

import pytest
import torch

from lofi_tal.encoders import TSMResNet, create_encoder, load_weights, outline_encoder
from lofi_tal.encoders.gated_shift import GatedConv, GateShift
from lofi_tal.errors import LofiError

timm = pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("model", "shifts", "first"),
    [
        ("resnet18", 8, "layer1.0.conv1"),
        ("resnet101", 18, "layer1.0.conv1"),  # public TSM takes every second block of a network so deep
        ("regnety_002", 13, "s1.b1.conv1"),
        ("mobilenetv2_100", 10, "blocks.1.1.conv_pw"),
        ("mobilenetv3_small_050", 7, "blocks.1.1.conv_pw"),
        ("efficientnet_b0", 9, "blocks.1.1.conv_pw"),
    ],
)
def test_the_shift_is_in_the_residual_branches_of_the_public_code(model, shifts, first):
    encoder = outline_encoder("timm", {"model": model, "temporal": "shift"})
    named = {id(module): name for name, module in encoder.base_model.named_modules()}
    assert len(encoder.shifts) == shifts
    assert named[id(encoder.shifts[0])] == first
    convolution = next(module for module in encoder.shifts[0].modules() if isinstance(module, torch.nn.Conv2d))
    assert encoder.shifts[0].fold == convolution.in_channels // 8


def test_a_resnet_with_shift_is_the_tsm_resnet(tmp_path):
    own = TSMResNet().eval()
    state = {key.removeprefix("base_model."): value for key, value in own.state_dict().items()}
    torch.save({key.replace(".net.", "."): value for key, value in state.items()}, tmp_path / "resnet18.pth")
    encoder = create_encoder("timm", model="resnet18", temporal="shift").eval()
    report = load_weights(encoder, tmp_path / "resnet18.pth")
    assert (report.missing, report.unused, report.in_order) == ((), (), False)
    clips = torch.randint(0, 256, (2, 4, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(encoder(clips), own(clips), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temporal", ["shift", "gate", "none"])
def test_the_order_of_frames_matters_only_with_a_shift(temporal):
    torch.manual_seed(0)
    encoder = create_encoder("timm", model="regnety_002", temporal=temporal).eval()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # residual branches begin at zero
        elif isinstance(module, GatedConv):
            torch.nn.init.normal_(module.gsm.conv3D.weight)  # and so do gates
    clips = torch.randint(0, 256, (1, 4, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        same = torch.allclose(encoder(clips), encoder(clips.flip(1)), atol=1e-6)
    assert same is (temporal == "none")


def test_gates_that_are_open_shift_and_closed_ones_only_reorder():
    """Worked by hand: four channels, of which the first two look ahead; the public code then swaps the inner two."""
    gate = GateShift(4).eval()
    frames = torch.arange(2 * 3 * 4, dtype=torch.float32).view(6, 4, 1, 1)  # two clips of three frames
    with torch.no_grad():
        closed = gate(frames, 3)
        gate.conv3D.bias.fill_(100.0)  # tanh of it is 1
        opened = gate(frames, 3)
    assert torch.equal(closed, frames)
    x, y = frames.view(2, 3, 4), opened.view(2, 3, 4)
    assert y[:, :, 0].tolist() == [[4.0, 8.0, 0.0], [16.0, 20.0, 0.0]]
    assert y[:, :, 2].tolist() == [[0.0, 2.0, 6.0], [0.0, 14.0, 18.0]]
    assert torch.equal(y[:, :2, 1], x[:, 1:, 1])
    wide = GateShift(8).eval()
    frames = torch.arange(8, dtype=torch.float32).view(1, 8, 1, 1)
    with torch.no_grad():
        assert wide(frames, 1).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_what_does_not_go_together_is_refused():
    with pytest.raises(LofiError, match="no residual branch of convolutions"):
        create_encoder("timm", model="vit_tiny_patch16_224", temporal="shift")
    with pytest.raises(LofiError, match="no residual branch of convolutions"):
        create_encoder("timm", model="convnext_atto", temporal="gate")
    with pytest.raises(LofiError, match="'turn' is unknown; allowed: shift, gate, none"):
        create_encoder("timm", model="resnet18", temporal="turn")
    with pytest.raises(LofiError, match=r"timm has no model 'regnety_0008'.*Did you mean 'regnety_008'"):
        create_encoder("timm", model="regnety_0008")
    for name in ("hf-hub:somebody/model", "local-dir:/tmp/x", "../x"):  # a model file must not make timm read them
        with pytest.raises(LofiError, match="timm has no model"):
            create_encoder("timm", model=name)


def test_sizes_follow_the_network():
    vit = outline_encoder("timm", {"model": "vit_small_patch14_dinov2"}).takes
    assert (vit.size_multiple, vit.nearest_size(158), vit.takes_size(224)) == (14, 154, True)
    fixed = outline_encoder("timm", {"model": "maxvit_nano_rw_256"}).takes
    assert (fixed.nearest_size(112), fixed.sizes_change) == (256, False)
    smaller = outline_encoder("timm", {"model": "maxvit_nano_rw_256", "img_size": 128}).takes
    assert (smaller.nearest_size(112), smaller.sizes_change) == (128, False)
    convnext = outline_encoder("timm", {"model": "convnext_atto"})
    assert convnext.config["temporal"] == "none"
    assert convnext.takes.takes_size(158)


def test_normalisation_and_resize_are_those_of_the_weights_and_travel_with_the_encoder():
    encoder = outline_encoder("timm", {"model": "tf_efficientnet_lite0"})
    assert encoder.config["mean"] == encoder.config["std"] == [0.5, 0.5, 0.5]
    assert encoder.takes.resize == 8 / 7
    other = outline_encoder("timm", {**encoder.config, "mean": [0.1, 0.2, 0.3], "resize": 1.0})
    assert (other.config["mean"], other.takes.resize) == ([0.1, 0.2, 0.3], 1.0)
