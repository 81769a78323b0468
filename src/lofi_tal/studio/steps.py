"""Changes of a video, one by one: what each replaced, so that any of them can be undone, and done again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lofi_tal.studio.contents import Action, Content, Draft, in_order

Change = Mapping[str, Any]
"""``{"state": [old, new], "subset": [old, new], "segments": [[old or None, new or None], ...], "drafts": ...}``, each
only where something differs; actions and drafts as JSON."""

Classes = list[dict[str, Any]]
"""A class list: name, key and colour of each."""

_NAMES = ("state", "subset")
_LISTS: dict[str, type[Action] | type[Draft]] = {"segments": Action, "drafts": Draft}


def change_between(old: Content, new: Content) -> Change:
    """Return what leads from one content to another; it is empty if they are the same."""
    change: dict[str, Any] = {}
    for name in _NAMES:
        if getattr(old, name) != getattr(new, name):
            change[name] = [getattr(old, name), getattr(new, name)]
    for name in _LISTS:
        before = {one.id: one for one in getattr(old, name)}
        after = {one.id: one for one in getattr(new, name)}
        pairs = [(before.get(key), after.get(key)) for key in dict.fromkeys((*before, *after))]
        different = [[one and one.to_json() for one in pair] for pair in pairs if pair[0] != pair[1]]
        if different:
            change[name] = different
    return change


def changed(content: Content, change: Change, *, back: bool = False) -> Content:
    """Return a content after a change, or before it."""
    side = 0 if back else 1
    values: dict[str, Any] = {name: change[name][side] for name in _NAMES if name in change}
    for name, kind in _LISTS.items():
        if name not in change:
            continue
        gone = {pair[1 - side]["id"] for pair in change[name] if pair[1 - side]}
        come = [kind(**pair[side]) for pair in change[name] if pair[side]]
        gone |= {one.id for one in come}
        values[name] = in_order([*(one for one in getattr(content, name) if one.id not in gone), *come])
    return Content(**{**vars(content), **values})


@dataclass
class History:
    """The changes of one video.

    Args:
        base: What was said of it before the first change.
        listed: The labels file had the video by itself: it stays in it without any action.
        steps: All changes that can be undone or done again.
        at: How many of them are done.
        shared: For each step the number of the change that it is a part of, if that is undone in all its videos at
            once; 0 of others.
    """

    base: Content
    listed: bool
    steps: list[Change] = field(default_factory=list)
    at: int = 0
    shared: list[int] = field(default_factory=list)

    def add(self, change: Change, shared: int = 0) -> None:
        """Take a new change; those that were undone are gone."""
        self.steps[self.at :] = [change]
        self.shared[self.at :] = [shared]
        self.at += 1

    def undo(self, content: Content) -> Content:
        """Return the content before the last change."""
        self.at -= 1
        return changed(content, self.steps[self.at], back=True)

    def redo(self, content: Content) -> Content:
        """Return the content after the change that was undone last."""
        self.at += 1
        return changed(content, self.steps[self.at - 1])

    def next(self, kind: str) -> int | None:
        """Return which shared change ``undo`` or ``redo`` would take, 0 for one of this video alone, None for none."""
        at = self.at - 1 if kind == "undo" else self.at
        return self.shared[at] if 0 <= at < len(self.shared) else None

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to undo."""
        return self.at > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone change."""
        return self.at < len(self.steps)


def step_together(
    histories: Mapping[str, History], contents: Mapping[str, Content], video_id: str, kind: str
) -> tuple[int, dict[str, Content]]:
    """Undo or redo the next change of a video in all that share it; return its number, 0 if none does, and contents."""
    history = histories.get(video_id)
    if history is None or (shared := history.next(kind)) is None:
        return 0, {}
    ids = [name for name, one in histories.items() if one.next(kind) == shared] if shared else [video_id]
    step = History.undo if kind == "undo" else History.redo
    return shared, {name: step(histories[name], contents[name]) for name in ids}


@dataclass
class Replay:
    """What a journal says, as far as it has been read.

    Args:
        contents: Of the videos that ever changed.
        histories: Of these.
        revisions: Number of the record that changed each of them last.
        classes: Class list of the last record that has one.
        number: Of the last record.
        marks: Of the last two times that the labels file was about to be written: its hash, and the contents then.
        renamed: Class lists before and after each shared change that has one, by its number.
    """

    contents: dict[str, Content] = field(default_factory=dict)
    histories: dict[str, History] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    classes: list[dict[str, Any]] = field(default_factory=list)
    number: int = 0
    marks: list[tuple[str, dict[str, Content]]] = field(default_factory=list)
    renamed: dict[int, tuple[Classes, Classes]] = field(default_factory=dict)

    def take(self, record: Mapping[str, Any]) -> None:
        """Follow one record.

        Raises:
            LookupError: If it is none of ours, as :exc:`TypeError` and :exc:`ValueError`.
        """
        if record["kind"] == "writing":
            self.marks = [*self.marks[-1:], (record["hash"], dict(self.contents))]
            return
        shared = record["n"] if record.get("together") else 0
        for video_id, change in record["videos"].items():
            self._take_change(video_id, change, record["kind"], shared)
            self.revisions[video_id] = record["n"]
        if shared and "classes" in record:
            self.renamed[shared] = (self.classes, record["classes"])
        self.classes = record.get("classes", self.classes)
        self.number = record["n"]

    def _take_change(self, video_id: str, change: Change, kind: str, shared: int) -> None:
        if "base" in change:
            base = Content.from_json(change["base"])
            self.histories[video_id], self.contents[video_id] = History(base, bool(change["listed"])), base
        history, content = self.histories[video_id], self.contents[video_id]
        if kind == "undo":
            self.contents[video_id] = history.undo(content)
        elif kind == "redo":
            self.contents[video_id] = history.redo(content)
        else:
            self.contents[video_id] = changed(content, change)
            history.add({name: change[name] for name in (*_NAMES, *_LISTS) if name in change}, shared)
            history.listed = bool(change.get("listed", history.listed))


def replayed(records: Sequence[Mapping[str, Any]], until: int | None = None) -> Replay:
    """Return what records say, up to that of a number."""
    replay = Replay()
    for record in records:
        if until is not None and record.get("n", 0) > until:
            break
        replay.take(record)
    return replay
