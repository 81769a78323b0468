"""What every importer does alike: gather segments by video, refuse what cannot be used, and say where it stands."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from lofi_tal.annotations.document import Annotations, VideoAnnotation
from lofi_tal.annotations.values import plain_label, read_duration, read_number, read_text, read_time
from lofi_tal.errors import DataError, counted
from lofi_tal.segments import Segments
from lofi_tal.video import SUFFIXES, VideoError, VideoManifest, VideoRecord, find_videos

_SUBSETS = {
    **dict.fromkeys(("train", "training"), "training"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "testing"),
}
_ANY_SUFFIX = re.compile(r"\.(?=\w*[a-z])\w{1,8}$", re.IGNORECASE)  # with a letter: "take.2" has none
_WORKERS = 4  # processes that examine videos


@dataclass(frozen=True)
class VideoFacts:
    """What importers and exporters ask of a video file.

    Args:
        duration: Seconds on the player's clock at which its last frame ends.
        frames: F.
        fps: Mean frames a second.
        start: Seconds on the player's clock at which its first frame appears.
        width: Pixels as displayed.
        height: Pixels as displayed.
        name: Of the file.
    """

    duration: float
    frames: int
    fps: float
    start: float
    width: int
    height: int
    name: str


class VideoFolder:
    """Facts of the videos in a folder, each file opened once.

    Raises:
        VideoError: If the folder cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._index = find_videos(folder)
        self._known: dict[str, VideoFacts | VideoError] = {}

    def facts(self, video_id: str) -> VideoFacts:
        """Return the facts of one video.

        Raises:
            VideoError: If it is not there or cannot be read.
        """
        self.open([video_id])
        known = self._known[video_id]
        if isinstance(known, VideoError):
            raise known
        return known

    def open(self, video_ids: list[str]) -> None:
        """Examine many videos side by side."""
        paths, missing = self._index.find_all(video_id for video_id in video_ids if video_id not in self._known)
        self._known |= missing
        if not paths:
            return
        records = VideoManifest(None, workers=_WORKERS).examine(paths.values())
        self._known |= {video_id: facts_of(records[path]) for video_id, path in paths.items()}


def facts_of(record: VideoRecord) -> VideoFacts | VideoError:
    """Return what a record of a video file says to importers and exporters, or why the file cannot be used."""
    if record.error:
        return VideoError(record.error)
    rate = record.frames / record.duration
    size = (record.width, record.height)
    return VideoFacts(record.clock.end, record.frames, rate, record.start, *size, Path(record.path).name)


@dataclass(frozen=True)
class ImportOptions:
    """What an import is told beside the files.

    Args:
        subset: Of videos whose file names none.
        fps: Frames a second of annotations that count frames; read from file or video without it.
        layers: Tiers (ELAN), attribute (VIA) or controls (Label Studio) to read; chosen by the importer without any.
        strict: Stop at the first thing that cannot be used, rather than leave it out and say so.
        videos: The video files, if they are there.
        columns: Columns of a table by what they hold, where the header says it otherwise.
        background: Labels that mean that nothing happens: no segments.
    """

    subset: str = "training"
    fps: float | None = None
    layers: tuple[str, ...] = ()
    strict: bool = True
    videos: VideoFolder | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    background: tuple[str, ...] = ()


@dataclass
class _Draft:
    """A video as far as it is known; ``reference`` is how the file names it."""

    reference: str
    subset: str | None = None
    duration: float | None = None
    start: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    ignored: list[tuple[float, float]] = field(default_factory=list)


class Collector:
    """Videos and segments of one import.

    Importers call :meth:`add` and :meth:`declare` inside ``with collector.part():`` for each row or record. What they
    raise there stops a strict import; a lenient one notes it and goes on. ``where`` always begins a message.
    """

    def __init__(self, options: ImportOptions) -> None:
        self.options = options
        self.refused: list[str] = []
        """What was left out although it should not have been, one line each."""
        self.remarks: list[str] = []
        """What was left out because it is no action (still regions), or is worth knowing."""
        self._source = Path()
        self._added = self._relabelled = 0
        self._sources: dict[str, Path] = {}
        self._drafts: dict[str, _Draft] = {}
        self._whole: dict[str, VideoAnnotation] = {}

    @contextlib.contextmanager
    def part(self) -> Iterator[None]:
        """Refuse what the block cannot use."""
        try:
            yield
        except DataError as error:
            if self.options.strict:
                raise
            self.refused.append(str(error))

    @contextlib.contextmanager
    def source(self, path: Path) -> Iterator[None]:
        """Read one source: a file, or a folder of files that belong together. A video may not stand in two."""
        self._source, self._added = path, 0
        with self.part():
            yield

    @property
    def has_segments(self) -> bool:
        """Whether the source that is read has given any segment."""
        return self._added > 0

    def passed_over(self, where: str, count: int, unit: str, why: str) -> None:
        """Say of a source that is read that something in it is no segment.

        Args:
            where: The file.
            count: How many there are; 0 is nothing to say.
            unit: What they are, one of them.
            why: Why they are none, and what the importer takes for a segment.

        Raises:
            DataError: If the source has given no segment, so that all of it was passed over.
        """
        if count and not self._added:
            raise DataError(f"{where}: no segment was found in it, but {counted(count, unit)}: {why}.")
        if count:
            self.remarks.append(f"{where}: passed over: {counted(count, unit)}: {why}.")

    def declare(
        self, where: str, reference: Any, *, subset: Any = None, duration: Any = None, is_file: bool = False
    ) -> str:
        """Make a video known, with what the file says of it.

        Args:
            where: File and line, or whatever says where it stands, for messages.
            reference: Its id, or a file name, path or URL, whose folders and video suffix are left out.
            subset: Name, if the file has one.
            duration: Seconds, if the file has them.
            is_file: The reference is the name of a file for sure: whatever its suffix, it is left out.

        Returns:
            Its id.

        Raises:
            DataError: If a value is unusable, contradicts what was said before, or the id stands for two videos.
        """
        reference = unicodedata.normalize("NFC", read_text(reference, f"{where}, video"))
        video_id = video_id_of(reference, is_file)
        subset = None if subset is None else canonical_subset(read_text(subset, f"{where}, subset"))
        duration = None if duration is None else read_duration(duration, f"{where}, duration")
        self._claim(where, video_id)
        draft = self._drafts.setdefault(video_id, _Draft(reference))
        if draft.reference != reference:
            raise DataError(
                f"{where}: {reference!r} and {draft.reference!r} would both be video {video_id!r}: rename one of them, "
                "or write both in the same way."
            )
        for name, value in (("subset", subset), ("duration", duration)):
            before = getattr(draft, name)
            if value is not None and before not in (None, value):
                raise DataError(f"{where}, {name}: {value!r}, but video {video_id!r} had {before!r} before.")
            setattr(draft, name, before if value is None else value)
        return video_id

    def add(self, where: str, video_id: str, start: Any, end: Any, label: Any) -> None:
        """Add a segment, in seconds, to a video that was declared.

        Raises:
            DataError: If a time or the label is unusable, or the segment does not end after its start.
        """
        first, last = _span(where, start, end)
        label = self._plain(read_text(label, f"{where}, label"))
        self._added += 1
        if label in self.options.background:
            return
        draft = self._drafts[video_id]
        draft.start.append(first)
        draft.end.append(last)
        draft.label.append(label)

    def ignore(self, where: str, video_id: str, start: Any, end: Any) -> None:
        """Add a part, in seconds, that is neither action nor background to a video that was declared.

        Raises:
            DataError: If a time is unusable, or the part does not end after its start.
        """
        self._drafts[video_id].ignored.append(_span(where, start, end))
        self._added += 1

    def adopt(self, video: VideoAnnotation) -> None:
        """Take a video as it is, odd segments included.

        Raises:
            DataError: If its id stands in another source too.
        """
        video_id = unicodedata.normalize("NFC", video.video_id)
        if video_id in self._whole:
            raise DataError(f"{self._source}: two ids differ only in how Unicode writes {video_id!r}: rename one.")
        self._claim(str(self._source), video_id)
        labels = [self._plain(label) for label in video.segments.label]
        kept = np.array([label not in self.options.background for label in labels], dtype=bool)
        segments = replace(video.segments, video_id=video_id, label=tuple(labels))[kept]
        subset = canonical_subset(video.subset)
        self._whole[video_id] = replace(video, video_id=video_id, subset=subset, segments=segments)

    def rate(self, where: str, video_id: str, given: Any = None) -> float:
        """Return the frames a second of a video: of the options, of the file, or of the video.

        Raises:
            DataError: If none is known, or it is not between 0 and 1000.
        """
        fps = given if self.options.fps is None else self.options.fps
        if fps is None and self.options.videos is not None:
            fps = self.options.videos.facts(video_id).fps
        if fps is None:
            raise DataError(
                f"{where}: the file counts frames and does not say how many a second has: give --fps, or the folder of "
                "the videos with --videos."
            )
        rate = read_number(fps, f"{where}, frames a second")
        if not 0 < rate <= 1000:
            raise DataError(f"{where}, frames a second: {rate:g} is not between 0 and 1000.")
        return rate

    def beginning(self, video_id: str) -> float:
        """Return the second on the player's clock at which frame 0 of a video appears; 0 without the videos."""
        videos = self.options.videos
        return 0.0 if videos is None else videos.facts(video_id).start

    def result(self) -> Annotations:
        """Return what was gathered, with durations of the video files where the annotations have none.

        Raises:
            DataError: If there is no video.
        """
        videos = {**self._whole, **{key: self._finish(key, draft) for key, draft in self._drafts.items()}}
        if self.options.videos is not None:
            unknown = [video_id for video_id, video in videos.items() if video.duration is None]
            self.options.videos.open(unknown)
            for video_id in unknown:
                video = videos.pop(video_id)
                with self.part():
                    duration = self.options.videos.facts(video_id).duration
                    videos[video_id] = _with_duration(video, duration)
        if self._relabelled:
            self.remarks.append(f"{self._relabelled} labels were written anew: on one line, with single blanks.")
        if not videos:
            reason = f"; the first of {len(self.refused)} reasons: {self.refused[0]}" if self.refused else "."
            raise DataError(f"{self._source}: no usable video{reason}")
        return Annotations(videos, tuple(self.refused))

    def _finish(self, video_id: str, draft: _Draft) -> VideoAnnotation:
        one = np.ones(len(draft.label))
        segments = Segments(
            video_id, np.array(draft.start), np.array(draft.end), tuple(draft.label), one, draft.duration
        )
        subset = draft.subset or canonical_subset(self.options.subset)
        return VideoAnnotation(video_id, draft.duration, subset, segments, np.array(draft.ignored).reshape(-1, 2))

    def _plain(self, label: str) -> str:
        plain = plain_label(label)
        self._relabelled += plain != label.strip()
        return plain

    def _claim(self, where: str, video_id: str) -> None:
        source = self._sources.setdefault(video_id, self._source)
        if source != self._source:
            raise DataError(f"{where}: video {video_id!r} stands in {source} too; put all of a video into one file.")


def canonical_subset(name: str) -> str:
    """Return ``training``, ``validation`` or ``testing`` for their usual spellings, any other name as it is."""
    return _SUBSETS.get(name.strip().lower(), name.strip())


def video_id_of(reference: str, is_file: bool = False) -> str:
    """Return the id of a file name, path or URL: its last part without the suffix of a video file.

    A name without such a suffix is an id already, whatever it holds, unless it is known to be a file's.
    """
    name = PureWindowsPath(reference.strip()).name  # knows both kinds of slashes
    stem, _, suffix = name.rpartition(".")
    if is_file:
        return _ANY_SUFFIX.sub("", name).strip() or name or reference.strip()
    return stem.strip() if stem.strip() and f".{suffix.lower()}" in SUFFIXES else reference.strip()


def _with_duration(video: VideoAnnotation, duration: float) -> VideoAnnotation:
    return replace(video, duration=duration, segments=replace(video.segments, duration=duration))


def _span(where: str, start: Any, end: Any) -> tuple[float, float]:
    """Return start and end in seconds, checked."""
    first, last = read_time(start, f"{where}, start"), read_time(end, f"{where}, end")
    if first < 0:
        raise DataError(f"{where}, start: {first:g} s lies before the video.")
    if last <= first:
        raise DataError(f"{where}: the segment [{first:g}, {last:g}] s does not end after its start.")
    return first, last


def adopt_all(annotations: Annotations, into: Collector) -> None:
    """Take all videos of a document as they are, and what its reader left out."""
    into.refused += annotations.notes
    for video in annotations:
        with into.part():
            into.adopt(video)
