"""A weights file says which encoder it belongs to."""

import json

import pytest
import torch
from torchvision.models import resnet18, resnet34, resnet50
from torchvision.models.video import r2plus1d_18

from lofi_tal.encoders import TSMResNet, create_encoder, identify_encoder, save_encoder
from lofi_tal.encoders.registry import ENCODERS
from lofi_tal.errors import DataError


def saved(state, path):
    torch.save({"state_dict": state, "epoch": 1}, path)
    return path


@pytest.mark.parametrize(
    ("make", "name", "options", "pictures"),
    [
        (lambda: resnet18().state_dict(), "tsm_resnet18", {}, True),  # a classifier of 1,000 classes
        (lambda: resnet18(num_classes=174).state_dict(), "tsm_resnet18", {}, False),
        (lambda: resnet34().state_dict(), "tsm_resnet34", {}, True),
        (lambda: resnet50().state_dict(), "tsm_resnet50", {}, True),
        (lambda: r2plus1d_18().state_dict(), "r2plus1d_18", {}, False),
        (lambda: create_encoder("tsm_resnet18_narrow").state_dict(), "tsm_resnet18_narrow", {}, False),
        (
            lambda: {f"module.{key}": value for key, value in TSMResNet(width=32).state_dict().items()},
            "tsm_resnet18",
            {"width": 32, "stem": "imagenet"},
            False,
        ),
        (
            lambda: TSMResNet(depth=34, width=8, stem="compact").state_dict(),
            "tsm_resnet34",
            {"width": 8, "stem": "compact"},
            False,
        ),
    ],
)
def test_a_checkpoint_is_told_by_its_tensors(make, name, options, pictures, tmp_path):
    path = saved(make(), tmp_path / "weights.pth")
    found = identify_encoder(path)
    assert (found.name, found.options, found.weights, found.pictures) == (name, options, path, pictures)
    create_encoder(found.name, pretrained=path, **found.options)


def test_encoders_of_other_packages_that_compute_or_fail_while_they_are_built_are_no_hindrance(tmp_path, monkeypatch):
    def computing():
        return TSMResNet(depth=18, width=int(torch.linspace(8, 8, 2)[0].item()))

    def failing():
        raise OSError("no network")

    monkeypatch.setitem(ENCODERS._registered, "computing_for_test", computing)
    monkeypatch.setitem(ENCODERS._registered, "failing_for_test", failing)
    assert identify_encoder(saved(resnet18().state_dict(), tmp_path / "18.pth")).name == "tsm_resnet18"
    assert identify_encoder(saved(computing().state_dict(), tmp_path / "own.pth")).name == "computing_for_test"


@pytest.mark.parametrize("as_file", [False, True])
def test_a_folder_says_it_itself(as_file, tmp_path):
    encoder = create_encoder("tsm_resnet18_narrow", width=8)
    facts = {"inputs": {"snippets": {"frames": 4, "stride": 2, "size": 48}}}
    save_encoder(encoder, "tsm_resnet18_narrow", tmp_path / "lofi", facts)
    found = identify_encoder(tmp_path / "lofi" / "encoder.safetensors" if as_file else tmp_path / "lofi")
    assert (found.name, found.options, found.weights) == ("tsm_resnet18_narrow", {"width": 8}, tmp_path / "lofi")
    assert found.snippets == {"frames": 4, "stride": 2, "size": 48}


def test_what_belongs_to_no_encoder_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(DataError, match=r"no encoder that is known here.*Write encoder.name"):
        identify_encoder(saved({"head.weight": torch.zeros(2, 3)}, tmp_path / "other.pth"))
    with pytest.raises(DataError, match="does not exist"):
        identify_encoder(tmp_path / "none.pth")
    save_encoder(create_encoder("tsm_resnet18_narrow", width=8), "tsm_resnet18_narrow", tmp_path / "run" / "lofi")
    with pytest.raises(DataError, match=r"no encoder.json. There is one in .*run/lofi"):
        identify_encoder(tmp_path / "run")
    (tmp_path / "run" / "lofi" / "encoder.json").write_text(json.dumps(["x"]))
    with pytest.raises(DataError, match="holds a list: expected an object"):
        identify_encoder(tmp_path / "run" / "lofi")
