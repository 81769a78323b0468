"""Weights from public layouts (files made here, with the public names) and from our own folders."""

import re

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18
from torchvision.models.video import r2plus1d_18

from lofi_tal.encoders import (
    PUBLIC_WEIGHTS,
    TSMResNet,
    create_encoder,
    list_encoders,
    load_encoder,
    load_weights,
    public_weights,
    save_encoder,
)
from lofi_tal.errors import DataError, LofiError
from lofi_tal.heads import create_head

SMALL = {"width": 8, "stem": "compact"}


def mmaction2_name(key: str) -> str:
    key = key.removeprefix("base_model.")
    key = key.replace("downsample.0.", "downsample.conv.").replace("downsample.1.", "downsample.bn.")
    key = re.sub(r"\bconv(\d)\.(net\.)?weight", r"conv\1.conv.\2weight", key)
    return "backbone." + re.sub(r"\bbn(\d)\.", r"conv\1.bn.", key)


LAYOUTS = {
    "tsm": lambda key: "module." + key,
    "mmaction2": mmaction2_name,
    "torchvision": lambda key: key.removeprefix("base_model.").replace(".net.", "."),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_public_layouts_load_completely(layout, tmp_path):
    source, target = TSMResNet(**SMALL), TSMResNet(**SMALL)
    state = {LAYOUTS[layout](key): value for key, value in source.state_dict().items()}
    state["module.new_fc.weight" if layout == "tsm" else "fc.weight"] = torch.zeros(4, 64)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights.pth")
    report = load_weights(target, tmp_path / "weights.pth")
    assert report.missing == ()
    assert report.unused == ()
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key


def test_wrong_depth_or_width_is_an_error_and_changes_nothing(tmp_path):
    torch.save(TSMResNet(width=16, stem="compact").state_dict(), tmp_path / "wide.pth")
    encoder = TSMResNet(**SMALL)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(DataError, match="another shape"):
        load_weights(encoder, tmp_path / "wide.pth")
    with pytest.raises(DataError, match="does not hold all weights"):
        load_weights(TSMResNet(depth=34, **SMALL), save_state(encoder, tmp_path))
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())


def save_state(encoder, folder):
    torch.save(encoder.state_dict(), folder / "state.pth")
    return folder / "state.pth"


def test_a_pickle_with_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("code ran",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match="cannot be loaded safely"):
        load_weights(TSMResNet(**SMALL), tmp_path / "evil.pth")


@pytest.mark.parametrize("name", ["bad.safetensors", "bad.pth"])
def test_a_damaged_file_is_one_clear_error(name, tmp_path):
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(DataError, match=name):
        load_weights(TSMResNet(**SMALL), tmp_path / name)


def test_gates_start_at_zero_where_a_file_of_an_image_network_has_none(tmp_path):
    network = timm.create_model("mobilenetv2_050")
    torch.save(network.state_dict(), tmp_path / "network.pth")
    gated = create_encoder("timm", model="mobilenetv2_050", temporal="gate", pretrained=str(tmp_path / "network.pth"))
    state = network.state_dict()
    plain = {key.removeprefix("base_model.").replace(".net.", "."): value for key, value in gated.state_dict().items()}
    assert all(torch.equal(plain[key], state[key]) for key in state if not key.startswith("classifier."))
    gates = {key: value for key, value in plain.items() if ".gsm." in key}
    assert gates
    assert not any(value.any() for key, value in gates.items() if ".conv3D." in key)
    save_encoder(gated, "timm", tmp_path / "own")
    cut = load_file(tmp_path / "own/encoder.safetensors")
    save_file({key: value for key, value in cut.items() if ".gsm." not in key}, tmp_path / "own/encoder.safetensors")
    with pytest.raises(DataError, match=r"does not hold all weights of this encoder: .*gsm"):
        load_encoder(tmp_path / "own")  # of an own folder nothing may be missing


def test_own_folder_round_trip(tmp_path):
    encoder = create_encoder("tsm_resnet18_narrow", width=8)
    save_encoder(encoder, "tsm_resnet18_narrow", tmp_path, {"origin": "test"})
    again = load_encoder(tmp_path)
    assert again.config == encoder.config
    for key, value in encoder.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


def test_unknown_names_and_options_are_explained():
    with pytest.raises(LofiError, match="Did you mean 'tsm_resnet18'"):
        create_encoder("tsm_resnet81")
    with pytest.raises(LofiError, match="has no option 'depht'"):
        create_encoder("tsm_resnet18", depht=18)
    with pytest.raises(LofiError, match=r"has no option 'hiden_1d'; allowed: in_channels, hidden_1d, .*'hidden_1d'?"):
        create_head("gtad", 8, hiden_1d=3)
    with pytest.raises(LofiError, match=r"iou_power=0.2 of .* is part of trident regression: set bins, too"):
        create_head("actionformer", 8, num_classes=2, iou_power=0.2)
    with pytest.raises(LofiError, match="multiple of 8"):
        create_encoder("tsm_resnet18", width=12)


@pytest.mark.parametrize(
    ("pretrained", "name", "model", "file"),
    [
        ("imagenet", "tsm_resnet18", resnet18, "resnet18-f37072fd.pth"),
        ("R2Plus1D_18_Weights.KINETICS400_V1", "r2plus1d_18", r2plus1d_18, "r2plus1d_18-91a641e6.pth"),
    ],
)
def test_torchvisions_files_are_found_in_its_cache_and_load_completely(
    pretrained, name, model, file, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    source = model(weights=None)
    torch.save(source.state_dict(), tmp_path / "hub/checkpoints" / file)
    encoder = create_encoder(name)
    report = load_weights(encoder, public_weights(pretrained, name))
    assert (report.missing, report.unused) == ((), ())
    shifted = encoder.state_dict()
    for key, value in source.state_dict().items():
        if not key.startswith("fc."):
            own = f"base_model.{key}"
            own = own if own in shifted else own.replace("conv1.weight", "conv1.net.weight")
            assert torch.equal(shifted[own], value), key


def test_without_a_network_the_message_says_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"resnet18-f37072fd\.pth is not in .*checkpoints") as caught:
        public_weights("imagenet", "tsm_resnet18")
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in str(caught.value)
    assert not list((tmp_path / "hub/checkpoints").iterdir())


def test_public_weights_that_do_not_exist_are_refused():
    with pytest.raises(LofiError, match="no such weights for 'tsm_resnet18', only for r2plus1d_18"):
        public_weights("kinetics400", "tsm_resnet18")
    with pytest.raises(LofiError, match="unknown"):
        public_weights("ResNet18_Weights.NONE", "tsm_resnet18")
    assert {name for names in PUBLIC_WEIGHTS.values() for name in names} <= set(list_encoders())


@pytest.mark.parametrize("as_text", [True, False])
def test_an_encoder_starts_from_a_file_or_a_folder(as_text, tmp_path):
    source = create_encoder("tsm_resnet18", **SMALL)
    save_encoder(source, "tsm_resnet18", tmp_path / "folder")
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    for path in (tmp_path / "folder", tmp_path / "weights.pth"):
        encoder = create_encoder("tsm_resnet18", pretrained=str(path) if as_text else path, **SMALL)
        for key, value in source.state_dict().items():
            assert torch.equal(encoder.state_dict()[key], value), key
    with pytest.raises(DataError, match="does not exist"):
        create_encoder("tsm_resnet18", pretrained="missing.pth", **SMALL)
    with pytest.raises(DataError, match="another shape"):
        create_encoder("tsm_resnet18", pretrained=tmp_path / "folder")


def test_an_encoder_starts_from_public_weights_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    source = resnet18(weights=None)
    torch.save(source.state_dict(), tmp_path / "hub/checkpoints/resnet18-f37072fd.pth")
    for name in ("imagenet", "ResNet18_Weights.IMAGENET1K_V1"):
        encoder = create_encoder("tsm_resnet18", pretrained=name)
        assert torch.equal(encoder.state_dict()["base_model.conv1.weight"], source.conv1.weight)
    save_encoder(encoder, "tsm_resnet18", tmp_path / "model")
    assert load_encoder(tmp_path / "model").licence == encoder.licence == "BSD-3-Clause"  # it travels with them
    with pytest.raises(LofiError, match=r"'imagent' is unknown.*Did you mean 'imagenet'"):
        create_encoder("tsm_resnet18", pretrained="imagent")


def test_std_is_what_the_frames_are_divided_by():
    encoder = create_encoder("tsm_resnet18", **SMALL)
    assert encoder.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])


DOTTED = "lofi_tal.encoders.registry:tsm_resnet18"


def test_a_path_to_code_is_accepted_from_the_user_and_not_from_a_folder(tmp_path):
    encoder = create_encoder(DOTTED, **SMALL)
    save_encoder(encoder, DOTTED, tmp_path)
    with pytest.raises(DataError, match=r"encoder\.json: encoder '.*' is a path to code.*registered components only"):
        load_encoder(tmp_path)
    assert load_encoder(tmp_path, trusted={DOTTED}).config == encoder.config
    with pytest.raises(DataError, match="is a path to code"):
        load_encoder(tmp_path, trusted={"other:thing"})


def test_parts_of_a_joined_encoder_are_held_to_the_same(tmp_path):
    joined = create_encoder("joined", parts=[{"name": DOTTED, **SMALL}, {"name": "tsm_resnet18", **SMALL}])
    save_encoder(joined, "joined", tmp_path)
    with pytest.raises(DataError, match="is a path to code"):
        load_encoder(tmp_path)
    text = (tmp_path / "encoder.json").read_text()
    (tmp_path / "encoder.json").write_text(text.replace('"parts"', '"dotted": true, "parts"'))
    with pytest.raises(DataError, match="is a path to code"):
        load_encoder(tmp_path)


def test_a_folder_of_a_package_that_is_not_installed_says_which(tmp_path):
    save_encoder(create_encoder("tsm_resnet18", **SMALL), "tsm_resnet18", tmp_path)
    text = (tmp_path / "encoder.json").read_text()
    (tmp_path / "encoder.json").write_text(
        text.replace('"name": "tsm_resnet18"', '"package": "own-encoder", "name": "own"')
    )
    with pytest.raises(DataError, match=r"encoder 'own' is unknown; .* from the package 'own-encoder'"):
        load_encoder(tmp_path)
    (tmp_path / "encoder.json").write_text('{"name": "tsm_resnet18", "config": {"pretrained": "imagenet"}}')
    with pytest.raises(DataError, match="the argument 'pretrained' would fetch weights"):  # a folder downloads nothing
        load_encoder(tmp_path)


def test_what_builds_no_encoder_is_refused():
    with pytest.raises(LofiError, match="builds a OrderedDict"):
        create_encoder("collections:OrderedDict")


def test_a_recipe_that_names_one_path_lets_a_folder_name_no_other(tmp_path):
    other = "lofi_tal.encoders.registry:tsm_resnet34"
    for name in (DOTTED, other):
        parts = [{"name": name, **SMALL}]
        save_encoder(create_encoder("joined", parts=parts), "joined", tmp_path / name.rpartition(":")[2])
    trusted = {"joined", DOTTED}
    assert load_encoder(tmp_path / "tsm_resnet18", trusted=trusted).config["parts"][0]["name"] == DOTTED
    with pytest.raises(DataError, match="is a path to code"):
        load_encoder(tmp_path / "tsm_resnet34", trusted=trusted)


def test_what_a_file_gave_is_said_once_however_often_a_run_builds_its_encoder(tmp_path, caplog):
    caplog.set_level("INFO", "lofi_tal")
    state = create_encoder("tsm_resnet18", **SMALL).state_dict()
    for name in ("first.pth", "second.pth"):
        torch.save(state, tmp_path / name)
        for _ in range(3):
            create_encoder("tsm_resnet18", pretrained=tmp_path / name, **SMALL)
    said = [line.rpartition("/")[2] for line in caplog.messages if "tensors loaded" in line]
    assert said == [f"{name}: {len(state)} tensors loaded" for name in ("first.pth", "second.pth")]
