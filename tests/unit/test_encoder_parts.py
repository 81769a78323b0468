"""How much of an encoder is trained: what is frozen stays to the bit, and what is trained is what was asked for."""

import copy

import pytest
import torch
from torch import nn

from lofi_tal.config import make_recipe
from lofi_tal.encoders import (
    TemporalAdapter,
    adapt_encoder,
    add_adapter,
    base_of,
    create_encoder,
    layer_groups,
    layer_rates,
    load_encoder,
    save_encoder,
    set_batchnorm_mode,
    trainable,
)
from lofi_tal.encoders.adapters import is_of_an_adapter
from lofi_tal.encoders.registry import ENCODERS
from lofi_tal.errors import DataError, LofiError
from lofi_tal.planning.accounting import encoder_memory
from lofi_tal.stages.end_to_end import EndToEnd
from lofi_tal.stages.lofi import parameter_groups
from lofi_tal.stages.strategies import Strategy, encode
from tests.encoders import tiny
from tests.small_vits import SmallViT

DATA = {"annotations": "a.json", "videos": "v"}
CLIPS = torch.randint(0, 256, (5, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
VITS = [{}, {"tubelet": None}, {"class_token": True}, {"as_tuple": True}, {"tubelet": None, "class_token": True}]


def small(name="tsm_resnet18", **options):
    torch.manual_seed(0)
    return create_encoder(name, **({"width": 8, "stem": "compact"} if name == "tsm_resnet18" else {}), **options)


def vit(**options):
    torch.manual_seed(0)
    return SmallViT(**options)


def awake(encoder):
    """Give adapters weights that do something: they begin as the identity."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if is_of_an_adapter(name):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return encoder


def test_groups_hold_every_parameter_once_from_input_to_output():
    for encoder in (small(), vit(class_token=True), small("swin3d_t"), small("r2plus1d_18", width=8)):
        groups = layer_groups(encoder)
        held = [id(one) for _, modules in groups for one in trainable(modules, everything=True)]
        assert sorted(held) == sorted(id(one) for one in encoder.parameters())
    names = [name for name, _ in layer_groups(small())]
    assert names[0] == "stem"
    assert names[1:] == [f"base_model.layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
    encoder = vit()
    assert encoder.norm in layer_groups(encoder)[-1][1]  # what stands behind the last block belongs to it


@pytest.mark.parametrize("make", [small, vit])
@pytest.mark.parametrize("count", [1, 3])
def test_last_n_trains_these_groups_and_no_others(make, count):
    encoder = make()
    adapt_encoder(encoder, f"last {count}")
    groups = layer_groups(encoder)
    wanted = {id(one) for _, modules in groups[-count:] for one in trainable(modules, everything=True)}
    assert {id(one) for one in encoder.parameters() if one.requires_grad} == wanted
    encoder.train()
    before = copy.deepcopy(encoder.state_dict())
    set_batchnorm_mode(encoder, "train")
    step(encoder)
    changed = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    inside = {name for name, one in encoder.named_parameters() if id(one) in wanted}
    assert {name for name in changed if "running" not in name and "num_batches" not in name} <= inside
    assert changed & inside
    tops = {name.rpartition(".")[0] for name in inside}
    assert {name.rpartition(".")[0] for name in changed} <= tops  # statistics of trained layers alone have moved


def step(encoder, strategy=Strategy()):  # noqa: B008 (frozen)
    optimizer = torch.optim.SGD([one for one in encoder.parameters() if one.requires_grad], lr=0.1)
    encode(encoder, CLIPS, strategy).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("mode", ["train", "frozen_stats", "frozen"])
def test_frozen_stays_to_the_bit_in_every_mode_and_after_every_call_of_train(mode):
    encoder = small()
    adapt_encoder(encoder, "frozen")
    before = copy.deepcopy(encoder.state_dict())
    model = nn.ModuleList([encoder]).train()
    set_batchnorm_mode(encoder, mode)
    model.train()
    assert not encoder(CLIPS).requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert not any(one.requires_grad for one in encoder.parameters())


def test_random_depth_is_off_in_what_is_frozen():
    encoder = small("swin3d_t")
    adapt_encoder(encoder, "frozen")
    encoder.train()
    assert torch.equal(encoder(CLIPS), encoder(CLIPS))


@pytest.mark.parametrize("train", ["last 1", "frozen"])
def test_a_copy_is_frozen_where_the_original_is(train):
    encoder = small()
    adapt_encoder(encoder, train)
    again = copy.deepcopy(encoder).train()
    inside = {id(module) for module in again.modules()}
    assert all(id(module) in inside and not module.training for module in again.frozen)
    assert len(again.frozen) == len(encoder.frozen)


def test_below_the_first_trained_layer_no_activations_are_kept():
    saved = {}
    for train in ("full", "last 3", "last 1", "frozen"):
        encoder = small()
        adapt_encoder(encoder, train)
        found = encoder_memory(encoder, 4, 4, 32, strategy=Strategy(), bf16=False)
        saved[train] = found.saved
        assert (found.backward > 0) == (train != "frozen")
    assert saved["frozen"] <= 4 * 4 * encoder.channels * 4
    assert saved["frozen"] < saved["last 1"] < 0.15 * saved["full"]
    assert saved["last 1"] < saved["last 3"] < 0.4 * saved["full"]


# --- adapters


@pytest.mark.parametrize("adapter", ["temporal", "lora"])
@pytest.mark.parametrize("options", VITS)
def test_a_new_adapter_leaves_the_features_as_they_are_and_trains_alone(adapter, options):
    if adapter == "lora":
        pytest.importorskip("peft")
    encoder = vit(**options).eval()
    before = encoder(CLIPS)
    names = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    adapt_encoder(encoder, "adapter", {"name": adapter})
    torch.testing.assert_close(encoder(CLIPS), before, rtol=1e-5, atol=1e-5)
    awake(encoder).train()
    state = copy.deepcopy(encoder.state_dict())
    step(encoder)
    changed = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, state[name])}
    adapters = {name for name, _ in encoder.named_parameters() if is_of_an_adapter(name)}
    assert changed == adapters  # all of them learn, and nothing else
    if adapter == "temporal":
        assert names.keys() <= encoder.state_dict().keys()
    else:
        assert {name.replace(".base_layer", "") for name in encoder.state_dict().keys() - adapters} == names.keys()


def test_the_temporal_adapter_is_what_its_paper_defines_worked_by_hand():
    """Down, GELU, depthwise convolution over time and a 1×1 beside the identity, up, added to what came in."""
    torch.manual_seed(0)
    adapter = TemporalAdapter(8)
    nn.init.normal_(adapter.up.weight)
    tokens = torch.randn(2, 5, 3, 8)
    out = adapter(tokens)
    hidden = nn.functional.gelu(adapter.down(tokens))
    padded = nn.functional.pad(hidden, (0, 0, 0, 0, 1, 1))  # one step of zeros at both ends of time
    kernel = adapter.time.weight[:, 0]  # (c, 3)
    seen = sum(kernel[:, k] * padded[:, k : k + 5] for k in range(3)) + adapter.time.bias
    expected = tokens + adapter.scale * adapter.up(hidden + adapter.mix(seen))
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    assert adapter.down.out_features == 2  # a quarter of the channels


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_gradients_of_the_temporal_adapter_in_bf16_are_those_of_fp32(steps, dtype):
    torch.manual_seed(0)
    adapter = TemporalAdapter(32).double()
    nn.init.normal_(adapter.up.weight)
    tokens, up = torch.randn(3, steps, 4, 32), torch.randn(3, steps, 4, 32)
    (adapter(tokens.double()) * up).sum().backward()
    exact = [one.grad.clone() for one in adapter.parameters()]
    adapter.float().zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        out = adapter(tokens)
    (out.float() * up).sum().backward()
    allowed = 0.03 if dtype is torch.bfloat16 else 1e-4
    for one, grad in zip(adapter.parameters(), exact, strict=True):
        assert float((one.grad.double() - grad).norm()) <= allowed * float(grad.norm()) + 1e-6


@pytest.mark.parametrize("options", VITS)
def test_the_temporal_adapter_sees_time_and_nothing_of_other_snippets(options):
    encoder = awake_temporal(vit(**options))
    with torch.no_grad():
        before = encoder(CLIPS)
        changed = CLIPS.clone()
        changed[2] = 255 - changed[2]
        after = encoder(changed)
        assert torch.equal(before[[0, 1, 3, 4]], after[[0, 1, 3, 4]])
        backwards = encoder(CLIPS.flip(1)) if options.get("tubelet", 2) is None else None
        plain = vit(**options).eval()
        if backwards is not None:  # frame by frame, only the adapter knows the order
            torch.testing.assert_close(plain(CLIPS.flip(1)), plain(CLIPS), rtol=1e-4, atol=1e-5)
            assert not torch.allclose(backwards, before, atol=1e-3)


@pytest.mark.parametrize("name", ["videomae", "videoprism", "timesformer"])
def test_the_temporal_adapter_knows_where_time_is_in_each_video_transformer(name):
    """Frames of one colour each, without positions: tokens of a frame are alike, and those of two frames are not."""
    encoder = tiny(name).eval()
    add_adapter(encoder)
    with torch.no_grad():
        for key, tensor in [*encoder.named_parameters(), *encoder.named_buffers()]:
            if key.endswith(("positions", "position_embeddings", "time_embeddings")):
                tensor.zero_()
    seen = []
    for block in encoder.blocks():
        block.temporal_adapter.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    frames, size = encoder.takes.nearest_frames(4), encoder.takes.nearest_size(64)
    colours = torch.randint(0, 256, (3, frames, 3, 1, 1), dtype=torch.uint8)
    encoder(colours.expand(-1, -1, -1, size, size).contiguous())
    assert len(seen) == len(encoder.blocks())
    steps = frames // encoder.takes.frame_multiple
    for tokens in seen:  # (N, T', P, C), or (N·P, T', 1, C)
        assert tokens.shape[1] == steps
        assert torch.allclose(tokens, tokens[:, :, :1], atol=1e-5)
        assert (tokens[:, 1:] - tokens[:, :-1]).abs().amax((2, 3)).min() > 1e-3


def awake_temporal(encoder):
    add_adapter(encoder)
    return awake(encoder).eval()


@pytest.mark.parametrize("options", VITS)
@pytest.mark.parametrize("strategy", ["checkpoint", "chunked"])
@pytest.mark.parametrize("train", ["adapter", "last 2"])
def test_gradients_of_parts_equal_plain(options, strategy, train):
    encoder = vit(**options)
    adapt_encoder(encoder, train)
    awake(encoder).train()
    grads = []
    for chosen in (Strategy(), Strategy(strategy, chunk=2)):
        encoder.zero_grad()
        encode(encoder, CLIPS, chosen).square().sum().backward()
        grads.append({name: one.grad.clone() for name, one in encoder.named_parameters() if one.grad is not None})
    assert grads[0].keys() == grads[1].keys() == {name for name, one in encoder.named_parameters() if one.requires_grad}
    for name, grad in grads[0].items():
        assert (grads[1][name] - grad).abs().max() <= 1e-4 * max(1.0, float(grad.abs().max())), name


def test_lora_goes_to_layers_that_are_called_and_not_to_those_whose_weights_are_only_read():
    pytest.importorskip("peft")
    for encoder in (vit(direct=True), small("swin3d_t")):
        adapt_encoder(encoder, "adapter", {"name": "lora", "rank": 2})
        awake(encoder).train()
        encoder(CLIPS).square().sum().backward()
        learnt = {name: one.grad for name, one in encoder.named_parameters() if is_of_an_adapter(name)}
        assert learnt
        assert all(grad is not None and grad.abs().max() > 0 for grad in learnt.values())
        assert not any("qkv" in name for name in learnt)
    assert any("qkv" in name for name in lora_of(vit()))


def lora_of(encoder):
    add_adapter(encoder, "lora", rank=2)
    return [name for name, _ in encoder.named_parameters() if is_of_an_adapter(name)]


@pytest.mark.parametrize("adapter", ["temporal", "lora"])
def test_adapters_fit_swin_and_are_refused_where_no_block_takes_them(adapter):
    if adapter == "lora":
        pytest.importorskip("peft")
    for name in ("tsm_resnet18", "r2plus1d_18"):
        encoder = small() if name == "tsm_resnet18" else small(name, width=8)
        with pytest.raises(LofiError, match=f"adapter '{adapter}' does not fit {name}"):
            adapt_encoder(encoder, "adapter", {"name": adapter})
    encoder = small("swin3d_t").eval()
    with torch.no_grad():
        before = encoder(CLIPS)
        adapt_encoder(encoder, "adapter", {"name": adapter})
        torch.testing.assert_close(encoder(CLIPS), before, rtol=1e-4, atol=1e-4)
    assert encoder.blocks()  # what is checkpointed is found under its adapted class


# --- learning rates


def test_layer_decay_gives_each_group_a_share_of_the_rate_behind_it():
    recipe = make_recipe({"data": DATA, "lofi": {"lr": 0.1, "encoder_lr": 0.01, "layer_decay": 0.5}})
    encoder = small()
    model = EndToEnd(encoder, nn.Linear(2, 2))
    groups = parameter_groups(model, recipe.lofi)
    assert [group.get("lr_scale", 1.0) for group in groups] == [1.0] + [
        pytest.approx(0.1 * 0.5**place) for place in range(len(layer_groups(encoder)) - 1, -1, -1)
    ]
    held = [id(one) for group in groups for one in group["params"]]
    assert sorted(held) == sorted(id(one) for one in model.parameters())
    adapt_encoder(encoder, "last 2")
    trained = parameter_groups(model, recipe.lofi)
    assert [group.get("lr_scale", 1.0) for group in trained] == [1.0, pytest.approx(0.05), pytest.approx(0.1)]
    assert len(layer_rates(encoder, None)) == 1


# --- what is saved


@pytest.fixture
def known_vit():
    ENCODERS.register("small_vit")(SmallViT)
    yield "small_vit"
    ENCODERS._registered.pop("small_vit")


@pytest.mark.parametrize("adapter", ["temporal", "lora"])
@pytest.mark.parametrize("alone", [False, True])
def test_a_folder_holds_everything_or_base_and_adapter_and_gives_the_same_features(known_vit, tmp_path, adapter, alone):
    if adapter == "lora":
        pytest.importorskip("peft")
    torch.manual_seed(0)
    base = create_encoder(known_vit)
    save_encoder(base, known_vit, tmp_path / "base")
    encoder = create_encoder(known_vit, pretrained=tmp_path / "base")
    adapt_encoder(encoder, "adapter", {"name": adapter})
    if alone:
        encoder.base = base_of(encoder, tmp_path / "base")
    awake(encoder).eval()
    save_encoder(encoder, known_vit, tmp_path / "adapted")
    for again in (load_encoder(tmp_path / "adapted"), create_encoder(known_vit, pretrained=tmp_path / "adapted")):
        assert again.adapter == encoder.adapter
        assert torch.equal(again.eval()(CLIPS), encoder(CLIPS))
        assert again.base == encoder.base
    sizes = [(tmp_path / name / "encoder.safetensors").stat().st_size for name in ("base", "adapted")]
    assert (sizes[1] < sizes[0]) is alone


def test_adapters_alone_need_their_own_weights(known_vit, tmp_path):
    torch.manual_seed(0)
    save_encoder(create_encoder(known_vit), known_vit, tmp_path / "base")
    encoder = create_encoder(known_vit, pretrained=tmp_path / "base")
    adapt_encoder(encoder, "adapter")
    encoder.base = base_of(encoder, tmp_path / "base")
    save_encoder(awake(encoder), known_vit, tmp_path / "adapted")
    weights = tmp_path / "base" / "encoder.safetensors"
    content = weights.read_bytes()
    save_encoder(create_encoder(known_vit), known_vit, tmp_path / "base")  # other random ones
    with pytest.raises(DataError, match="adapters for other weights"):
        load_encoder(tmp_path / "adapted")
    weights.unlink()
    with pytest.raises(DataError, match=r"put that file into the folder as base\.safetensors"):
        load_encoder(tmp_path / "adapted")
    (tmp_path / "adapted" / "base.safetensors").write_bytes(content)
    assert torch.equal(load_encoder(tmp_path / "adapted").eval()(CLIPS), encoder.eval()(CLIPS))
    with pytest.raises(DataError, match="holds adapters"):
        create_encoder(known_vit, pretrained=tmp_path / "adapted" / "encoder.safetensors")


def test_a_base_that_is_no_file_of_weights_is_not_read(known_vit, tmp_path):
    secret = tmp_path / "id_rsa"
    secret.write_text("private")
    encoder = create_encoder(known_vit)
    adapt_encoder(encoder, "adapter")
    encoder.base = {"weights": str(secret), "hash": "0"}
    save_encoder(encoder, known_vit, tmp_path / "adapted")
    with pytest.raises(DataError, match=r"id_rsa is no file of weights: expected a name that ends in \.safetensors"):
        load_encoder(tmp_path / "adapted")


# --- what is refused


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"train": "some"}, r"'encoder.train': 'some' does not say how much is trained; allowed: full, adapter"),
        ({"train": "last 0"}, r"'last 0' does not say"),
        ({"adapter": {"name": "lora"}}, r"encoder\.adapter says something of adapters: set encoder\.train to adapter"),
        ({"train": "frozen", "save": "adapter"}, r"encoder\.save says something of adapters"),
        (
            {"train": "adapter", "adapter": {"name": "lara"}},
            r"adapter 'lara' is unknown; known: temporal, lora\..*lora",
        ),
        (
            {"train": "adapter", "adapter": {"rank": 8}},
            r"adapter 'temporal' has no option 'rank'; it has ratio, kernel",
        ),
        ({"train": "adapter", "adapter": {"ratio": -1}}, r"ratio is -1; it must be a positive number"),
        ({"train": "adapter", "save": "adapter"}, r"encoder\.save: adapter needs weights that can be named"),
    ],
)
def test_what_does_not_go_together_is_refused_by_the_recipe(encoder, message):
    with pytest.raises(LofiError, match=message):
        make_recipe({"data": DATA, "encoder": encoder})


def test_what_the_encoder_cannot_is_refused_with_what_it_can():
    with pytest.raises(LofiError, match=r"'last 12': tsm_resnet18 has 9 groups of layers \(stem, .*last 1 to last 9"):
        adapt_encoder(small(), "last 12")
    encoder = vit()
    add_adapter(encoder)
    with pytest.raises(LofiError, match="has an adapter already"):
        add_adapter(encoder, ratio=0.5)
    with pytest.raises(LofiError, match="odd number of time steps"):
        add_adapter(vit(), kernel=2)


def test_unset_parts_change_no_fingerprint_of_a_recipe():
    plain = make_recipe({"data": DATA}).model_dump(mode="json")
    assert not {"train", "adapter", "save"} & plain["encoder"].keys()
    assert not {"ema", "layer_decay"} & plain["lofi"].keys()
    assert not {"encoder_lr", "layer_decay"} & plain["pretrain"].keys()
    full = make_recipe({"data": DATA, "encoder": {"train": "full"}})
    assert full.encoder.start() == plain["encoder"]
    assert full.encoder.training() == {}
