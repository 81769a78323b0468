"""Segments: the one result type. Truth, proposals and detections of one video, in seconds.

N: number of segments. numpy is all that importing this needs; matplotlib and pandas are loaded by what uses them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from lofi_tal import display
from lofi_tal.cells import caption, guarded
from lofi_tal.errors import DataError, LofiError
from lofi_tal.progress import clock_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

_MORE = ("proposal_score", "raw_score", "time")
"""Numbers that segments may have besides."""
_NUMBERS = ("start", "end", "score", *_MORE)


class Segment(NamedTuple):
    """One labelled, scored time span.

    Args:
        start: Seconds.
        end: Seconds.
        label: Class name.
        score: Confidence, larger is better; 1 for ground truth.
    """

    start: float
    end: float
    label: str
    score: float


@dataclass(frozen=True, eq=False, repr=False)
class Segments:
    """Labelled, scored time spans of one video.

    A notebook shows them as a table. A loop goes through them one by one, as :class:`Segment`.

    Args:
        video_id: Id of the video in its annotation file.
        start: ``(N,)`` seconds.
        end: ``(N,)`` seconds.
        label: N class names.
        score: ``(N,)`` confidence, larger is better; 1 for ground truth.
        duration: Length of the video in seconds, where it is known.
        proposal_score: ``(N,)`` confidence before class scores, where classes changed it.
        raw_score: ``(N,)`` the model's own score, where ``score`` is a calibrated probability.
        time: ``(N,)`` seconds, where the segments stand for point events, which have a time and no length.

    Raises:
        DataError: If the fields differ in length or a number is not finite.

    >>> segments = Segments("match", [2, 12], [5.5, 15], ("jump", "throw"), [0.4, 0.9], duration=20)
    >>> segments
    Segments('match': 2 segments of 2 classes in 20.00 s)
      12.00 to 15.00 s  0.900  throw
        2.00 to 5.50 s  0.400  jump
    >>> [segment.label for segment in segments if segment.end - segment.start > 3.2]
    ['jump']
    """

    video_id: str
    start: Floats
    end: Floats
    label: tuple[str, ...]
    score: Floats
    duration: float | None = None
    proposal_score: Floats | None = None
    raw_score: Floats | None = None
    time: Floats | None = None

    def __post_init__(self) -> None:
        numbers = [name for name in _NUMBERS if getattr(self, name) is not None]
        for name in numbers:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64).reshape(-1))
        object.__setattr__(self, "label", tuple(self.label))
        lengths = {name: len(getattr(self, name)) for name in (*numbers, "label")}
        if len(set(lengths.values())) != 1:
            raise DataError(f"Segments of {self.video_id!r}: the fields differ in length: {lengths}.")
        for name in numbers:
            values: Floats = getattr(self, name)
            if not np.isfinite(values).all():
                index = int(np.flatnonzero(~np.isfinite(values))[0])
                raise DataError(f"Segments of {self.video_id!r}: {name}[{index}] is {values[index]}, not a number.")

    @classmethod
    def empty(cls, video_id: str, duration: float | None = None) -> Segments:
        """Return no segments at all."""
        nothing = np.zeros(0)
        return cls(video_id, nothing, nothing, (), nothing, duration)

    @classmethod
    def from_activitynet(
        cls, video_id: str, records: Iterable[Mapping[str, Any]], duration: float | None = None
    ) -> Segments:
        """Build from ``[{"segment": [s, e], "label": ..., "score": ...}]``; a missing score is 1."""
        records = list(records)
        whole = [name for name in _MORE if records and all(name in record for record in records)]
        return cls(
            video_id,
            np.array([record["segment"][0] for record in records], dtype=np.float64),
            np.array([record["segment"][1] for record in records], dtype=np.float64),
            tuple(str(record["label"]) for record in records),
            np.array([record.get("score", 1.0) for record in records], dtype=np.float64),
            duration,
            **{name: np.array([record[name] for record in records]) for name in whole},
        )

    def __len__(self) -> int:
        return len(self.label)

    def __iter__(self) -> Iterator[Segment]:
        """Go through the segments in their order."""
        return map(Segment, self.start.tolist(), self.end.tolist(), self.label, self.score.tolist())

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Segment: ...

    @overload
    def __getitem__(self, index: slice | NDArray[Any] | Sequence[int]) -> Segments: ...

    def __getitem__(self, index: int | np.integer[Any] | slice | NDArray[Any] | Sequence[int]) -> Segment | Segments:
        """Return one segment by its index, or select some by slice, boolean mask or indices.

        Raises:
            IndexError: If an index is not below N, a mask has another length than N, or ``index`` is none of these.

        >>> segments = Segments("match", [2, 12], [5.5, 15], ("jump", "throw"), [0.4, 0.9])
        >>> segments[-1]
        Segment(start=12.0, end=15.0, label='throw', score=0.9)
        >>> segments[segments.score < 0.5].label
        ('jump',)
        """
        if isinstance(index, (int, np.integer)) and not isinstance(index, bool):
            if not -len(self) <= index < len(self):
                raise IndexError(f"Segments of {self.video_id!r}: index {index} of {len(self)} segments.")
            return Segment(
                float(self.start[index]), float(self.end[index]), self.label[int(index)], float(self.score[index])
            )
        chosen = np.arange(len(self))[list(index) if isinstance(index, tuple) else index]
        if chosen.ndim != 1:
            raise IndexError(f"Segments cannot be selected by {index!r}; use an index, a slice, a mask or indices.")
        numbers = {name: own[chosen] for name in _NUMBERS if (own := getattr(self, name)) is not None}
        return replace(self, label=tuple(self.label[i] for i in chosen), **numbers)

    @property
    def times(self) -> Floats:
        """``(N,)`` seconds: the times of point events; the middles of segments that are none."""
        return (self.start + self.end) / 2 if self.time is None else self.time

    def __repr__(self) -> str:
        return display.to_text(self.video_id, _shown_rows(self), self.duration)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the best 20 as a table, and where in the video segments lie."""
        return display.to_html(self.video_id, _shown_rows(self), self.duration)

    def sorted(self) -> Segments:
        """Return the segments by falling score; equal scores keep their order.

        >>> Segments("match", [2, 12], [5.5, 15], ("jump", "throw"), [0.4, 0.9]).sorted().label
        ('throw', 'jump')
        """
        return self[np.argsort(-self.score, kind="stable")]

    def above(self, threshold: float) -> Segments:
        """Return the segments whose score is at least ``threshold``.

        >>> Segments("match", [2, 12], [5.5, 15], ("jump", "throw"), [0.4, 0.9]).above(0.5).label
        ('throw',)
        """
        return self[self.score >= threshold]

    def one_label(self) -> Segments:
        """Return every span once, with the label that scores best; in the order that they had.

        >>> Segments("match", [2, 2, 12], [5, 5, 15], ("jump", "throw", "run"), [0.4, 0.9, 0.1]).one_label().label
        ('throw', 'run')
        """
        return self[best_labels(self)]

    def to_activitynet(self) -> list[dict[str, Any]]:
        """Return ``[{"label", "score", "segment": [s, e]}]`` for the official evaluator, and its other numbers if any.

        >>> Segments("match", [2], [5.5], ("jump",), [0.4]).to_activitynet()
        [{'label': 'jump', 'score': 0.4, 'segment': [2.0, 5.5]}]
        """
        return _records(self)

    def to_csv(self) -> str:
        """Return CSV text ``video,start,end,label,score``, times in seconds, safe to open in a spreadsheet.

        >>> print(Segments("match", [2], [5.5], ("jump",), [0.4]).to_csv(), end="")
        video,start,end,label,score
        match,2.000,5.500,jump,0.400000
        """
        return _csv(self)

    def to_srt(self) -> str:
        """Return subtitles (SubRip) in the order of time, one for each segment; a label is one line.

        >>> print(Segments("match", [2], [5.5], ("jump",), [0.4]).to_srt(), end="")
        1
        00:00:02,000 --> 00:00:05,500
        jump 0.40
        """
        return _srt(self)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a pandas table, one row for each segment: video, start and end in seconds, label, score (and time).

        Raises:
            LofiError: If pandas is not installed.

        >>> Segments("match", [2], [5.5], ("jump",), [0.4]).to_dataframe().to_dict("records")
        [{'video': 'match', 'start': 2.0, 'end': 5.5, 'label': 'jump', 'score': 0.4}]
        """
        return _table(self)

    def plot(self, ax: Axes | None = None, truth: Segments | None = None) -> Axes:
        """Draw the segments over time, one lane for each class; a higher score is a stronger colour.

        Args:
            ax: matplotlib axes to draw on. Without it a new figure is made with pyplot, and it is not shown: a notebook
                does that, a script calls ``ax.figure.savefig`` or ``pyplot.show``.
            truth: Ground truth of the same video, drawn beside the segments.

        Returns:
            The axes: seconds on x, classes on y.
        """
        duration = self.duration if self.duration is not None or truth is None else truth.duration
        return display.draw(ax, list(self), truth=None if truth is None else list(truth), duration=duration)


def _records(segments: Segments) -> list[dict[str, Any]]:
    more = {name: own.tolist() for name in _MORE if (own := getattr(segments, name)) is not None}
    return [
        {"label": label, "score": score, "segment": [start, end], **{name: own[i] for name, own in more.items()}}
        for i, (start, end, label, score) in enumerate(segments)
    ]


def _table(segments: Segments) -> pd.DataFrame:
    try:
        import pandas as pd
    except ImportError as error:
        raise LofiError("to_dataframe needs pandas, which is not installed: pip install pandas") from error
    numbers = {"start": segments.start, "end": segments.end, "label": list(segments.label), "score": segments.score}
    numbers |= {} if segments.time is None else {"time": segments.time}
    table = pd.DataFrame({"video": [segments.video_id] * len(segments), **numbers})
    return table.astype({"video": "str", "label": "str"})  # the same types without any row


def best_labels(segments: Segments) -> NDArray[np.int64]:
    """Return the positions of segments that are the best of their span: one for every span, in their order."""
    score = segments.score if segments.raw_score is None else segments.raw_score
    return best_of_each(np.stack([segments.start, segments.end], 1), score)


def best_of_each(rows: NDArray[Any], score: Floats) -> NDArray[np.int64]:
    """Return the position of the best of all equal rows, in the order of the rows; the first among equal scores.

    Args:
        rows: ``(N, K)``.
        score: ``(N,)``.
    """
    order = np.argsort(-score, kind="stable")
    _, first = np.unique(rows[order], axis=0, return_index=True)
    kept: NDArray[np.int64] = np.sort(order[first])
    return kept


def _shown_rows(segments: Segments) -> list[display.Row]:
    """Return the segments as they are displayed: point events start and end at their time."""
    if segments.time is None:
        return list(segments)
    return list(
        zip(segments.time.tolist(), segments.time.tolist(), segments.label, segments.score.tolist(), strict=True)
    )


def _csv(segments: Segments) -> str:
    """Return CSV; point events have a column ``time`` instead of start and end."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = {"start": segments.start, "end": segments.end} if segments.time is None else {"time": segments.time}
    writer.writerow(["video", *columns, "label", "score"])
    for label, score, *times in zip(segments.label, segments.score, *columns.values(), strict=True):
        seconds = [f"{time:.3f}" for time in times]
        writer.writerow([guarded(segments.video_id), *seconds, guarded(label), f"{score:.6f}"])
    return text.getvalue()


def _srt(segments: Segments) -> str:
    """Return subtitles; those of point events stand while their segment lasts, and say the time."""
    times = segments.time
    moments = [""] * len(segments) if times is None else [f" at {clock_text(time, 2)}" for time in times.tolist()]
    ordered = sorted(zip(segments, moments, strict=True), key=lambda pair: pair[0][:2])
    blocks = [
        f"{number}\n{_srt_time(start)} --> {_srt_time(end)}\n{caption(label)} {score:.2f}{moment}\n"
        for number, ((start, end, label, score), moment) in enumerate(ordered, start=1)
    ]
    return "\n".join(blocks)


def _srt_time(seconds: float) -> str:
    """Return ``HH:MM:SS,mmm``."""
    milliseconds = max(0, round(seconds * 1000))
    whole, milliseconds = divmod(milliseconds, 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d},{milliseconds:03d}"


def detections_to_activitynet(detections: Iterable[Segments]) -> dict[str, Any]:
    """Return the result document ``{"version", "results", "external_data"}`` that the official evaluator reads."""
    return {
        "version": "VERSION 1.3",
        "results": {segments.video_id: segments.to_activitynet() for segments in detections},
        "external_data": {},
    }


def detections_from_activitynet(document: Any, name: str) -> list[Segments]:
    """Return the detections in a result document, ``{"results": {id: [{"label", "score", "segment"}]}}``, by video.

    Raises:
        DataError: If it has no results, or a record is faulty; the message says where.
    """
    results = document.get("results") if isinstance(document, Mapping) else None
    if not isinstance(results, Mapping):
        raise DataError(
            f'{name} has no \'results\': expected {{"results": {{id: [{{"label", "score", "segment"}}]}}}}.'
        )
    found = []
    for video_id, records in results.items():
        try:
            found.append(Segments.from_activitynet(str(video_id), records))
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
            raise DataError(
                f'{name}, results[{video_id!r}]: {error!r}; expected [{{"label", "score", "segment": [start, end]}}].'
            ) from error
    return found
