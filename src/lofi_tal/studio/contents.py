"""What is said of one video: its state, subset, actions and drafts, checked as they come from a page or a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lofi_tal.annotations.values import LONGEST, plain_label, read_text, shown
from lofi_tal.errors import LofiError, nearest
from lofi_tal.video import Clock

STATES = ("new", "draft", "checked")
"""Of a video: not looked at, with drafts of a model, looked through."""
TRAINING = "training"
_LONGEST_LABEL = 200
_SAME = 1e-3  # seconds between times that are one
_LONGEST_NAME = 100
_ROUNDING = 1e-3  # seconds by which a time may lie outside a video: pages round
_MOST = 20_000  # actions, or drafts, of a video


@dataclass(frozen=True)
class Action:
    """One labelled time span.

    Args:
        id: Tells it from the others of its video.
        start: Seconds.
        end: Seconds.
        label: Class.
        more: What the labels file says of it besides, kept as it is.
    """

    id: str
    start: float
    end: float
    label: str
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what the journal keeps."""
        plain = {"id": self.id, "start": self.start, "end": self.end, "label": self.label}
        return plain | ({"more": dict(self.more)} if self.more else {})


@dataclass(frozen=True)
class Draft:
    """A time span that a model or another file suggests; ``source`` says which."""

    id: str
    start: float
    end: float
    label: str
    score: float
    source: str

    def to_json(self) -> dict[str, Any]:
        """Return what pages and the journal see."""
        return dict(vars(self))


@dataclass(frozen=True)
class Content:
    """All that is said of a video; actions and drafts are sorted by time.

    Args:
        state: One of :data:`STATES`.
        subset: Such as ``training``.
        segments: Actions.
        drafts: Drafts.
    """

    state: str = "new"
    subset: str = TRAINING
    segments: tuple[Action, ...] = ()
    drafts: tuple[Draft, ...] = ()

    @property
    def spans(self) -> tuple[Action | Draft, ...]:
        """Actions and drafts."""
        return (*self.segments, *self.drafts)

    def to_json(self) -> dict[str, Any]:
        """Return what the journal keeps."""
        return {
            "state": self.state,
            "subset": self.subset,
            "segments": [one.to_json() for one in self.segments],
            "drafts": [one.to_json() for one in self.drafts],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Content:
        """Return what :meth:`to_json` gave."""
        return cls(
            value["state"],
            value["subset"],
            in_order(Action(**one) for one in value["segments"]),
            in_order(Draft(**one) for one in value["drafts"]),
        )


def in_order(spans: Any) -> tuple[Any, ...]:
    """Return actions or drafts by time; equal ones by label and id, so that the order is always the same."""
    return tuple(sorted(spans, key=lambda one: (one.start, one.end, one.label, one.id)))


def read_content(body: Mapping[str, Any], now: Content, clock: Clock | None) -> Content:
    """Return the content that a page asks for; what the body leaves out stays as it is.

    Times are checked where they are new: a file of somebody else may have had actions that reach past the video.

    Args:
        body: ``state``, ``subset``, ``segments``, ``drafts``.
        now: The content that it replaces.
        clock: Of the video, if it is known.

    Raises:
        LofiError: If a value cannot be used.
    """
    state = body.get("state", now.state)
    if state not in STATES:
        hint = nearest(state, STATES) if isinstance(state, str) else ""
        raise LofiError(f"state: {shown(state)} is not one of {', '.join(STATES)}.{hint}")
    subset = _name(body.get("subset", now.subset), "subset", _LONGEST_NAME)
    content = Content(state, subset, now.segments, now.drafts)
    if "segments" in body:
        held = {one.id: one for one in now.segments}
        actions = [_action(one, f"segments[{i}]", held, clock) for i, one in _listed(body["segments"], "segments")]
        content = replace(content, segments=in_order(_distinct(actions, "segments")))
    if "drafts" in body:
        known = {one.id: one for one in now.drafts}
        drafts = [_draft(one, f"drafts[{i}]", known) for i, one in _listed(body["drafts"], "drafts")]
        content = replace(content, drafts=in_order(_distinct(drafts, "drafts")))
    return content


def with_drafts(content: Content, found: Sequence[Mapping[str, Any]], kind: str, clock: Clock | None = None) -> Content:
    """Return a content with other drafts of one kind of source; a new video becomes one with drafts.

    A draft that is an action of the video already, with its class and its times, is left out.

    Args:
        content: What was said before.
        found: The drafts, as :class:`Draft` has them.
        kind: What the sources of those that go begin with, before a colon.
        clock: Of the video, if it is known: drafts are cut at its ends, and those beyond them left out.

    Raises:
        LofiError: If one cannot be used.
    """
    new = [_draft(one, f"drafts[{i}]", {}) for i, one in enumerate(found)]
    first, last = _bounds(clock)
    new = [replace(one, start=max(one.start, first), end=min(one.end, last)) for one in new]
    new = [one for one in new if one.end > one.start]
    new = [one for one in new if not any(_is_same(one, action) for action in content.segments)]
    names = {one.id for one in new}
    kept = [one for one in content.drafts if not one.source.startswith(f"{kind}:") and one.id not in names]
    state = "draft" if new and content.state == "new" else content.state
    return replace(content, state=state, drafts=in_order([*kept, *new]))


def _is_same(draft: Draft, action: Action) -> bool:
    times = abs(draft.start - action.start), abs(draft.end - action.end)
    return draft.label == action.label and max(times) <= _SAME


def read_label(value: Any, where: str) -> str:
    """Return a class name on one line.

    Raises:
        LofiError: If it is no text, empty, or too long.
    """
    return plain_label(_name(value, where, _LONGEST_LABEL))


def _name(value: Any, where: str, longest: int) -> str:
    name = read_text(value, where)
    if len(name) > longest:
        raise LofiError(f"{where}: {shown(name)} has {len(name)} characters; at most {longest} are allowed.")
    return name.strip()


def _listed(value: Any, where: str) -> list[tuple[int, Mapping[str, Any]]]:
    if not isinstance(value, list):
        raise LofiError(f"{where}: expected a list, found {shown(value)}.")
    if len(value) > _MOST:
        raise LofiError(f"{where}: {len(value)} are too many for one video; at most {_MOST} are allowed.")
    for i, one in enumerate(value):
        if not isinstance(one, dict):
            raise LofiError(f"{where}[{i}]: expected an object, found {shown(one)}.")
    return list(enumerate(value))


def _distinct(spans: list[Any], where: str) -> list[Any]:
    seen: set[str] = set()
    for one in spans:
        if one.id in seen:
            raise LofiError(f"{where}: the id {shown(one.id)} stands there twice; ids must differ within a video.")
        seen.add(one.id)
    return spans


def _action(one: Mapping[str, Any], where: str, held: Mapping[str, Action], clock: Clock | None) -> Action:
    name = _name(one.get("id"), f"{where}, id", _LONGEST_NAME)
    before = held.get(name)
    start, end = _times(one, where)
    if before is None or (before.start, before.end) != (start, end):
        _check_order(start, end, where)
        _check_within(start, end, where, clock)
    label = one.get("label")
    if before is None or label != before.label:
        label = read_label(label, f"{where}, label")
    return Action(name, start, end, label, before.more if before else {})


def _draft(one: Mapping[str, Any], where: str, known: Mapping[str, Draft]) -> Draft:
    name = _name(one.get("id"), f"{where}, id", _LONGEST_NAME)
    before = known.get(name)
    start, end = _times(one, where)
    _check_order(start, end, where)
    score = _number(one.get("score", before.score if before else None), f"{where}, score", "a number")
    source = _name(one.get("source", before.source if before else "import:"), f"{where}, source", _LONGEST_LABEL)
    return Draft(name, start, end, read_label(one.get("label"), f"{where}, label"), score, source)


def _times(one: Mapping[str, Any], where: str) -> tuple[float, float]:
    start = _number(one.get("start"), f"{where}, start", "seconds")
    return start, _number(one.get("end"), f"{where}, end", "seconds")


def _check_order(start: float, end: float, where: str) -> None:
    if not start < end:
        raise LofiError(f"{where}: [{start:g}, {end:g}] s does not end after its start.")


def _number(value: Any, where: str, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LONGEST:
        raise LofiError(f"{where}: expected {what} (a finite number), found {shown(value)}.")
    number = float(value)
    assert math.isfinite(number)
    return number


def _bounds(clock: Clock | None) -> tuple[float, float]:
    return (0.0, LONGEST) if clock is None else (max(0.0, clock.start), clock.end)


def _check_within(start: float, end: float, where: str, clock: Clock | None) -> None:
    first, last = _bounds(clock)
    if start < first - _ROUNDING or end > last + _ROUNDING:
        raise LofiError(f"{where}: [{start:g}, {end:g}] s lies outside the video, which has [{first:g}, {last:g}] s.")
