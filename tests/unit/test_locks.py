"""A folder is one process's as long as that process lives, whatever it left behind and wherever the folder lies."""

import contextlib
import errno
import json
import os
import re
import signal
import socket
import threading
import time

import pytest

from lofi_tal import files
from lofi_tal.errors import LofiError
from lofi_tal.files import append_line, atomic_path, sweep
from lofi_tal.lease_files import LeaseFiles
from lofi_tal.locks import locked
from lofi_tal.processes import born, is_gone, tag, this_process

REFUSED = "It is taken."


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "folder" / ".lock"


@pytest.fixture
def no_locks(monkeypatch):
    """A file system that cannot lock files."""

    def flock(handle, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)


def in_child(do):
    """Do something in a forked process that ends without any clean-up; return its id."""
    child = os.fork()
    if not child:
        try:
            do()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return child


def take_and_die(lock, **options):
    held = contextlib.ExitStack()
    in_child(lambda: (held.enter_context(locked(lock, REFUSED, **options)), os._exit(0)))


def test_a_refusal_names_the_process_and_its_host(lock):
    with locked(lock, REFUSED):
        with pytest.raises(LofiError, match=re.escape(f"process {os.getpid()} on {socket.gethostname()}")) as refused:
            locked(lock, REFUSED).__enter__()
        assert str(refused.value).startswith(REFUSED)
    assert lock.read_bytes() == b""
    with locked(lock, REFUSED):
        pass


def test_those_that_share_are_all_named_and_end_one_by_one(lock):
    with locked(lock, REFUSED, shared=True):
        take_and_die(lock, shared=True)
        with locked(lock, REFUSED, shared=True), pytest.raises(LofiError) as refused:
            locked(lock, REFUSED).__enter__()
        assert str(refused.value).count("process ") == str(refused.value).count(f"process {os.getpid()} on ") >= 1
    with locked(lock, REFUSED):
        pass


def test_children_of_a_process_that_was_killed_hold_none_of_its_locks(lock):
    """A child that is made while a lock is held lives on when its parent ends without clean-up."""
    read, write = os.pipe()

    def hold():
        with locked(lock, REFUSED):
            if not (child := os.fork()):
                time.sleep(60)
                os._exit(0)
            os.write(write, str(child).encode())
            os._exit(0)

    in_child(hold)
    orphan = int(os.read(read, 100))
    try:
        os.kill(orphan, 0)
        with locked(lock, REFUSED):
            pass
    finally:
        os.kill(orphan, signal.SIGKILL)
        os.close(read)
        os.close(write)


def test_a_child_that_ends_frees_no_lock_of_its_parent(lock):
    with locked(lock, REFUSED):
        in_child(lambda: None)
        with pytest.raises(LofiError, match=REFUSED):
            locked(lock, REFUSED).__enter__()


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [(False, False, True), (True, True, False), (True, False, True), (False, True, True)],
)
def test_a_lease_takes_the_place_of_a_lock(first, second, refused, lock, caplog):
    with locked(lock, REFUSED, shared=first):
        other = locked(lock, REFUSED, shared=second)
        if refused:
            with pytest.raises(LofiError, match=f"taken. It is held by process {os.getpid()} on "):
                other.__enter__()
        else:
            with other:
                pass
    assert "files cannot be locked here (No locks available)" in caplog.text
    with locked(lock, REFUSED, shared=second):
        pass
    assert [path.name for path in lock.parent.iterdir()] == [".lock"]


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("shared", [False, True])
def test_a_lease_of_a_process_that_was_killed_is_taken_over_however_often(shared, lock):
    for _ in range(7):
        take_and_die(lock, shared=shared)
    with locked(lock, REFUSED):
        pass


@pytest.mark.usefixtures("no_locks")
def test_a_lease_of_another_machine_counts_as_long_as_it_shows_signs_of_life(lock):
    folder = lock.with_name(".lock.leases")
    holder = {"machine": "another", "host": "far", "pid": 7, "born": "1", "patience": 1.0}
    lease = LeaseFiles(folder, 1.0).lease("alone", 0)
    folder.mkdir(parents=True)
    lease.write_text(json.dumps(holder))
    ended = threading.Event()

    def live():
        while not ended.wait(0.1):
            os.utime(lease)

    thread = threading.Thread(target=live)
    thread.start()
    with pytest.raises(LofiError, match=r"process 7 on far"):
        locked(lock, REFUSED, patience=1.0).__enter__()
    ended.set()
    thread.join()
    with locked(lock, REFUSED, patience=1.0):  # after a second without a sign
        pass


@pytest.mark.usefixtures("no_locks")
def test_lines_are_appended_where_files_cannot_be_locked(tmp_path):
    for line in "ab":
        append_line(tmp_path / "lines", line)
    assert (tmp_path / "lines").read_text() == "a\nb\n"


def test_other_errors_of_a_lock_are_told(lock, monkeypatch):
    def flock(handle, operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(LofiError, match="cannot be locked: Input/output error"):
        locked(lock, REFUSED).__enter__()


def test_half_written_files_of_dead_processes_are_swept(tmp_path):
    def die():
        with atomic_path(tmp_path / "deep" / "dead.json") as half:
            half.write_text("half")
            os._exit(0)

    in_child(die)
    (dead,) = (tmp_path / "deep").iterdir()
    far = tmp_path / ".far.json.00000000-1-1.abc.part"
    old = tmp_path / ".old.json.of_an_earlier_version.part"
    users = tmp_path / "my.part"
    for path in (far, old, users):
        path.touch()
    os.utime(old, (1, 1))
    with atomic_path(tmp_path / "own.json") as own:
        assert sweep(tmp_path) == 2
        assert own.exists()
    assert not dead.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [far.name, "deep", users.name, "own.json"]


def test_a_dead_process_of_which_nobody_has_taken_note_is_dead(tmp_path):
    """As an orphan in a container whose first process waits for none."""
    if not (child := os.fork()):
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    own, _, _ = tag().partition("-")
    (tmp_path / f".a.json.{own}-{child}-{born(child)}.abc.part").touch()
    try:
        assert is_gone({**this_process(), "pid": child, "born": born(child)})
        assert sweep(tmp_path) == 1
    finally:
        os.waitpid(child, 0)


def test_a_process_id_that_is_used_again_is_another_process(tmp_path):
    own, _, _ = tag().rpartition("-")
    (tmp_path / f".a.json.{own}-1.abc.part").touch()  # of this id, and born at another time
    assert sweep(tmp_path) == 1


def test_names_of_any_length_are_written(tmp_path):
    files.write_text(tmp_path / ("é" * 120), "")
