"""What every head promises, whatever it computes."""

import copy

import pytest
import torch

from lofi_tal.errors import DataError, LofiError
from lofi_tal.heads import PRESETS, create_head, list_heads, load_head, save_head, takes_classes, transfer_head

SMALL = {
    "gtad": {"hidden_1d": 16, "hidden_2d": 8, "hidden_3d": 16, "inner_bins": 8},
    "bmn": {"hidden_1d": 16, "hidden_proposal": 8, "hidden_2d": 8, "hidden_3d": 16, "bins": 8},
    "actionformer": {"num_classes": 3, "width": 16, "heads": 2, "stem_blocks": 1, "windows": 5, "normaliser": 10.0},
    "anchor_free": {"num_classes": 3, "hidden": 16, "heads": 2, "levels": 4, "stem_blocks": 1, "window": 5},
}
SEGMENTS = [torch.tensor([[0.1, 0.5], [0.6, 1.0]]), torch.zeros(0, 2)]
LABELS = [torch.tensor([0, 2]), torch.zeros(0, dtype=torch.long)]


@pytest.fixture(params=[*list_heads(), "actionformer, trident"])
def head(request):
    torch.manual_seed(0)
    name = request.param.split(",")[0]
    return create_head(name, 12, **SMALL[name], **({"bins": 4} if "trident" in request.param else {}))


def test_every_head_has_a_small_variant_here():
    assert set(SMALL) == set(list_heads())


@pytest.mark.parametrize("length", [1, 2, 3, 16, 25, 50, 100])
def test_one_set_of_weights_serves_any_number_of_snippets(head, length):
    outputs = head(torch.randn(2, 12, length))
    terms = head.loss(outputs, SEGMENTS, LABELS)
    assert all(torch.isfinite(term) for term in terms.values())
    for found in head.proposals(outputs):
        assert len(found.segments) == len(found.scores)
        assert not found.scores.requires_grad
        assert found.segments.dtype == found.scores.dtype == torch.float32
        assert ((found.segments >= 0) & (found.segments <= 1)).all()
        assert (found.segments[:, 1] > found.segments[:, 0]).all()
        assert (found.scores >= 0).all()
        assert (found.labels is None) == (head.num_classes is None)


def test_every_parameter_gets_a_gradient(head):
    # short inputs too: under DistributedDataParallel an unused parameter stops the run
    for length in (5, 25):
        head.zero_grad(set_to_none=True)
        head.loss(head(torch.randn(2, 12, length)), SEGMENTS, LABELS)["total"].backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


def test_a_few_steps_lower_the_loss(head):
    features = torch.randn(2, 12, 25)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = head.loss(head(features), SEGMENTS, LABELS, torch.Generator().manual_seed(0))["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0]


def test_a_process_that_has_detected_can_train_after_it(head):
    # stage 3 resumed after its last candidate: what detection keeps for later must be fit for gradients
    length = 37  # of no other test, for what is kept is kept by length
    with torch.inference_mode():
        head.proposals(head(torch.randn(2, 12, length)))
    head.loss(head(torch.randn(2, 12, length)), SEGMENTS, LABELS)["total"].backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_a_batch_of_videos_without_instances_trains(head):
    empty = [torch.zeros(0, 2)] * 2
    loss = head.loss(head(torch.randn(2, 12, 16)), empty, [torch.zeros(0, dtype=torch.long)] * 2)["total"]
    loss.backward()
    assert torch.isfinite(loss)


def test_videos_of_a_batch_do_not_touch_each_other(head):
    head.eval()
    features = torch.randn(3, 12, 20)
    together = head.proposals(head(features))[1]
    alone = head.proposals(head(features[1:2]))[0]
    torch.testing.assert_close(together.segments, alone.segments, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.scores, alone.scores, atol=1e-4, rtol=1e-4)


def test_equal_seeds_give_equal_losses(head):
    features = torch.randn(2, 12, 25)
    values = []
    for one in (head, copy.deepcopy(head)):  # a loss may keep a running mean of what it divides by
        torch.manual_seed(1)  # stochastic depth
        values.append(one.loss(one(features), SEGMENTS, LABELS, torch.Generator().manual_seed(3))["total"].item())
    assert values[0] == values[1]


def test_autocast_keeps_losses_in_fp32(head):
    with torch.autocast("cpu", torch.bfloat16):
        outputs = head(torch.randn(2, 12, 25))
        total = head.loss(outputs, SEGMENTS, LABELS)["total"]
    total.backward()
    assert total.dtype == torch.float32
    assert torch.isfinite(total)


def test_config_rebuilds_the_head(head, tmp_path):
    rebuilt = create_head(head.name, **head.config)
    rebuilt.load_state_dict(head.state_dict())
    save_head(head, tmp_path)
    loaded = load_head(tmp_path)
    features = torch.randn(1, 12, 10)
    expected = head.eval().proposals(head(features))[0]
    for other in (rebuilt.eval(), loaded, copy.deepcopy(head)):
        assert torch.equal(other.proposals(other(features))[0].scores, expected.scores)


def test_saving_memory_changes_neither_outputs_nor_gradients(head, monkeypatch):
    monkeypatch.setattr("lofi_tal.heads.boundary_matching.ANCHORS_AT_ONCE", 7)  # several parts, the last one short
    frugal = copy.deepcopy(head)
    frugal.save_memory()
    features = torch.randn(2, 12, 10)
    results = []
    for model in (head, frugal):
        model.train()
        torch.manual_seed(1)  # stochastic depth
        own = features.clone().requires_grad_()
        outputs = model(own)
        segments, labels = [torch.tensor([[0.2, 0.6]])] * 2, [torch.tensor([0])] * 2
        model.loss(outputs, segments, labels, torch.Generator().manual_seed(0))["total"].backward()
        results.append([own.grad, *(parameter.grad for parameter in model.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_presets_are_known_and_others_refused(head):
    outputs = head(torch.randn(1, 12, 10))
    for preset in PRESETS:
        head.proposals(outputs, preset)
    with pytest.raises(LofiError, match="preset"):
        head.proposals(outputs, "best")


@pytest.mark.parametrize("shape", [(2, 25, 12), (12, 25), (2, 12, 0)])
def test_wrong_feature_shapes_are_explained(head, shape):
    with pytest.raises(LofiError, match="expects"):
        head(torch.zeros(shape))


def test_unknown_names_and_options_are_errors():
    with pytest.raises(LofiError, match="Did you mean 'gtad'"):
        create_head("gtda", 12)
    with pytest.raises(LofiError, match="hiden_1d"):
        create_head("gtad", 12, hiden_1d=16)
    with pytest.raises(LofiError, match="multiple of 8"):
        create_head("gtad", 12, hidden_1d=12)
    with pytest.raises(LofiError, match="map_kernel"):
        create_head("gtad", 12, map_kernel=2)
    with pytest.raises(LofiError, match="positive whole number"):
        create_head("bmn", 12, bins=0)


def test_a_path_to_code_is_accepted_from_the_user_and_not_from_a_folder(tmp_path):
    name = "lofi_tal.heads.gtad:GTAD"
    head = create_head(name, 12, **SMALL["gtad"])
    assert head.name == name
    assert not takes_classes(name)
    save_head(head, tmp_path)
    with pytest.raises(DataError, match=r"head\.json: head '.*' is a path to code.*registered components only"):
        load_head(tmp_path)
    assert load_head(tmp_path, trusted=name).config == head.config
    with pytest.raises(LofiError, match="builds a OrderedDict"):
        create_head("collections:OrderedDict", 12)


def test_classes_are_asked_of_known_heads_only():
    assert [takes_classes(name) for name in ("actionformer", "anchor_free", "gtad", "gtda")] == [
        True,
        True,
        False,
        False,
    ]


def test_what_belongs_to_a_class_is_named(head):
    if head.num_classes is None:
        assert head.class_tensors == ()
        return
    larger = create_head(head.name, **{**head.config, "num_classes": 5}).state_dict()
    differ = {name for name, value in head.state_dict().items() if value.shape != larger[name].shape}
    assert differ == set(head.class_tensors)
    for name in differ:
        assert (len(head.state_dict()[name]), len(larger[name])) == (3, 5)


def test_classes_keep_their_weights_by_name_and_new_ones_their_first_ones(head):
    before = {name: value.clone() for name, value in head.state_dict().items()}
    other = create_head(head.name, **{**head.config, **({"num_classes": 4} if head.num_classes else {})})
    first = {name: value.clone() for name, value in other.state_dict().items()}
    transfer_head(other, ["new", "c", "a", "other"], head, ["a", "b", "c"])
    after = other.state_dict()
    for name in head.class_tensors:
        assert torch.equal(after[name][[1, 2]], before[name][[2, 0]])
        assert torch.equal(after[name][[0, 3]], first[name][[0, 3]])
    assert all(torch.equal(after[name], before[name]) for name in before if name not in head.class_tensors)


def test_weights_that_do_not_fit_are_refused_with_both_values(head):
    name = "gtad" if head.name != "gtad" else "bmn"
    with pytest.raises(LofiError, match=f"its head is '{name}', that of the recipe '{head.name}'"):
        transfer_head(head, ["a"], create_head(name, 12, **SMALL[name]), ["a"])
    with pytest.raises(LofiError, match="its features have 24 channels, those of the recipe 12"):
        transfer_head(head, ["a"], create_head(head.name, 24, **SMALL[head.name]), ["a"])
    key = next(key for key in ("hidden_1d", "hidden", "width") if key in SMALL[head.name])
    wide = create_head(head.name, **{**head.config, key: 32})
    with pytest.raises(LofiError, match=f"its head has {key}=32, that of the recipe {key}=16"):
        transfer_head(head, ["a"], wide, ["a"])
