"""Folders of adapters alone: they name the weights that they belong to, and find them again without a network."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lofi_tal.encoders import adapt_encoder, base_of, create_encoder, load_encoder, save_encoder
from lofi_tal.encoders.adapters import is_of_an_adapter
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import hash_file
from tests.encoders import TINY, clips
from tests.hub import hub, preprocessor  # noqa: F401 (a fixture)

MODELS = {
    "vjepa2": ("VJEPA2Config", "VJEPA2Model"),
    "videomae": ("VideoMAEConfig", "VideoMAEModel"),
    "videoprism": ("VideoPrismVisionConfig", "VideoPrismVisionModel"),
    "timesformer": ("TimesformerConfig", "TimesformerModel"),
}


def checkpoint(name, folder, seed=0, **options):
    """Write what `save_pretrained` writes of a small model with random weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config, model = (getattr(transformers, one) for one in MODELS[name])
    built = model(config(**TINY[name]["architecture"]))
    built.save_pretrained(folder, **options)
    preprocessor(folder)
    return folder


def of_timm(folder, seed=0):
    """Write what the hub holds of timm's smallest vision transformer, with random weights and its classifier."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(seed)
    folder.mkdir()
    save_file(timm.create_model("test_vit").state_dict(), folder / "model.safetensors")
    return folder


def adapted(name, start, **options):
    """Return an encoder from these weights, with adapters that do something, which names what it starts from."""
    encoder = create_encoder(name, pretrained=start, **options)
    adapt_encoder(encoder, "adapter")
    encoder.base = base_of(encoder, start)
    torch.manual_seed(1)
    with torch.no_grad():
        for key, parameter in encoder.named_parameters():
            if is_of_an_adapter(key):
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    return encoder.eval()


def check(encoder, folder, name):
    """The folder holds adapters alone, and gives the same features by both ways to load it."""
    save_encoder(encoder, name, folder)
    assert all(map(is_of_an_adapter, load_file(folder / "encoder.safetensors")))
    seen = clips(encoder, size=64)
    expected = encoder(seen)
    model = {"model": "test_vit"} if name == "timm" else {}
    for again in (load_encoder(folder), create_encoder(name, pretrained=folder, **model)):
        assert torch.equal(again.eval()(seen), expected)
        assert (again.base, again.adapter) == (encoder.base, encoder.adapter)
        assert again.licence == encoder.licence != ""
    return json.loads((folder / "encoder.json").read_text())["base"]


@pytest.mark.parametrize("name", MODELS)
def test_a_name_on_the_hub_is_found_again_in_the_cache(name, hub, tmp_path):  # noqa: F811
    first = hub("somebody/small", checkpoint(name, tmp_path / "first"))
    base = check(adapted(name, "somebody/small"), tmp_path / "adapted", name)
    assert (base["pretrained"], base["revision"]) == ("somebody/small", first)
    second = hub("somebody/small", checkpoint(name, tmp_path / "second", seed=1))  # the name means others now
    assert load_encoder(tmp_path / "adapted").base["revision"] == first != second
    shutil.rmtree(tmp_path / "hub" / "models--somebody--small" / "snapshots" / first)
    with pytest.raises(DataError, match=rf"adapters for other weights than those in .*{second}.* it was {first}"):
        load_encoder(tmp_path / "adapted")
    shutil.rmtree(tmp_path / "hub")
    with pytest.raises(DataError, match=rf"not in the hub's cache.*hf download somebody/small --revision {first}"):
        load_encoder(tmp_path / "adapted")
    shutil.copy(tmp_path / "first" / "model.safetensors", tmp_path / "adapted" / "base.safetensors")
    assert load_encoder(tmp_path / "adapted").adapter


@pytest.mark.parametrize("several", [False, True])
def test_a_folder_of_transformers_is_found_again_where_it_was(several, tmp_path):
    folder = checkpoint("videomae", tmp_path / "first", **({"max_shard_size": "20KB"} if several else {}))
    assert (len(list(folder.glob("*.safetensors"))) > 1) is several
    check(adapted("videomae", folder), tmp_path / "adapted", "videomae")
    part = max(folder.glob("*.safetensors"))
    content = part.read_bytes()
    save_file({key: value + 1 for key, value in load_file(part).items()}, part)
    with pytest.raises(DataError, match="adapters for other weights"):
        load_encoder(tmp_path / "adapted")
    part.write_bytes(content)
    assert load_encoder(tmp_path / "adapted").adapter
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(
        DataError, match=r"are not at .*first/model\.safetensors.*put that file into the folder as base"
    ):
        load_encoder(tmp_path / "adapted")


def test_weights_of_timm_are_found_again_in_the_cache(hub, tmp_path):  # noqa: F811
    commit = hub("timm/test_vit.r160_in1k", of_timm(tmp_path / "first"))
    base = check(adapted("timm", "imagenet", model="test_vit"), tmp_path / "adapted", "timm")
    assert (base["pretrained"], base["revision"]) == ("imagenet", commit)
    shutil.rmtree(tmp_path / "hub")
    with pytest.raises(DataError, match=r"timm/test_vit\.r160_in1k, are not in the hub's cache"):
        load_encoder(tmp_path / "adapted")
    hub("timm/test_vit.r160_in1k", of_timm(tmp_path / "second", seed=1))
    with pytest.raises(DataError, match="adapters for other weights"):
        load_encoder(tmp_path / "adapted")
    with pytest.raises(LofiError, match="outside the hub"):
        base_of(create_encoder("timm", model="legacy_seresnet18"), "imagenet")


def test_an_encoder_of_transformers_that_was_trained_here_is_a_base_too(tmp_path):
    encoder = create_encoder("vjepa2", pretrained=checkpoint("vjepa2", tmp_path / "first"))
    save_encoder(encoder, "vjepa2", tmp_path / "trained")
    check(adapted("vjepa2", tmp_path / "trained"), tmp_path / "adapted", "vjepa2")


# --- what a stranger's folder may not do


@pytest.fixture
def stranger(hub, tmp_path):  # noqa: F811
    """Return what writes a folder of adapters that names another base, as its author says it is."""
    hub("somebody/small", checkpoint("videomae", tmp_path / "first"))
    save_encoder(adapted("videomae", "somebody/small"), "videomae", tmp_path / "adapted")

    def name(**base):
        described = json.loads((tmp_path / "adapted" / "encoder.json").read_text())
        described["base"] = {**described["base"], **base}
        described["base"] = {key: value for key, value in described["base"].items() if value is not None}
        (tmp_path / "adapted" / "encoder.json").write_text(json.dumps(described))
        return tmp_path / "adapted"

    return name


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"pretrained": "first"}, "no name on the hub"),  # a folder beside where the command is typed
        ({"pretrained": "./first"}, "no name on the hub"),
        ({"pretrained": "../first"}, "no name on the hub"),
        ({"pretrained": "some/../../first"}, "no name on the hub"),
        ({"pretrained": "/etc/passwd"}, "no name on the hub"),
        ({"pretrained": "https://example.org/x"}, "no name on the hub"),
        ({"revision": "../../../../secret"}, "revision"),
        ({"revision": "main"}, "revision"),
        ({"pretrained": None, "revision": None, "weights": "SECRET"}, "no file of weights"),
        ({"pretrained": None, "revision": None, "weights": "FOLDER"}, "are not at"),
        ({"pretrained": None, "revision": None, "weights": "INDEX"}, "no file of weights"),
        ({"pretrained": None, "revision": None, "weights": "LINK"}, "leads out of"),
        ({"pretrained": None, "revision": None, "weights": "ESCAPING"}, "not a file of this folder"),
        ({"pretrained": None, "revision": None, "weights": "PICKLE"}, "adapters for other weights"),
    ],
)
def test_a_base_opens_no_connection_and_no_other_file(stranger, base, message, tmp_path, monkeypatch):
    """Tests have no network: whatever connects, fails."""
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "id_rsa"
    secret.write_text("private")
    places = {"SECRET": secret, "FOLDER": tmp_path / "first", "INDEX": tmp_path / "secrets.index.json"}
    places |= {
        "LINK": tmp_path / "links" / "link.safetensors",
        "ESCAPING": tmp_path / "escaping" / "model.safetensors.index.json",
    }
    places |= {"PICKLE": tmp_path / "evil.bin"}
    places["INDEX"].write_text("{}")
    (tmp_path / "links").mkdir()
    places["LINK"].symlink_to(secret)
    (tmp_path / "escaping").mkdir()
    places["ESCAPING"].write_text(json.dumps({"weight_map": {"a": "../id_rsa"}}))
    places["PICKLE"].write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    folder = stranger(**{key: str(places.get(value, value)) if value else None for key, value in base.items()})
    with pytest.raises(DataError, match=message):
        load_encoder(folder)
    assert not (tmp_path / "owned").exists()


def test_a_pickle_with_the_right_hash_is_not_run(stranger, tmp_path):
    (tmp_path / "evil.bin").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    folder = stranger(
        pretrained=None, revision=None, weights=str(tmp_path / "evil.bin"), hash=hash_file(tmp_path / "evil.bin")
    )
    with pytest.raises(DataError, match="cannot be loaded safely"):
        load_encoder(folder)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "auto_map", "return_dict"])
def test_no_setting_of_an_architecture_makes_transformers_fetch_code(tmp_path, key, monkeypatch):
    """With the package kernels, it runs code of the hub that an implementation of attention names."""
    hub_kernels = pytest.importorskip("transformers.integrations.hub_kernels")
    monkeypatch.setattr(hub_kernels, "get_kernel", lambda *_, **__: pytest.fail("fetched"), raising=False)
    save_encoder(create_encoder("vjepa2", **TINY["vjepa2"]), "vjepa2", tmp_path)
    described = json.loads((tmp_path / "encoder.json").read_text())
    described["config"]["architecture"][key] = "kernels-community/flash-attn2"
    (tmp_path / "encoder.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match=f"there is no setting '{key}'"):
        load_encoder(tmp_path)
    folder = checkpoint("vjepa2", tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: "kernels-community/flash-attn2"}))
    assert key not in create_encoder("vjepa2", pretrained=folder).config["architecture"]


def test_settings_of_earlier_releases_keep_their_meaning(tmp_path):
    folder = checkpoint("videomae", tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    del config["qv_bias"]
    state = load_file(folder / "model.safetensors")
    save_file({key: one for key, one in state.items() if not key.endswith(("q_bias", "v_bias"))},
              folder / "model.safetensors")  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**config, "qkv_bias": False}))
    encoder = create_encoder("videomae", pretrained=folder)
    assert not any(key.endswith("query.bias") for key in encoder.state_dict())
