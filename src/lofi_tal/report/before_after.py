"""One page for a first look: a video with the detections of two systems, and what each of them scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lofi_tal.errors import counted
from lofi_tal.evaluation.bootstrap import BootstrapResult
from lofi_tal.report.tables import Tile
from lofi_tal.report.theme import percent, series_colour, signed_percent, write_page
from lofi_tal.report.timeline import make_viewer, relative_url
from lofi_tal.segments import Segments


def write_before_after(
    path: Path,
    *,
    title: str,
    lead: str,
    video: Path,
    truth: Segments,
    detections: Mapping[str, Segments],
    intervals: Mapping[str, BootstrapResult],
    difference: BootstrapResult,
    threshold: float | None = None,
    notes: Sequence[str] = (),
    report: Path | None = None,
) -> None:
    """Write a page with a video, its ground truth, the detections of two systems and their average mAP.

    Args:
        path: The page.
        title: Heading.
        lead: What the two systems are, in a sentence.
        video: The video file, found by its path relative to the page.
        truth: Its true segments, in seconds.
        detections: By the name of the system.
        intervals: Of each system's mAP on all videos.
        difference: Of the last system minus the first.
        threshold: Lowest score shown at first; without it the ten best are shown.
        notes: Said below the video; that the videos are too few for intervals is added.
        report: A longer page to link to.
    """
    colours = {name: series_colour(i) for i, name in enumerate(detections)}
    tiles = [
        Tile(name, percent(one.average_mAP.value), "%", _range(one, percent), colours[name])
        for name, one in intervals.items()
    ]
    tiles.append(
        Tile("gain", signed_percent(difference.average_mAP.value), "points", _range(difference, signed_percent), "ink")
    )
    viewer = make_viewer(path, video=video, truth=truth, detections=detections, threshold=threshold, colours=colours)
    more = relative_url(report, path) if report else None
    said = [*notes, *filter(None, [difference.warning])]
    texts = {"title": title, "lead": lead, "video": video.stem, "notes": said, "more": more}
    write_page(path, "before_after.html", tiles=tiles, viewer=viewer, **texts)


def _range(result: BootstrapResult, text: Callable[[float], str]) -> str:
    low, high = text(result.average_mAP.low), text(result.average_mAP.high)
    return f"{result.confidence:.0%} interval {low} to {high}, {counted(result.videos, 'video')}"
