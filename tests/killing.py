"""Kill a run at random points of all its phases, go on, and compare every byte of the result.

    python -m tests.killing FOLDER --seed 0 --count 100

A point is a phase, a moment in it, and whom a signal hits: the main process, one that reads videos, or all of them.
After a main process has died, its children must end within seconds, the same command with --resume must end well, and
all weights, features and detections must be those of a run that nobody killed. After a reading process has died the run
itself must end so. Nothing may be left half written.

This process imports torch once and forks for each command, so that a point costs only what it runs again. It prints
one line a point, and a table of them by phase and victim; the status is 1 if one failed. FOLDER is kept for those.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import os
import random
import select
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tiny import SETTINGS

CHANGED = ("data.workers=1", "head.epochs=3", "head.lrs=[1e-3, 2e-3]", "baseline=false")
PHASES = {
    "examining": ("lofi_tal.video.manifest:VideoManifest.examine",),
    "caching": ("lofi_tal.run.run:Run.fill_cache",),
    "training": (
        "lofi_tal.run.training:pretrain",
        "lofi_tal.run.training:train_lofi",
        "lofi_tal.stages.head:train_head",
    ),
    "extraction": ("lofi_tal.run.arm_features:extract",),
    "report": ("lofi_tal.run:write_run_report",),
    "saving": (
        "lofi_tal.runtime.checkpoint:Checkpoint.save",
        "lofi_tal.runtime.records:StageFolder.finish",
        "lofi_tal.localizer:Localizer.save_pretrained",
    ),
}
"""What belongs to each phase, as it is looked up where it is called."""
STARTS = {
    "nothing": (("data", "cache"), ("examining", "caching")),
    "cached": (("run",), ("training", "saving")),
    "trained": (("run",), ("extraction", "training", "saving")),
    "extracted": (("run",), ("saving", "report")),
}
"""Where a run begins that will be killed: the command that goes on from there, and the phases in it."""
MADE: dict[str, tuple[str, tuple[str, ...]]] = {
    "nothing": ("", ()),
    "cached": ("nothing", ("data", "cache")),
    "trained": ("cached", ("train",)),
    "extracted": ("trained", ("extract",)),
}
"""From which starting point, and by which command, another one is made."""
READING = ("examining", "caching", "training", "extraction")
SECONDS = 120.0
SECONDS_TO_END = 5.0
SECONDS_TO_BEGIN = 1.0


@dataclass
class Command:
    """A command in a process of its own; ``spans`` are its phases with their seconds, as they end."""

    folder: Path
    recipe: Path
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        self.log = self.folder.with_suffix(".log")
        resume = ["--resume"] if self.words == ("run",) and (self.folder / "recipe.yaml").exists() else []
        arguments = [*self.words, str(self.recipe), "-o", str(self.folder), *resume]
        self.marks, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self.marks)
            _become(arguments, self.log, write)
        os.close(write)
        self.status: int | None = None
        self.buffer = b""

    def events(self) -> Iterator[tuple[str, str]]:
        """Yield ``("+" or "-", phase)`` as they happen, until the process and its children have ended."""
        while True:
            ready, _, _ = select.select([self.marks], [], [], SECONDS)
            if not ready:
                raise TimeoutError(f"{self.words} hangs; see {self.log}")
            data = os.read(self.marks, 65536)
            if not data:
                return
            *lines, self.buffer = (self.buffer + data).split(b"\n")
            for line in lines:
                edge, phase = line.decode().split()
                yield edge, phase

    def children(self) -> list[int]:
        with contextlib.suppress(OSError):
            tasks = Path(f"/proc/{self.pid}/task").iterdir()
            return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
        return []

    def wait(self) -> int:
        """Return the status, negative for a signal."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def ended_with_all(self, seconds: float) -> bool:
        """Say whether no child lives any more, which would hold the pipe of the marks."""
        limit = time.monotonic() + seconds
        while (left := limit - time.monotonic()) > 0:
            if select.select([self.marks], [], [], left)[0] and not os.read(self.marks, 65536):
                return True
        return False

    def close(self) -> None:
        os.close(self.marks)


def _become(arguments: list[str], log: Path, write: int) -> None:
    """Run a command in this process, which tells its phases."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    from lofi_tal.cli.app import main
    from lofi_tal.runtime.training import TrainingRun

    TrainingRun.__init__.__kwdefaults__["checkpoint_seconds"] = 0.0
    for phase, places in PHASES.items():
        for place in places:
            _tell(place, phase, write)
    sys.argv = ["lofi", *arguments, "-q"]
    status = 1
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stderr.flush()
        os._exit(status)


def _tell(place: str, phase: str, write: int) -> None:
    """Let what is at a place tell when it begins and ends."""
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    wrapped: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(wrapped)
    def telling(*arguments: Any, **options: Any) -> Any:
        os.write(write, f"+ {phase}\n".encode())
        try:
            return wrapped(*arguments, **options)
        finally:
            os.write(write, f"- {phase}\n".encode())

    setattr(owner, name, telling)


def results_of(folder: Path) -> dict[str, bytes]:
    """Return all that must be the same: weights, features, detections, frames, and what is known of the files."""
    kept = [path for name in ("*.safetensors", "detections.json", "*.npy") for path in folder.rglob(name)]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in kept}
    lines = (folder / "videos.jsonl").read_bytes().splitlines()
    return {**found, "videos.jsonl": b"\n".join(sorted(set(lines)))}


@dataclass(frozen=True)
class Point:
    """What is done to a run.

    Args:
        start: One of :data:`STARTS`.
        phase: In which it is hit.
        turn: Which of the times that it is in that phase.
        share: Of the usual duration of the phase, after which it is hit.
        victim: ``main``, ``reader`` or ``all``.
        signal: That hits it.
    """

    start: str
    phase: str
    turn: int
    share: float
    victim: str
    signal: signal.Signals

    def __str__(self) -> str:
        return f"{self.phase} {self.turn} of {self.start} at {self.share:.0%}: {self.signal.name} to {self.victim}"


class Killing:
    """Runs on the tiny benchmark, at starting points that are made once.

    Args:
        folder: Where everything lies.
    """

    def __init__(self, folder: Path) -> None:
        from lofi_tal.demo import demo_recipe
        from lofi_tal.recipes.writing import save_recipe
        from lofi_tal.synthetic import make_dataset

        self.folder = folder
        data = make_dataset(folder / "data", preset="tiny", seed=0, workers=1)
        self.recipe = folder / "recipe.yaml"
        self.recipe.write_text(save_recipe(demo_recipe(data, seed=0, overrides=(*SETTINGS, *CHANGED))))
        self.expected: dict[str, dict[str, bytes]] = {}
        self.spans: dict[str, dict[str, list[float]]] = {}

    def start(self, name: str) -> Path:
        """Return a run folder at a starting point; it is made when it is first asked for, and must not be changed."""
        folder = self.folder / "starts" / name / "run"
        if not folder.exists():
            before, words = MADE[name]
            if before:
                shutil.copytree(self.start(before), folder)
                self._whole(folder, words)
            else:
                folder.mkdir(parents=True)
        return folder

    def usual(self, start: str) -> dict[str, list[float]]:
        """Return the seconds of each phase of a run from a starting point that nobody kills; its results are kept."""
        if start not in self.spans:
            whole = (
                self.folder / "whole" / start / "run"
            )  # alone in its folder: runs use the caches of those beside them
            shutil.copytree(self.start(start), whole)
            self.spans[start] = self._whole(whole, STARTS[start][0])
            self.expected[start] = results_of(whole)
        return self.spans[start]

    def _whole(self, folder: Path, words: tuple[str, ...]) -> dict[str, list[float]]:
        command, spans = Command(folder, self.recipe, words), dict[str, list[float]]()
        began: dict[str, list[float]] = {}
        for edge, phase in command.events():
            if edge == "+":
                began.setdefault(phase, []).append(time.monotonic())
            elif len(began[phase]) > len(spans.get(phase, [])):
                spans.setdefault(phase, []).append(time.monotonic() - began[phase][len(spans.get(phase, []))])
        command.close()
        if command.wait():
            raise RuntimeError(f"{words} ended with {command.wait()}; see {command.log}")
        return spans

    def draw(self, chance: random.Random, phase: str) -> Point:
        """Return a random point of a phase."""
        start = chance.choice([name for name, (_, phases) in STARTS.items() if phase in phases])
        victim = chance.choice(("main", "main", "reader", "all") if phase in READING else ("main", "main", "all"))
        number = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        turn = chance.randrange(len(self.usual(start)[phase]))
        return Point(start, phase, turn, chance.random(), victim, number)

    def strike(self, point: Point, name: str) -> str:
        """Do it; return what is wrong with the outcome, nothing if all is well, and ``missed`` if nobody was hit."""
        folder, words = self.folder / "points" / name / "run", STARTS[point.start][0]
        shutil.copytree(self.start(point.start), folder)
        command, hit, turn = Command(folder, self.recipe, words), False, 0
        for edge, phase in command.events():
            if not hit and edge == "+" and phase == point.phase:
                if turn == point.turn:
                    time.sleep(point.share * self.spans[point.start][phase][turn])
                    hit = self._hit(command, point)
                    if point.victim != "reader" or not hit:
                        break
                turn += 1
        if not hit:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)
        status = command.wait()
        alone = command.ended_with_all(SECONDS_TO_END) if point.victim != "reader" or not hit else True
        command.close()
        if not hit:
            shutil.rmtree(folder.parent)
            return "missed"
        wrong = "" if alone else "children outlived the main process; "
        if point.victim == "reader":
            wrong += f"ended with {status}; " if status else ""
        else:
            for _ in range(1 if status else 0):
                again = Command(folder, self.recipe, words)
                list(again.events())
                again.close()
                wrong += f"the command after it ended with {again.wait()}; " if again.wait() else ""
        wrong += self._compare(folder, point)
        if not wrong:
            shutil.rmtree(folder.parent)
        return wrong

    def _hit(self, command: Command, point: Point) -> bool:
        if point.victim == "reader":
            limit = time.monotonic() + SECONDS_TO_BEGIN
            while not (children := command.children()):  # it may be about to make them
                if time.monotonic() > limit:
                    return False
                time.sleep(0.01)
            with contextlib.suppress(ProcessLookupError):
                os.kill(children[int(point.share * 97) % len(children)], point.signal)
                return True
            return False
        (os.killpg if point.victim == "all" else os.kill)(command.pid, point.signal)
        return True

    def _compare(self, folder: Path, point: Point) -> str:
        found, expected = results_of(folder), self.expected[point.start]
        other = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        halves = [path.name for path in folder.rglob(".*.part")]
        told = f"other bytes in {', '.join(other[:4])} ({len(other)}); " if other else ""
        return told + (f"half written: {', '.join(halves[:3])}; " if halves else "")


def say(line: str) -> None:
    """Print a line, now."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    killing, chance = Killing(options.folder), random.Random(options.seed)
    survived, failed = Counter[str](), Counter[str]()
    done = missed = 0
    while done < options.count:
        phases = list(PHASES)
        point = killing.draw(chance, phases[done % len(phases)])
        wrong = killing.strike(point, f"{options.seed}-{done}")
        if wrong == "missed":
            missed += 1
            continue
        done += 1
        key = f"{point.phase:10} {point.victim:6} {point.signal.name}"
        (failed if wrong else survived)[key] += 1
        say(f"{done:3} {point}: {wrong or 'the same bytes'}")
    say(f"\n{'phase':10} {'victim':6} {'signal':8} same other   ({missed} came too late or found nobody)")
    for key in sorted(survived | failed):
        say(f"{key:26} {survived[key]:4} {failed[key]:5}")
    say(f"{sum(survived.values())} of {done} the same")
    return int(bool(failed))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for _library in ("torch", "torchvision", "av", "lightning_fabric", "h5py", "lofi_tal.cli.app", "lofi_tal.run"):
        importlib.import_module(_library)
    sys.exit(main())
