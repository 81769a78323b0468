"""The page of a data set: its statistics with plots, and the numbers beside it as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from lofi_tal.annotations import Statistics
from lofi_tal.files import write_text
from lofi_tal.report.tables import CLASSES_AT_EACH_END
from lofi_tal.report.theme import Picture, write_page

_ROWS = {
    "length of segments (s)": "segment_seconds",
    "length / video": "segment_share",
    "gap to the next segment (s)": "gap_seconds",
    "segments a video": "instances_per_video",
    "length of videos (s)": "video_seconds",
}


def write_statistics(path: Path, title: str, figures: Statistics, *, facts: dict[str, str]) -> None:
    """Write the page, and beside it, with the suffix ``.json``, :meth:`Statistics.to_json`.

    Args:
        path: The page, such as ``statistics.html``.
        title: Heading.
        figures: What it shows.
        facts: Files, subset and the like, by name.
    """
    from lofi_tal.report import dataset_plots
    from lofi_tal.report.plot_style import to_svg

    document = figures.to_json()
    write_text(path.with_suffix(".json"), json.dumps(document, indent=1, allow_nan=False) + "\n")
    ends = CLASSES_AT_EACH_END
    many = len(figures.classes) > 2 * ends
    drawn = [*figures.classes[:ends], *figures.classes[-ends:]] if many else list(figures.classes)
    detail = f"the {ends} most and the {ends} least frequent of {len(figures.classes)} classes" if many else ""
    write_page(
        path,
        "dataset.html",
        title=title,
        figures=figures,
        percentiles={name: document[key] for name, key in _ROWS.items() if document[key]},
        charts=[
            Picture(
                "Lengths",
                "in brackets how many; up to 0.1 s stands at 0.1",
                to_svg(dataset_plots.lengths(figures), "lengths"),
            ),
            Picture(
                "What a grid of L snippets resolves",
                "segments left of a dashed line are shorter than one of L equal steps",
                to_svg(dataset_plots.resolution(figures), "resolution"),
            ),
            Picture("Where the actions are", "", to_svg(dataset_plots.profile(figures), "profile")),
            Picture("Segments a video", "", to_svg(dataset_plots.segments_per_video(figures), "per-video")),
        ],
        classes=Picture("Instances of each class", detail, to_svg(dataset_plots.class_counts(drawn), "classes")),
        facts=facts,
        json_name=path.with_suffix(".json").name,
    )
