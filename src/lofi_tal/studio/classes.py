"""What changes many videos at once: the class list, and the division into subsets."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np

from lofi_tal.annotations import Annotations, VideoAnnotation, split_annotations
from lofi_tal.annotations.values import shown
from lofi_tal.errors import LofiError, counted, nearest
from lofi_tal.segments import Segments
from lofi_tal.studio.book import KEYS, Book, new_class
from lofi_tal.studio.contents import Content, in_order, read_label
from lofi_tal.studio.desk import Desk
from lofi_tal.studio.refusals import ConflictError
from lofi_tal.studio.runs import RunFacts

_DIVIDED = ("training", "validation")
_LARGEST_SEED = 2**53


def change_classes(desk: Desk, body: Mapping[str, Any]) -> None:
    """Change the class list as a page asks: ``{"name"}``, ``{"rename": [old, new]}``, ``{"delete"}``, ``{"key"}``.

    Raises:
        LofiError: If it asks for something else, or for what cannot be.
    """
    actions = {"name": _add, "rename": _rename, "delete": _delete, "key": _set_key}
    asked = [name for name in actions if name in body]
    if len(asked) != 1:
        raise LofiError(f"Expected exactly one of {', '.join(actions)}, found {', '.join(map(repr, body)) or 'none'}.")
    with desk.lock:
        actions[asked[0]](desk, desk.book, body[asked[0]], merge=body.get("merge") is True)


def _add(desk: Desk, book: Book, value: Any, *, merge: bool) -> None:
    name = read_label(value, "name")
    if name in _names(book):
        raise LofiError(f"name: there is a class {name!r} already.")
    desk.apply({}, f"Class {name}", [*book.classes, new_class(name, book.classes)])


def _rename(desk: Desk, book: Book, value: Any, *, merge: bool) -> None:
    old, new = _pair(value, "rename", "[old name, new name]")
    new = read_label(new, "rename, new name")
    _require(book, old)
    if new == old:
        return
    if new in _names(book) and not merge:
        raise LofiError(f'rename: there is a class {new!r} already; with "merge": true, {old!r} becomes part of it.')
    if new in _names(book):
        classes = [one for one in book.classes if one["name"] != old]
    else:
        classes = [{**one, "name": new} if one["name"] == old else one for one in book.classes]
    contents = {id: _renamed(content, old, new) for id, content in book.contents.items() if _has(content, old)}
    desk.apply(contents, f"Rename {old} to {new}", classes)


def _delete(desk: Desk, book: Book, value: Any, *, merge: bool) -> None:
    _require(book, value)
    if uses := book.uses[value]:
        raise LofiError(
            f"delete: {counted(uses, 'action')} or drafts with the class {value!r}: give them another one first, or "
            "rename it."
        )
    desk.apply({}, f"Delete class {value}", [one for one in book.classes if one["name"] != value])


def _set_key(desk: Desk, book: Book, value: Any, *, merge: bool) -> None:
    name, key = _pair(value, "key", '[class, digit, letter or ""]')
    _require(book, name)
    if not isinstance(key, str) or (key and key not in tuple(KEYS + ascii_lowercase)):
        raise LofiError(f'key: {shown(key)} is no digit from 1 to 9 and no letter from a to z, or "" for none.')
    freed = [{**one, "key": ""} if key and one["key"] == key else one for one in book.classes]
    desk.apply({}, f"Key of {name}", [{**one, "key": key} if one["name"] == name else one for one in freed])


def _names(book: Book) -> list[str]:
    return [one["name"] for one in book.classes]


def _require(book: Book, name: Any) -> None:
    if name not in _names(book):
        hint = nearest(name, _names(book)) if isinstance(name, str) else ""
        raise LofiError(f"There is no class {shown(name)}.{hint}")


def _pair(value: Any, where: str, expected: str) -> tuple[Any, Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise LofiError(f"{where}: expected {expected}, found {shown(value)}.")
    return value[0], value[1]


def _has(content: Content, label: str) -> bool:
    return any(one.label == label for one in content.spans)


def _renamed(content: Content, old: str, new: str) -> Content:
    def each(spans: Any) -> tuple[Any, ...]:
        return in_order(replace(one, label=new) if one.label == old else one for one in spans)

    return replace(content, segments=each(content.segments), drafts=each(content.drafts))


def split(desk: Desk, body: Mapping[str, Any], runs: Iterable[RunFacts] = ()) -> dict[str, Any]:
    """Divide labelled videos into training and validation by the rule of ``lofi data split``.

    Videos of other subsets, such as testing, stay there. So do those of earlier runs: a video that was trained on must
    not become one that is evaluated.

    Args:
        desk: Videos and labels.
        body: ``train``, the share of training, and ``seed``; ``keep``: whether videos of runs stay (default true);
            ``preview``: change nothing; ``revision``, if the labels must not have changed since.
        runs: Earlier runs, the latest first.

    Returns:
        ``changed``: number of videos with another subset; ``kept``: of those that stay because a run has them;
        ``subsets``: videos of each subset after it; ``command``: the one that does the same.

    Raises:
        LofiError: If a value cannot be used.
        DataError: If there are too few videos.
        ConflictError: If the labels have changed.
    """
    share, seed = _share_and_seed(body)
    earlier = _labels_of(runs) if body.get("keep", True) is True else {}
    keep = {video.video_id: video.subset for labels in earlier.values() for video in labels if video.subset in _DIVIDED}
    with desk.lock:
        book = desk.book
        if "revision" in body and body["revision"] != book.number:
            raise ConflictError("The labels have changed meanwhile: look at them again.")
        labelled = annotations_of(book)
        videos = {video.video_id: video for video in labelled if video.subset in _DIVIDED}
        shares = {"training": share, "validation": round(1 - share, 9)}
        result = split_annotations(Annotations(videos), shares, seed=seed, keep=keep).annotations
        after = Annotations({video.video_id: video for video in labelled} | {video.video_id: video for video in result})
        contents = {one.video_id: replace(book.content(one.video_id), subset=one.subset) for one in result}
        changed = sum(one.subset != book.content(video_id).subset for video_id, one in contents.items())
        if body.get("preview") is not True:
            desk.apply(contents, f"Split, {100 * share:g} % training")
    return {
        "changed": changed,
        "kept": len(keep.keys() & videos.keys()),
        "subsets": dict(after.subsets),
        "command": _command(desk.labels, shares, seed, earlier),
    }


def _command(labels: Path, shares: Mapping[str, float], seed: int, earlier: Iterable[RunFacts]) -> str:
    weights = ",".join(f"{name}={value:g}" for name, value in shares.items())
    words = ["lofi", "data", "split", str(labels), "-o", str(labels), "--shares", weights, "--seed", str(seed)]
    return shlex.join([*words, *(word for run in earlier for word in ("--keep", str(run.path / "labels.json")))])


def _share_and_seed(body: Mapping[str, Any]) -> tuple[float, int]:
    share, seed = body.get("train", 0.8), body.get("seed", 0)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise LofiError(f"train: {shown(share)} is no share between 0 and 1, such as 0.8.")
    if type(seed) is not int or not 0 <= seed <= _LARGEST_SEED:
        raise LofiError(f"seed: {shown(seed)} is no whole number from 0 on.")
    return share, seed


def _labels_of(runs: Iterable[RunFacts]) -> dict[RunFacts, Annotations]:
    """Return the labels of the runs that have kept them, the oldest first."""
    found = {run: run.labels() for run in runs}
    return {run: labels for run, labels in reversed(found.items()) if labels is not None}


def annotations_of(book: Book) -> Annotations:
    """Return all labelled videos: what the labels file has, or will have in a moment."""
    videos = {}
    for video_id in book.contents:
        content = book.shown(video_id)
        if content is None:
            continue
        facts, known = book.facts(video_id), book.document.videos.get(video_id)
        duration = known.duration if known and known.duration else facts.get("duration")
        one = content.segments
        segments = Segments(
            video_id,
            np.array([action.start for action in one]),
            np.array([action.end for action in one]),
            tuple(action.label for action in one),
            np.ones(len(one)),
            duration,
        )
        ignored = known.ignored if known else np.zeros((0, 2))
        fps = known.fps if known and known.fps else facts.get("fps")
        videos[video_id] = VideoAnnotation(video_id, duration, content.subset, segments, ignored, fps)
    return Annotations(videos)
