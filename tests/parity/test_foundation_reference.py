"""Video transformers against the unmodified models of transformers: features, other sizes, and what loads silently."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from lofi_tal.encoders import create_encoder, identify_encoder, load_encoder, outline_encoder, save_encoder
from lofi_tal.encoders.foundation import sinusoid
from lofi_tal.errors import DataError, LofiError
from tests.encoders import TINY

transformers = pytest.importorskip("transformers")
MODELS = {
    "videomae": "VideoMAEModel",
    "vjepa2": "VJEPA2Model",
    "videoprism": "VideoPrismVisionModel",
    "timesformer": "TimesformerModel",
}
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
PREPROCESSOR = {
    "do_normalize": True, "image_mean": MEAN, "image_std": STD, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_resize": True, "size": {"shortest_edge": 80}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64},
}  # fmt: skip
SIDE = {"videoprism": 72}


def reference(name, **changed):
    """Build the unmodified model; every tensor, biases too, is drawn: none is zero or one."""
    config = {**TINY[name]["architecture"], **changed}
    family = outline_encoder(name, TINY[name]).family
    made = transformers.AutoConfig.for_model(family.model_types[0], **config)
    model = getattr(transformers, MODELS[name])(made).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def write(model, folder):
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return folder


def expected(model, clips, name):
    """Return what the model makes of clips that are normalised by the checkpoint's file."""
    frames = (clips / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    more = {"skip_predictor": True} if name == "vjepa2" else {}
    with torch.no_grad():
        tokens = model(frames, **more).last_hidden_state
    return tokens[:, 0] if name == "timesformer" else tokens.mean(1)


def clips_of(side, frames=4, count=2):
    return torch.randint(0, 256, (count, frames, 3, side, side), dtype=torch.uint8)


@pytest.fixture(params=MODELS)
def checkpoint(request, tmp_path):
    model = reference(request.param)
    return request.param, model, write(model, tmp_path / "checkpoint")


def features(encoder, clips):
    with torch.no_grad():
        return encoder.eval()(clips)


def test_features_are_those_of_the_unmodified_model(checkpoint):
    name, model, folder = checkpoint
    encoder, clips = create_encoder(name, pretrained=folder), clips_of(SIDE.get(name, 64))
    torch.testing.assert_close(features(encoder, clips), expected(model, clips, name), rtol=1e-4, atol=1e-5)
    assert encoder.name == name
    assert encoder.takes.resize == 80 / 64
    assert encoder.mean.flatten().tolist() == pytest.approx(MEAN)


def test_a_folder_is_recognised_and_rebuilt_without_the_checkpoint(checkpoint, tmp_path):
    name, _, folder = checkpoint
    encoder, clips = create_encoder(name, pretrained=str(folder)), clips_of(SIDE.get(name, 64))
    save_encoder(encoder, name, tmp_path / "own")
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert identify_encoder(folder).name == name
    for again in (load_encoder(tmp_path / "own"), create_encoder(name, pretrained=tmp_path / "own")):
        assert torch.equal(features(again, clips), features(encoder, clips))
        assert again.licence == encoder.licence != ""


def test_v_jepa_2_at_another_size_equals_the_same_weights_built_for_it(tmp_path):
    """Its rotary positions come from config.crop_size: another size gives other features, and no error."""
    model = reference("vjepa2")
    encoder = create_encoder("vjepa2", pretrained=write(model, tmp_path / "checkpoint"))
    first = clips_of(64)
    before = features(encoder, first)
    for side, frames in ((96, 4), (32, 6), (48, 2)):
        built = reference("vjepa2", crop_size=side)
        built.load_state_dict(model.state_dict())
        clips = clips_of(side, frames)
        wanted, naive = expected(built, clips, "vjepa2"), expected(model, clips, "vjepa2")
        torch.testing.assert_close(features(encoder, clips), wanted, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(naive, wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(features(encoder, first), before)


def test_videomae_at_another_size_interpolates_the_table_of_each_plane(tmp_path):
    """A model built for another size computes another table, into which the same weights load without a word."""
    model = reference("videomae")
    encoder = create_encoder("videomae", pretrained=write(model, tmp_path / "checkpoint"))
    first = clips_of(64)
    before = features(encoder, first)
    original = model.embeddings.position_embeddings.view(2, 4, 4, -1)
    for side in (96, 32, 48):
        built = reference("videomae", image_size=side)
        built.load_state_dict(model.state_dict())
        clips = clips_of(side)
        naive = expected(built, clips, "videomae")
        cells = (side // 16, side // 16)
        planes = functional.interpolate(original.permute(0, 3, 1, 2), cells, mode="bicubic", align_corners=False)
        built.embeddings.position_embeddings = planes.permute(0, 2, 3, 1).reshape(1, -1, encoder.channels)
        wanted = expected(built, clips, "videomae")
        torch.testing.assert_close(features(encoder, clips), wanted, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(naive, wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(features(encoder, first), before)


@pytest.mark.parametrize("frames", [2, 4, 8])
def test_videomae_with_other_numbers_of_frames_goes_on_with_its_sinusoid(frames, tmp_path):
    model = reference("videomae")
    encoder = create_encoder("videomae", pretrained=write(model, tmp_path / "checkpoint"))
    built = reference("videomae", num_frames=frames)
    built.load_state_dict(model.state_dict())
    clips = clips_of(64, frames)
    torch.testing.assert_close(features(encoder, clips), expected(built, clips, "videomae"), rtol=1e-4, atol=1e-5)


def test_the_sinusoid_is_that_of_the_model():
    table = transformers.VideoMAEModel(transformers.VideoMAEConfig(num_hidden_layers=0)).embeddings.position_embeddings
    torch.testing.assert_close(sinusoid(8 * 14 * 14, 768), table[0])


@pytest.mark.parametrize(("side", "frames"), [(96, 4), (32, 4), (64, 8), (64, 3), (32, 2)])
def test_timesformer_equals_the_model_that_is_told_the_shape(side, frames, tmp_path):
    """Its layers lay tokens out by the configuration: another shape mixes places and times, or fails."""
    model = reference("timesformer")
    encoder = create_encoder("timesformer", pretrained=write(model, tmp_path / "checkpoint"))
    clips = clips_of(side, frames)
    ours = features(encoder, clips)
    model.config.image_size, model.config.num_frames = side, frames
    torch.testing.assert_close(ours, expected(model, clips, "timesformer"), rtol=1e-4, atol=1e-5)


def test_videoprism_resizes_its_own_tables(tmp_path):
    model = reference("videoprism")
    encoder = create_encoder("videoprism", pretrained=write(model, tmp_path / "checkpoint"))
    clips = clips_of(36, 6)
    frames = (clips / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        wanted = model(frames, interpolate_pos_encoding=True).last_hidden_state.mean(1)
    torch.testing.assert_close(features(encoder, clips), wanted, rtol=1e-4, atol=1e-5)


def test_biases_of_older_and_newer_checkpoints_are_loaded_and_not_left_at_zero(tmp_path):
    """They are q_bias and v_bias in files, and something else in the model: releases have loaded zeros instead."""
    model = reference("videomae")
    folder = write(model, tmp_path / "checkpoint")
    old = {
        key.replace("attention.query.bias", "attention.q_bias").replace("attention.value.bias", "attention.v_bias"): one
        for key, one in load_file(folder / "model.safetensors").items()
    }
    new = {
        key.replace("attention.q_bias", "attention.query.bias").replace("attention.v_bias", "attention.value.bias"): one
        for key, one in old.items()
    }
    assert len(old.keys() - new.keys()) == 4
    prefixed = {f"videomae.{key}": value for key, value in old.items()} | {"classifier.weight": torch.zeros(2, 24)}
    clips = clips_of(64)
    for content in (old, new, prefixed):
        save_file(content, folder / "model.safetensors", metadata={"format": "pt"})
        encoder = create_encoder("videomae", pretrained=folder)
        torch.testing.assert_close(features(encoder, clips), expected(model, clips, "videomae"), rtol=1e-4, atol=1e-5)
    without = {key: value for key, value in new.items() if not key.endswith("query.bias")}
    save_file(without, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="2 tensors are not in it"):
        create_encoder("videomae", pretrained=folder)


def test_any_tensor_that_is_not_loaded_is_an_error(checkpoint):
    name, _, folder = checkpoint
    state = load_file(folder / "model.safetensors")
    bias = next(key for key in state if key.endswith("bias") and not key.startswith("predictor"))
    cases = {
        "1 tensors are not in it": {key: value for key, value in state.items() if key != bias},
        "1 tensors belong to no part": {**state, "surprise.weight": torch.zeros(1)},
        "1 tensors have another shape": {**state, bias: torch.zeros(len(state[bias]) + 1)},
    }
    for message, content in cases.items():
        save_file(content, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(DataError, match=message):
            create_encoder(name, pretrained=folder)


def test_larger_models_give_their_encoder(tmp_path):
    config = transformers.VJEPA2Config(**TINY["vjepa2"]["architecture"], num_pooler_layers=1)
    whole = transformers.VJEPA2ForVideoClassification(config).eval()
    encoder = create_encoder("vjepa2", pretrained=write(whole, tmp_path / "vjepa2"))
    clips = clips_of(64)
    torch.testing.assert_close(features(encoder, clips), expected(whole.vjepa2, clips, "vjepa2"), rtol=1e-4, atol=1e-5)
    config = transformers.VideoMAEConfig(
        **TINY["videomae"]["architecture"], decoder_hidden_size=12, decoder_num_attention_heads=2,
        decoder_num_hidden_layers=1, decoder_intermediate_size=16,
    )  # fmt: skip
    whole = transformers.VideoMAEForPreTraining(config).eval()
    encoder = create_encoder("videomae", pretrained=write(whole, tmp_path / "videomae"))
    torch.testing.assert_close(
        features(encoder, clips), expected(whole.videomae, clips, "videomae"), rtol=1e-4, atol=1e-5
    )
    clip = transformers.VideoPrismVideoModel(
        transformers.VideoPrismVisionConfig(**TINY["videoprism"]["architecture"], num_auxiliary_layers=1)
    ).eval()
    encoder, clips = create_encoder("videoprism", pretrained=write(clip, tmp_path / "videoprism")), clips_of(72)
    torch.testing.assert_close(
        features(encoder, clips), expected(clip.vision_model, clips, "videoprism"), rtol=1e-4, atol=1e-5
    )


def test_checkpoints_in_several_files_are_joined(tmp_path):
    model = reference("videomae")
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    assert (tmp_path / "model.safetensors.index.json").is_file()
    encoder, clips = create_encoder("videomae", pretrained=tmp_path), clips_of(64)
    torch.testing.assert_close(features(encoder, clips), expected(model, clips, "videomae"), rtol=1e-4, atol=1e-5)


def test_what_the_folder_lacks_is_said(tmp_path):
    folder = write(reference("videomae"), tmp_path / "checkpoint")
    with pytest.raises(DataError, match=r"describes a model 'videomae', not 'vjepa2'\. Use encoder 'videomae'"):
        create_encoder("vjepa2", pretrained=folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(DataError, match=r"has no preprocessor_config\.json, which says how frames are normalised"):
        create_encoder("videomae", pretrained=folder)
    with pytest.raises(DataError, match="is no folder, and no name on the hub"):
        create_encoder("videomae", pretrained=tmp_path / "nothing")
    with pytest.raises(LofiError, match="architecture of 'videomae'"):
        create_encoder("videomae", architecture={"hidden_size": "many"})


def test_the_licence_is_shown_and_is_the_cards_if_there_is_one(tmp_path, caplog):
    folder = write(reference("videomae"), tmp_path / "checkpoint")
    with caplog.at_level(logging.WARNING, logger="lofi_tal"):
        assert create_encoder("videomae", pretrained=folder).licence == "CC-BY-NC-4.0"
    assert "the licence of these weights is CC-BY-NC-4.0" in caplog.text
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags: [x]\n---\n# Model\n")
    assert create_encoder("videomae", pretrained=folder).licence == "apache-2.0"


def test_a_name_on_the_hub_without_a_network_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"is not in the hub's cache .* `hf download MCG-NJU/videomae-base`"):
        create_encoder("videomae", pretrained="MCG-NJU/videomae-base")
