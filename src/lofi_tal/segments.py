"""Segments: the one result type. Truth, proposals and detections of one video, in seconds.

N: number of segments.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Segments:
    """Labelled, scored time spans of one video.

    Args:
        video_id: Id of the video in its annotation file.
        start: ``(N,)`` seconds.
        end: ``(N,)`` seconds.
        label: N class names.
        score: ``(N,)`` confidence, larger is better; 1 for ground truth.
        duration: Length of the video in seconds, where it is known.

    Raises:
        DataError: If the fields differ in length or a number is not finite.
    """

    video_id: str
    start: Floats
    end: Floats
    label: tuple[str, ...]
    score: Floats
    duration: float | None = None

    def __post_init__(self) -> None:
        for name in ("start", "end", "score"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64).reshape(-1))
        object.__setattr__(self, "label", tuple(self.label))
        lengths = {
            "start": len(self.start),
            "end": len(self.end),
            "label": len(self.label),
            "score": len(self.score),
        }
        if len(set(lengths.values())) != 1:
            raise DataError(f"Segments of {self.video_id!r}: the fields differ in length: {lengths}.")
        for name in ("start", "end", "score"):
            values: Floats = getattr(self, name)
            if not np.isfinite(values).all():
                place = int(np.flatnonzero(~np.isfinite(values))[0])
                raise DataError(f"Segments of {self.video_id!r}: {name}[{place}] is {values[place]}, not a number.")

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
        return cls(
            video_id,
            np.array([record["segment"][0] for record in records], dtype=np.float64),
            np.array([record["segment"][1] for record in records], dtype=np.float64),
            tuple(str(record["label"]) for record in records),
            np.array([record.get("score", 1.0) for record in records], dtype=np.float64),
            duration,
        )

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, index: slice | NDArray[Any] | Sequence[int]) -> Segments:
        """Select by slice, boolean mask or positions."""
        chosen = np.arange(len(self))[index]
        return Segments(
            self.video_id,
            self.start[chosen],
            self.end[chosen],
            tuple(self.label[i] for i in chosen),
            self.score[chosen],
            self.duration,
        )

    def sorted(self) -> Segments:
        """Return the segments by falling score; equal scores keep their order."""
        return self[np.argsort(-self.score, kind="stable")]

    def above(self, threshold: float) -> Segments:
        """Return the segments whose score is at least ``threshold``."""
        return self[self.score >= threshold]

    def to_activitynet(self) -> list[dict[str, Any]]:
        """Return ``[{"label", "score", "segment": [s, e]}]``, as the official evaluator reads it."""
        rows = zip(self.label, self.score, self.start, self.end, strict=True)
        return [{"label": label, "score": float(p), "segment": [float(s), float(e)]} for label, p, s, e in rows]

    def to_csv(self) -> str:
        """Return CSV text ``video,start,end,label,score`` with a header, times in seconds."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["video", "start", "end", "label", "score"])
        for start, end, label, score in zip(self.start, self.end, self.label, self.score, strict=True):
            writer.writerow([self.video_id, f"{start:.3f}", f"{end:.3f}", label, f"{score:.6f}"])
        return text.getvalue()

    def to_srt(self) -> str:
        """Return subtitles (SubRip) in the order of time, one for each segment."""
        order = np.lexsort((self.end, self.start))
        blocks = [
            f"{number}\n{_srt_time(self.start[i])} --> {_srt_time(self.end[i])}\n{self.label[i]} {self.score[i]:.2f}\n"
            for number, i in enumerate(order, start=1)
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
