"""Training can stop at any step and go on exactly; stages know when they are up to date."""

import json
import logging
import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

import lofi_tal.runtime.training
from lofi_tal.cli.log import show_log
from lofi_tal.errors import DataError, LofiError, RunError
from lofi_tal.files import read_json
from lofi_tal.launch import started_here, started_rank, started_size
from lofi_tal.progress import Progress
from lofi_tal.runtime import InterruptedRunError, Outcome, TrainingRun, derive_seed, make_fabric, on_first, open_stage

EPOCHS, STEPS = 3, 4


def train(folder, *, resume=False, stop_after=None, kill_signal=None, kills=1, checkpoint_seconds=0.0, bad_step=None):
    """A little stage: dropout and noise draw from the generator, momentum is state of the optimiser."""
    stage = open_stage(folder, "toy", {"lr": 0.1}, resume=resume)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 1))
    fabric = make_fabric("cpu")
    wrapped, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    run = TrainingRun(
        stage, fabric, modules={"model": model}, optimizer=optimizer, lr_at=lambda epoch: 0.1 * 0.5**epoch,
        epochs=EPOCHS, steps_per_epoch=STEPS, seed=3, checkpoint_seconds=checkpoint_seconds, quiet=True,
    )  # fmt: skip
    data = [torch.randn(6, 4, generator=torch.Generator().manual_seed(i)) for i in range(EPOCHS * STEPS)]
    for step, batch in run.batches(data[run.start :]):
        if step.index == 0:
            run.lost["a.mp4"] = "is gone"
        if step.index == bad_step:
            run.update({"total": wrapped(batch).mean() * float("nan")})
        run.update({"total": (wrapped(batch + torch.randn_like(batch)) ** 2).mean()})
        if kill_signal and step.index == stop_after:
            for _ in range(kills):
                os.kill(os.getpid(), kill_signal)
        elif step.index == stop_after:
            raise ZeroDivisionError  # stands for a crash: nothing after this line runs
    stage.finish(run.outcome({"unreadable": run.all_lost()}))
    return {key: value.clone() for key, value in model.state_dict().items()}


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["epoch"], line["lr"], line["loss"]) for line in lines]


@pytest.mark.parametrize("stop_after", [0, 4, 6, 10])
def test_a_crash_at_any_step_and_a_resume_give_the_same_weights_and_metrics(tmp_path, stop_after, caplog):
    whole = train(tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "cut", stop_after=stop_after)
    with caplog.at_level("WARNING"):
        resumed = train(tmp_path / "cut", resume=True)
    assert not caplog.records
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")
    assert read_json(tmp_path / "cut" / "stage.json")["result"] == {"unreadable": {"a.mp4": "is gone"}}
    assert [step for step, *_ in losses(tmp_path / "cut")] == list(range(1, EPOCHS * STEPS + 1))


@pytest.fixture
def usual_signals():
    """What a process in the foreground has: in the background or under nohup the tests begin with ignored signals."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_checkpoints_and_says_how_to_go_on(tmp_path, number):
    """Twice at once is once: `timeout` and closed terminals do that."""
    before = signal.getsignal(number)
    with pytest.raises(InterruptedRunError, match="--resume"):
        train(tmp_path / "cut", stop_after=5, kill_signal=number, kills=2, checkpoint_seconds=1e9)
    assert signal.getsignal(number) is before
    resumed = train(tmp_path / "cut", resume=True)
    whole = train(tmp_path / "whole")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.usefixtures("usual_signals")
def test_a_second_request_stops_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(lofi_tal.runtime.training, "_ONE_REQUEST", -1.0)  # whatever the time between the two
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", stop_after=5, kill_signal=signal.SIGINT, kills=2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        train(tmp_path / "whole", stop_after=5, kill_signal=signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("usual_signals")
def test_a_request_in_the_last_step_is_not_lost(tmp_path):
    """There is more to do after a stage: what has been asked for counts there too."""
    whole = train(tmp_path / "whole")
    with pytest.raises(InterruptedRunError, match=f"after step {EPOCHS * STEPS} of {EPOCHS * STEPS}"):
        train(tmp_path / "cut", stop_after=EPOCHS * STEPS - 1, kill_signal=signal.SIGINT)
    again = train(tmp_path / "cut", resume=True)
    assert all(torch.equal(again[key], value) for key, value in whole.items())
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_a_batch_that_cannot_be_made_ends_the_run_after_a_checkpoint(tmp_path):
    stage = open_stage(tmp_path / "s", "toy", {})
    model, fabric = nn.Linear(1, 1), make_fabric("cpu")
    wrapped, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    run = TrainingRun(
        stage, fabric, modules={"model": model}, optimizer=optimizer, lr_at=lambda epoch: 0.1,
        epochs=1, steps_per_epoch=4, seed=0, checkpoint_seconds=1e9, quiet=True,
    )  # fmt: skip

    def loader():
        yield torch.ones(1, 1)
        raise RunError("Processes that read videos ended 3 times.")

    def train_on():
        for _, batch in run.batches(loader()):
            run.update({"total": wrapped(batch).mean()})

    with pytest.raises(RunError, match="ended 3 times"):
        train_on()
    assert torch.load(stage.path / "checkpoint.pt", weights_only=True)["step"] == 1


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(RunError, match="not a finite number"):
        train(tmp_path / "cut", bad_step=5)
    assert (tmp_path / "cut" / "checkpoint.pt").exists()


def test_a_damaged_checkpoint_is_named(tmp_path):
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "cut", stop_after=5)
    checkpoint = tmp_path / "cut" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(DataError, match=r"checkpoint\.pt cannot be read"):
        train(tmp_path / "cut", resume=True)


@pytest.mark.parametrize("ruin", [
    lambda text: "", lambda text: text[: len(text) // 2], lambda text: text.replace('"loss": ', '"loss": 1'),
    lambda text: "[]\n" + text.partition("\n")[2], lambda text: "\0" + text,
])  # fmt: skip
def test_metrics_that_were_damaged_before_a_resume_are_told_and_change_no_weight(tmp_path, ruin, caplog):
    whole = train(tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "cut", stop_after=5)
    lines = tmp_path / "cut/metrics.jsonl"
    lines.write_text(ruin(lines.read_text()))
    resumed = train(tmp_path / "cut", resume=True)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert f"curves may be wrong: {lines} is damaged" in caplog.text
    assert [step for step, *_ in losses(tmp_path / "cut")][-6:] == list(range(7, 13))


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_shows_names_as_they_are_on_one_line(terminal, monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", str(int(terminal)))
    monkeypatch.setenv("COLUMNS", "200")
    show_log()
    with Progress("examine", 1) as progress:
        progress.advance("[/b] a\nb.mp4")
    assert "[/b] a\\nb.mp4" in capsys.readouterr().err


def test_a_warning_is_shown_once_and_information_each_time(capsys):
    show_log()
    logger = logging.getLogger("lofi_tal")
    for _ in range(2):
        logger.warning("classes %s are one", "a and b")
        logger.info("epoch")
    logger.warning("classes %s are one", "c and d")
    assert capsys.readouterr().err.split("\n")[:-1] == [
        "classes a and b are one", "epoch", "epoch", "classes c and d are one",
    ]  # fmt: skip


def test_a_finished_stage_is_skipped_and_nothing_is_lost_unasked(tmp_path):
    stage = open_stage(tmp_path / "s", "x", {"a": 1, "b": {"c": 2}})
    with pytest.raises(LofiError, match="Add --resume"):
        open_stage(tmp_path / "s", "x", {"a": 1, "b": {"c": 2}})
    assert open_stage(tmp_path / "s", "x", {"a": 1, "b": {"c": 2}}, resume=True).resumed
    (tmp_path / "s" / "weights").write_text("precious")
    stage.finish(Outcome(1.0, 2, {"accuracy": 0.5}))
    again = open_stage(tmp_path / "s", "x", {"b": {"c": 2}, "a": 1})
    assert again.record is not None
    assert again.record.result == {"accuracy": 0.5}
    with pytest.raises(LofiError, match=r"b\.c: 2 -> 3.*--overwrite"):
        open_stage(tmp_path / "s", "x", {"a": 1, "b": {"c": 3}})
    assert (tmp_path / "s" / "weights").read_text() == "precious"
    open_stage(tmp_path / "s", "x", {"a": 1, "b": {"c": 3}}, overwrite=True)
    assert not (tmp_path / "s" / "weights").exists()


def test_an_interrupted_stage_of_other_inputs_is_not_resumed(tmp_path):
    open_stage(tmp_path / "s", "x", {"a": 1})
    with pytest.raises(LofiError, match="a: 1 -> 2"):
        open_stage(tmp_path / "s", "x", {"a": 2}, resume=True)


def test_seeds_are_pure_and_distinct():
    assert derive_seed(0, "order", 1) == derive_seed(0, "order", 1)
    assert len({derive_seed(a, b, c) for a in range(5) for b in ("x", "y") for c in range(5)}) == 50
    assert derive_seed(1, "1") == derive_seed("1", 1)  # by value, as text
    assert 0 <= derive_seed("anything") < 2**63


@pytest.mark.parametrize(("device", "precision"), [("tpu", "fp32"), ("cpu", "fp8"), ("cpu", "fp16")])
def test_impossible_devices_and_precisions_are_refused(device, precision):
    with pytest.raises(LofiError):
        make_fabric(device, precision)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1, 1)),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, (3, 8, 4)),
        ({"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}, (5, 8, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1, 1)),  # a batch script without srun
    ],
)
def test_launchers_are_understood(environment, expected, monkeypatch):
    for name in (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "SLURM_PROCID",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_STEP_NUM_NODES",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (started_rank(), started_size(), started_here()) == expected


@pytest.mark.parametrize("finished", [False, True])
def test_a_folder_of_another_stage_is_refused_with_both_names(tmp_path, finished):
    stage = open_stage(tmp_path / "a", "second", {"lr": 0.1})
    if finished:
        stage.finish(Outcome(1.0, 1, {}))
    with pytest.raises(LofiError, match=r"stage: 'second' -> 'pretrain'\)"):
        open_stage(tmp_path / "a", "pretrain", {"lr": 0.1})


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is given back by glibc")
def test_a_peak_is_not_that_of_memory_that_was_freed_before():
    # as in docs/memory.md, the C library keeps what is freed; the small piece lies behind the large one and holds it
    program = (
        "import torch; from lofi_tal.runtime import PeakMemory;"
        "large = torch.ones(50_000_000); small = torch.ones(1000); del large;"
        "print(PeakMemory.resident() - PeakMemory(torch.device('cpu')).bytes())"
    )
    kept = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(10**10)}
    run = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **kept}, capture_output=True, text=True, check=True
    )
    assert int(run.stdout) > 150_000_000


def test_work_of_the_first_process_may_not_hold_such_work_itself():
    """With several processes, the others would take the inner result for the outer one; one process finds it too."""
    with pytest.raises(RuntimeError, match="within the work of on_first"):
        on_first(lambda: on_first(lambda: 1))
    assert on_first(lambda: 2) == 2
