"""Work shared through a folder: every item is done, by one living process at a time, whoever dies."""

import json
import multiprocessing
import multiprocessing.pool
import os
import random
import signal
import time
from pathlib import Path

import pytest

from lofi_tal.errors import LofiError
from lofi_tal.lease_files import LeaseFiles, this_process
from lofi_tal.leases import Leases
from tests.waiting import until

ITEMS = [f"item {number}" for number in range(12)]


def work(folder, patience, seconds, fails=()):
    """Do what is free: each item's result is a line in its file, so that one done twice shows."""
    with Leases(folder / "leases", patience) as leases:
        rounds = leases.rounds(ITEMS, key=str, done=lambda item: (folder / item).exists())
        for items in rounds:
            for item in items:
                time.sleep(seconds)
                if item in fails:
                    leases.fail(item, "is broken")
                    continue
                with (folder / item).open("a") as file:
                    file.write(f"{os.getpid()}\n")
                leases.release(item)
        return {item: reason for item in ITEMS if (reason := leases.failure(item))}


def started(folder, patience, seconds):
    process = multiprocessing.get_context("fork").Process(target=work, args=(folder, patience, seconds))
    process.start()
    return process


def test_processes_share_all_items_and_do_none_twice(tmp_path):
    processes = [started(tmp_path, 20.0, 0.02) for _ in range(3)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    lines = {item: (tmp_path / item).read_text().split() for item in ITEMS}
    assert all(len(pids) == 1 for pids in lines.values())
    assert len({pids[0] for pids in lines.values()}) > 1
    assert not (tmp_path / "leases").exists()


@pytest.mark.parametrize("seed", range(4))
def test_what_a_killed_process_held_is_taken_over(tmp_path, seed):
    killed, patient = started(tmp_path, 60.0, 0.05), started(tmp_path, 60.0, 0.05)
    time.sleep(random.Random(seed).uniform(0.05, 0.4))
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()  # a process that has ended and is not waited for still has its number
    patient.join(30)  # well before a minute: the number of a process of this machine says that it is gone
    assert patient.exitcode == 0
    assert all(len((tmp_path / item).read_text().split()) == 1 for item in ITEMS)


def lease_of_another_machine(folder, key, patience=0.01):
    with Leases(folder, patience) as leases:
        assert leases.take(key)
        lease, _ = leases.held.pop(key)
    holder = json.loads(lease.read_text())
    lease.write_text(json.dumps({**holder, "machine": "another"}))
    return lease


def test_a_lease_of_another_machine_is_stale_when_it_has_not_changed_for_so_long(tmp_path):
    lease = lease_of_another_machine(tmp_path / "leases", "item 0")
    (tmp_path / "item 0").unlink(missing_ok=True)
    with Leases(tmp_path / "leases", 0.4) as leases:
        began = time.monotonic()
        assert not leases.take("item 0")
        for _ in range(3):  # a sign of life: the clock begins anew
            time.sleep(0.25)
            os.utime(lease)
            assert not leases.take("item 0")
        while not leases.take("item 0"):
            time.sleep(0.02)
        assert time.monotonic() - began >= 0.75 + 0.4
        assert leases.held["item 0"][0].suffix == ".1"
        leases.release("item 0")
        assert list((tmp_path / "leases").iterdir()) == []


def test_a_late_owner_does_not_release_what_was_taken_over(tmp_path):
    with Leases(tmp_path, 60.0) as slow, Leases(tmp_path, 60.0) as fast:
        assert slow.take("a")
        fast.files.seen[slow.held["a"][0]] = (slow.held["a"][0].stat().st_mtime_ns, time.monotonic() - 100)
        assert fast.take("a")
        slow.release("a")
        assert fast.held["a"][0].exists()
        with Leases(tmp_path, 60.0) as third:
            assert not third.take("a")


def test_only_one_of_many_takes_over(tmp_path):
    lease_of_another_machine(tmp_path, "a")
    contenders = [Leases(tmp_path, 0.01) for _ in range(8)]
    for one in contenders:
        one.take("a")
    time.sleep(0.05)
    with multiprocessing.pool.ThreadPool(8) as pool:
        taken = pool.map(lambda one: one.take("a"), contenders)
    assert sum(taken) == 1


def test_signs_of_life_are_shown(tmp_path):
    with Leases(tmp_path, 0.2) as leases:
        assert leases.take("a")
        before = leases.held["a"][0].stat().st_mtime_ns
        until(lambda: leases.held["a"][0].stat().st_mtime_ns > before)


def test_failures_are_known_to_all_and_tried_again_by_the_next(tmp_path):
    assert work(tmp_path, 5.0, 0.0, fails={"item 3"}) == {"item 3": "is broken"}
    with Leases(tmp_path / "leases") as later:
        assert later.failure("item 3") == ""
        later.fail("item 3", "is gone")
        with Leases(tmp_path / "leases") as latest:
            assert latest.failure("item 3") == ""
        assert later.failure("item 3") == "is gone"
    assert work(tmp_path, 5.0, 0.0) == {}
    assert (tmp_path / "item 3").exists()


def test_half_a_lease_is_no_reason_to_stop(tmp_path):
    (tmp_path / "a.0").write_text('{"machine": "x", "pi')
    with Leases(tmp_path, 0.05) as leases:
        assert not leases.take("a")
        time.sleep(0.1)
        assert leases.take("a")


def test_names_of_items_reach_no_other_folder(tmp_path):
    with Leases(tmp_path / "leases", 1.0) as leases:
        assert leases.take("../../x")
        assert leases.held["../../x"][0].parent == tmp_path / "leases"


@pytest.mark.parametrize("patience", [0, -1, float("nan")])
def test_patience_must_be_positive(patience):
    with pytest.raises(LofiError, match="above 0"):
        Leases(Path("x"), patience)


def test_the_longer_patience_counts(tmp_path):
    lease_of_another_machine(tmp_path, "a", patience=60.0)
    with Leases(tmp_path, 0.01) as leases:
        leases.take("a")
        time.sleep(0.1)
        assert not leases.take("a")


def test_an_item_that_ends_its_processes_is_given_up(tmp_path):
    for generation in range(5):
        (tmp_path / f"a.{generation}").write_text("{}")
    with Leases(tmp_path, 0.01) as leases:
        rounds = leases.rounds(["a", "b"], key=str, done=lambda item: False)
        for items in rounds:
            for item in items:
                leases.release(item)
        assert "5 processes ended in the middle of it" in leases.failure("a")
        assert leases.failure("b") == ""
    with Leases(tmp_path, 0.01) as later:
        assert later.take("a")


def test_what_was_ended_is_not_offered_again(tmp_path):
    """An item whose result never appears: a file that vanished, say."""
    with Leases(tmp_path, 1.0) as leases:
        offered = []
        for items in leases.rounds(["a", "b"], key=str, done=lambda item: False):
            for item in items:
                offered.append(item)
                leases.release(item)
        assert offered == ["a", "b"]


def test_reasons_with_names_that_are_no_text_are_kept(tmp_path):
    with Leases(tmp_path, 1.0) as leases:
        leases.fail("a", "caf\udce9.mp4 is broken")
        assert "is broken" in leases.failure("a")


def test_a_folder_that_others_remove_is_made_again(tmp_path):
    """The last one to leave removes the empty folder, while the next ones come."""

    def come_and_go(_):
        for _ in range(50):
            with Leases(tmp_path / "leases", 1.0) as leases:
                leases.take("a")

    with multiprocessing.pool.ThreadPool(6) as pool:
        pool.map(come_and_go, range(6))


def test_what_a_process_left_that_was_killed_before_it_gave_up_its_lease_goes_with_the_folder(tmp_path):
    """Its result is there, so that nobody asks for the item again."""
    (tmp_path / ITEMS[0]).write_text("done")
    dead = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    dead.start()
    other = LeaseFiles(tmp_path / "leases", 60.0)
    holder = {**this_process(), "pid": dead.pid}
    assert other.create(other.lease(ITEMS[0], 0), holder)
    dead.kill()
    dead.join()
    work(tmp_path, 60.0, 0.0)
    assert not (tmp_path / "leases").exists()
    assert (tmp_path / ITEMS[0]).read_text() == "done"


def test_what_failed_once_and_is_done_now_leaves_nothing(tmp_path):
    assert work(tmp_path, 9.0, 0.0, fails={ITEMS[3]}) == {ITEMS[3]: "is broken"}
    assert (tmp_path / "leases/failed").exists()
    assert work(tmp_path, 9.0, 0.0) == {}
    assert not (tmp_path / "leases").exists()
