"""The first things that a page asks for: the state of the studio, and the list of videos."""

from __future__ import annotations

import shlex
from typing import Any

from lofi_tal import __version__
from lofi_tal.annotations.formats import list_formats
from lofi_tal.annotations.formats.export import WRITERS
from lofi_tal.studio.desk import Desk

_SUBSETS = ("training", "validation", "testing")


def state_of(desk: Desk) -> dict[str, Any]:
    """Return what the API says of the studio as a whole."""
    with desk.lock:
        book = desk.book
        subsets = dict.fromkeys((*_SUBSETS, *(content.subset for content in book.contents.values())))
        classes = [{**one, "uses": book.uses[one["name"]]} for one in book.classes]
        number = book.number
    labels, model = str(desk.labels), desk.model
    return {
        "version": __version__,
        "folder": str(desk.folder),
        "labels": labels,
        "classes": classes,
        "subsets": list(subsets),
        "model": None if model is None else model.name,
        "videos": len(desk.video_ids()),
        "revision": number,
        "problem": desk.problem or None,
        "formats": {"export": list(WRITERS), "import": list(list_formats())},
        "commands": _commands(desk),
    }


def _commands(desk: Desk) -> dict[str, str]:
    labels, videos = str(desk.labels), str(desk.folder)
    recursive = ["--recursive"] if desk.recursive else []
    make = ["lofi", "init", "--annotations", labels, "--videos", videos, *recursive, "-o", "recipe.yaml"]
    return {
        "run": f"{shlex.join(make)} && lofi run recipe.yaml",
        "detect": shlex.join(["lofi", "detect", videos, *recursive, "--model", str(desk.model or "runs/NAME")]),
    }


def list_videos(desk: Desk) -> dict[str, Any]:
    """Return what the API says of all videos, in short."""
    films = desk.films()
    with desk.lock:
        book = desk.book
        number = book.number
        rows = [
            (video_id, film, book.content(video_id), book.document.videos.get(video_id))
            for video_id, film in films.items()
        ]
    videos = []
    for video_id, film, content, labelled in rows:
        record = None if film is None else film.record
        clock = None if film is None else film.clock
        known = record if clock is not None else None
        videos.append({
            "id": video_id,
            "file": None if film is None else film.name,
            "duration": clock.end if clock else labelled.duration if labelled else None,
            "fps": film.fps if film and film.fps else labelled.fps if labelled else None,
            "width": known.width if known else None,
            "height": known.height if known else None,
            "state": content.state,
            "actions": len(content.segments),
            "drafts": len(content.drafts),
            "subset": content.subset,
            "playable": desk.media.plays(video_id),
            "problem": "There is no video file of this id in the folder." if film is None else film.problem or None,
        })  # fmt: skip
    return {"revision": number, "videos": videos}
