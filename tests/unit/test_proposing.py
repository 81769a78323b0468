"""Which public encoder a recipe proposes: by machine, weights and licence, each with its reason."""

from dataclasses import replace

import pytest
import torch

from lofi_tal.config import make_recipe
from lofi_tal.encoders import ENCODERS, outline_encoder, public_source
from lofi_tal.errors import LofiError
from lofi_tal.proposing import CANDIDATES, Candidate, is_reachable, propose_encoder
from tests.hub import hub  # noqa: F401 (a fixture)

GIB = 2**30
SMALL = Candidate("tsm_resnet18", "imagenet", "BSD", True, True, "a small one", snippets={"size": 64})


@pytest.fixture
def cache(tmp_path, hub, monkeypatch):  # noqa: F811
    """Let the caches of torch and of the hub be empty, and return what puts weights there."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def put(name, pretrained):
        if "/" in pretrained:
            (tmp_path / "content").mkdir()
            (tmp_path / "content" / "model.safetensors").write_bytes(b"weights")
            hub(pretrained, tmp_path / "content")
            return
        path = public_source(pretrained, name)[1]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"weights")

    return put


def offline(url):
    return False


def online(url):
    return True


def test_every_candidate_has_public_weights_and_can_be_built():
    for candidate in CANDIDATES:
        if candidate.package is not None:
            pytest.importorskip(candidate.package)
        assert candidate.source()[0].startswith("https://")
        encoder = outline_encoder(candidate.name, candidate.options)
        snippets = {"frames": 8, "size": 224, **candidate.snippets}
        encoder.takes.check(candidate.name, snippets["frames"], snippets["size"], snippets["size"])
        section = make_recipe({"data": {"annotations": "a", "videos": "v"}, "encoder": candidate.encoder}).encoder
        assert (section.name, section.train) == (candidate.name, candidate.train)
        assert candidate.name in ENCODERS
    assert any(candidate.cpu and candidate.permissive and candidate.package is None for candidate in CANDIDATES)
    assert all("NC" not in candidate.licence for candidate in CANDIDATES if candidate.permissive)


def test_a_cpu_gets_the_small_encoder_from_the_cache_without_a_question_to_the_network(cache):
    def asked(url):
        pytest.fail(f"asked {url}")

    cache("tsm_resnet18", "imagenet")
    missing = {"reachable": asked, "installed": lambda package: False}
    proposed, rejected = propose_encoder("permissive", gpu=None, batch=16, **missing)
    assert str(proposed.candidate) == "tsm_resnet18 (imagenet)"
    assert "small enough for a CPU" in proposed.reasons["encoder.name"]
    assert "licence: BSD-3-Clause" in proposed.reasons["encoder.pretrained"]
    assert proposed.lofi == {}
    assert "mobilenetv2_100 (imagenet): timm is missing: pip install 'lofi-tal[encoders]'" in rejected
    pytest.importorskip("timm")
    cache("timm", "timm/mobilenetv2_100.ra_in1k")
    proposed, _ = propose_encoder("permissive", gpu=None, batch=16, reachable=asked)
    assert proposed.candidate.encoder == {
        "name": "timm", "pretrained": "imagenet", "options": {"model": "mobilenetv2_100", "temporal": "shift"},
    }  # fmt: skip
    assert "hub; licence: Apache-2.0" in proposed.reasons["encoder.pretrained"]
    assert proposed.start.options["model"] == "mobilenetv2_100"


def test_a_gpu_gets_the_best_that_fits_whose_weights_can_be_had(cache):
    pytest.importorskip("transformers")
    shallow = {"vjepa2": 2, "videomae": 1}  # layers, to be quick
    few = [
        replace(one, options={"architecture": {"num_hidden_layers": shallow[one.name]}})
        if one.name in shallow
        else replace(one, options={"width": 8})
        for one in CANDIDATES
        if one.name in (*shallow, "r2plus1d_18")
    ]

    def on(gibibytes, licence="permissive", **given):
        return propose_encoder(
            licence, gpu=int(gibibytes * GIB), batch=2, candidates=few, **{"reachable": online, **given}
        )

    proposed, rejected = on(79)
    assert proposed.candidate.encoder == {
        "name": "vjepa2", "pretrained": "facebook/vjepa2-vitl-fpc64-256", "options": few[0].options, "train": "adapter",
    }  # fmt: skip
    assert "at T 25×256px needs" in proposed.reasons["encoder.name"]
    assert (proposed.start.snippets, rejected) == ({"frames": 16, "size": 256}, [])
    proposed, rejected = on(79, reachable=lambda url: "huggingface.co" not in url)
    assert proposed.candidate.name == "r2plus1d_18"
    assert "huggingface.co cannot be reached" in rejected[0]
    assert "(--licence any accepts them)" in rejected[1]
    proposed, rejected = on(1.9, "any")
    assert proposed.candidate.name == "videomae"
    assert "one video at T 25×256px needs" in rejected[0]


def test_without_weights_nothing_is_proposed_and_it_is_said_why(cache):
    asked = []

    def counted(url):
        asked.append(url.split("/")[2])
        return False

    propose_encoder("any", gpu=None, batch=16, reachable=counted)
    assert len(asked) == len(set(asked))
    proposed, rejected = propose_encoder("any", gpu=None, batch=16, reachable=offline)
    assert proposed is None
    assert "download.pytorch.org cannot be reached" in rejected[-1]
    assert all(any(str(one) in line for line in rejected) for one in CANDIDATES)
    assert len({line.rpartition(": ")[2] for line in rejected}) == len(rejected)  # each reason once
    proposed, _ = propose_encoder("any", gpu=None, batch=16, reachable=online)
    assert "downloaded once" in proposed.reasons["encoder.pretrained"]


def test_weights_that_forbid_commercial_use_must_be_accepted(cache):
    closed = replace(SMALL, permissive=False, licence="CC-BY-NC-4.0")
    for licence, found in (("any", closed), ("permissive", SMALL)):
        proposed, rejected = propose_encoder(licence, gpu=None, batch=4, candidates=(closed, SMALL), reachable=online)
        assert proposed.candidate is found
        assert any("CC-BY-NC-4.0 (--licence any accepts them)" in reason for reason in rejected) == (found is SMALL)
    with pytest.raises(LofiError, match="--licence 'free' is unknown; allowed: any, permissive"):
        propose_encoder("free", gpu=None, batch=4)


def test_the_memory_of_the_gpu_decides_how_stage_2_is_trained(cache):
    large, _ = propose_encoder("any", gpu=80 * GIB, batch=4, candidates=(SMALL,), reachable=online)
    assert large.lofi == {}
    assert "of this GPU's 80.0" in large.reasons["encoder.name"]
    middle, _ = propose_encoder("any", gpu=int(2.0 * GIB), batch=16, candidates=(SMALL,), reachable=online)
    assert middle.lofi
    none, rejected = propose_encoder("any", gpu=int(1.05 * GIB), batch=4, candidates=(SMALL,), reachable=online)
    assert none is None
    assert "of this GPU's 1.1" in rejected[0] or "of this GPU's 1.0" in rejected[0]


def test_a_blocked_network_is_no_error():
    assert not is_reachable("https://download.pytorch.org/models/none.pth")
