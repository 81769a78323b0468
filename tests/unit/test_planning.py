"""The planner: tensors are counted right, the arithmetic on top is consistent, and what does not fit is said."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from lofi_tal.config import make_recipe
from lofi_tal.encoders import adapt_encoder, create_encoder, layer_groups, trainable
from lofi_tal.encoders.contract import Encoder
from lofi_tal.errors import LofiError
from lofi_tal.fidelity import Fidelity
from lofi_tal.heads import create_head, list_heads, takes_classes
from lofi_tal.planning import StepModel, in_parts, make_plan, next_smaller, parse_memory, planned
from lofi_tal.planning.accounting import LiveMemory, encoder_memory, head_memory
from lofi_tal.stages.strategies import STRATEGIES, Strategy
from tests.encoders import tiny

MIB = 2**20
DATA = {"annotations": "a.json", "videos": "v"}


class OneLayer(Encoder):
    """A 1 × 1 convolution and a mean: what back-propagation keeps of it can be counted by hand."""

    def __init__(self) -> None:
        super().__init__(channels=8, config={}, mean=(0.0,) * 3, std=(1.0,) * 3)
        self.layer = nn.Conv2d(3, 8, 1, bias=False)

    def blocks(self) -> list[nn.Module]:
        return [self.layer]

    def encode(self, frames: Tensor, frames_per_clip: int) -> Tensor:
        return self.layer(frames).mean((2, 3)).view(-1, frames_per_clip, 8).mean(1)


def test_what_is_frozen_needs_no_gradients_no_state_and_less_work():
    """A step of a part of the encoder, by the arithmetic on top of what is counted."""
    fidelity, steps = Fidelity("full", 8, 32), {}
    for train in ("full", "last 1", "frozen"):
        encoder = create_encoder("tsm_resnet18_narrow", width=8)
        adapt_encoder(encoder, train)
        head = create_head("gtad", encoder.channels, hidden_1d=16, hidden_2d=8, hidden_3d=16)
        model = StepModel(encoder, head, frames=4, optimizer="adamw", momentum=0.0, averaged=train == "frozen")
        last = 4.0 * sum(one.numel() for one in trainable(layer_groups(encoder)[-1][1]))
        weights = sum(4.0 * one.numel() for one in (*encoder.parameters(), *head.parameters()))
        step = model.memory(1, fidelity, Strategy(), "fp32")
        heads = sum(4.0 * one.numel() for one in head.parameters())
        trained = {"full": weights, "last 1": last + heads, "frozen": heads}[train]
        assert (step.parameters, step.gradients) == (weights, trained)
        assert step.optimizer == (3 if train == "frozen" else 2) * trained  # the average is one more
        steps[train] = step, [model.compute(fidelity, Strategy(name)) for name in STRATEGIES]
    peaks = [step.peak for step, _ in steps.values()]
    assert peaks == sorted(peaks, reverse=True)
    forward = steps["frozen"][1][0]
    assert steps["frozen"][1] == [forward] * 3  # nothing to compute again
    assert forward < steps["last 1"][1][0] < 0.6 * steps["full"][1][0]


def test_saved_tensors_of_one_layer_worked_by_hand():
    """Kept: the normalised frames (4 bytes × 3 channels), and 8 features; the layer's output is freed by the mean."""
    found = encoder_memory(OneLayer(), 5, 2, 16, strategy=Strategy(), bf16=False)
    pixels = 5 * 2 * 16 * 16
    features = 4 * 8 * (5 * 2 + 5)
    assert pixels * 12 <= found.saved <= pixels * 12 + 2 * features
    assert found.flops == 2 * pixels * 3 * 8
    # at its peak the output of the layer, 8 channels, is there beside the frames
    assert pixels * (12 + 32) <= found.peak <= pixels * (12 + 2 * 32) + 4096


def test_live_memory_counts_a_storage_once_and_until_it_is_freed():
    with LiveMemory() as live:
        a = torch.zeros(1000)
        view = a[10:].view(99, 10)
        assert live.live == 4000
        b = view + 1
        assert live.live == 4000 + 4 * 990
        del b
        assert live.live == 4000
        del a
        assert live.live == 4000  # the view keeps it
        del view
        assert live.live == 0
        assert live.peak == 4000 + 4 * 990


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tsm_resnet18_narrow", 32),
        ("r2plus1d_18_narrow", 32),
        ("swin3d_t", 32),
        ("timm", 64),
        ("timm gate", 64),
        ("timm vit", 64),
        ("timm vit", 112),
        *(("videomae", size) for size in (64, 112)),
        *(("vjepa2", size) for size in (64, 112)),
        ("videoprism", 72),
        ("timesformer", 64),
    ],
)
def test_fake_tensors_cost_what_real_ones_do(name, size):
    """The same account on real tensors, for what a CPU can run."""
    encoder = (create_encoder(name) if name.endswith(("_narrow", "_t")) else tiny(name)).train()
    fake = encoder_memory(encoder, 2, 4, size, strategy=Strategy(), bf16=False)
    clips = torch.zeros(2, 4, size, size, 3, dtype=torch.uint8).permute(0, 1, 4, 2, 3)
    with LiveMemory() as live:
        for tensor in (clips, *encoder.parameters(), *encoder.buffers()):
            live.forget(tensor)
        features = encoder(clips)
        saved = live.live
        torch.autograd.backward(features.sum())
        peak = live.peak
    assert fake.saved == pytest.approx(saved, rel=0.02)
    assert fake.peak == pytest.approx(peak, rel=0.05)
    assert all(parameter.device.type == "cpu" for parameter in encoder.parameters())


@pytest.mark.parametrize("name", list_heads())
def test_heads_are_counted_and_left_alone(name):
    head = create_head(name, 16, **({"num_classes": 3} if takes_classes(name) else {}))
    before = {key: value.clone() for key, value in head.state_dict().items()}
    one, two = head_memory(head, 1, 16), head_memory(head, 2, 16)
    assert 0 < one.saved < two.saved
    assert one.peak <= two.peak
    assert one.flops < two.flops
    assert all(torch.equal(before[key], value) for key, value in head.state_dict().items())
    assert all(parameter.grad is None for parameter in head.parameters())


@pytest.fixture(scope="module")
def model():
    encoder = create_encoder("tsm_resnet18_narrow")
    return StepModel(
        encoder,
        create_head("gtad", 128, hidden_1d=32, hidden_2d=16, hidden_3d=32),
        frames=4,
        optimizer="adamw",
        momentum=0.0,
    )


def test_memory_grows_with_videos_but_not_with_snippets_where_it_is_chunked(model):
    def peak(videos, snippets, name):
        return model.memory(videos, Fidelity("x", snippets, 64), Strategy(name), "fp32").peak

    for name in STRATEGIES:
        assert peak(1, 32, name) < peak(2, 32, name) < peak(3, 32, name)
    assert peak(1, 64, "plain") > 1.5 * peak(1, 32, "plain")
    inputs = 4 * 64 * 64 * 3
    grown = peak(1, 96, "chunked") - peak(1, 24, "chunked")
    head = model.memory(1, Fidelity("x", 96, 64), Strategy(), "fp32").head
    assert grown <= 72 * (inputs + 3 * 4 * 128) + head
    assert peak(1, 32, "chunked") < peak(1, 32, "checkpoint") < peak(1, 32, "plain")


def test_compute_follows_the_passes_over_the_encoder(model):
    full, low = Fidelity("full", 32, 64), Fidelity("T", 8, 64)
    plain = model.compute(full, Strategy())
    assert model.compute(full, Strategy("chunked")) == pytest.approx(4 / 3 * plain, rel=0.05)
    assert model.compute(low, Strategy()) == pytest.approx(plain / 4, rel=0.1)  # the head is more than linear in L
    sampled = model.compute(full, Strategy(gradient_share=0.25))
    assert sampled == pytest.approx((3 * 0.25 + 0.75) / 3 * plain, rel=0.1)


@pytest.fixture(scope="module")
def plan_for(model):
    recipe = make_recipe({
        "data": DATA, "encoder": {"name": "tsm_resnet18_narrow"}, "snippets": {"count": 16, "frames": 4, "size": 64},
        "lofi": {"batch": 8},
    })  # fmt: skip

    def make(budget, **options):
        plan = make_plan(
            recipe, model, budget=budget, precisions=("fp32",), cuda=False, lengths=[0.05, 0.2, 0.5], **options
        )
        return recipe, plan

    return make


def test_a_large_budget_takes_plain_and_whole_batches(plan_for):
    recipe, plan = plan_for(2**40)
    choice = plan.recommended
    assert (choice.schedule, choice.r_t, choice.strategy.name, choice.parts) == ("long", 4.0, "plain", 1)
    assert plan.phases_equal < 0.15
    assert plan.short_segments[4.0] == pytest.approx(2 / 3)  # 16 / 4 snippets: a step is a quarter of the video
    assert plan.short_segments[1.0] == pytest.approx(1 / 3)
    assert planned(recipe, choice).lofi == recipe.lofi.model_copy(update={"r_s": 2.0})


def test_smaller_budgets_take_parts_then_other_strategies_then_lower_fidelity_then_nothing(plan_for):
    _, plan = plan_for(2**40)
    plain = plan.recommended
    one = max(row.one_video.peak for row in plain.rows)
    _, parts = plan_for(int(2.5 * one))
    assert parts.recommended.strategy.name == "plain"
    assert parts.recommended.parts > 1
    assert parts.recommended.peak <= 2.5 * one
    _, tight = plan_for(int(0.9 * one))
    assert tight.recommended.strategy.name != "plain"
    assert tight.recommended.peak <= 0.9 * one
    least = min(max(r.one_video.peak for r in c.rows) for c in plan.choices if c.schedule == "long" and c.r_t >= 4)
    _, none = plan_for(int(0.9 * least))
    assert none.recommended is None
    assert "Nothing fits" in none.reason
    assert f"{least / 2**30:.2f} GiB" in none.reason


def test_the_batch_does_not_depend_on_the_number_of_devices(plan_for):
    for devices in (1, 2, 3, 8):
        _, plan = plan_for(200 * MIB, devices=devices)
        choice = plan.recommended
        assert plan.batch == 8
        assert min(row.videos_at_once for row in choice.rows) * choice.parts * devices >= 8


def test_the_frontier_is_sorted_and_undominated(plan_for):
    _, plan = plan_for(2**40)
    frontier = plan.frontier()
    assert len(frontier) > 1
    for left, right in itertools.pairwise(frontier):
        assert left.peak < right.peak
        assert left.compute > right.compute


def test_after_running_out_of_memory_less_is_tried_step_by_step(plan_for):
    _, plan = plan_for(2**40)
    choice, peaks = plan.recommended, []
    while choice is not None:
        peaks.append(choice.peak)
        choice = next_smaller(plan, choice)
    assert len(peaks) >= 4  # parts of 4, 2, 1 videos, then other strategies
    assert peaks == sorted(peaks, reverse=True)
    assert in_parts(plan, plan.recommended, 4).parts == 4


@pytest.mark.parametrize(
    ("text", "size"), [("24GiB", 24 * 2**30), ("8 GB", 8e9), ("1.5gib", 1.5 * 2**30), ("8000MB", 8e9), (".5TiB", 2**39)]
)
def test_amounts_of_memory(text, size):
    assert parse_memory(text) == int(size)


@pytest.mark.parametrize("text", ["24", "GiB", "-1GiB", "0GB", "24 parsec", "", "24GiB of RAM", "1e3GB"])
def test_nonsense_units_are_refused(text):
    with pytest.raises(LofiError, match="such as 24GiB"):
        parse_memory(text)


def test_sizes_that_leave_nothing_of_a_video_are_left_out(model):
    recipe = make_recipe({
        "data": DATA, "encoder": {"name": "tsm_resnet18_narrow"}, "snippets": {"count": 4, "frames": 2, "size": 32},
    })  # fmt: skip
    plan = make_plan(recipe, model, budget=2**40, precisions=("fp32",))
    assert {round(row.r_t * row.r_s**2) for row in plan.rows} <= {1, 2, 4}
    with pytest.raises(LofiError, match="no stage 2"):
        make_plan(recipe.model_copy(update={"lofi": None}), model, budget=1)
