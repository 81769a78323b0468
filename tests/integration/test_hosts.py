"""Two hosts, which are network namespaces of this machine: one training, and what happens when one of them is lost."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from conftest import STAGES, assert_same_training
from lofi_tal.recipes.writing import save_recipe
from tests.waiting import until

ADDRESSES = "10.213.77.1", "10.213.77.2"
# `lofi` that writes a checkpoint after every step
LOFI = """
import sys
from lofi_tal.cli import main
from lofi_tal.runtime import TrainingRun

TrainingRun.__init__.__kwdefaults__["checkpoint_seconds"] = 0.0
main()
"""


def ip(*arguments, check=True):
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


class Hosts:
    """Two network namespaces with a cable between them."""

    def __init__(self):
        self.names = [f"lofi{os.getpid()}{letter}" for letter in "ab"]
        self.ends = [f"l{os.getpid()}{letter}" for letter in "ab"]

    def __enter__(self):
        for name in self.names:
            ip("netns", "add", name)
        ip(
            "link",
            "add",
            self.ends[0],
            "netns",
            self.names[0],
            "type",
            "veth",
            "peer",
            self.ends[1],
            "netns",
            self.names[1],
        )
        for name, end, address in zip(self.names, self.ends, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *error):
        for place, name in enumerate(self.names):
            self.kill(place)
            ip("netns", "del", name, check=False)

    def cut(self):
        """Pull the cable: what is sent is lost, and nobody is told."""
        ip("-n", self.names[1], "link", "set", self.ends[1], "down")

    def kill(self, place):
        """End every process of a host."""
        for process in ip("netns", "pids", self.names[place], check=False).stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)

    def start(self, place, command: Sequence[str], before="", **environment):
        """Start a command on a host, after a line of shell."""
        shell = ["sh", "-c", f'{before} exec "$@"', "sh"] if before else []
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[place], *shell, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": self.ends[place], **environment},
        )


@pytest.fixture
def hosts():
    if shutil.which("ip") is None:
        pytest.skip("no `ip` (Debian: iproute2) to make two hosts with")
    try:
        with Hosts() as made:
            yield made
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")


@pytest.fixture(scope="module")
def recipe_file(parallel_recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts") / "recipe.yaml"
    path.write_text(save_recipe(parallel_recipe))
    return path


def lofi(recipe_file, folder, *arguments, verb="run"):
    return [verb, str(recipe_file), "-o", str(folder), "--device", "cpu", "--precision", "fp32", "-q", *arguments]


def torchrun(hosts, arguments, script=None, **environment):
    """Start one process on each of two hosts."""
    program = ["-m", "lofi_tal.cli"] if script is None else [str(script)]
    options = ["--nnodes=2", "--nproc_per_node=1", f"--master_addr={ADDRESSES[0]}", "--master_port=29533"]
    return [
        hosts.start(
            place,
            [sys.executable, "-m", "torch.distributed.run", *options, f"--node_rank={place}", *program, *arguments],
            **environment,
        )
        for place in range(2)
    ]


def ends(processes, timeout=200):
    """Return exit status and stderr of each process."""
    return [(process.communicate(timeout=timeout)[1], process.returncode)[::-1] for process in processes]


def messages(text):
    return [line for line in text.splitlines() if line.startswith("lofi: ")]


def test_two_hosts_give_the_losses_and_weights_of_one(hosts, recipe_file, one_process, tmp_path):
    results = ends(torchrun(hosts, lofi(recipe_file, tmp_path / "two")))
    assert [status for status, _ in results] == [0, 0], results
    for stage in STAGES:
        assert_same_training(tmp_path / "two", one_process, stage)


def test_slurm_starts_the_same(hosts, recipe_file, one_process, tmp_path):
    """As srun would: one task on each of two nodes, known by its variables alone."""
    slurm = {
        "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "lofi", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_NNODES": "2", "SLURM_LOCALID": "0",
        "SLURM_NODELIST": ADDRESSES[0], "MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": "29534",
    }  # fmt: skip
    processes = [
        hosts.start(
            place,
            [sys.executable, "-m", "lofi_tal.cli", *lofi(recipe_file, tmp_path / "two", verb="pretrain")],
            **slurm,
            SLURM_PROCID=str(place),
            SLURM_NODEID=str(place),
        )
        for place in range(2)
    ]
    results = ends(processes)
    assert [status for status, _ in results] == [0, 0], results
    assert_same_training(tmp_path / "two", one_process, "pretrain")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_host_ends_the_job_in_one_message_and_another_number_of_hosts_goes_on(
    hosts, recipe_file, one_process, tmp_path, lost
):
    script, folder = tmp_path / "lofi.py", tmp_path / "two"
    script.write_text(LOFI)
    processes = torchrun(hosts, lofi(recipe_file, folder), script)
    until(lambda: (folder / "lofi/checkpoint.pt").exists() and len(steps(folder / "lofi")) >= 2)
    hosts.kill(lost)
    results = ends(processes, timeout=60)
    status, error = results[1 - lost]
    assert status == 1
    (message,) = messages(error)
    assert "Contact to another process of this run is lost" in message
    assert "--resume" in message
    assert not (folder / "lofi/stage.json").exists()
    if lost == 0:  # the other half is the same
        return
    before = (folder / "pretrain/stage.json").read_bytes()
    ((status, error),) = ends(
        [hosts.start(0, [sys.executable, "-m", "lofi_tal.cli", *lofi(recipe_file, folder, "--resume")])]
    )
    assert status == 0, error
    assert (folder / "pretrain/stage.json").read_bytes() == before
    for stage in STAGES:
        assert_same_training(folder, one_process, stage)


def steps(stage):
    path = stage / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_a_cable_that_is_pulled_ends_the_job_on_both_sides(hosts, recipe_file, tmp_path):
    """Neither host is told anything: without signs of life both would wait for hours."""
    script, folder = tmp_path / "lofi.py", tmp_path / "two"
    script.write_text(LOFI)
    processes = torchrun(hosts, lofi(recipe_file, folder, "--set", "lofi.epochs=500"), script, LOFI_PEER_SECONDS="4")
    until(lambda: len(steps(folder / "lofi")) >= 2)
    hosts.cut()
    (status, error), (status_there, error_there) = ends(processes, timeout=60)
    assert (status, status_there) == (1, 1)
    (message,), (there,) = messages(error), messages(error_there)
    assert "Process 1 on" in message
    assert "no sign of life for 4 s" in message
    assert "is silent for 4 s" in there
    assert (folder / "lofi/checkpoint.pt").exists()


def test_a_run_folder_that_hosts_do_not_share_is_refused(hosts, recipe_file, tmp_path):
    folder = tmp_path / "two"
    folder.mkdir()
    options = ["--nnodes=2", "--nproc_per_node=1", f"--master_addr={ADDRESSES[0]}", "--master_port=29535"]
    launcher = [sys.executable, "-m", "torch.distributed.run", *options]
    program = ["-m", "lofi_tal.cli", *lofi(recipe_file, folder)]
    processes = [
        hosts.start(0, [*launcher, "--node_rank=0", *program]),
        hosts.start(1, [*launcher, "--node_rank=1", *program], before=f"mount -t tmpfs none {folder};"),
    ]
    results = ends(processes, timeout=60)
    assert all(status == 1 for status, _ in results)
    assert any("not the same folder on all hosts" in line for _, error in results for line in messages(error))
