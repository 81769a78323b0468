"""The localiser: a video in, segments out. What a trained run leaves behind, and all that detection needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from lofi_tal.classifier import POOLINGS, ProposalClassifier, load_classifier, save_classifier
from lofi_tal.config import DetectSection
from lofi_tal.data import VideoFile, stream_snippets
from lofi_tal.encoders import Encoder, load_encoder, save_encoder
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import read_json, write_json
from lofi_tal.heads import Head, Proposals, load_head, save_head
from lofi_tal.runtime import make_fabric
from lofi_tal.segments import Segments
from lofi_tal.snippets import SnippetGrid, Windows
from lofi_tal.stages.extract import encode_snippets, snippets_at_once
from lofi_tal.stages.localise import fuse, localise
from lofi_tal.video import Clock, VideoError, VideoInfo, check_decoder, probe_video

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
        pooling: Over what the class scores of a proposal are taken.
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
        detect: DetectSection,
        pooling: str = "proposal",
        threshold: float = 0.0,
        decoder: str = "pyav",
        facts: dict[str, Any] | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        check_decoder(decoder)
        if pooling not in POOLINGS:
            raise LofiError(f"pooling {pooling!r} is unknown; known: {', '.join(POOLINGS)}.")
        self.fabric: Fabric = make_fabric(device, precision, alone=True)
        self.encoder = None if encoder is None else encoder.to(self.fabric.device).eval()
        self.head = head.to(self.fabric.device).eval()
        self.encoder_name, self.classifier, self.labels = encoder_name, classifier, tuple(labels)
        self.grid = SnippetGrid(int(snippets["count"]), int(snippets["frames"]), float(snippets["stride"]))
        self.windows = Windows(self.grid.snippets, snippets.get("window"), snippets.get("overlap", 0.5))
        self.size = int(snippets["size"])
        self.detect, self.pooling, self.threshold, self.facts = detect, pooling, threshold, dict(facts or {})
        self.decoder = decoder

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str = "auto", precision: str = "auto") -> Localizer:
        """Load what :meth:`save_pretrained` wrote; no code in the folder is run.

        Args:
            folder: Model folder, or a run folder, of which the arm `lofi` is taken before the baseline.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.

        Raises:
            DataError: If the folder does not hold a localiser of this version.
        """
        model = find_model(Path(folder))
        try:
            return cls(**_settings_in(model), device=device, precision=precision)
        except LofiError:  # which names what is at fault
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{model / 'localizer.json'} lacks or misnames a setting: {error}.") from error

    def __repr__(self) -> str:
        seen = "features" if self.encoder is None else self.encoder_name
        return f"Localizer({seen}, {self.head.name}, {len(self.labels)} classes, {self.grid.snippets}×{self.size}px)"

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights as safetensors and settings as JSON; ``localizer.json`` comes last."""
        folder = Path(folder)
        if self.encoder is not None:
            save_encoder(self.encoder, self.encoder_name, folder)
        save_head(self.head, folder)
        if self.classifier is not None:
            save_classifier(self.classifier, folder, {})
        write_json(folder / "localizer.json", _settings_of(self))

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
            Segments in seconds on the player's clock, by falling score.

        Raises:
            VideoError: If the file cannot be decoded.
        """
        path = Path(video)
        info = probe_video(path)
        segments = self._predict(self._features(path, info, seen), info.clock, video_id or path.stem)
        return segments if threshold is None else segments.above(threshold)

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
        path = Path(video)
        return self._features(path, probe_video(path), seen)

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

    def predict_features(self, features: Tensor, duration: float, *, video_id: str = "video") -> Segments:
        """Detect actions in features ``(C, N)`` that cover a video of ``duration`` seconds; by falling score."""
        return self._predict(features, Clock(0.0, duration), video_id)

    def _predict(self, features: Tensor, clock: Clock, video_id: str) -> Segments:
        (proposals,) = localise(self.head, [features], self.windows, self.detect, batch=WINDOWS_AT_ONCE)
        return self.fuse(video_id, clock, features, proposals)

    def localise_features(self, features: Sequence[Tensor]) -> list[Proposals]:
        """Return the proposals of each video after soft-NMS, from features ``(C, N)`` on the CPU."""
        return localise(self.head, features, self.windows, self.detect)

    def fuse(self, video_id: str, clock: Clock, features: Tensor, proposals: Proposals) -> Segments:
        """Give the proposals of one video their classes and times."""
        return fuse(video_id, clock, features, proposals, self.classifier, self.labels, self.detect, self.pooling)


def find_model(folder: Path) -> Path:
    """Return the model folder in a run folder (the `lofi` arm before the baseline), or ``folder`` itself."""
    folder = folder.parent if folder.name == "localizer.json" else folder
    candidates = [folder, folder / "model", *(folder / "arms" / arm / "model" for arm in ("lofi", "baseline"))]
    return next((path for path in candidates if (path / "localizer.json").exists()), folder)


def _settings_of(localizer: Localizer) -> dict[str, Any]:
    """Return the content of ``localizer.json``."""
    windows = localizer.windows
    cut = {} if windows.seconds is None else {"window": windows.seconds, "overlap": windows.overlap}
    grid = {**asdict(localizer.grid), "count": localizer.grid.snippets, "size": localizer.size, **cut}
    return {
        "format": FORMAT,
        "labels": list(localizer.labels),
        "snippets": grid,
        "detect": {**localizer.detect.model_dump(mode="json"), "pooling": localizer.pooling},
        "threshold": localizer.threshold,
        **({} if localizer.decoder == "pyav" else {"decoder": localizer.decoder}),
        "has_encoder": localizer.encoder is not None,
        "has_classifier": localizer.classifier is not None,
        "facts": localizer.facts,
    }


def _names(labels: Any) -> list[str]:
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise ValueError("labels is no list of names")
    return labels


def _settings_in(folder: Path) -> dict[str, Any]:
    """Return the arguments of the localiser in a model folder, weights loaded."""
    description = folder / "localizer.json"
    if not description.exists():
        raise DataError(
            f"{folder} holds no localizer.json: give the model folder of a run, such as runs/demo/arms/lofi/model."
        )
    facts = read_json(description)
    if facts.get("format") != FORMAT:
        raise DataError(f"{description} has format {facts.get('format')!r}; this version reads format {FORMAT}.")
    has_encoder, detect = facts.get("has_encoder", True), dict(facts["detect"])
    return {
        "encoder": load_encoder(folder) if has_encoder else None,
        "encoder_name": read_json(folder / "encoder.json")["name"] if has_encoder else "",
        "head": load_head(folder),
        "classifier": load_classifier(folder)[0] if facts["has_classifier"] else None,
        "labels": _names(facts["labels"]),
        "snippets": facts["snippets"],
        "pooling": detect.pop("pooling", "proposal"),
        "detect": DetectSection(**detect),
        "threshold": float(facts["threshold"]),
        "decoder": facts.get("decoder", "pyav"),
        "facts": facts["facts"],
    }
