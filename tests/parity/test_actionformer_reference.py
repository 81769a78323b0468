"""ActionFormer against its published code: names, outputs, targets, losses, gradients, decoding, checkpoints."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from lofi_tal.errors import DataError
from lofi_tal.heads import ActionFormer, create_head
from tests.parity.actionformer_cases import CASES, SHOWN, batch, build, samples, truth

EXPECTED = json.loads((Path(__file__).parent / "actionformer.json").read_text())
SHARED = Path(__file__).resolve().parents[2].parent / "shared/data/actionformer"


@pytest.mark.parametrize("name", CASES)
def test_outputs_losses_gradients_and_decoding_equal_the_published_code(name):
    case, expected = CASES[name], EXPECTED[name]
    head = build(case).eval()
    shapes = sorted((key, list(value.shape)) for key, value in head.state_dict().items())
    assert sum(p.numel() for p in head.parameters()) == expected["parameters"]
    assert len(shapes) == expected["names"] == 229
    assert hashlib.sha256(json.dumps(shapes).encode()).hexdigest() == expected["shapes"]

    features, mask = batch(case, head.in_channels)
    outputs = head(features, None if len(set(case.lengths)) == 1 else mask)
    for key in ("logits", "offsets"):
        found = torch.tensor(samples(getattr(outputs, key), case.lengths))
        torch.testing.assert_close(found, torch.tensor(expected[key]), atol=1e-4, rtol=1e-5)

    losses = head.loss(outputs, *truth(case))
    found = [losses[key].item() for key in ("classification", "regression", "total")]
    assert found == pytest.approx(expected["losses"], rel=1e-4)
    losses["total"].backward()
    parameters = dict(head.named_parameters())
    for key in SHOWN:
        gradient = parameters[key].grad.double()
        size, total = expected["gradients"][key]
        assert gradient.abs().sum().item() == pytest.approx(size, rel=1e-3, abs=1e-6), key
        assert gradient.sum().item() == pytest.approx(total, abs=1e-3 * size + 1e-6), key

    for proposals, (count, score, _) in zip(head.proposals(outputs), expected["proposals"], strict=True):
        assert len(proposals.scores) == pytest.approx(count, abs=0.02 * count)  # what lies outside the video is cut
        assert proposals.scores.sum().item() == pytest.approx(score, rel=0.02)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared figures")
def test_the_shared_figures_of_activitynet_are_met(monkeypatch):
    monkeypatch.syspath_prepend(str(SHARED))
    from fill import filled

    expected = json.loads((SHARED / "anet_tsp.json").read_text())["anet_tsp"]
    head = ActionFormer.activitynet().eval()
    assert {key: list(value.shape) for key, value in head.state_dict().items()} == expected["keys"]
    assert sum(p.numel() for p in head.parameters()) == expected["params"]
    with torch.no_grad():
        for key, parameter in head.named_parameters():
            shape = parameter.shape
            norm = key.endswith((".ln1.weight", ".ln2.weight")) or (parameter.ndim == 3 and "norm" in key)
            if norm or (parameter.ndim == 3 and shape[0] == shape[2] == 1):
                parameter.copy_(1 + filled(key, shape, 0.05))
            elif parameter.ndim > 1:
                parameter.copy_(filled(key, shape, (2 / parameter[0].numel()) ** 0.5 * 1.2))
            else:
                parameter.copy_(filled(key, shape, 0.05))
    outputs = head(filled("input", (512, 192))[None])
    for key, levels in (("cls", outputs.logits), ("off", outputs.offsets)):
        for level, step, column, value in expected[key]:
            assert levels[level][0, step, column].item() == pytest.approx(value, abs=1e-4)
        means = [part.mean().item() for part in levels]
        assert means == pytest.approx(expected[f"{key}_mean"], abs=1e-5)
    steps = torch.tensor([[10.2, 31.7], [55, 58.5], [60, 160], [62.5, 90]])
    losses = head.loss(outputs, [(steps + 0.5) / 192])
    found = [losses[key].item() for key in ("classification", "regression", "total")]
    assert found == pytest.approx(list(expected["losses"].values()), rel=1e-4)


def test_running_mean_of_positives_starts_as_published_and_learns_in_training_alone():
    case = CASES["activitynet, masks"]
    head = build(case)
    outputs, truths = head(*batch(case, head.in_channels)), truth(case)
    positives = sum(EXPECTED["activitynet, masks"]["positives"])
    head.eval().loss(outputs, *truths)
    assert head.running.item() == 200
    first, second = (head.train().loss(outputs, *truths)["total"].item() for _ in "12")
    assert head.running.item() == pytest.approx(200 * 0.81 + positives * 0.19)
    assert second > first  # the mean falls towards the positives of the batch


@pytest.mark.parametrize("entry", ["state_dict_ema", "state_dict"])
def test_published_checkpoints_load(entry, tmp_path):
    case = CASES["thumos, masks"]
    head, other = build(case), ActionFormer.thumos(**case.options)
    weights = {f"module.{key}": value for key, value in head.state_dict().items()}
    content = {"epoch": 34, "state_dict": {}, "optimizer": {"state": {}}, entry: weights}
    if entry == "state_dict_ema":  # the averaged weights are taken, not the last ones
        content["state_dict"] = {key: torch.zeros_like(value) for key, value in weights.items()}
    torch.save(content, tmp_path / "epoch_034.pth.tar")
    other.load_official(tmp_path / "epoch_034.pth.tar")
    for key, value in head.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)
    with pytest.raises(DataError, match=r"does not fit this head: .* of 229 tensors differ; .*head\.options"):
        create_head("actionformer", 24, num_classes=19, width=32).load_official(tmp_path / "epoch_034.pth.tar")
