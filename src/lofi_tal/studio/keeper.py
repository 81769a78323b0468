"""The process that keeps a job: it runs the commands one after the other, notes how it goes, and outlives the server.

    python -m lofi_tal.studio.keeper FOLDER PROGRAM...

``job.json`` in the folder holds the commands, ``log`` takes what they print, ``state.json`` is written by this process
alone. SIGTERM stops the job: the command is interrupted as by Ctrl-C, and killed if it does not end.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import IO, Any

from lofi_tal.files import read_json, write_json
from lofi_tal.processes import born, this_process

JOB, STATE, LOG = "job.json", "state.json", "log"
FINE = (0, 4)
"""Exit statuses with which a command has done its work; 4: without some videos or annotations, which its log names."""
TICK = 5.0
"""Seconds between two signs of life."""
COLUMNS = "120"
"""Letters a line of what commands print: as many as the page shows."""
PATIENCE = 60.0
"""Seconds that a command has to end after it was interrupted."""


class Keeper:
    """What runs one job.

    Args:
        folder: Of the job.
        program: What comes before the arguments of each command.
    """

    def __init__(self, folder: Path, program: list[str]) -> None:
        self.folder, self.program = folder, program
        self.asked: float | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.said: dict[str, Any] = {"state": "running", "started": time.time(), "holder": this_process()}

    def run(self) -> str:
        """Run the commands until one fails or the job is stopped; return how it ended."""
        for number in (signal.SIGTERM, signal.SIGINT):  # handlers, so that neither is ignored in the commands
            signal.signal(number, self._stop)
        state = "done"
        with (self.folder / LOG).open("ab", buffering=0) as log:
            for step, arguments in enumerate(read_json(self.folder / JOB)["commands"]):
                status = None if self.asked else self._command(step, arguments, log)
                if status not in FINE:
                    state = "stopped" if self.asked else "failed"
                    break
        self._note(state=state, ended=time.time(), command=None)
        return state

    def _command(self, step: int, arguments: list[str], log: IO[bytes]) -> int:
        """Run one command; return its exit status."""
        log.write(f"$ {shlex.join(['lofi', *arguments])}\n".encode(errors="backslashreplace"))
        self.process = process = subprocess.Popen(  # noqa: S603 - a list of checked arguments, and no shell
            [*self.program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            env={**os.environ, "COLUMNS": COLUMNS},
        )
        self._note(step=step, command={**this_process(), "pid": process.pid, "born": born(process.pid)})
        if self.asked:  # while it was being started
            self._interrupt()
        while True:
            try:
                status = process.wait(TICK)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(OSError):  # a sign of life
                    os.utime(self.folder / STATE)
                if self.asked and time.monotonic() - self.asked > PATIENCE:
                    self._signal_group(signal.SIGKILL)
                continue
            self._signal_group(signal.SIGKILL)  # what it has left behind
            self._note(exit=status)
            return status

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None:
            self.asked = time.monotonic()
            self._interrupt()

    def _interrupt(self) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGINT)  # the command alone: it ends its own processes

    def _signal_group(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def _note(self, **facts: Any) -> None:
        self.said |= facts
        write_json(self.folder / STATE, self.said)


if __name__ == "__main__":
    Keeper(Path(sys.argv[1]), sys.argv[2:]).run()
