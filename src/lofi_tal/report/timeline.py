"""The timeline of a video: what happens when, against the ground truth, beside the moving picture."""

from __future__ import annotations

import base64
import math
import mimetypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from lofi_tal.errors import DataError, LofiError
from lofi_tal.report.theme import series_colour, write_page
from lofi_tal.segments import Segments, best_labels
from lofi_tal.showing import Shown

EMBED_LIMIT_BYTES = 64 * 2**20
"""Browsers hold an embedded video in memory several times over; beyond this, pages stop opening."""
SHOWN_WITHOUT_THRESHOLD = 10


def write_timeline(
    path: Path,
    *,
    detections: Segments,
    truth: Segments | None = None,
    video: Path | None = None,
    title: str | None = None,
    threshold: float | None = None,
    shown: Shown | None = None,
    embed: bool = False,
) -> None:
    """Write one HTML page that plays a video above lanes of its segments.

    The page is one file without outside parts, except the video, which is found by its path relative to the page (or
    embedded). Without a video, or with one that the browser cannot play, the lanes and the table remain.

    Args:
        path: The page.
        detections: What was found, in seconds; all scores, the reader moves the threshold.
        truth: What is there, if it is known.
        video: The video file; a file that does not exist is named on the page.
        title: Heading; the video id if not given.
        threshold: Lowest score shown at first; without it the ten best are shown.
        shown: What is shown at first, instead of a threshold: limits of classes, and whether each span has one label.
        embed: Put the video's bytes into the page, so that it can be sent alone.

    Raises:
        LofiError: If ``embed`` is asked for without a video or for one larger than 64 MiB.
        DataError: If the video to embed cannot be read.
    """
    if embed and video is None:
        raise LofiError("embed=True needs a video: pass video=PATH, or leave embed out for a page of lanes only.")
    viewer = make_viewer(
        path,
        video=video,
        truth=truth,
        detections={"detections": detections},
        threshold=threshold,
        shown=None if shown is None else {"detections": shown},
        embed=embed,
    )
    write_page(path, "timeline.html", title=title or detections.video_id, viewer=viewer)


def make_viewer(
    page: Path,
    *,
    video: Path | None,
    truth: Segments | None,
    detections: Mapping[str, Segments],
    threshold: float | None = None,
    shown: Mapping[str, Shown] | None = None,
    colours: Mapping[str, str] | None = None,
    embed: bool = False,
) -> dict[str, Any]:
    """Return what the viewer's template needs.

    Args:
        page: Where the page will lie.
        video: The video file, if there is one.
        truth: Ground truth, if it is known.
        detections: By the name of the system that found them.
        threshold: Lowest score shown at first; without it the ten best are shown.
        shown: What of each system is shown at first, instead of a threshold.
        colours: Colour names of :mod:`lofi_tal.report.theme` by system; in order if not given.
        embed: Put the video's bytes into the page.

    Returns:
        ``source``: the video's URL or None; ``file``: its name; ``missing``: whether it was not there; ``data``: the
        JSON-like value that the script in the page reads.
    """
    there = video is not None and video.is_file()
    everything = [segments for segments in (truth, *detections.values()) if segments is not None]
    labels = list(dict.fromkeys(label for segments in everything for label in segments.label))
    number = {label: i for i, label in enumerate(labels)}
    sources = [] if truth is None else [{"name": "truth", "truth": True, "colour": "muted", **_rows(truth, number)}]
    for i, (name, segments) in enumerate(detections.items()):
        colour = (colours or {}).get(name, series_colour(i))
        rows = _rows(segments, number, (shown or {}).get(name))
        sources.append({"name": name, "truth": False, "colour": colour, **rows})
    return {
        "source": _video_url(video, page, embed=embed) if video is not None and (there or embed) else None,
        "file": video.name if video is not None else "",
        "missing": video is not None and not there,
        "data": {
            "duration": _duration(everything),
            **_beginning(detections, threshold, shown),
            "labels": labels,
            "sources": sources,
            **({"events": True} if any(one.time is not None for one in detections.values()) else {}),
        },
    }


def default_threshold(detections: Mapping[str, Segments], most: int = SHOWN_WITHOUT_THRESHOLD) -> float:
    """Return the score from which on the ``most`` best detections of each system are shown."""
    lowest = [segments.sorted()[:most].score for segments in detections.values() if len(segments)]
    return min((float(scores[-1]) for scores in lowest), default=0.0)


def relative_url(target: Path, page: Path) -> str:
    """Return the URL of ``target`` relative to the folder of ``page``, or its ``file:`` URL where there is none."""
    try:
        relative = os.path.relpath(target, page.parent)
    except ValueError:  # on another drive
        return target.absolute().as_uri()
    return quote(os.fsencode(Path(relative).as_posix()))


def _video_url(video: Path, page: Path, *, embed: bool) -> str:
    if not embed:
        return relative_url(video, page)
    try:
        size = video.stat().st_size
        if size > EMBED_LIMIT_BYTES:
            raise LofiError(
                f"embed=True: {video} has {size / 2**20:.0f} MiB; at most {EMBED_LIMIT_BYTES // 2**20} MiB can be "
                "embedded. Leave embed out (the page then refers to the file), or shorten or shrink the video."
            )
        content = base64.b64encode(video.read_bytes()).decode("ascii")
    except OSError as error:
        raise DataError(f"{video} cannot be embedded: {error.strerror}.") from error
    media_type = mimetypes.guess_type(video.name)[0] or "video/mp4"
    return f"data:{media_type};base64,{content}"


def _beginning(
    detections: Mapping[str, Segments], threshold: float | None, shown: Mapping[str, Shown] | None
) -> dict[str, Any]:
    """Return where the slider stands at first, and whether what is shown was chosen otherwise."""
    if threshold is None and shown:
        return {"threshold": _short(_lowest(detections, shown)), "chosen": True}
    return {"threshold": _short(default_threshold(detections) if threshold is None else threshold)}


def _lowest(detections: Mapping[str, Segments], chosen: Mapping[str, Shown]) -> float:
    """Return the lowest score among what is shown at first; where that is nothing, more than any score."""
    scores = [chosen[name].of(segments).score for name, segments in detections.items() if name in chosen]
    shown = np.concatenate([np.zeros(0), *scores])
    best = max((float(segments.score.max()) for segments in detections.values() if len(segments)), default=0.0)
    return float(shown.min()) if len(shown) else best


def _rows(segments: Segments, number: Mapping[str, int], shown: Shown | None = None) -> dict[str, Any]:
    """Return the segments as ``[start, end, number of the label, score]``, and what of them is shown at first.

    Point events have their time as well. ``first`` has the positions of what is shown at first, ``other`` of what
    repeats a span with a lesser label.
    """
    columns = zip(segments.start, segments.end, segments.label, segments.score, strict=True)
    rows = [[round(float(s), 3), round(float(e), 3), number[label], _short(p)] for s, e, label, p in columns]
    if segments.time is not None:
        rows = [[*row, round(float(time), 3)] for row, time in zip(rows, segments.time, strict=True)]
    if shown is None:
        return {"segments": rows}
    other = np.setdiff1d(np.arange(len(segments)), best_labels(segments)) if shown.one_label else np.zeros(0, int)
    return {"segments": rows, "first": shown.positions(segments).tolist(), "other": other.tolist()}


def _short(score: float) -> float:
    """Return six digits of a score; rounding keeps the order, so a score at the threshold stays at it."""
    return float(f"{score:.6g}")


def _duration(everything: list[Segments]) -> float:
    """Return the stated length of the video, or the end of the last segment: never zero."""
    stated = [s.duration for s in everything if s.duration is not None and math.isfinite(s.duration)]
    ends = [float(s.end.max()) for s in everything if len(s)]
    longest = max(stated, default=0.0)
    if longest <= 0:
        longest = max(ends, default=0.0)
    return round(longest, 3) if longest > 0 else 1.0
