"""Which public encoder a recipe proposes: by machine, weights and licence, each with its reason."""

from dataclasses import replace

import pytest
import torch

from lofi_tal.encoders import create_encoder, public_source
from lofi_tal.errors import LofiError
from lofi_tal.proposing import CANDIDATES, Candidate, is_reachable, propose_encoder

GIB = 2**30
SMALL = Candidate("tsm_resnet18", "imagenet", "BSD", True, True, "a small one", size=64)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Let torch's cache be empty, and return what puts weights there."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def put(name, pretrained):
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
        assert public_source(candidate.pretrained, candidate.name)[0].startswith("https://")
        assert create_encoder(candidate.name).channels
    assert any(candidate.cpu and candidate.permissive for candidate in CANDIDATES)


def test_a_cpu_gets_the_small_encoder_from_the_cache_without_a_question_to_the_network(cache):
    cache("tsm_resnet18", "imagenet")
    proposed, rejected = propose_encoder("permissive", gpu=None, batch=16, reachable=lambda url: pytest.fail("asked"))
    assert (proposed.candidate.name, proposed.candidate.pretrained) == ("tsm_resnet18", "imagenet")
    assert "small enough for a CPU" in proposed.reasons["encoder.name"]
    assert "licence: BSD-3-Clause" in proposed.reasons["encoder.pretrained"]
    assert proposed.lofi == {}
    assert len(rejected) == 2
    assert all("too slow to train on a CPU" in reason for reason in rejected)


def test_without_weights_nothing_is_proposed_and_it_is_said_why(cache):
    proposed, rejected = propose_encoder("any", gpu=None, batch=16, reachable=offline)
    assert proposed is None
    assert "download.pytorch.org cannot be reached" in rejected[-1]
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
