"""The stages on the GPU: every precision learns the same, runs go on to the last bit, memory may run out."""

import contextlib
import json
import shutil

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from safetensors.torch import load_file
from torch import nn

import lofi_tal.runtime.training
from lofi_tal.data import FrameDataset, Request, make_batches
from lofi_tal.encoders import load_encoder
from lofi_tal.errors import RunError
from lofi_tal.fidelity import Fidelity
from lofi_tal.localizer import Localizer
from lofi_tal.run import Run
from lofi_tal.runtime import InterruptedRunError, TrainingRun, make_fabric, make_optimizer, open_stage

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("exact")]
PRECISIONS = ("fp32", "bf16", "fp16")


def precisions_of(device):
    """fp16 is CUDA's."""
    return PRECISIONS if device.type == "cuda" else PRECISIONS[:2]


def first_loss(stage):
    return json.loads((stage / "metrics.jsonl").read_text().splitlines()[0])["loss"]


def test_a_run_in_every_precision_is_close_to_one_in_fp32_on_the_cpu(device, run_of):
    expected, _ = run_of("cpu", "fp32")
    for precision in precisions_of(device):
        pipeline, results = run_of(device.type, precision)
        for stage in ("pretrain", "lofi", "arms/lofi/head/lr-0.001"):
            close = 2e-3 if precision == "fp32" else 5e-2
            ours, theirs = first_loss(pipeline.output / stage), first_loss(expected.output / stage)
            assert ours == pytest.approx(theirs, rel=close), (precision, stage)
            name = "head" if "head" in stage else "encoder"
            for key, value in load_file(pipeline.output / stage / f"{name}.safetensors").items():
                assert torch.isfinite(value).all(), (precision, stage, key)
        assert 0 <= results[0].scores["oracle"]["average_mAP"] <= 1


def test_steps_in_half_precision_move_the_weights_as_fp32_does(device, run_of, tmp_path):
    """Stage 2 from the same encoder: what is learnt in one epoch points the same way."""
    base, _ = run_of(device.type, "fp32")
    start = load_file(base.output / "pretrain/encoder.safetensors")
    moved = {}
    for precision in precisions_of(device):
        pipeline = Run(base.recipe, tmp_path / precision, device=device.type, precision=precision, quiet=True)
        pipeline.training.made["finetune"] = base.output / "pretrain"
        with pipeline.open():
            after = load_file(pipeline.ensure("lofi") / "encoder.safetensors")
        moved[precision] = torch.cat([
            (after[key] - value).flatten() for key, value in start.items() if "conv" in key and "weight" in key
        ])  # fmt: skip
    for precision, change in moved.items():
        assert torch.cosine_similarity(change, moved["fp32"], dim=0) > 0.9, precision


def test_a_localizer_finds_on_the_gpu_what_it_finds_on_the_cpu(device, run_of):
    pipeline, results = run_of(device.type, "fp32")
    video = pipeline.data().evaluation[0].file.path
    found = [
        Localizer.from_pretrained(results[0].model, device=place, precision="fp32").predict(video)
        for place in (device.type, "cpu")
    ]
    ours, theirs = ([*zip(s.start, s.end, s.label, s.score, strict=True)] for s in found)
    for start, end, label, score in ours[:10]:  # in any order: many scores nearly tie after so short a training
        near = [one for one in theirs[:40] if one[2] == label]
        distances = [max(abs(start - one[0]), abs(end - one[1]), abs(score - one[3])) for one in near]
        assert min(distances, default=1.0) < 2e-3, (start, end, label, score)


def toy(folder, fabric, *, steps=6, clip_norm=None, resume=False, dropout=0.0):
    """A little training in the precision of a fabric; returns the weights."""
    stage = open_stage(folder, "toy", {}, resume=resume)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(288, 1)
    )
    wrapped, optimizer = fabric.setup(model, make_optimizer("sgd", model.parameters(), fabric, lr=0.5))
    run = TrainingRun(
        stage, fabric, modules={"model": model}, optimizer=optimizer, lr_at=lambda epoch: 0.5,
        epochs=1, steps_per_epoch=steps, seed=0, clip_norm=clip_norm, checkpoint_seconds=1e9, quiet=True,
    )  # fmt: skip
    data = torch.randn(steps, 16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for _, batch in run.batches(data[run.start :]):
        run.update({"total": 0.01 * (wrapped(batch.to(fabric.device)).float() - 1).square().mean()})
    return {key: value.cpu().clone() for key, value in model.state_dict().items()}


def half(device):
    if device.type == "cuda":
        return make_fabric("cuda", "fp16")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=2)
    return Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler=scaler))


@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_fp16_with_clipping_learns_what_fp32_learns(device, tmp_path, clip_norm):
    exact = toy(tmp_path / "fp32", make_fabric(device.type, "fp32"), clip_norm=clip_norm)
    scaled = toy(tmp_path / "fp16", half(device), clip_norm=clip_norm)
    for key, value in exact.items():
        assert torch.allclose(scaled[key].float(), value.float(), rtol=0.05, atol=0.02), key


def stopping_after(monkeypatch, steps):
    """Let the stage be asked to stop after so many steps."""

    class Asked:
        left = steps

        def is_set(self):
            self.left -= 1
            return self.left < 0

    @contextlib.contextmanager
    def requests():
        yield Asked()

    monkeypatch.setattr(lofi_tal.runtime.training, "_stop_requests", requests)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_toy_that_was_stopped_goes_on_to_the_last_bit(device, tmp_path, monkeypatch, precision):
    def fabric():
        return half(device) if precision == "fp16" else make_fabric(device.type, precision)

    whole = toy(tmp_path / "whole", fabric(), clip_norm=0.5, dropout=0.5)
    with monkeypatch.context() as patched:
        stopping_after(patched, 4)
        with pytest.raises(InterruptedRunError):
            toy(tmp_path / "cut", fabric(), clip_norm=0.5, dropout=0.5)
    assert (tmp_path / "cut/checkpoint.pt").exists()
    resumed = toy(tmp_path / "cut", fabric(), clip_norm=0.5, resume=True, dropout=0.5)
    for key, value in whole.items():
        assert torch.equal(resumed[key], value), key


@pytest.mark.usefixtures("deterministic")
def test_stage_2_that_was_stopped_goes_on_to_the_last_bit(device, run_of, tmp_path, monkeypatch):
    for precision in precisions_of(device):
        base, _ = run_of(device.type, "fp32")

        def stage2(folder, precision=precision, base=base, **options):
            run = Run(base.recipe, folder, device=device.type, precision=precision, quiet=True, **options)
            run.training.made["finetune"] = base.output / "pretrain"
            with run.open():
                return (run.ensure("lofi") / "encoder.safetensors").read_bytes()

        whole = stage2(tmp_path / precision / "whole")
        with monkeypatch.context() as patched:
            stopping_after(patched, 2)
            with pytest.raises(InterruptedRunError):
                stage2(tmp_path / precision / "cut")
        assert stage2(tmp_path / precision / "cut", resume=True) == whole, precision


class Numbers(FrameDataset):
    """Every pixel of item i is i."""

    def __len__(self):
        return 8

    def name(self, index):
        return str(index)

    def target(self, index):
        return index

    def shape(self, fidelity):
        return (2, fidelity.size, fidelity.size, 3)

    def read(self, request, into):
        into.fill_(request.index)
        return ""


def test_batches_in_shared_memory_are_pinned_and_arrive_whole(device):
    fidelity = Fidelity("f", 1, 64)
    requests = [[Request(i, fidelity, 0), Request((i + 3) % 8, fidelity, 0)] for i in range(8)] * 4
    for batch, wanted in zip(
        make_batches(Numbers(), requests, 2, count=2, fidelities=[fidelity]), requests, strict=True
    ):
        if not batch.frames.is_pinned() and device.type == "cuda":
            pytest.skip("this system pins no more memory; batches arrive all the same")
        arrived = batch.frames.to(device, non_blocking=True).float().flatten(1)
        assert arrived.mean(1).tolist() == [request.index for request in wanted]
        assert (arrived.amax(1) == arrived.amin(1)).all()


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_optimisers_are_fused_where_gradients_need_no_unscaling(cuda, name, precision):
    optimizer = make_optimizer(name, [nn.Parameter(torch.zeros(2))], make_fabric("cuda", precision), lr=0.1)
    assert bool(optimizer.defaults["fused"]) == (precision != "fp16")


@pytest.mark.parametrize("step_down", [False, True])
def test_want_of_memory_ends_in_a_message_or_a_step_down(cuda, run_of, recipe, tmp_path, step_down):
    """The recipe at a size that takes gigabytes, and a limit of this process that it breaks."""
    base, _ = run_of("cuda", "fp32")
    large = recipe.model_copy(update={
        "lofi": recipe.lofi.model_copy(update={"schedule": "full", "batch": 4, "epochs": 1}),
        "snippets": recipe.snippets.model_copy(update={"count": 100, "size": 112, "frames": 8}),
    })  # fmt: skip
    folder = tmp_path / "run"
    shutil.copytree(base.output / "pretrain", folder / "start")
    pipeline = Run(large, folder, device="cuda", precision="fp32", quiet=True, step_down=step_down)
    pipeline.training.made["finetune"] = folder / "start"
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2.0 * 2**30 / total))
    try:
        with pipeline.open():
            if step_down:
                assert load_encoder(pipeline.ensure("lofi")) is not None
                assert pipeline.recipe.lofi.accumulate > 1 or pipeline.recipe.lofi.strategy != "plain"
            else:
                with pytest.raises(RunError, match=r"ran out of memory: plain.*was predicted.*--step-down"):
                    _ = pipeline.ensure("lofi")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
