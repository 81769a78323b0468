"""How segments look in a terminal, a notebook and a figure.

Everything takes rows ``(start, end, label, score)``, times in seconds, so that nothing here depends on where they come
from. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from lofi_tal.errors import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = tuple[float, float, str, float]

BEST_IN_TEXT = 3
ROWS_IN_TABLE = 20
BARS_IN_STRIP = 200

_CELL = "padding:1px 10px;text-align:{};"
_COLUMNS = (("", "right"), ("start (s)", "right"), ("end (s)", "right"), ("label", "left"), ("score", "right"))


def shorten(text: str, most: int = 60) -> str:
    """Return ``text`` on one line of at most ``most`` characters, without control characters."""
    line = one_line(" ".join(text.split()))
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def to_text(video_id: str, rows: Sequence[Row], duration: float | None) -> str:
    """Return one line about the segments and one for each of the three best.

    Args:
        video_id: Name of the video.
        rows: Segments in any order.
        duration: Length of the video in seconds, if it is known.
    """
    lines = [f"Segments('{shorten(video_id)}': {_summary(rows, duration)})"]
    best = _by_score(rows)[:BEST_IN_TEXT]
    spans = [
        f"{rows[i][0]:.2f} s" if rows[i][0] == rows[i][1] else f"{rows[i][0]:.2f} to {rows[i][1]:.2f} s" for i in best
    ]
    width = max(map(len, spans), default=0)
    lines += [
        f"  {span:>{width}}  {rows[i][3]:.3f}  {shorten(rows[i][2])}" for i, span in zip(best, spans, strict=True)
    ]
    if len(rows) > len(best):
        lines.append(f"  ... and {len(rows) - len(best)} more")
    return "\n".join(lines)


def to_html(video_id: str, rows: Sequence[Row], duration: float | None) -> str:
    """Return an HTML fragment: a table of the 20 best segments, and a strip that shows where in the video they lie.

    All text is escaped. The fragment has no script and refers to nothing outside it; its colours are those of the page
    around it.

    Args:
        video_id: Name of the video.
        rows: Segments in any order; the first column of the table is the index of each.
        duration: Length of the video in seconds; without it there is no strip.
    """
    order = _by_score(rows)
    shown = order[:ROWS_IN_TABLE]
    parts = [f"<div><b>{_html(video_id)}</b>: {_summary(rows, duration)}</div>"]
    if rows and duration is not None and 0 < duration < math.inf:
        parts.append(_strip([rows[i] for i in order[:BARS_IN_STRIP]], duration))
    if rows:
        head = "".join(f'<th style="{_CELL.format(side)}">{name}</th>' for name, side in _COLUMNS)
        body = "".join(_table_row(i, rows[i]) for i in shown)
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    if len(rows) > len(shown):
        parts.append(f"<div>... and {len(rows) - len(shown)} more</div>")
    return f"<div>{''.join(parts)}</div>"


def draw(
    axes: Axes | None, rows: Sequence[Row], *, truth: Sequence[Row] | None = None, duration: float | None = None
) -> Axes:
    """Draw segments over time, one lane for each class; a higher score is a stronger colour.

    Args:
        axes: Where to draw; without it, a new figure of pyplot, which a notebook shows by itself.
        rows: Segments to draw, in any order.
        truth: Ground truth, drawn above the segments of each lane.
        duration: Length of the video in seconds, the limit of the axis of time if it is known.

    Returns:
        The axes: seconds on x, classes on y, in the order in which they begin.
    """
    actual = [] if truth is None else list(truth)
    labels = list(dict.fromkeys(row[2] for row in sorted([*actual, *rows])))
    lanes = {label: lane for lane, label in enumerate(labels)}
    if axes is None:
        from matplotlib import pyplot

        size = (8.0, min(1.2 + 0.35 * max(1, len(labels)), 14.0))
        axes = pyplot.subplots(figsize=size, layout="constrained")[1]
    if truth is not None:
        _bars(axes, actual, lanes, bottom=-0.36, height=0.32, colour="0.55", name="ground truth", strengths=None)
    strongest = max((row[3] for row in rows), default=1.0)
    ordered = [rows[i] for i in reversed(_by_score(rows))]  # the best are drawn last, above the others
    strengths = [0.15 + 0.85 * max(0.0, row[3]) / max(strongest, 1e-12) for row in ordered]
    bottom, height = (-0.3, 0.6) if truth is None else (0.0, 0.32)
    _bars(axes, ordered, lanes, bottom=bottom, height=height, colour="C0", name="segments", strengths=strengths)
    axes.set_yticks(range(len(labels)), [shorten(label, 28) for label in labels])
    for tick in axes.get_yticklabels():
        tick.set_parse_math(False)  # a label may hold a dollar sign
    axes.set_ylim(max(1, len(labels)) - 0.5, -0.5)
    if duration is not None and 0 < duration < math.inf:
        axes.set_xlim(0, duration)
    axes.set_xlabel("time (s)")
    if truth is not None:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return axes


def _bars(
    axes: Axes,
    rows: Iterable[Row],
    lanes: dict[str, int],
    *,
    bottom: float,
    height: float,
    colour: str,
    name: str,
    strengths: Sequence[float] | None,
) -> None:
    from matplotlib.colors import to_rgba

    rows = list(rows)
    axes.barh(
        [lanes[row[2]] + bottom for row in rows],
        [row[1] - row[0] for row in rows],
        height,
        [row[0] for row in rows],
        align="edge",
        color=colour if strengths is None else [to_rgba(colour, strength) for strength in strengths],
        linewidth=0,
    )
    axes.barh([0], [0], height, color=colour, label=name)  # the legend's colour, whatever the scores


def _summary(rows: Sequence[Row], duration: float | None) -> str:
    classes = len({row[2] for row in rows})
    text = f"{len(rows)} {'segment' if len(rows) == 1 else 'segments'}"
    if rows:
        text += f" of {classes} {'class' if classes == 1 else 'classes'}"
    return text if duration is None or not math.isfinite(duration) else f"{text} in {duration:.2f} s"


def _by_score(rows: Sequence[Row]) -> list[int]:
    """Return indices by falling score; equal scores keep their order."""
    return sorted(range(len(rows)), key=lambda i: -rows[i][3])


def _html(text: str) -> str:
    return escape(shorten(text))


def _table_row(index: int, row: Row) -> str:
    start, end, label, score = row
    texts = (str(index), f"{start:.2f}", f"{end:.2f}", _html(label), f"{score:.3f}")
    cells = zip(texts, _COLUMNS, strict=True)
    return "<tr>" + "".join(f'<td style="{_CELL.format(side)}">{text}</td>' for text, (_, side) in cells) + "</tr>"


def _strip(rows: Sequence[Row], duration: float) -> str:
    """Return a thin picture of the video's length, with a bar for each segment, best first."""
    strongest = max(max(row[3] for row in rows), 1e-12)
    bars = []
    for start, end, label, score in reversed(rows):
        first, last = (100 * min(max(time / duration, 0.0), 1.0) for time in (start, end))
        opacity = 0.15 + 0.85 * max(0.0, score) / strongest
        title = f"{_html(label)}: {start:.2f} to {end:.2f} s, score {score:.3f}"
        bars.append(
            f'<rect x="{first:.2f}" y="1" width="{max(last - first, 0.2):.2f}" height="8" '
            f'fill-opacity="{opacity:.2f}"><title>{title}</title></rect>'
        )
    return (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" width="100%" height="12" fill="currentColor" '
        f'role="img" aria-label="Where the segments lie, from 0 to {duration:.2f} seconds">'
        f'<rect y="4.5" width="100" height="1" fill-opacity="0.25"></rect>{"".join(bars)}</svg>'
    )
