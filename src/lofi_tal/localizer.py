"""The localiser: a video in, segments out. What a trained run leaves behind, and all that detection needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from lightning_fabric import Fabric
from pydantic import ConfigDict, Field, field_validator
from torch import Tensor

from lofi_tal.artefacts import check_files, check_words, sealed
from lofi_tal.bounds import PlainDict
from lofi_tal.classifier import POOLINGS, ProposalClassifier, load_classifier, save_classifier
from lofi_tal.config import DetectSection, SnippetSection
from lofi_tal.data import VideoFile, stream_snippets
from lofi_tal.encoders import Encoder, load_encoder, save_encoder
from lofi_tal.errors import DataError, LofiError
from lofi_tal.evaluation import SHEET, ScoreSheet, load_sheet, save_sheet
from lofi_tal.files import write_json, write_text
from lofi_tal.folders import read_whole, replaced
from lofi_tal.heads import Head, Proposals, load_head, save_head
from lofi_tal.model_card import model_card
from lofi_tal.model_files import ComponentFile, Description, read_description
from lofi_tal.model_folders import CARD, OWN_FILES, RECORD, find_model
from lofi_tal.runtime import make_fabric
from lofi_tal.segments import Segments
from lofi_tal.showing import Shown
from lofi_tal.snippets import SnippetGrid, Windows
from lofi_tal.stages.extract import encode_snippets, snippets_at_once
from lofi_tal.stages.localise import ClassScorer, fuse, localise
from lofi_tal.video import Clock, VideoError, VideoInfo, check_decoder, probe_video

FORMAT = 1
_MOST_ANCHORS = 2**22  # 2,048 snippets with anchors of every length
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
            are cut into windows; ``keep`` if features keep their number.
        detect: Post-processing.
        pooling: Over what the class scores of a proposal are taken.
        threshold: Score from which on a detection is worth showing, chosen on held-out training videos.
        sheet: What its scores mean, learnt on the same videos; without it scores stay as they are.
        decoder: What decoded the videos that it was trained on, and decodes those that it is given.
        facts: Where the model comes from.
        events: Width of the segments that stand for point events, in seconds; None for a model of segments.
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
        detect: DetectSection,
        pooling: str = "proposal",
        threshold: float = 0.0,
        sheet: ScoreSheet | None = None,
        decoder: str = "pyav",
        facts: dict[str, Any] | None = None,
        events: float | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        check_decoder(decoder)
        self.fabric: Fabric = make_fabric(device, precision, alone=True)
        self.encoder = None if encoder is None else encoder.to(self.fabric.device).eval()
        self.head = head.to(self.fabric.device).eval()
        self.encoder_name, self.classifier, self.labels = encoder_name, classifier, tuple(labels)
        self.grid = SnippetGrid(int(snippets["count"]), int(snippets["frames"]), float(snippets["stride"]))
        self.windows, self.size = _windows_of(snippets), int(snippets["size"])
        self.detect, self.pooling, self.decoder, self.sheet = detect, _known_pooling(pooling), decoder, sheet
        self.raw_threshold, self.facts, self.events = threshold, dict(facts or {}), events
        self.threshold = threshold if sheet is None else sheet.probability(threshold)  # as `predict` gives scores

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str = "auto", precision: str = "auto") -> Localizer:
        """Load what :meth:`save_pretrained` wrote; no code in the folder is run.

        Args:
            folder: Model folder, or a run folder, of which the arm `lofi` is taken before the baseline.
            device: As for :class:`Localizer`.
            precision: As well.

        Raises:
            DataError: If the folder does not hold a localiser of this version, or a file of it is not as it was saved.
        """
        model = find_model(Path(folder))
        localizer = cls(**read_whole(model, RECORD, _settings_in), device=device, precision=precision)
        _check_parts(localizer, model)
        return localizer

    def __repr__(self) -> str:
        seen = self.encoder_name if self.encoder else "features"
        return f"Localizer({seen}, {self.head.name}, {len(self.labels)} classes, {self.grid.snippets}×{self.size}px)"

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights as safetensors, settings as JSON, and a card (``README.md``) for people.

        A model that is in the folder is replaced as a whole: who reads it at that moment gets the old one or the new.
        Other files in the folder stay.
        """
        with replaced(Path(folder), (*OWN_FILES, CARD), RECORD) as new:
            _write_all(self, new)

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
            threshold: Keep only segments with at least this score; None keeps all; see :meth:`shown`.
            video_id: Id in the result; the file's stem without it.
            seen: Called with the number of snippets that have been encoded since it was called last.

        Returns:
            Segments in seconds on the player's clock, by falling score: the probability of being right at tIoU 0.5 if
            the model is calibrated (``raw_score`` is then the model's own), or else the model's own score.

        Raises:
            VideoError: If the file cannot be decoded.
        """
        path = Path(video)
        info = probe_video(path)
        found = self._predict(self._features(path, info, seen), info.clock, video_id or path.stem)
        return found if threshold is None else found.above(threshold)

    def predict_many(
        self, videos: str | Path | Iterable[str | Path], *, threshold: float | None = None
    ) -> tuple[list[Segments], dict[str, str]]:
        """Detect actions in several video files; one that cannot be decoded does not end the others.

        Args:
            videos: Files, or one.
            threshold: Keep only segments with at least this score; None keeps all.

        Returns:
            The segments of each video that can be decoded, in order, and the reason for each other path.
        """
        found, failed = [], {}
        for video in [videos] if isinstance(videos, str | Path) else videos:
            try:
                found.append(self.predict(video, threshold=threshold))
            except VideoError as error:
                failed[str(video)] = str(error)
        return found, failed

    def features(self, video: str | Path, *, seen: Callable[[int], None] = lambda snippets: None) -> Tensor:
        """Return the features ``(C, N)`` of a video file at full fidelity; N = L if it is one window.

        Args:
            video: Any file that FFmpeg decodes.
            seen: Called with the number of snippets that have been encoded since it was called last.

        Raises:
            VideoError: If the file cannot be decoded.
            LofiError: If the model has no encoder.
        """
        return self._features(Path(video), probe_video(Path(video)), seen)

    def _features(self, path: Path, info: VideoInfo, seen: Callable[[int], None]) -> Tensor:
        if self.encoder is None:
            raise LofiError(
                "This model was trained on published features and has no encoder: give predict_features() the same "
                "features of your video, or train on videos."
            )
        pieces = stream_snippets(
            VideoFile(path, "", info.duration, info.frames),
            replace(self.grid, snippets=self.windows.snippets(info.duration)),
            self.size,
            at_once=snippets_at_once(self.grid.frames),
            decoder=self.decoder,
            resize=self.encoder.takes.resize,
        )
        features = []
        for piece in pieces:
            features.append(encode_snippets(self.encoder, piece, self.fabric))
            seen(len(piece))
        return torch.cat(features).T.contiguous()

    def predict_features(
        self, features: Tensor, duration: float, *, start: float = 0.0, video_id: str = "video"
    ) -> Segments:
        """Detect actions in features ``(C, N)`` that cover ``duration`` seconds from ``start`` on; by falling score."""
        return self._predict(features, Clock(start, duration), video_id)

    def _predict(self, features: Tensor, clock: Clock, video_id: str) -> Segments:
        (proposals,) = self.localise_features([features], batch=WINDOWS_AT_ONCE)
        found = self.fuse(video_id, clock, features, proposals)
        return found if self.sheet is None else self.sheet.calibrated(found)

    def shown(self, precision: float | None = None) -> Shown:
        """Return which segments are worth showing: ``localizer.shown().of(segments)``.

        Args:
            precision: Wanted share of right ones; without it, the best F1 decides.

        Raises:
            LofiError: If it is out of range, or the model cannot tell.
        """
        shown = _shown_without_sheet(self.threshold, precision) if self.sheet is None else self.sheet.shown(precision)
        return replace(shown, one_label=not self.detect.multi_label)

    def localise_features(self, features: Sequence[Tensor], batch: int = 32) -> list[Proposals]:
        """Return the proposals of each video after soft-NMS, from features ``(C, N)`` on the CPU."""
        scorer = ClassScorer(self.classifier, self.pooling)
        return localise(self.head, features, self.windows, self.detect, scorer=scorer, batch=batch)

    def fuse(self, video_id: str, clock: Clock, features: Tensor, proposals: Proposals) -> Segments:
        """Give the proposals of one video their classes and times; scores are the model's own."""
        how = (self.classifier, self.labels, self.detect, self.pooling, self.events)
        return fuse(video_id, clock, features, proposals, *how)


def _write_all(localizer: Localizer, folder: Path) -> None:
    """Write all that a model folder holds: the parts, the record of them, and the card."""
    if localizer.encoder is not None:
        save_encoder(localizer.encoder, localizer.encoder_name, folder)
    save_head(localizer.head, folder)
    if localizer.classifier is not None:
        save_classifier(localizer.classifier, folder, {})
    if localizer.sheet is not None:
        save_sheet(localizer.sheet, folder)
    files = check_words(folder, sorted(path.name for path in folder.iterdir()))
    settings = _settings_of(localizer)
    write_json(folder / RECORD, sealed({**settings, "files": files}))
    calibrated = localizer.sheet is not None and localizer.sheet.calibration is not None
    card = model_card(settings, localizer.encoder, localizer.encoder_name, localizer.head, calibrated=calibrated)
    write_text(folder / CARD, card)


def _known_pooling(pooling: str) -> str:
    if pooling not in POOLINGS:
        raise LofiError(f"pooling {pooling!r} is unknown; known: {', '.join(POOLINGS)}.")
    return pooling


def _windows_of(snippets: Mapping[str, Any]) -> Windows:
    """Return how videos are cut by what a model says of its snippets."""
    keep = bool(snippets.get("keep", False))
    return Windows(int(snippets["count"]), snippets.get("window"), snippets.get("overlap", 0.5), keep)


def _shown_without_sheet(threshold: float, precision: float | None) -> Shown:
    if precision is None:
        return Shown(threshold)
    raise LofiError(
        "This model does not know its precision: it has no scores.json. Train stage 3 again with videos for selection "
        "(data.selection_share), or set a score: threshold=0.3, or --threshold 0.3."
    )


def _settings_of(localizer: Localizer) -> dict[str, Any]:
    """Return the content of ``localizer.json``."""
    windows = localizer.windows
    cut = {} if windows.seconds is None else {"window": windows.seconds, "overlap": windows.overlap}
    cut |= {"keep": True} if windows.keep else {}
    grid = {**asdict(localizer.grid), "count": localizer.grid.snippets, "size": localizer.size, **cut}
    return {
        "format": FORMAT,
        "labels": list(localizer.labels),
        "snippets": grid,
        "detect": {**localizer.detect.model_dump(mode="json"), "pooling": localizer.pooling},
        "threshold": localizer.raw_threshold,
        **({} if localizer.decoder == "pyav" else {"decoder": localizer.decoder}),
        "has_encoder": localizer.encoder is not None,
        "has_classifier": localizer.classifier is not None,
        **({} if localizer.sheet is None else {"has_sheet": True}),
        **({} if localizer.events is None else {"events": localizer.events}),
        "facts": localizer.facts,
    }


class _Grid(SnippetSection):
    """Full fidelity, with what earlier versions wrote besides."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    count: int = Field(ge=2)
    frames: int = Field(ge=1)
    stride: float = Field(gt=0)
    size: int = Field(ge=16)
    keep: bool = False


class _Detect(DetectSection):
    """Post-processing, and over what the class scores are taken."""

    pooling: str = "proposal"


class LocalizerFile(Description):
    """``localizer.json``."""

    format: int
    labels: tuple[Annotated[str, Field(max_length=1000)], ...] = Field(min_length=1, max_length=100_000)
    snippets: _Grid
    detect: _Detect
    threshold: float
    decoder: str = Field("pyav", max_length=100)
    has_encoder: bool = True
    has_classifier: bool
    has_sheet: bool = False
    events: float | None = Field(None, gt=0)
    facts: PlainDict

    @field_validator("format")
    @classmethod
    def _is_known(cls, number: int) -> int:
        if number != FORMAT:
            raise ValueError(f"the file has format {number}; this version reads format {FORMAT}")
        return number


def _settings_in(folder: Path) -> dict[str, Any]:
    """Return the arguments of the localiser in a model folder, weights loaded."""
    path = folder / RECORD
    if not path.exists():
        raise DataError(
            f"{folder} holds no localizer.json: give the model folder of a run, such as runs/demo/arms/lofi/model."
        )
    check_files(folder)  # the record alone; each part is checked as it is loaded
    facts = read_description(path, LocalizerFile)
    if facts.has_sheet:
        check_files(folder, SHEET)  # it must be there
    return {
        "encoder_name": read_description(folder / "encoder.json", ComponentFile).name if facts.has_encoder else "",
        "head": load_head(folder),  # the small parts first
        "classifier": load_classifier(folder)[0] if facts.has_classifier else None,
        "encoder": load_encoder(folder) if facts.has_encoder else None,
        "labels": facts.labels,
        "snippets": facts.snippets.record(),
        "pooling": facts.detect.pooling,
        "detect": DetectSection(**facts.detect.model_dump(exclude={"pooling"})),
        "threshold": facts.threshold,
        "sheet": load_sheet(folder) if facts.has_sheet else None,
        "decoder": facts.decoder,
        "facts": facts.facts,
        "events": facts.events,
    }


def _check_parts(localizer: Localizer, folder: Path) -> None:
    """Refuse a folder whose parts do not belong together.

    Raises:
        DataError: If channels or classes differ, nothing tells classes apart, or there are too many anchors.
    """
    head, labels, classifier = localizer.head, len(localizer.labels), localizer.classifier
    numbers: list[tuple[str, int | None, str, int]] = [("the head's classes", head.num_classes, "labels", labels)]
    if localizer.encoder is not None:
        numbers.append(("the encoder's channels", localizer.encoder.channels, "the head's", head.in_channels))
    if classifier is not None:
        numbers.append(("the classifier's channels", classifier.config["channels"], "the head's", head.in_channels))
        numbers.append(("the classifier's classes", classifier.config["classes"], "labels", labels))
    elif head.num_classes is None:
        raise DataError(f"{folder}: this head gives no classes, and has_classifier says that there is no classifier.")
    for what, number, other, expected in numbers:
        if number is not None and number != expected:
            raise DataError(f"{folder}: its parts do not belong together: {what} are {number}, {other} {expected}.")
    cells = localizer.grid.snippets * getattr(head, "durations", lambda count: 1)(localizer.grid.snippets)
    if cells > _MOST_ANCHORS:
        raise DataError(
            f"{folder}: {cells:,} anchors a window, more than {_MOST_ANCHORS:,}: snippets.count is too large."
        )
