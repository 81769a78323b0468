"""The localiser: a video in, segments out. What a trained run leaves behind, and all that detection needs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from lofi_tal.classifier import ProposalClassifier, load_classifier, save_classifier
from lofi_tal.encoders import Encoder, load_encoder, save_encoder
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import (
    file_stamp,
    hash_file,
    hash_object,
    inside,
    read_json,
    write_json,
    write_json_once,
)
from lofi_tal.heads import Head, Proposals, load_head, save_head
from lofi_tal.launch import started_rank, started_size
from lofi_tal.leases import Leases
from lofi_tal.report import write_timeline
from lofi_tal.runtime import Progress, make_fabric, precision_of
from lofi_tal.segments import Segments
from lofi_tal.snippets import SnippetGrid, Windows
from lofi_tal.stages.data import VideoFile, stream_snippets
from lofi_tal.stages.detect import DetectOptions, fuse, localise
from lofi_tal.stages.extract import encode_snippets, snippets_at_once
from lofi_tal.video import SUFFIXES, VideoError, VideoManifest, check_decoder, probe_video
from lofi_tal.writers import DEFAULT_FORMATS, PAGE, check_formats, detection_files, write_detections

FORMAT = 1
WINDOWS_AT_ONCE = 4
"""Windows of one video that go through the head together; it bounds the memory."""


class Localizer:
    """Encoder, head and class scores with everything that they need to know.

    Args:
        encoder: Frozen encoder; None for a model of published features, which sees no video.
        encoder_name: Its name in :func:`lofi_tal.encoders.create_encoder`.
        head: Trained head.
        classifier: Class scores of proposals; None for a head that classifies by itself.
        labels: Class names.
        snippets: ``count``, ``frames``, ``stride`` and ``size`` of full fidelity; ``window`` and ``overlap`` if videos
            are cut into windows.
        detect: Post-processing.
        threshold: Score from which on a detection is worth showing, chosen on held-out training videos.
        decoder: What decoded the videos that it was trained on, and decodes those that it is given.
        facts: Where the model comes from.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
    """

    def __init__(
        self,
        *,
        encoder: Encoder | None,
        encoder_name: str,
        head: Head,
        classifier: ProposalClassifier | None,
        labels: Sequence[str],
        snippets: dict[str, Any],
        detect: DetectOptions,
        threshold: float = 0.0,
        decoder: str = "pyav",
        facts: dict[str, Any] | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        check_decoder(decoder)
        self.fabric: Fabric = make_fabric(device, precision, alone=True)
        self.encoder = None if encoder is None else encoder.to(self.fabric.device).eval()
        self.head = head.to(self.fabric.device).eval()
        self.encoder_name, self.classifier, self.labels = encoder_name, classifier, tuple(labels)
        self.grid = SnippetGrid(int(snippets["count"]), int(snippets["frames"]), float(snippets["stride"]))
        self.windows = Windows(self.grid.snippets, snippets.get("window"), snippets.get("overlap", 0.5))
        self.size = int(snippets["size"])
        self.detect, self.threshold, self.facts = detect, threshold, dict(facts or {})
        self.decoder = decoder

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str = "auto", precision: str = "auto") -> Localizer:
        """Load what :meth:`save_pretrained` wrote; no code in the folder is run.

        Raises:
            DataError: If the folder does not hold a localiser of this version.
        """
        folder = Path(folder)
        description = folder / "localizer.json"
        if not description.exists():
            raise DataError(
                f"{folder} holds no localizer.json: give the model folder of a run, such as runs/demo/arms/lofi/model."
            )
        facts = read_json(description)
        if facts.get("format") != FORMAT:
            raise DataError(f"{description} has format {facts.get('format')!r}; this version reads format {FORMAT}.")
        try:
            return cls(
                encoder=load_encoder(folder) if facts.get("has_encoder", True) else None,
                encoder_name=read_json(folder / "encoder.json")["name"] if facts.get("has_encoder", True) else "",
                head=load_head(folder),
                classifier=load_classifier(folder)[0] if facts["has_classifier"] else None,
                labels=facts["labels"],
                snippets=facts["snippets"],
                detect=DetectOptions(**facts["detect"]),
                threshold=float(facts["threshold"]),
                decoder=facts.get("decoder", "pyav"),
                facts=facts["facts"],
                device=device,
                precision=precision,
            )
        except (KeyError, TypeError) as error:
            raise DataError(f"{description} lacks or misnames a setting: {error}.") from error

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights as safetensors and settings as JSON; ``localizer.json`` comes last."""
        folder = Path(folder)
        if self.encoder is not None:
            save_encoder(self.encoder, self.encoder_name, folder)
        save_head(self.head, folder)
        if self.classifier is not None:
            save_classifier(self.classifier, folder, {})
        write_json(
            folder / "localizer.json",
            {
                "format": FORMAT,
                "labels": list(self.labels),
                "snippets": {
                    **asdict(self.grid),
                    "count": self.grid.snippets,
                    "size": self.size,
                    **(
                        {}
                        if self.windows.seconds is None
                        else {"window": self.windows.seconds, "overlap": self.windows.overlap}
                    ),
                },
                "detect": asdict(self.detect),
                "threshold": self.threshold,
                **({} if self.decoder == "pyav" else {"decoder": self.decoder}),
                "has_encoder": self.encoder is not None,
                "has_classifier": self.classifier is not None,
                "facts": self.facts,
            },
        )

    def predict(
        self,
        video: str | Path,
        *,
        threshold: float | None = None,
        video_id: str | None = None,
        seen: Callable[[int], None] = lambda snippets: None,
    ) -> Segments:
        """Detect actions in a video file.

        The file is decoded once, in order, and only a few snippets' frames are held: with windows, all that grows
        with the length of the video are its features and proposals.

        Args:
            video: Any file that FFmpeg decodes.
            threshold: Keep only segments with at least this score; None keeps all.
            video_id: Id in the result; the file's stem without it.
            seen: Called with the number of snippets that have been encoded since it was called last.

        Returns:
            Segments in seconds from the first frame, by falling score.

        Raises:
            VideoError: If the file cannot be decoded.
        """
        path = Path(video)
        info = probe_video(path)
        name = video_id or path.stem
        features = self.features(path, info.duration, info.frames, seen=seen)
        segments = self.predict_features(features, info.duration, video_id=name)
        return segments if threshold is None else segments.above(threshold)

    def features(
        self, path: Path, duration: float, frames: int, *, seen: Callable[[int], None] = lambda snippets: None
    ) -> Tensor:
        """Return the features ``(C, N)`` of a video file at full fidelity; N = L if it is one window.

        Raises:
            LofiError: If the model has no encoder.
        """
        if self.encoder is None:
            raise LofiError(
                "This model was trained on published features and has no encoder: give predict_features() the same "
                "features of your video, or train on videos."
            )
        pieces = stream_snippets(
            VideoFile(path, "", duration, frames),
            replace(self.grid, snippets=self.windows.snippets(duration)),
            self.size,
            at_once=snippets_at_once(self.grid.frames),
            decoder=self.decoder,
        )
        features = []
        for piece in pieces:
            features.append(encode_snippets(self.encoder, piece, self.fabric))
            seen(len(piece))
        return torch.cat(features).T.contiguous()

    def predict_features(self, features: Tensor, duration: float, *, video_id: str = "video") -> Segments:
        """Detect actions in features ``(C, N)`` that cover a video of ``duration`` seconds; by falling score."""
        (proposals,) = localise(self.head, [features], self.windows, self.detect, batch=WINDOWS_AT_ONCE)
        return self.fuse(video_id, duration, features, proposals)

    def localise_features(self, features: Sequence[Tensor]) -> list[Proposals]:
        """Return the proposals of each video after soft-NMS, from features ``(C, N)`` on the CPU."""
        return localise(self.head, features, self.windows, self.detect)

    def fuse(self, video_id: str, duration: float, features: Tensor, proposals: Proposals) -> Segments:
        """Give the proposals of one video their classes and times."""
        return fuse(video_id, duration, features, proposals, self.classifier, self.labels, self.detect)


def find_model(folder: Path) -> Path:
    """Return the model folder in a run folder (the `lofi` arm before the baseline), or ``folder`` itself."""
    candidates = [folder, folder / "model", *(folder / "arms" / arm / "model" for arm in ("lofi", "baseline"))]
    return next((path for path in candidates if (path / "localizer.json").exists()), folder)


def detect_files(
    videos: Sequence[Path],
    model: Path,
    *,
    out: Path | None = None,
    threshold: float | None = None,
    device: str = "auto",
    precision: str = "auto",
    patience: float | None = None,
    quiet: bool = False,
    formats: Sequence[str] = DEFAULT_FORMATS,
) -> tuple[list[Segments], dict[str, str], float]:
    """Detect in many files; one that cannot be decoded never ends the others.

    Args:
        videos: Files, or folders whose video files are taken.
        model: Model or run folder.
        out: Folder for ``<name>.json`` (all segments, ActivityNet form), ``.csv``, ``.srt`` and ``.html`` (those above
            the threshold); two files of the same name in different folders get a number.
        threshold: Lowest score in CSV and subtitles, and the page's first setting; the model's own if None.
        device: See :class:`Localizer`.
        precision: See :class:`Localizer`.
        patience: Share the files with processes, on any machine, that do the same with the same ``out``; what this
            model has found there already is left as it is. A process that shows no sign of life for so many seconds is
            taken for dead.
        quiet: No progress.
        formats: What is written into ``out``: names of :func:`lofi_tal.writers.list_writers`, and ``html``.

    Returns:
        The segments of each readable video (of those that this process has seen, if the work is shared), the reason for
        each other file, and the threshold.

    Raises:
        DataError: If the folders hold no video file, or there is no model.
        LofiError: If the work is to be shared and ``out`` is missing, or a format is unknown.
    """
    formats = check_formats(formats)
    if patience is not None and out is None:
        raise LofiError("Processes share detection through a folder of results that all of them see: give --out.")
    files = _video_files(videos)
    named = dict(zip(files, _unique_names(files), strict=True))
    rank, ranks = started_rank(), started_size()
    if ranks > 1 or patience is not None:  # the largest first, each process its share
        files = sorted(files, key=lambda path: -path.stat().st_size if path.exists() else 0)
    if patience is not None and out is not None and precision == "auto":
        precision = _common_precision(out, device)
    localizer = Localizer.from_pretrained(find_model(model), device=device, precision=precision)
    limit = localizer.threshold if threshold is None else threshold
    named = {path: named[path] for path in files[rank::ranks]}
    if patience is not None and out is not None:
        work = _SharedDetection(localizer, hash_model(find_model(model)), out, limit, formats)
        return *work.run(named, patience, quiet=quiet), limit
    with Progress("examine", len(named), quiet=quiet or len(named) == 1) as progress:
        records = VideoManifest(None).examine(named, seen=lambda path, record: progress.advance(path.name))
    failed = {str(path): records[path].error for path in named if records[path].error}
    readable = [path for path in named if not records[path].error]
    snippets = [localizer.windows.snippets(records[path].duration) for path in readable]
    found: list[Segments] = []
    with Progress("detect (snippets)", sum(snippets), quiet=quiet) as progress:
        for path, done in zip(readable, itertools.accumulate(snippets), strict=True):
            try:
                segments = localizer.predict(path, video_id=named[path], seen=partial(progress.advance, path.name))
            except VideoError as error:
                failed[str(path)] = str(error)
                progress.advance(path.name, done - progress.done)
            else:
                found.append(segments)
                if out is not None:
                    _write(segments, path, out, limit, formats)
    return found, failed, limit


@dataclass(frozen=True)
class _SharedDetection:
    """Detection that processes share through the folder of results; ``.done`` in it says what made each of them."""

    localizer: Localizer
    model: str
    out: Path
    threshold: float
    formats: tuple[str, ...]

    def run(self, named: Mapping[Path, str], patience: float, *, quiet: bool) -> tuple[list[Segments], dict[str, str]]:
        """Detect in what no other process does; return what was found, and why any of the files cannot be used."""
        found: list[Segments] = []
        with (
            Leases(self.out / ".leases", patience, results=self.out / ".done") as leases,
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
                        found.append(result)
                        leases.release(named[path])
                    progress.advance(path.name)
            failed = {str(path): reason for path, name in named.items() if (reason := leases.failure(name))}
        return found, failed

    def _detect(self, path: Path, name: str) -> Segments | str:
        """Write what is in one video; or return why it cannot be used."""
        record = VideoManifest(None, workers=1).examine([path])[path]
        if record.error:
            return record.error
        try:
            segments = self.localizer.predict(path, video_id=name)
        except VideoError as error:
            return str(error)
        _write(segments, path, self.out, self.threshold, self.formats)
        write_json(self._done(name), {"made_of": self._made_of(path)})
        return segments

    def _is_done(self, path: Path, name: str) -> bool:
        try:
            made = all(file.exists() for file in detection_files(self.out, name, self.formats))
            return made and bool(read_json(self._done(name))["made_of"] == self._made_of(path))
        except (DataError, OSError, KeyError, TypeError):
            return False

    def _done(self, name: str) -> Path:
        return inside(self.out / ".done", name, ".json")

    def _made_of(self, path: Path) -> str:
        formats = [] if self.formats == DEFAULT_FORMATS else [self.formats]
        return hash_object([self.model, file_stamp(path), self.threshold, *formats])


def _common_precision(out: Path, device: str) -> str:
    """Return the precision that the first process to share a folder of results has chosen for all of them."""
    ours = {"precision": precision_of(make_fabric(device, "auto", alone=True))}
    return str(write_json_once(out / ".done" / "precision.json", ours)["precision"])


def hash_model(folder: Path) -> str:
    """Return a hash of the weights and settings that a model folder holds."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    return hash_object([[path.name, hash_file(path)] for path in files])


def _video_files(videos: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in videos:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        else:
            files.append(path)
    if not files:
        raise DataError(f"There is no video file in {', '.join(map(str, videos))}.")
    return list(dict.fromkeys(files))


def _unique_names(files: Sequence[Path]) -> list[str]:
    names: dict[str, None] = {}
    for path in files:
        stem = os.fsencode(path.stem).decode(errors="replace")  # a name of other bytes is no text for a JSON file
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names[name] = None
    return list(names)


def _write(segments: Segments, video: Path, out: Path, threshold: float, formats: Sequence[str]) -> None:
    """Write the files of one video."""
    write_detections(segments, out, threshold, formats)
    if PAGE in formats:
        write_timeline(inside(out, segments.video_id, ".html"), detections=segments, video=video, threshold=threshold)
