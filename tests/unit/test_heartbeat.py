"""Signs of life between processes, on a store in memory."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from torch.distributed import HashStore

from lofi_tal.errors import LofiError
from lofi_tal.runtime import heartbeat
from lofi_tal.runtime.heartbeat import Heartbeat, lost_contact
from tests.waiting import until


class Silent:
    """A store that stops to answer."""

    def __init__(self, store):
        self.store, self.silent = store, threading.Event()

    def set(self, key, value):
        self.store.set(key, value)

    def multi_get(self, keys):
        if self.silent.is_set():
            threading.Event().wait()  # as a connection without a network does
        return self.store.multi_get(keys)


def two(silence=0.6):
    store, told = HashStore(), ([], [])
    stores = [Silent(store), Silent(store)]
    both = [
        Heartbeat(one, rank, 2, silence=silence, lost=lambda text, ranks, rank=rank: told[rank].append(text))
        for rank, one in enumerate(stores)
    ]
    for one in both:
        one.start()
    return both, stores, told


def test_living_processes_hear_nothing():
    both, _, told = two(0.3)
    time.sleep(1.0)
    assert told == ([], [])
    for one in both:
        one.end()


def test_a_process_that_falls_silent_is_named_once():
    both, _, told = two()
    both[1]._over.set()  # it dies: no word of farewell
    until(lambda: told[0])
    assert len(told[0]) == 1
    assert told[0][0].startswith("Process 1 on ")
    both[0].end()


def test_a_process_that_leaves_is_not_missed():
    both, _, told = two()
    both[1].end()
    time.sleep(1.2)
    assert told == ([], [])
    both[0].end()


def test_a_meeting_place_that_does_not_answer_is_said():
    both, stores, told = two()
    stores[0].silent.set()
    until(lambda: told[0])
    assert len(told[0]) == 1
    assert "meet is silent" in told[0][0]
    for one in both:
        one.end()


def test_a_process_that_fails_is_named_soon():
    both, _, told = two(3.0)
    both[1].end("failed")
    until(lambda: told[0])
    assert len(told[0]) == 1
    assert "has failed" in told[0][0]
    both[0].end()


def test_a_process_that_was_stopped_does_not_end_the_run(tmp_path):
    """SIGSTOP and SIGCONT, as a scheduler that suspends a job sends them."""
    program = (
        "import sys; from torch.distributed import HashStore;"
        "from lofi_tal.runtime.heartbeat import Heartbeat;"
        "store = HashStore();"
        "both = [Heartbeat(store, r, 2, silence=1.0, lost=lambda *told: print(told, flush=True)) for r in (0, 1)];"
        "[one.start() for one in both]; print('beating', flush=True); sys.stdin.readline(); [one.end() for one in both]"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "beating\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    process.send_signal(signal.SIGCONT)
    time.sleep(1.5)  # a false alarm would come now
    assert process.communicate("end\n", timeout=120)[0] == ""


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan"])
def test_a_silence_that_is_no_time_is_refused(text, monkeypatch):
    monkeypatch.setenv("LOFI_PEER_SECONDS", text)
    with pytest.raises(LofiError, match="LOFI_PEER_SECONDS"):
        heartbeat._silence()


def test_errors_of_a_connection_are_told_from_others():
    gloo = RuntimeError("[/x/third_party/gloo/gloo/transport/tcp/pair.cc:5] Read error [10.0.0.2]:9: Connection reset.")
    assert "Read error [10.0.0.2]:9: Connection reset" in lost_contact(gloo)
    assert lost_contact(RuntimeError("out of memory")) is None
