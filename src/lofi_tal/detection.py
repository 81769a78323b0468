"""Detection in many video files, alone or shared with other processes; one that is damaged never ends the others."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from lofi_tal.annotations.soccernet import RESULTS, add_results, halves_of
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import (
    file_stamp,
    hash_file,
    hash_object,
    inside,
    plain_file,
    read_json,
    write_json,
    write_json_once,
)
from lofi_tal.folders import read_whole
from lofi_tal.launch import started_rank, started_size
from lofi_tal.leases import Leases
from lofi_tal.localizer import Localizer
from lofi_tal.model_folders import RECORD, find_model
from lofi_tal.progress import Progress
from lofi_tal.report import write_timeline
from lofi_tal.runtime import make_fabric, precision_of
from lofi_tal.segments import Segments
from lofi_tal.showing import EVERYTHING, Shown
from lofi_tal.video import EVERYWHERE, VideoError, VideoManifest, list_videos
from lofi_tal.writers import (
    DEFAULT_FORMATS,
    PAGE,
    SOCCERNET,
    check_formats,
    detection_files,
    unique_names,
    write_detections,
)


def detect_files(
    videos: Sequence[Path],
    model: Path,
    *,
    out: Path | None = None,
    threshold: float | None = None,
    wanted_precision: float | None = None,
    everything: bool = False,
    device: str = "auto",
    precision: str = "auto",
    patience: float | None = None,
    quiet: bool = False,
    formats: Sequence[str] = DEFAULT_FORMATS,
) -> tuple[list[Segments], dict[str, str], Shown]:
    """Detect in many files; one that cannot be decoded never ends the others.

    Args:
        videos: Files, or folders whose video files are taken.
        model: Model or run folder.
        out: Folder for ``<name>.json`` (all segments, ActivityNet form), ``.csv``, ``.srt`` and ``.html`` (those that
            are shown); two files of the same name in different folders get a number.
        threshold: Lowest score in CSV and subtitles, and on the page at first; the model's own, by class, if None.
        wanted_precision: Show as much as can be shown if so large a share of it is to be right.
        everything: Show all segments with all labels.
        device: See :class:`Localizer`.
        precision: See :class:`Localizer`.
        patience: Share the files with processes, on any machine, that do the same with the same ``out``; what this
            model has found there already is left as it is. A process that shows no sign of life for so many seconds is
            taken for dead.
        quiet: No progress.
        formats: What is written into ``out``: names of :func:`lofi_tal.writers.list_writers`, ``html``, and
            ``soccernet``: all detections as ``<game>/results_spotting.json``, see
            :func:`lofi_tal.annotations.soccernet.halves_of`.

    Returns:
        The segments of each readable video (of those that this process has seen, if the work is shared), the reason for
        each other file, and what of the segments is shown.

    Raises:
        DataError: If the folders hold no video file, or there is no model.
        LofiError: If the work is to be shared and ``out`` is missing, a format is unknown, several of ``threshold``,
            ``wanted_precision`` and ``everything`` are given, or the model cannot tell its precision.
    """
    formats = check_formats(formats)
    if (threshold is not None) + (wanted_precision is not None) + everything > 1:
        raise LofiError("A threshold, a wanted precision and everything exclude each other: give one of them.")
    if patience is not None and out is None:
        raise LofiError("Processes share detection through a folder of results that all of them see: give --out.")
    files = _video_files(videos)
    named = dict(zip(files, unique_names(files), strict=True))
    folders = [path.parent if path.name == EVERYWHERE else path for path in videos]
    halves = halves_of(named, folders) if SOCCERNET in formats else {}
    rank, ranks = started_rank(), started_size()
    if ranks > 1 or patience is not None:  # the largest first, each process its share
        files = sorted(files, key=lambda path: -path.stat().st_size if path.exists() else 0)
    if patience is not None and out is not None and precision == "auto":
        precision = _common_precision(out, device)
    share = patience is not None and out is not None

    def loaded(folder: Path) -> tuple[Localizer, str]:
        made = Localizer.from_pretrained(folder, device=device, precision=precision)
        return made, hash_model(folder) if share else ""

    localizer, content = read_whole(find_model(model), RECORD, loaded)  # both of the same model
    shown = _shown(localizer, threshold, wanted_precision, everything=everything)
    output = None if out is None else _Output(out, shown, formats, halves)
    named = {path: named[path] for path in files[rank::ranks]}
    if patience is not None and output is not None:
        work = _SharedDetection(localizer, content, output)
        return *work.run(named, patience, quiet=quiet), shown
    return *_detect_alone(localizer, named, output, quiet=quiet), shown


def _shown(localizer: Localizer, threshold: float | None, wanted_precision: float | None, *, everything: bool) -> Shown:
    """Return what of the segments is shown."""
    if everything:
        return EVERYTHING
    if threshold is None:
        return localizer.shown(wanted_precision)
    return Shown(threshold, one_label=not localizer.detect.multi_label)


@dataclass(frozen=True)
class _Output:
    """What is written of the videos: the folder, what is shown, the formats, and SoccerNet's halves by file."""

    folder: Path
    shown: Shown
    formats: tuple[str, ...]
    halves: Mapping[Path, str]

    def write(self, segments: Segments, video: Path) -> None:
        """Write the files of one video."""
        write_detections(segments, self.folder, self.shown, self.formats)
        if PAGE in self.formats:
            page = inside(self.folder, segments.video_id, ".html")
            write_timeline(page, detections=segments, video=video, shown=self.shown)
        if SOCCERNET in self.formats:
            add_results(self.folder, self.halves[video], segments)

    def files(self, video: Path, name: str) -> list[Path]:
        """Return the files of one video."""
        game = self.halves.get(video, "").rpartition("/")[0]
        return [*detection_files(self.folder, name, self.formats), *([self.folder / game / RESULTS] if game else [])]


def _detect_alone(
    localizer: Localizer, named: Mapping[Path, str], output: _Output | None, *, quiet: bool
) -> tuple[list[Segments], dict[str, str]]:
    """Detect in files that no other process looks at; return what was found, and why any of them cannot be used."""
    with Progress("examine", len(named), quiet=quiet or len(named) == 1) as progress:
        records = VideoManifest(None).examine(named, seen=lambda path, record: progress.advance(path.name))
    failed = {str(path): records[path].error for path in named if records[path].error}
    readable = [path for path in named if not records[path].error]
    snippets = [localizer.windows.snippets(records[path].duration) for path in readable]
    detections: list[Segments] = []
    with Progress("detect (snippets)", sum(snippets), quiet=quiet) as progress:
        for path, done in zip(readable, itertools.accumulate(snippets), strict=True):
            try:
                segments = localizer.predict(path, video_id=named[path], seen=partial(progress.advance, path.name))
            except VideoError as error:
                failed[str(path)] = str(error)
                progress.advance(path.name, done - progress.done)
            else:
                detections.append(segments)
                if output is not None:
                    output.write(segments, path)
    return detections, failed


@dataclass(frozen=True)
class _SharedDetection:
    """Detection that processes share through the folder of results; ``.done`` in it says what made each of them."""

    localizer: Localizer
    model: str
    output: _Output

    def run(self, named: Mapping[Path, str], patience: float, *, quiet: bool) -> tuple[list[Segments], dict[str, str]]:
        """Detect in what no other process does; return what was found, and why any of the files cannot be used."""
        detections: list[Segments] = []
        with (
            Leases(self.output.folder / ".leases", patience, results=self.output.folder / ".done") as leases,
            Progress("detect", len(named), quiet=quiet) as progress,
        ):
            for chosen in leases.rounds(
                named,
                key=named.__getitem__,
                done=lambda path: self._is_done(path, named[path]),
                waiting=lambda left: progress.advance(f"{left} at work elsewhere", 0),
            ):
                for path in chosen:
                    result = self._detect(path, named[path])
                    if isinstance(result, str):
                        leases.fail(named[path], result)
                    else:
                        detections.append(result)
                        leases.release(named[path])
                    progress.advance(path.name)
            failed = {str(path): reason for path, name in named.items() if (reason := leases.failure(name))}
        return detections, failed

    def _detect(self, path: Path, name: str) -> Segments | str:
        """Write what is in one video; or return why it cannot be used."""
        record = VideoManifest(None, workers=1).examine([path])[path]
        if record.error:
            return record.error
        try:
            segments = self.localizer.predict(path, video_id=name)
        except VideoError as error:
            return str(error)
        self.output.write(segments, path)
        write_json(self._done(name), {"made_of": self._made_of(path)})
        return segments

    def _is_done(self, path: Path, name: str) -> bool:
        try:
            made = all(file.exists() for file in self.output.files(path, name))
            return made and bool(read_json(self._done(name))["made_of"] == self._made_of(path))
        except (DataError, OSError, KeyError, TypeError):
            return False

    def _done(self, name: str) -> Path:
        return inside(self.output.folder / ".done", name, ".json")

    def _made_of(self, path: Path) -> str:
        formats = [] if self.output.formats == DEFAULT_FORMATS else [self.output.formats]
        return hash_object([self.model, file_stamp(path), str(asdict(self.output.shown)), *formats])


def _common_precision(out: Path, device: str) -> str:
    """Return the precision that the first process to share a folder of results has chosen for all of them."""
    ours = {"precision": precision_of(make_fabric(device, "auto", alone=True))}
    return str(write_json_once(out / ".done" / "precision.json", ours)["precision"])


def hash_model(folder: Path) -> str:
    """Return a hash of the weights and settings that a model folder holds."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    return hash_object([[path.name, hash_file(path)] for path in files if plain_file(path, folder)])


def _video_files(videos: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in videos:
        if path.is_dir() or path.name == EVERYWHERE:
            files += list_videos(path)
        else:
            files.append(path)
    if not files:
        raise DataError(f"There is no video file in {', '.join(map(str, videos))}.")
    return list(dict.fromkeys(files))
