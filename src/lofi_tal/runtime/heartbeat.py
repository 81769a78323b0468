"""Signs of life between the processes of one run: where one is lost, the others end with a message.

A collective operation waits for all processes. One whose host lost its power or its network sends nothing more, not
even that it has ended, and the others would wait for hours. So each process counts in the store that they met in, and
looks whether the others do.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from lofi_tal.errors import LofiError
from lofi_tal.launch import started_local_rank

SILENCE = 60.0
"""Seconds without a sign of life after which a process is taken for lost; LOFI_PEER_SECONDS in the environment."""
_LEFT, _FAILED = "left", "failed"
WORDS = 3.0  # seconds in which the first process of a host says why it ends, before its launcher ends it
_NAMED = 4  # lost processes
_AGAIN = "This run ends here; --resume goes on from its last checkpoint, on as many hosts as you like."


class Heartbeat:
    """Shows signs of life, and watches those of the others.

    One thread talks to the store, which may never answer, and another one watches.

    Args:
        store: Where the processes meet, with a connection of its own.
        rank: This process.
        ranks: Number of processes.
        silence: Seconds without a sign after which a process, or the store, is taken for lost; the longest that any of
            the processes was told counts.
        lost: Called, once, with what to say and which processes are lost; none, if it is the store.
    """

    def __init__(
        self, store: Store, rank: int, ranks: int, *, silence: float, lost: Callable[[str, list[int]], None]
    ) -> None:
        self.store, self.rank, self.ranks, self.silence, self.lost = store, rank, ranks, silence, lost
        self.hosts = [""] * ranks
        self._over = threading.Event()
        self._heard = 0.0  # when the store answered last
        self._beats = [b""] * ranks
        self._changed = [0.0] * ranks
        store.set(f"host/{rank}", socket.gethostname())
        store.set(f"silence/{rank}", str(silence))
        store.set(f"beat/{rank}", "0")

    @property
    def every(self) -> float:
        """Seconds between two signs."""
        return self.silence / 6

    def start(self) -> None:
        """Begin; every process must have been made."""
        self.hosts = [host.decode() for host in self.store.multi_get(self._keys("host"))]
        self.silence = max(float(told) for told in self.store.multi_get(self._keys("silence")))
        self._heard = time.monotonic()
        self._changed = [self._heard] * self.ranks
        for work in (self._talk, self._watch):
            threading.Thread(target=work, name=f"heartbeat {work.__name__}", daemon=True).start()

    def end(self, sign: str = _LEFT) -> None:
        """Say that this process leaves as it should, or that it has failed."""
        if not self._over.is_set():
            self._over.set()
            with contextlib.suppress(RuntimeError):  # the process that kept the store has left before
                self.store.set(f"beat/{self.rank}", sign)

    def _keys(self, sign: str) -> list[str]:
        return [f"{sign}/{other}" for other in range(self.ranks)]

    def _talk(self) -> None:
        count = 0
        while not self._over.wait(self.every):
            count += 1
            with contextlib.suppress(RuntimeError):  # no answer; a network may recover
                if not self._over.is_set():
                    self.store.set(f"beat/{self.rank}", str(count))
                beats = self.store.multi_get(self._keys("beat"))
                self._heard = now = time.monotonic()
                for other, beat in enumerate(beats):
                    if beat != self._beats[other] or beat == _LEFT.encode():
                        self._beats[other], self._changed[other] = beat, now

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._over.wait(self.every):
            now = time.monotonic()
            if now - looked > 2 * self.every:  # this process was stopped for a while, and so was what it knows
                late = now - looked - self.every
                self._heard = min(now, self._heard + late)  # unless the other thread has been quicker to look
                self._changed = [min(now, since + late) for since in self._changed]
            looked = now
            if now - self._heard >= self.silence:
                self.lost(f"The host on which the processes of this run meet is silent for {self.silence:g} s.", [])
                return
            ranks = range(self.ranks)
            failed = [
                o for o in ranks if self._beats[o] == _FAILED.encode() and now - self._changed[o] > 2 * self.every
            ]
            if failed:  # those that fail for the same reason have ended by themselves in that time
                self.lost(f"{self._named(failed)} has failed, and has said why.", failed)
                return
            gone = [other for other in ranks if self._heard - self._changed[other] >= self.silence]
            if gone:
                self.lost(f"{self._named(gone)}: no sign of life for {self.silence:g} s.", gone)
                return

    def _named(self, ranks: list[int]) -> str:
        more = f" and {len(ranks) - _NAMED} more" if len(ranks) > _NAMED else ""
        return f"Process {', '.join(f'{other} on {self.hosts[other]}' for other in ranks[:_NAMED])}{more}"


def begin_heartbeat(rank: int, ranks: int) -> None:
    """Begin to show and to watch signs of life, once in a process, after the processes have met.

    Raises:
        LofiError: If LOFI_PEER_SECONDS is not a positive number.
    """
    global _heartbeat
    if _heartbeat is not None:
        return
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    silence = _silence()
    answer = datetime.timedelta(seconds=silence / 2)
    store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=answer)
    _heartbeat = Heartbeat(PrefixStore("lofi", store), rank, ranks, silence=silence, lost=_end)
    dist.barrier()  # each has beaten once
    _heartbeat.start()
    atexit.register(_heartbeat.end)


def tell_failure() -> None:
    """Say to the other processes of the run, if there are any, that this one ends with an error."""
    if _heartbeat is not None:
        _heartbeat.end(_FAILED)


_heartbeat: Heartbeat | None = None


def _silence() -> float:
    text = os.environ.get("LOFI_PEER_SECONDS", str(SILENCE))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise LofiError(f"LOFI_PEER_SECONDS={text!r}: it must be a number of seconds above 0; {SILENCE:g} without it.")
    return seconds


def _end(message: str, lost: list[int]) -> NoReturn:
    """End this process, whose main thread may wait for ever; of the processes of a host, one says why."""
    try:
        assert _heartbeat is not None
        first_here = _heartbeat.rank - started_local_rank()
        if speaks_for_host() or first_here in lost:
            sys.stderr.write(f"\nlofi: {message} {_AGAIN}\n")
            sys.stderr.flush()
        else:
            time.sleep(WORDS)
    finally:
        os._exit(1)


def speaks_for_host() -> bool:
    """Say whether this process is the first of those on its host, as their launcher says."""
    return started_local_rank() == 0


def lost_contact(error: BaseException) -> str | None:
    """Return what to say if an error means that another process of the run is gone; None for any other error."""
    text = str(error)
    if not isinstance(error, dist.DistError) and "gloo/" not in text:
        return None
    what = (text.splitlines() or [type(error).__name__])[0].split("] ", 1)[-1].split(". This is typically")[0]
    return (
        f"Contact to another process of this run is lost ({what}): it has ended, or its host is gone. If it failed, it "
        f"has said why. {_AGAIN}"
    )
