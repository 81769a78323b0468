"""Jobs: commands that run as processes of their own, survive the page and the server, and are found again.

A job is a folder: ``job.json`` says what it is, ``state.json`` how it goes (its keeper writes it, see
:mod:`lofi_tal.studio.keeper`), ``log`` what its commands print. What is shown as its command is exactly what runs.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lofi_tal.errors import DataError, LofiError, counted, one_line
from lofi_tal.files import read_json, write_json
from lofi_tal.processes import is_gone, is_here, this_process
from lofi_tal.progress import told
from lofi_tal.studio.keeper import FINE, JOB, LOG, STATE
from lofi_tal.studio.refusals import MissingError

FOUND = "found.json"
"""What a detection has brought, in its job's folder."""
LOFI = (sys.executable, "-m", "lofi_tal.cli")
SILENT = 90.0
"""Seconds without a sign of life after which a job of another machine counts as lost."""
MOST_LOG = 256 * 1024
"""Bytes of a log that are given at once."""
_TAIL = 16 * 1024  # bytes of a log that are looked at for progress
_LINE = 160  # letters of a line of a log
_ID = re.compile(r"[0-9a-z-]{1,80}")
_STARTING = 10.0  # seconds that a keeper has to begin


@dataclass(frozen=True)
class Job:
    """A job and how it goes.

    Args:
        id: Its name.
        kind: ``train``, ``detect`` or ``compare``.
        commands: Arguments of each ``lofi`` command.
        facts: What the server wants to know of it later, JSON-like.
        state: ``running``, ``done``, ``failed``, ``stopped`` or ``lost`` (its process vanished without a word).
        started: Seconds since 1970.
        ended: Seconds since 1970; None while it runs, and of a lost job.
        share: What is done of the task at hand, in [0, 1]; None where nothing is known.
        text: How it goes, or why it failed, in a line.
        folder: Where it lies.
    """

    id: str
    kind: str
    commands: tuple[tuple[str, ...], ...]
    facts: Mapping[str, Any]
    state: str
    started: float
    ended: float | None
    share: float | None
    text: str
    folder: Path

    @property
    def command(self) -> str:
        """What runs, as a line for a shell."""
        return as_line(self.commands)

    def to_json(self) -> dict[str, Any]:
        """Return the job as the page reads it."""
        kept = ("id", "kind", "command", "state", "started", "ended", "share", "text")
        output = self.facts.get("output")
        return {name: getattr(self, name) for name in kept} | ({} if output is None else {"output": output})


def as_line(commands: Sequence[Sequence[str]]) -> str:
    """Return commands as a line for a shell, which runs each after the one before has done its work."""
    return " && ".join(shlex.join(["lofi", *arguments]) for arguments in commands)


class UnknownJobError(MissingError):
    """There is no such job."""


def listed(jobs: Iterable[Job]) -> list[dict[str, Any]]:
    """Return jobs, the latest first, as the page reads them; ``resumable`` is the last one of a run that has begun."""
    found, seen = [], set()
    for job in jobs:
        path = job.facts.get("path")
        stopped = path is not None and path not in seen and job.state in ("stopped", "failed", "lost")
        seen.add(path)
        found.append(job.to_json() | {"resumable": stopped and (Path(str(path)) / "recipe.yaml").is_file()})
    return found


class Jobs:
    """The jobs of a work folder.

    Args:
        folder: Folder of all jobs; made by the first one.
        program: What comes before the arguments of each command.
    """

    def __init__(self, folder: Path, program: Sequence[str] = LOFI) -> None:
        self.folder, self.program = folder, tuple(program)
        self._keepers: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: dict[str, Job] = {}  # they change no more
        self._lock = threading.Lock()

    def start(self, kind: str, commands: Sequence[Sequence[str]], facts: Mapping[str, Any] | None = None) -> Job:
        """Start commands, each after the one before has done its work.

        Args:
            kind: What the job is.
            commands: Arguments of each ``lofi`` command; no shell sees them.
            facts: Kept with the job, JSON-like.
        """
        with self._lock:
            name = self._new(kind)
            job = {
                "kind": kind,
                "commands": [list(arguments) for arguments in commands],
                "facts": dict(facts or {}),
                "created": time.time(),
                "starter": this_process(),
            }
            write_json(self.folder / name / JOB, job)
            with (self.folder / name / LOG).open("ab") as log:
                self._keepers[name] = subprocess.Popen(  # noqa: S603 - arguments of our own
                    [sys.executable, "-m", "lofi_tal.studio.keeper", str(self.folder / name), *self.program],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        return self.get(name)

    def _new(self, kind: str) -> str:
        """Make the folder of a job; its name tells when it began."""
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{kind}"
        for number in range(1, 1000):
            name = stem if number == 1 else f"{stem}-{number}"
            with contextlib.suppress(FileExistsError):
                (self.folder / name).mkdir(parents=True)
                return name
        raise LofiError(f"{self.folder} holds 999 jobs of this second; try again.")

    def all(self) -> list[Job]:
        """Return all jobs, the latest first; folders that hold none are passed over."""
        with contextlib.suppress(FileNotFoundError):
            names = sorted((entry.name for entry in os.scandir(self.folder) if entry.is_dir()), reverse=True)
            return list(self._readable(names))
        return []

    def _readable(self, names: Sequence[str]) -> Iterator[Job]:
        for name in names:
            with contextlib.suppress(LofiError):
                yield self.get(name)

    def get(self, name: str) -> Job:
        """Return a job.

        Raises:
            UnknownJobError: If there is none of this name.
        """
        folder = self.folder / name
        if not _ID.fullmatch(name) or not (folder / JOB).is_file():
            raise UnknownJobError(f"There is no job {name!r}.")
        if name not in self._ended:
            job = self._read(name, folder)
            if job.state == "running":
                return job
            self._ended[name] = job
        return self._ended[name]

    def _read(self, name: str, folder: Path) -> Job:
        """Return a job as its files have it."""
        try:
            job = read_json(folder / JOB)
            commands = tuple(tuple(map(str, arguments)) for arguments in job["commands"])
            said = self._said(name, job)
            started = float(said.get("started") or job["created"])
            share, text = _progress(folder, said, commands)
            return Job(
                id=name,
                kind=str(job["kind"]),
                commands=commands,
                facts=dict(job["facts"]),
                state=said["state"],
                started=started,
                ended=said.get("ended"),
                share=share,
                text=text,
                folder=folder,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnknownJobError(f"Job {name!r} cannot be read: {error!r}.") from error

    def note_found(self, job: Job, videos: int, drafts: int) -> None:
        """Add to what a detection has brought to videos that were not checked."""
        known, there = _found(job.folder)
        write_json(job.folder / FOUND, {"videos": known + videos, "drafts": there + drafts})
        self._ended.pop(job.id, None)  # its line says more now

    def log(self, name: str, start: int = 0) -> tuple[str, int]:
        """Return what a job has printed from a byte on, and the byte after it.

        Raises:
            UnknownJobError: If there is no such job.
        """
        path = self.get(name).folder / LOG
        try:
            with path.open("rb") as handle:
                handle.seek(max(0, start))
                data = handle.read(MOST_LOG)
        except FileNotFoundError:
            return "", 0
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(data)
        rest = decoder.getstate()[0]  # the beginning of a character, whose end comes with the next call
        return text, max(0, start) + len(data) - len(rest)

    def stop(self, name: str) -> Job:
        """Stop a job: its command is interrupted as by Ctrl-C. It may take a moment until it has ended.

        Raises:
            LofiError: If it has ended, or runs on another machine.
        """
        job = self.get(name)
        if job.state != "running":
            raise LofiError(f"Job {name!r} has ended ({job.state}): there is nothing to stop.")
        said = self._wait_for_keeper(name)
        holder, command = said.get("holder"), said.get("command")
        if holder and is_here(holder) and not is_gone(holder):
            os.kill(holder["pid"], signal.SIGTERM)
        elif command and is_here(command) and not is_gone(command):  # its keeper was killed
            os.killpg(command["pid"], signal.SIGTERM)
        elif holder and not is_here(holder):
            raise LofiError(f"Job {name!r} runs on {holder.get('host')}: stop it there.")
        return self.get(name)

    def _wait_for_keeper(self, name: str) -> dict[str, Any]:
        """Return the state of a job that was started a moment ago."""
        until = time.monotonic() + _STARTING
        while not (said := _read(self.folder / name / STATE)) and time.monotonic() < until:
            time.sleep(0.05)
        return said

    def _said(self, name: str, job: Mapping[str, Any]) -> dict[str, Any]:
        """Return the state of a job, which says ``lost`` if nobody is there to write another one."""
        keeper = self._keepers.get(name)
        ended = keeper is not None and keeper.poll() is not None  # before the state is read; it reaps the process, too
        said = _read(self.folder / name / STATE) or {"state": "running"}
        if said["state"] != "running":
            return said
        if "holder" in said:
            lost = self._is_lost(said, self.folder / name / STATE)
        elif keeper is not None:  # which has not written yet
            lost = ended
        else:  # of another server, which may be about to start it
            gone = is_gone(job["starter"]) or not is_here(job["starter"])
            lost = gone and time.time() - float(job["created"]) > _STARTING
        if not lost:
            return said
        last = _read(self.folder / name / STATE)  # it may have ended in order since it was read
        return last if last.get("state", "running") != "running" else {**said, "state": "lost"}

    @staticmethod
    def _is_lost(said: Mapping[str, Any], path: Path) -> bool:
        holder, command = said["holder"], said.get("command")
        if not is_here(holder):
            return time.time() - path.stat().st_mtime > SILENT
        return is_gone(holder) and (command is None or is_gone(command))


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a state file; nothing if it is not there or no state."""
    with contextlib.suppress(DataError):
        said = read_json(path)
        if isinstance(said, dict) and isinstance(said.get("state"), str):
            return said
    return {}


def _progress(folder: Path, said: Mapping[str, Any], commands: Sequence[Sequence[str]]) -> tuple[float | None, str]:
    """Return what is done of the task at hand, and how the job goes in a line, from the end of its log."""
    lines = _last_lines(folder / LOG)
    last = next((line for line in reversed(lines) if line.strip() and not line.startswith("$ ")), "")
    state = said["state"]
    if state == "running":
        step = int(said.get("step", 0))
        doing = " ".join(word for word in commands[step][:2] if not word.startswith(("-", "/")))
        doing = f"lofi {doing}" if len(commands) == 1 else f"step {step + 1} of {len(commands)}, lofi {doing}"
        line = next((found for one in reversed(lines) if (found := told(one))), None)
        if line is None or not line.total:
            return None, one_line(f"{doing}: {last[:_LINE]}" if last else doing)
        share = min(1.0, line.done / line.total)
        left = f"{line.left} left of it, {line.all} of all" if line.all else f"{line.left} left"
        return share, one_line(f"{doing}: {line.title} {line.done}/{line.total}, {left}")
    if state == "lost":
        return None, "its process vanished: the machine was restarted, or it was killed"
    if state == "done":
        return 1.0, _ending(folder, lossy=said.get("exit") == FINE[-1])
    error = next((line.removeprefix("lofi: ") for line in reversed(lines) if line.startswith("lofi: ")), "")
    if state == "stopped":
        return None, one_line(error) or "stopped"
    return None, one_line(error or last) or f"exit status {said.get('exit')}"


def _ending(folder: Path, *, lossy: bool) -> str:
    """Return what a job that is done has done, in a line."""
    text = "done; some videos or annotations could not be used" if lossy else "done"
    if not (folder / FOUND).exists():
        return text
    videos, drafts = _found(folder)
    if not videos:
        return f"{text}: no video took drafts, for those that are checked take none"
    if not drafts:
        return (
            f"{text}: no draft in {counted(videos, 'video')}, for the model is not sure enough; lower the lowest score"
        )
    return f"{text}: {counted(drafts, 'draft')} in {counted(videos, 'video')}"


def _found(folder: Path) -> tuple[int, int]:
    """Return the videos and the drafts that a detection brought."""
    try:
        content = read_json(folder / FOUND)
        return int(content["videos"]), int(content["drafts"])
    except (LofiError, OSError, KeyError, TypeError, ValueError):
        return 0, 0


def _last_lines(path: Path) -> list[str]:
    """Return the last lines of a log, of the command that runs or ran last."""
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - _TAIL))
            lines = handle.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    begun = next((i for i in range(len(lines) - 1, -1, -1) if lines[i].startswith("$ lofi ")), 0)
    return lines[begun:]
