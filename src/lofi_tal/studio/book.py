"""All labels, with their history: journalled before anything else, then written to the labels file.

Nobody's change is lost. A change is in the journal before it is acknowledged, so that a start after a crash goes on
from it. If somebody else changes the labels file, videos that differ in it are taken as they are there, as one more
change, which can be undone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lofi_tal.errors import LofiError
from lofi_tal.files import write_bytes
from lofi_tal.report.theme import series_colour
from lofi_tal.studio.contents import Content
from lofi_tal.studio.document import Document, Stamp, stamp_of, visible
from lofi_tal.studio.journal import Journal
from lofi_tal.studio.steps import Change, Classes, History, Replay, change_between, replayed, step_together

Facts = Callable[[str], Mapping[str, float]]
KEYS = "123456789"
"""Keys that classes get by themselves; letters that the page does not need may be given to them."""


class Book:
    """Contents of videos by id; not for several threads at once.

    Args:
        labels: The labels file, which need not exist.
        journal: Its journal.
        facts: Duration and frame rate of a video, as far as they are known.

    Raises:
        DataError: If the labels file or the journal cannot be read.
    """

    def __init__(self, labels: Path, journal: Path, facts: Facts = lambda video_id: {}) -> None:
        self.labels, self.facts = labels, facts
        self._journal = Journal(journal)
        self.document = Document.read(labels)
        self._refused: Stamp | None = None  # of a file that cannot be read
        replay = replayed(self._journal.read())
        self.contents: dict[str, Content] = {id: self.document.content(id) for id in self.document.records}
        self.contents |= replay.contents
        self.histories, self.revisions, self.number = replay.histories, replay.revisions, replay.number
        self.classes: Classes = [dict(one) for one in replay.classes]
        self._renamed = replay.renamed
        self.uses: Counter[str] = Counter()
        for content in self.contents.values():
            self._count(content, 1)
        self.classes = with_labels(self.classes, self.contents.values())
        self.unwritten: set[str] = set()
        self._catch_up(replay)

    def content(self, video_id: str) -> Content:
        """Return what is said of a video."""
        return self.contents.get(video_id) or Content()

    def revision(self, video_id: str) -> int:
        """Return the number of the last change of a video, 0 without any."""
        return self.revisions.get(video_id, 0)

    def apply(self, contents: Mapping[str, Content], did: str, *, together: bool = False, **more: Any) -> list[str]:
        """Replace what is said of videos, as one change each; return the ids of those that differ.

        Args:
            contents: By video.
            did: What it does, in words.
            together: It is undone in all videos at once.
            more: ``classes``, the new class list.
        """
        changes = {}
        for video_id, content in contents.items():
            if change := change_between(self.content(video_id), content):
                changes[video_id] = self._with_base(video_id, change)
        if changes or more:
            more |= {"together": True} if together and len(changes) > 1 else {}
            self._note("change", changes, contents, did, **more)
        return list(changes)

    def outside(self) -> list[str] | None:
        """Take what somebody else wrote into the labels file; return the videos that differ, None if it is as it was.

        Raises:
            DataError: If the file cannot be read; the second time, it is not read again.
        """
        stamp = stamp_of(self.labels)
        if stamp == self.document.stamp or (stamp is not None and stamp == self._refused):
            return None
        if stamp is None:  # deleted: it is written again
            self.document.stamp = None
            self.unwritten |= set(self.contents)
            return []
        self._refused = stamp
        new = Document.read(self.labels)
        self._refused = None
        old, self.document = self.document, new
        ids = dict.fromkeys((*old.records, *new.records))
        different = [id for id in ids if old.records.get(id) != new.records.get(id)]
        self._adopt({id for id in different if old.visible(id) != new.visible(id)})
        return different

    def is_readable(self) -> bool:
        """Say whether the labels file, as it is now, is one that the studio knows and may replace."""
        return stamp_of(self.labels) == self.document.stamp

    def prepare(self) -> Writing | None:
        """Return what is to be written to the labels file; None if nothing is, or somebody else has changed it."""
        if not self.unwritten or not self.is_readable():
            return None
        document, todo = self.document.copy(), {id: self.revision(id) for id in self.unwritten}
        for video_id in todo:
            document.put(video_id, self.shown(video_id), self.facts(video_id))
        writing = Writing(self.labels, document, document.data(), self.document.stamp, todo)
        self._journal.add({"n": self.number, "kind": "writing", "hash": document.hash})
        return writing

    def finish(self, writing: Writing) -> None:
        """Note that something has been written; what has changed meanwhile is still to be written."""
        self.document = writing.document
        self.unwritten -= {id for id, revision in writing.revisions.items() if self.revision(id) == revision}

    def records(self) -> list[dict[str, Any]]:
        """Return the journal."""
        return self._journal.read()

    def _catch_up(self, replay: Replay) -> None:
        """Find what the labels file does not have yet, and what somebody else has changed in it meanwhile."""
        ours = self.document.stamp is None or self.document.hash in [mark[0] for mark in replay.marks]
        outside = set()
        for video_id, history in self.histories.items():
            theirs = self.document.visible(video_id)
            if theirs == self._visible(video_id, self.contents[video_id]):
                continue
            before = [mark[1].get(video_id, history.base) for mark in replay.marks] or [history.base]
            if ours or theirs in [self._visible(video_id, content) for content in before]:
                self.unwritten.add(video_id)
            else:
                outside.add(video_id)
        self._adopt(outside)

    def _adopt(self, video_ids: Iterable[str]) -> None:
        """Take the labels file's word on some videos."""
        changes, contents = {}, {}
        for video_id in video_ids:
            now = self.content(video_id)
            content = self.document.content(video_id, now.segments, f"f{self.number + 1}-")
            state = now.state if content.segments or video_id in self.document.records else "new"
            state = "checked" if state == "new" and content.segments else state
            contents[video_id] = Content(state, content.subset, content.segments, now.drafts)
            change = self._with_base(video_id, change_between(now, contents[video_id]))
            changes[video_id] = {**change, "listed": video_id in self.document.records}
        if changes:
            self._note("outside", changes, contents, "Changed by another program")
        self.unwritten -= set(changes)

    def step(self, video_id: str, kind: str) -> list[str]:
        """``undo`` or ``redo`` the next change of a video; return the videos that differ, none if there is none.

        A change that was made in several videos together is taken back in all that have not changed since.
        """
        shared, contents = step_together(self.histories, self.contents, video_id, kind)
        before, after = self._renamed.get(shared, (None, None))[:: 1 if kind == "undo" else -1]
        more = {"classes": before} if after is not None and after == self.classes else {}
        try:
            if contents:
                self._note(kind, {id: {} for id in contents}, contents, kind.capitalize(), **more)
        except LofiError:
            for id in contents:
                self.histories[id].at += 1 if kind == "undo" else -1
            raise
        return list(contents)

    def _with_base(self, video_id: str, change: Change) -> Change:
        if video_id in self.histories:
            return change
        return {"base": self.content(video_id).to_json(), "listed": video_id in self.document.records, **change}

    def _note(
        self, kind: str, changes: Mapping[str, Change], contents: Mapping[str, Content], did: str, **more: Any
    ) -> None:
        """Write a change into the journal, and then follow it."""
        more.setdefault("classes", self.classes)
        more["classes"] = with_labels(more["classes"], (contents[video_id] for video_id in changes))
        if more["classes"] == self.classes:
            del more["classes"]
        record = {"n": self.number + 1, "kind": kind, "did": did, "videos": changes, **more}
        self._journal.add(record)
        self.number += 1
        shared = self.number if more.get("together") else 0
        if shared and "classes" in more:
            self._renamed[shared] = (self.classes, more["classes"])
        self.classes = more.get("classes", self.classes)
        for video_id, change in changes.items():
            self._follow(video_id, change, contents[video_id], kind, shared)

    def _follow(self, video_id: str, change: Change, content: Content, kind: str, shared: int) -> None:
        before = self.content(video_id)
        if "base" in change:
            self.histories[video_id] = History(before, change["listed"])
        if kind in ("change", "outside"):
            history = self.histories[video_id]
            history.listed = change.get("listed", history.listed)
            history.add({key: value for key, value in change.items() if key not in ("base", "listed")}, shared)
        self._count(before, -1)
        self._count(content, 1)
        self.contents[video_id] = content
        self.revisions[video_id] = self.number
        if self._visible(video_id, before) != self._visible(video_id, content) or kind == "outside":
            self.unwritten.add(video_id)

    def _count(self, content: Content, sign: int) -> None:
        for one in content.spans:
            self.uses[one.label] += sign

    def shown(self, video_id: str) -> Content | None:
        """Return what the labels file is to say of a video: nothing of one that nobody has labelled."""
        content, history = self.content(video_id), self.histories.get(video_id)
        listed = video_id in self.document.records if history is None else history.listed
        return content if content.segments or content.state == "checked" or listed else None

    def _visible(self, video_id: str, content: Content) -> Any:
        listed = self.histories[video_id].listed
        return visible(content) if content.segments or content.state == "checked" or listed else None


@dataclass
class Writing:
    """The next version of a labels file.

    Args:
        path: The file.
        document: What it will say.
        data: The same, as bytes.
        expected: Stamp of the file that it replaces.
        revisions: Of the videos that differ.
    """

    path: Path
    document: Document
    data: bytes
    expected: Stamp | None
    revisions: Mapping[str, int]

    def write(self) -> bool:
        """Write it, unless somebody else has changed the file; say whether it was written.

        Raises:
            RunError: If it cannot be written.
        """
        if stamp_of(self.path) != self.expected:
            return False
        write_bytes(self.path, self.data)
        self.document.stamp = stamp_of(self.path)
        return True


def new_class(name: str, others: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a class with the next colour, and the first number key that is free."""
    taken = {one["key"] for one in others}
    key = next((key for key in KEYS if key not in taken), "")
    return {"name": name, "key": key, "colour": series_colour(len(others))}


def with_labels(classes: list[dict[str, Any]], contents: Iterable[Content]) -> list[dict[str, Any]]:
    """Return the class list with those labels of some contents that are not in it."""
    result = list(classes)
    known = {one["name"] for one in classes}
    for content in contents:
        for one in content.spans:
            if one.label not in known:
                known.add(one.label)
                result.append(new_class(one.label, result))
    return result
