"""Jobs of the studio: they outlive the server, are found again, stop in order, and say how they went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from lofi_tal.errors import LofiError
from lofi_tal.files import read_json, write_json
from lofi_tal.processes import born, is_gone, machine
from lofi_tal.studio.jobs import Jobs, UnknownJobError
from lofi_tal.studio.keeper import JOB, LOG, STATE
from tests.waiting import until

SCRIPT = """
import sys, time
what, *rest = sys.argv[1:]
print(what, *rest, flush=True)
if what == "wait":
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("ended in order", flush=True)
        sys.exit(130)
if what == "fail":
    print("lofi: Nothing can be trained.", flush=True)
    print("a line after it", flush=True)
sys.exit(int(rest[0]) if rest else 0)
"""
PROGRAM = (sys.executable, "-S", "-c", SCRIPT)


def ended(jobs: Jobs, name: str):
    until(lambda: jobs.get(name).state != "running")
    return jobs.get(name)


@pytest.fixture
def jobs(tmp_path):
    made = Jobs(tmp_path / "jobs", PROGRAM)
    yield made
    for job in made.all():
        if job.state == "running":
            made.stop(job.id)
            ended(made, job.id)


@pytest.fixture
def made_by_hand(tmp_path):
    """Jobs whose processes are this one or none: nobody stops them."""
    return Jobs(tmp_path / "made", PROGRAM)


def at_work(jobs: Jobs, name: str) -> bool:
    return "wait" in jobs.log(name)[0].replace("$ lofi wait", "")


def test_commands_run_in_order_and_what_is_shown_is_what_runs(jobs):
    job = jobs.start("train", [["first", "0"], ["it's; rm -rf $HOME", "0"]], {"output": "runs/a"})
    assert job.command == """lofi first 0 && lofi 'it'"'"'s; rm -rf $HOME' 0"""
    done = ended(jobs, job.id)
    text, end = jobs.log(job.id)
    assert text == "$ lofi first 0\nfirst 0\n$ lofi 'it'\"'\"'s; rm -rf $HOME' 0\nit's; rm -rf $HOME 0\n"
    assert jobs.log(job.id, end) == ("", end)
    assert jobs.log(job.id, end - 2)[0] == "0\n"
    assert (done.state, done.share, done.text) == ("done", 1.0, "done")
    assert done.ended >= done.started
    assert done.to_json()["output"] == "runs/a"
    assert [one.id for one in Jobs(jobs.folder).all()] == [job.id]


def test_a_failure_ends_the_job_with_its_reason_and_lost_videos_do_not(jobs):
    failed = ended(jobs, jobs.start("train", [["fail", "3"], ["never"]]).id)
    assert (failed.state, failed.text) == ("failed", "Nothing can be trained.")
    assert "never" not in jobs.log(failed.id)[0]
    partial = ended(jobs, jobs.start("detect", [["some", "4"]]).id)
    assert partial.state == "done"
    assert "could not be used" in partial.text


def test_stopping_interrupts_the_command_as_ctrl_c_does(jobs):
    job = jobs.start("train", [["wait"], ["never"]])
    until(lambda: at_work(jobs, job.id))
    jobs.stop(job.id)
    assert ended(jobs, job.id).state == "stopped"
    assert jobs.log(job.id)[0].endswith("ended in order\n")
    with pytest.raises(LofiError, match="nothing to stop"):
        jobs.stop(job.id)


def test_a_job_is_found_again_after_the_server_was_killed(jobs):
    """The server is a process that dies without a word; another one follows its job and stops it."""
    code = (
        "import sys, time; from pathlib import Path; from lofi_tal.studio.jobs import Jobs\n"
        "print(Jobs(Path(sys.argv[1]), sys.argv[2:]).start('train', [['wait']]).id, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(jobs.folder), *PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        name = server.stdout.readline().strip()
        until(lambda: at_work(jobs, name))
        server.kill()
    again = jobs.get(name)
    assert again.state == "running"
    assert again.text == "lofi wait: wait"
    jobs.stop(name)
    assert ended(jobs, name).state == "stopped"
    assert "ended in order" in jobs.log(name)[0]


def test_a_job_whose_processes_vanished_is_lost(jobs):
    job = jobs.start("train", [["wait"]])
    until(lambda: at_work(jobs, job.id) and (job.folder / STATE).exists())
    said = read_json(job.folder / STATE)
    os.kill(said["holder"]["pid"], signal.SIGKILL)
    jobs._keepers[job.id].wait()
    assert jobs.get(job.id).state == "running", "its command is still at work, and can be stopped"
    jobs.stop(job.id)
    lost = ended(jobs, job.id)
    assert (lost.state, lost.ended) == ("lost", None)
    assert "vanished" in lost.text


def hand_made(jobs: Jobs, name: str, state: dict | None, **facts) -> None:
    job = {"kind": "train", "commands": [["run", "/r.yaml"]], "facts": {}, "created": time.time() - 60, "starter": GONE}
    write_json(jobs.folder / name / JOB, job | facts)
    if state is not None:
        write_json(jobs.folder / name / STATE, state)


GONE = {"machine": machine(), "host": "here", "pid": 2**22 + 1, "born": "1"}


def test_a_command_that_does_not_end_when_it_is_asked_to_is_killed_with_its_children(tmp_path):
    stubborn = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print('child', os.fork(), flush=True)\ntime.sleep(60)"
    )
    keep = (
        "import sys; from pathlib import Path; import lofi_tal.studio.keeper as keeper\n"
        "keeper.TICK, keeper.PATIENCE = 0.05, 0.2; keeper.Keeper(Path(sys.argv[1]), sys.argv[2:]).run()"
    )
    write_json(tmp_path / JOB, {"commands": [[]]})
    command = [sys.executable, "-c", keep, str(tmp_path), sys.executable, "-S", "-c", stubborn]
    with subprocess.Popen(command) as keeper:
        until(lambda: (tmp_path / LOG).exists() and (tmp_path / LOG).read_text().count("child") == 2)
        child = max(int(line.split()[1]) for line in (tmp_path / LOG).read_text().splitlines()[1:])
        keeper.terminate()
    assert read_json(tmp_path / STATE)["state"] == "stopped"
    until(lambda: is_gone({**GONE, "pid": child, "born": ""}))


def test_restarts_other_machines_and_jobs_that_never_began(made_by_hand):
    hand_made(made_by_hand, "a", None)
    assert made_by_hand.get("a").state == "lost", "the server died before its keeper began"
    rebooted = {**GONE, "machine": "before", "pid": os.getpid(), "born": born(os.getpid())}
    hand_made(made_by_hand, "b", {"state": "running", "holder": rebooted})
    assert made_by_hand.get("b").state == "running", "it may be of another machine, and gave a sign of life just now"
    with pytest.raises(LofiError, match="stop it there"):
        made_by_hand.stop("b")
    os.utime(made_by_hand.folder / "b" / STATE, (1, 1))
    assert made_by_hand.get("b").state == "lost"


def test_a_job_that_ends_while_it_is_looked_at_is_not_lost(made_by_hand, monkeypatch):
    """The keeper writes its last word, and is gone, after the state was read."""
    hand_made(made_by_hand, "a", {"state": "running", "holder": GONE})

    def gone_after_its_last_word(holder):
        write_json(made_by_hand.folder / "a" / STATE, {"state": "done", "ended": 5.0, "exit": 0})
        return True

    monkeypatch.setattr("lofi_tal.studio.jobs.is_gone", gone_after_its_last_word)
    assert made_by_hand.get("a").state == "done"


def test_progress_is_read_from_the_log(made_by_hand):
    alive = {"machine": machine(), "host": "here", "pid": os.getpid(), "born": born(os.getpid())}
    hand_made(
        made_by_hand, "a", {"state": "running", "step": 1, "holder": alive}, commands=[["init"], ["run", "/r.yaml"]]
    )
    assert (made_by_hand.get("a").share, made_by_hand.get("a").text) == (None, "step 2 of 2, lofi run")
    (made_by_hand.folder / "a" / LOG).write_text("$ lofi init\nold 5/5 0:01 ETA 0:00 \n$ lofi run /r.yaml\nhello\n")
    job = made_by_hand.get("a")
    assert job.share is None, "lines of an earlier command do not count"
    assert job.text == "step 2 of 2, lofi run: hello"
    with (made_by_hand.folder / "a" / LOG).open("a") as log:
        log.write("lofi 30/120 1:18 ETA 3:54 epoch 6/12 loss 2.8\nsomething else\n")
    assert (made_by_hand.get("a").share, made_by_hand.get("a").text) == (
        0.25,
        "step 2 of 2, lofi run: lofi 30/120, 3:54 left",
    )
    with (made_by_hand.folder / "a" / LOG).open("a") as log:
        log.write("head 60/60 0:10 ETA 0:00 (all: 4:10) loss 2.8\n")
    assert made_by_hand.get("a").text == "step 2 of 2, lofi run: head 60/60, 0:00 left of it, 4:10 of all"


def test_a_log_is_given_in_parts_that_cut_no_character(made_by_hand, monkeypatch):
    hand_made(made_by_hand, "a", {"state": "done", "ended": 5.0, "exit": 0})
    text = "aé≤😀" * 20
    (made_by_hand.folder / "a" / LOG).write_text(text, encoding="utf-8")
    monkeypatch.setattr("lofi_tal.studio.jobs.MOST_LOG", 7)
    found, place = "", 0
    while (part := made_by_hand.log("a", place))[0]:
        found, place = found + part[0], part[1]
    assert found == text


@pytest.mark.parametrize("name", ["..", "a/../b", "A", "", "x" * 81, "nothing"])
def test_names_that_are_no_job(made_by_hand, name):
    with pytest.raises(UnknownJobError):
        made_by_hand.get(name)


@pytest.mark.parametrize("content", [[], {}, {"kind": 1}, {"kind": "x", "commands": 5, "facts": {}, "created": "y"}])
def test_folders_that_hold_no_job_are_passed_over(made_by_hand, content):
    write_json(made_by_hand.folder / "odd" / JOB, content)
    hand_made(made_by_hand, "fine", {"state": "failed", "ended": 5.0, "exit": 1})
    assert [job.id for job in made_by_hand.all()] == ["fine"]
    assert made_by_hand.get("fine").text == "exit status 1"
