"""Compiled encoders: the same weights and names, the fastest way by measurement, and one choice for a run."""

import copy
import time
from functools import partial

import pytest
import torch
from torch import nn

from lofi_tal.config import make_recipe
from lofi_tal.encoders import adapt_encoder, create_encoder
from lofi_tal.encoders.adapters import is_of_an_adapter
from lofi_tal.errors import LofiError
from lofi_tal.files import write_json
from lofi_tal.run import Run
from lofi_tal.runtime import check_compile, compile_module, compiling, fastest_way, make_fabric, precision_of
from tests.small_vits import SmallViT


@pytest.fixture
def without_compiler(monkeypatch):
    """The way through torch.compile without code being generated, which takes a minute."""
    monkeypatch.setattr(compiling, "_WAYS", {"on": {"backend": "aot_eager"}, "graphs": {"backend": "aot_eager"}})


@pytest.mark.usefixtures("without_compiler")
def test_a_compiled_encoder_gives_the_same_features_gradients_and_names():
    torch.manual_seed(0)
    plain = create_encoder("tsm_resnet18_narrow", width=8)
    compiled = create_encoder("tsm_resnet18_narrow", width=8)
    compiled.load_state_dict(plain.state_dict())
    compile_module(compiled, "on")
    assert compiled._compiled_call_impl is not None
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    clips = torch.randint(0, 256, (2, 4, 3, 24, 24), dtype=torch.uint8)
    ours, theirs = compiled(clips), plain(clips)
    assert torch.allclose(ours, theirs, atol=1e-5)
    for one in (ours, theirs):
        one.square().mean().backward()
    for one, other in zip(compiled.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-5)


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize(
    ("make", "train", "adapter"),
    [
        (partial(create_encoder, "tsm_resnet18_narrow", width=8), "last 2", None),
        (partial(create_encoder, "tsm_resnet18_narrow", width=8), "frozen", None),
        (SmallViT, "adapter", {"name": "temporal"}),
        (SmallViT, "adapter", {"name": "lora", "rank": 2}),
    ],
)
def test_a_compiled_part_gives_the_same_features_and_gradients_and_leaves_the_rest_frozen(make, train, adapter):
    if adapter is not None and adapter["name"] == "lora":
        pytest.importorskip("peft")
    torch.manual_seed(0)
    plain, compiled = make(), make()
    for encoder in (plain, compiled):
        adapt_encoder(encoder, train, adapter)
        encoder.train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if is_of_an_adapter(name):  # which begin as the identity
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    compiled.load_state_dict(plain.state_dict())
    before = copy.deepcopy(compiled.state_dict())
    compile_module(compiled, "on")
    assert compiled.state_dict().keys() == plain.state_dict().keys() == before.keys()
    for size in (32, 24):  # as the phases of stage 2 change it
        clips = torch.randint(0, 256, (2, 4, 3, size, size), dtype=torch.uint8, generator=generator)
        ours, theirs = compiled(clips), plain(clips)
        assert torch.allclose(ours, theirs, atol=1e-5)
        if train == "frozen":
            assert not ours.requires_grad
            continue
        for one in (ours, theirs):
            one.square().mean().backward()
    trained = {name for name, one in plain.named_parameters() if one.requires_grad}
    for (name, one), other in zip(compiled.named_parameters(), plain.parameters(), strict=True):
        assert (one.grad is not None) == (other.grad is not None) == (name in trained), name
        assert one.grad is None or torch.allclose(one.grad, other.grad, atol=1e-5), name
    if trained:
        torch.optim.SGD([one for one in compiled.parameters() if one.requires_grad], lr=0.1).step()
    moved = {name for name, tensor in compiled.state_dict().items() if not torch.equal(tensor, before[name])}
    owners = {name.rpartition(".")[0] for name in trained}
    assert trained <= moved
    assert {name.rpartition(".")[0] for name in moved} <= owners  # statistics of BatchNorm too


class Slow(nn.Module):
    """Takes as long as it is told."""

    def __init__(self, seconds):
        super().__init__()
        self.weight, self.seconds = nn.Parameter(torch.ones(1)), seconds

    def forward(self, inputs):
        time.sleep(self.seconds)
        return inputs * self.weight


@pytest.mark.parametrize(
    ("seconds", "expected"), [({"off": 0.02, "on": 0.002}, "on"), ({"off": 0.002, "on": 0.02}, "off")]
)
def test_the_fastest_way_is_taken(monkeypatch, seconds, expected):
    monkeypatch.setattr(compiling, "compile_module", lambda module, way: setattr(module, "seconds", seconds[way]))
    way, times = fastest_way(Slow(0.0), torch.ones(3), make_fabric("cpu", "fp32"))
    assert way == expected
    assert times.keys() == {"off", "on"}


def test_a_way_that_fails_is_left_out(monkeypatch):
    def time_step(model, inputs, fabric):
        if model.seconds == "on":
            raise RuntimeError("no compiler")
        return 0.1

    monkeypatch.setattr(compiling, "compile_module", lambda module, way: setattr(module, "seconds", way))
    monkeypatch.setattr(compiling, "_time_step", time_step)
    assert fastest_way(Slow(0.0), torch.ones(3), make_fabric("cpu", "fp32")) == ("off", {"off": 0.1})


def test_what_does_not_go_together_is_refused():
    with pytest.raises(LofiError, match="'yes' is unknown; allowed: off, on, graphs, auto"):
        check_compile("yes")
    with pytest.raises(LofiError, match="cannot be compiled"):
        check_compile("on", "checkpoint")
    check_compile("on", "chunked")
    check_compile("off", "checkpoint")


def test_a_run_keeps_its_precision_and_its_way_to_compile(tmp_path):
    """Whatever a trial, or another machine, would choose now."""
    recipe = make_recipe({"data": {"annotations": "a.json", "videos": "v"}})
    run = tmp_path / "run"

    def taken(**options):
        pipeline = Run(recipe, run, device="cpu", quiet=True, **options)
        return precision_of(pipeline.fabric), pipeline.compile

    assert taken(precision="fp32") == ("fp32", "off")
    write_json(run / "environment.json", {"precision": "bf16", "compile": "on"})
    assert taken() == ("bf16", "on")
    assert taken(compile="auto") == ("bf16", "on")
    assert taken(precision="fp32", compile="off") == ("fp32", "off")
    assert taken(precision="fp32", overwrite=True) == ("fp32", "off")
    write_json(run / "environment.json", {"precision": "fp8"})  # of another version, or damaged
    assert taken(compile="off")[0] in ("fp32", "bf16")
