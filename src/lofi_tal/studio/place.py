"""Where a studio works, and the states of its labels that the journal can bring back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lofi_tal.errors import LofiError
from lofi_tal.locks import locked
from lofi_tal.studio.desk import Desk, work_folder
from lofi_tal.studio.journal import Journal
from lofi_tal.studio.steps import replayed


@dataclass(frozen=True)
class Place:
    """Videos and labels of one studio.

    Args:
        folder: Of the videos.
        labels: The labels file.
        model: Run or model folder that suggests drafts.
        device: Where it runs.
        recursive: Search all folders in ``folder``.
    """

    folder: Path
    labels: Path
    model: Path | None = None
    device: str = "auto"
    recursive: bool = False

    @property
    def work(self) -> Path:
        """Folder for all that has no place in the labels file."""
        return work_folder(self.labels.resolve())

    @contextlib.contextmanager
    def held(self) -> Iterator[Desk]:
        """Yield its desk, which no other process has at the same time.

        Raises:
            LofiError: If the folder or the labels cannot be read, or another process has them.
        """
        if not self.folder.is_dir():
            raise LofiError(f"{self.folder} is no folder: give the folder of the videos.")
        with locked(self.work / "lock", f"Another lofi studio has {self.labels} open."):
            yield Desk(self.folder, self.labels, model=self.model, device=self.device, recursive=self.recursive)


@dataclass(frozen=True)
class State:
    """One state of all labels: the number and time of the change that led to it, what it was, and of which videos."""

    number: int
    at: str
    did: str
    videos: tuple[str, ...]


def list_states(place: Place) -> list[State]:
    """Return all states of the labels, the oldest first; state 0, before the first change, is not among them.

    Raises:
        DataError: If the journal is damaged.
    """
    changes = [one for one in Journal(place.work / "journal").read() if one["kind"] != "writing"]
    return [State(one["n"], one["at"], one["did"], tuple(one["videos"])) for one in changes]


def restore(place: Place, number: int) -> int:
    """Bring a state back, as one more change that can be undone; return how many videos it changes.

    Raises:
        LofiError: If there is no such state, or a studio is open.
        RunError: If it cannot be written.
    """
    with place.held() as desk, desk.lock:
        book = desk.book
        if not 0 <= number <= book.number:
            raise LofiError(f"--restore {number}: there are states 0 to {book.number}; --history lists them.")
        then = replayed(book.records(), number)
        contents = {id: then.contents.get(id, history.base) for id, history in book.histories.items()}
        count = desk.apply(contents, f"Restore state {number}", then.classes or None)
        desk.flush()
        return count
