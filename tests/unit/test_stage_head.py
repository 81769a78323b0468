"""Stage 3's search of a learning rate: what diverges costs its candidate, not the run; weights that are not finite."""

import logging
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from lofi_tal.classifier import ProposalClassifier, load_classifier, save_classifier
from lofi_tal.config import ClassifierSection, DetectSection
from lofi_tal.data import TruthVideo, VideoFile
from lofi_tal.encoders import TSMResNet, load_weights
from lofi_tal.errors import DataError, DivergedError
from lofi_tal.features import FeatureSet
from lofi_tal.head_settings import HeadSection
from lofi_tal.heads import create_head, load_head, save_head
from lofi_tal.runtime import WeightAverage, make_fabric, open_stage
from lofi_tal.snippets import Windows
from lofi_tal.stages.head import Search, train_head

SIZES = {"hidden_1d": 16, "hidden_2d": 8, "hidden_3d": 16}


def features(names, seed):
    generator = torch.Generator().manual_seed(seed)
    videos = [
        TruthVideo(name, VideoFile(Path(f"{name}.mp4"), name, 20.0, 200), torch.tensor([[0.2, 0.6]]), torch.tensor([0]))
        for name in names
    ]
    return FeatureSet(videos, [torch.randn(4, 10, generator=generator) for _ in names])


def search(folder, lrs, **changes):
    return Search(
        folder,
        make_fabric("cpu"),
        lambda: create_head("gtad", 4, **SIZES),
        windows=Windows(10),
        labels=["jump"],
        section=HeadSection(lrs=lrs, epochs=4, batch=1, options=SIZES, refit=False),
        classifier=ClassifierSection(epochs=1),
        detect=DetectSection(),
        tiou=[0.5],
        inputs={},
        seed=0,
        **{"resume": False, "overwrite": False, "tracking": {"csv": {}}, "quiet": True, **changes},
    )


def test_a_rate_that_diverges_is_dropped_and_the_search_goes_on(tmp_path, caplog):
    train, selection = features("abcd", 0), features("ef", 1)
    with caplog.at_level(logging.WARNING, logger="lofi_tal"):
        logging.getLogger("lofi_tal").propagate = True
        _, _, chosen = search(tmp_path / "head", (1e6, 1e-3)).run(train, selection)
    assert chosen["lr"] == 1e-3
    diverged, kept = chosen["candidates"]
    assert diverged["lr"] == 1e6
    assert str(tmp_path / "head" / "lr-1e+06") in diverged["diverged"]
    assert "checkpoint is kept" not in diverged["diverged"]
    assert kept["selection_mAP"] >= 0
    assert "head.lrs: 1e+06 is dropped" in caplog.text
    again = search(tmp_path / "head", (1e6, 1e-3)).run(train, selection)[2]  # nothing is trained again
    assert again["candidates"] == chosen["candidates"]


def test_rates_that_all_diverge_end_in_one_message_that_lists_them(tmp_path):
    with pytest.raises(DivergedError, match=r"Every learning rate of head\.lrs diverged \(1e\+06, 100000\)"):
        search(tmp_path / "head", (1e6, 1e5)).run(features("abcd", 0), features("ef", 1))


def test_without_selection_videos_the_next_rate_stands_in(tmp_path):
    chosen = search(tmp_path / "head", (1e6, 1e-3, 2e-3)).run(features("abcd", 0), features("", 1))[2]
    assert chosen["lr"] == 1e-3
    assert [candidate["lr"] for candidate in chosen["candidates"]] == [1e6, 1e-3]


# --- weights that are not finite, named by tensor and file


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_starting_weights_that_are_not_finite_are_named(tmp_path, value):
    encoder = TSMResNet(width=8, stem="compact")
    state = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in encoder.state_dict().items()}
    name = "base_model.layer1.0.conv2.weight"
    state[name].view(-1)[:2] = value
    before = encoder.state_dict()["base_model.conv1.weight"].clone()
    save_file(state, tmp_path / "encoder.safetensors")
    torch.save({"state_dict": state}, tmp_path / "public.pth")
    for path in (tmp_path / "public.pth", tmp_path / "encoder.safetensors"):
        with pytest.raises(DataError, match=rf"{path.name} holds NaN or infinity: 2 of the \d+ numbers of '{name}'"):
            load_weights(encoder, path)
    assert torch.equal(encoder.state_dict()["base_model.conv1.weight"], before)


def test_a_head_and_a_classifier_that_are_not_finite_are_named(tmp_path):
    head, classifier = create_head("gtad", 4, **SIZES), ProposalClassifier(4, 2)
    for module in (head, classifier):
        parameter = next(iter(module.parameters()))
        parameter.data.view(-1)[0] = float("nan")
    save_head(head, tmp_path)
    save_classifier(classifier, tmp_path, {})
    with pytest.raises(DataError, match=r"head\.safetensors holds NaN or infinity: 1 of"):
        load_head(tmp_path)
    with pytest.raises(DataError, match=r"classifier\.safetensors holds NaN or infinity: 1 of"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("constant", [True, False])
def test_the_average_of_a_head_is_that_of_the_published_formula_if_asked_for(constant, tmp_path, monkeypatch):
    """``ModelEma`` of happyharrycn/actionformer_release: 0.9 · average + 0.1 · weights after every step."""
    data, steps = features("abcd", 0), []
    update = WeightAverage.update

    def noted(self):
        steps.append({name: value.detach().clone() for name, value in self.module.state_dict().items()})
        update(self)

    monkeypatch.setattr(WeightAverage, "update", noted)
    section = HeadSection(lrs=(1e-2,), epochs=4, batch=2, ema=0.9, ema_constant=constant)
    torch.manual_seed(0)
    head = create_head("actionformer", 4, width=8, heads=2, levels=2, windows=3, stem_blocks=1)
    expected = {name: value.clone() for name, value in head.state_dict().items()}
    stage = open_stage(tmp_path / "head", "head", {}, tracking={"csv": {}})
    train_head(stage, make_fabric("cpu"), head, data, Windows(10), lr=1e-2, section=section, seed=0, quiet=True)
    assert len(steps) == 8
    for number, weights in enumerate(steps, 1):
        decay = 0.9 if constant else min(0.9, (1 + number) / (10 + number))
        expected = {name: decay * value + (1 - decay) * weights[name] for name, value in expected.items()}
    for name, value in head.state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_a_constant_average_needs_an_average_and_changes_no_fingerprint_while_unset():
    with pytest.raises(ValidationError, match=r"set head\.ema \(0\.999 in ActionFormer\)"):
        HeadSection(ema_constant=True)
    assert "ema_constant" not in HeadSection(ema=0.9).model_dump(mode="json")
    assert HeadSection(ema=0.9, ema_constant=True).model_dump(mode="json")["ema_constant"] is True
