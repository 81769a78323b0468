"""The parts of the paper's recipe for a training loop of one's own: videos and batches in, a localiser and scores out.

Shapes: L snippets, T frames, C channels.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lofi_tal.annotations import load_annotations
from lofi_tal.config import ClassifierSection, DetectSection, Recipe
from lofi_tal.data import (
    Batch,
    SnippetDataset,
    StepRequests,
    TruthVideo,
    Videos,
    find_files,
    make_batches,
    truth_videos,
)
from lofi_tal.detection import detect_files
from lofi_tal.encoders import Encoder
from lofi_tal.errors import DataError, LofiError
from lofi_tal.evaluation import THRESHOLDS, DetectionResult, evaluate_detections
from lofi_tal.features import FeatureSet
from lofi_tal.fidelity import Fidelity, Schedule
from lofi_tal.files import read_json, with_home
from lofi_tal.head_settings import HeadSection
from lofi_tal.heads import create_head, with_classes
from lofi_tal.localizer import Localizer
from lofi_tal.planning import Plan, parse_memory, plan_recipe
from lofi_tal.recipes import load_recipe
from lofi_tal.run.data import check_subsets
from lofi_tal.runtime import make_fabric, open_stage
from lofi_tal.segments import Segments, detections_to_activitynet
from lofi_tal.snippets import Windows
from lofi_tal.stages.extract import encode_snippets, encode_videos
from lofi_tal.stages.head import fit_on, train_head
from lofi_tal.video import FrameCache, VideoManifest, find_videos

logger = logging.getLogger("lofi_tal")


def load_videos(
    annotations: str | Path, videos: str | Path, subset: str = "training", *, labels: Sequence[str] | None = None
) -> Videos:
    """Return the videos of a subset with their truth.

    Args:
        annotations: ActivityNet-style JSON.
        videos: Folder of the video files, named ``<id>.mp4``, ``v_<id>.mkv``, ...
        subset: Name of the subset.
        labels: Class names in the order of their numbers, of the training videos say; those of the subset without it.

    Raises:
        DataError: If the annotations cannot be used, no video can be read, or ``labels`` has none of their classes.
    """
    manifest, whole = VideoManifest(None), load_annotations(with_home(annotations)).subset(subset)
    index = find_videos(with_home(videos))
    files, failed = find_files(whole, index, manifest)
    unusable = check_subsets(whole, (subset, subset), index, manifest).unusable
    chosen, changes = whole.clean({name: file.clock for name, file in files.items()}, unusable)
    dropped = tuple(change for change in changes if change.dropped)
    for change in dropped:
        logger.warning("%s", change)
    names = tuple(chosen.labels if labels is None else labels)
    if isinstance(labels, str) or (chosen.labels and not set(names) & set(chosen.labels)):
        raise DataError(f"labels={labels!r} has none of the classes of {subset!r}: {', '.join(chosen.labels[:5])}, ...")
    return Videos(truth_videos(chosen, files, failed, names), names, failed, dropped)


def batches(
    videos: Sequence[TruthVideo],
    schedule: Schedule,
    *,
    batch: int = 16,
    epochs: int = 1,
    start: int = 0,
    frames: int = 8,
    stride: float = 8.0,
    seed: int = 0,
    flip: bool = True,
    workers: int = 0,
    cache: str | Path | None = None,
) -> Iterator[Batch[TruthVideo]]:
    """Yield the batches of a fidelity schedule, epoch after epoch; their order is set by seed and step alone.

    Args:
        videos: Training videos.
        schedule: Fidelity of each step, from :func:`lofi_tal.create_schedule`.
        batch: Videos of a batch; the last ones of an epoch have one less at most.
        epochs: Passes over the videos.
        start: First step, to go on where a loop was interrupted.
        frames: T, frames of a snippet.
        stride: Frames of the video from one frame of a snippet to the next.
        seed: Of order, crops and flips.
        flip: Mirror at random.
        workers: Loader processes.
        cache: Folder for decoded frames, which later epochs read instead of the videos.
    """
    _check_positive(batch=batch, epochs=epochs, frames=frames)
    if start < 0 or workers < 0 or not len(videos):
        raise LofiError(f"start={start} and workers={workers} must not be negative, and {len(videos)} videos some.")
    dataset = SnippetDataset(
        videos,
        frames=frames,
        stride=stride,
        cache=FrameCache(None if cache is None else Path(cache), 2**62),
        flip=flip,
        fidelities=schedule.fidelities,
    )
    requests = StepRequests(
        count=len(videos),
        batch=batch,
        epochs=epochs,
        seed=seed,
        schedule=schedule,
        start=start,
    )
    for one in make_batches(dataset, requests, workers, count=batch, fidelities=schedule.fidelities):
        yield replace(one, frames=one.frames.clone()) if workers else one  # loaders use their memory again


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise LofiError(f"{name}={value} must be at least 1.")


def extract(
    encoder: Encoder,
    videos: Sequence[TruthVideo],
    fidelity: Fidelity,
    *,
    frames: int = 8,
    stride: float = 8.0,
    workers: int = 0,
    device: str = "auto",
    precision: str = "auto",
) -> tuple[FeatureSet, dict[str, str]]:
    """Return the features of videos, with the encoder in eval mode; its own mode is as before afterwards.

    Args:
        encoder: Moved to the device.
        videos: The videos.
        fidelity: Usually :func:`lofi_tal.full_fidelity`.
        frames: T, frames of a snippet.
        stride: Frames of the video from one frame of a snippet to the next.
        workers: Loader processes.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    Returns:
        The videos that can be read with features ``(C, L)``, and the reason for each other video by id.

    Raises:
        DataError: If none can be read.
    """
    fabric = make_fabric(device, precision, alone=True)
    training, encoder = encoder.training, encoder.to(fabric.device).eval()
    dataset = SnippetDataset(videos, frames=frames, stride=stride, cache=FrameCache(None, 0))
    found, features, failed = [], [], {}
    for video, result in encode_videos(
        dataset,
        lambda pictures: encode_snippets(encoder, pictures, fabric),
        chosen=range(len(dataset)),
        windows=Windows(fidelity.snippets, None, 0.0),
        fidelity=replace(fidelity, takes=encoder.takes),
        workers=workers,
    ):
        if isinstance(result, str):
            failed[video.video_id] = result
        else:
            found.append(video)
            features.append(result.T.contiguous())
    encoder.train(training)
    if not found:
        raise DataError(f"None of the {len(failed)} videos can be read; the first: {next(iter(failed.values()), '')}")
    return FeatureSet(found, features), failed


def fit_head(
    features: FeatureSet,
    labels: Sequence[str],
    *,
    encoder: Encoder | None = None,
    fidelity: Fidelity,
    frames: int = 8,
    stride: float = 8.0,
    head: str = "gtad",
    options: Mapping[str, Any] | None = None,
    epochs: int = 10,
    batch: int = 16,
    lr: float = 1e-3,
    seed: int = 0,
    device: str = "auto",
) -> Localizer:
    """Train a fresh head and class scores on frozen features (stage 3), and return a localiser.

    Args:
        features: Of the training videos.
        labels: Class names in the order of their numbers.
        encoder: Of :func:`lofi_tal.create_encoder`, which the features come from; it becomes the localiser's, in eval
            mode. None for published features.
        fidelity: Of the features.
        frames: T, frames of a snippet.
        stride: Frames of the video from one frame of a snippet to the next.
        head: One of :func:`lofi_tal.list_heads`.
        options: Arguments of the head.
        epochs: Passes over the features; the learning rate falls to a tenth after half of them.
        batch: Videos a step.
        lr: Learning rate of Adam.
        seed: Of weights and order.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        LofiError: If the head is unknown, the encoder has no name to be saved by, or features, labels, encoder and
            fidelity do not belong together.
    """
    _check_positive(epochs=epochs, batch=batch)
    _check_features(features, labels, encoder, fidelity)
    if encoder is not None and encoder.name is None:
        raise LofiError("The encoder has no name by which a saved model could name it: make it with create_encoder().")
    torch.manual_seed(seed)
    built = create_head(head, features.channels, **with_classes(head, options or {}, len(labels)))
    section = HeadSection(name=head, epochs=epochs, batch=batch, lrs=(lr,))
    fabric, windows = make_fabric(device, "fp32", alone=True), Windows(fidelity.snippets, None, 0.0)
    with tempfile.TemporaryDirectory() as scratch:
        stage = open_stage(Path(scratch) / "head", "head", {})
        train_head(stage, fabric, built, features, windows, lr=lr, section=section, seed=seed, quiet=True)
    return Localizer(
        encoder=encoder,
        encoder_name=(encoder.name or "") if encoder is not None else "",
        head=built.cpu().eval(),
        classifier=fit_on(features, len(labels), ClassifierSection(), seed),
        labels=labels,
        snippets={"count": fidelity.snippets, "frames": frames, "stride": stride, "size": fidelity.size},
        detect=DetectSection(),
        device=device,
    )


def _check_features(features: FeatureSet, labels: Sequence[str], encoder: Encoder | None, fidelity: Fidelity) -> None:
    channels = features.channels if encoder is None else encoder.channels
    wrong = [tuple(one.shape) for one in features.features if one.shape != (channels, fidelity.snippets)]
    if wrong:
        raise LofiError(
            f"features have the shape {wrong[0]}; this encoder and {fidelity} give ({channels}, {fidelity.snippets})."
        )
    largest = max((int(video.labels.max()) for video in features.videos if len(video.labels)), default=-1)
    if isinstance(labels, str) or largest >= len(labels):
        raise LofiError(f"{len(labels)} labels, but the videos have class {largest}: give the labels of load_videos().")


def detect(
    videos: str | Path | Iterable[str | Path],
    model: str | Path,
    *,
    out: str | Path | None = None,
    threshold: float | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> tuple[list[Segments], dict[str, str]]:
    """Detect actions in video files, or in all of a folder; one that cannot be decoded never ends the others.

    Args:
        videos: A file, a folder, or several.
        model: Model or run folder.
        out: Folder for JSON, CSV, subtitles and a page for each video.
        threshold: Lowest score in CSV and subtitles; the model's own without it.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    Returns:
        All segments of each video that can be decoded, and the reason for each other file.
    """
    paths = [videos] if isinstance(videos, str | Path) else videos
    found, failed, _ = detect_files(
        [Path(path) for path in paths],
        Path(model),
        out=None if out is None else Path(out),
        threshold=threshold,
        device=device,
        precision=precision,
        quiet=True,
    )
    return found, failed


def evaluate(
    annotations: str | Path | Mapping[str, Any],
    detections: str | Path | Mapping[str, Any] | Segments | Iterable[Segments],
    subset: str = "validation",
    *,
    tiou: str | Sequence[float] = "activitynet",
) -> DetectionResult:
    """Return the mAP of detections with the semantics of the official ActivityNet evaluator.

    Args:
        annotations: ActivityNet-style JSON, or its content.
        detections: Segments of each video; or a result file, or its content.
        subset: Subset that is evaluated.
        tiou: ``activitynet`` (0.5:0.05:0.95), ``thumos`` (0.3:0.1:0.7), or thresholds.

    Raises:
        LofiError: If the name of the thresholds is unknown.
    """
    if isinstance(tiou, str) and tiou not in THRESHOLDS:
        raise LofiError(f"tiou {tiou!r} is unknown; known: {', '.join(THRESHOLDS)}, or a list of numbers.")
    truth = read_json(Path(annotations)) if isinstance(annotations, str | Path) else dict(annotations)
    if isinstance(detections, str | Path):
        found = read_json(Path(detections))
    elif isinstance(detections, Mapping):
        found = dict(detections)
    else:
        every = [detections] if isinstance(detections, Segments) else list(detections)
        if wrong := [one for one in every if not isinstance(one, Segments)]:
            raise LofiError(
                f"detections must be Segments, one for each video; among them is a {type(wrong[0]).__name__}. "
                "(predict_many and detect return two things: the Segments, and why files failed.)"
            )
        found = detections_to_activitynet(every)
    return evaluate_detections(truth, found, subset, THRESHOLDS[tiou] if isinstance(tiou, str) else tiou)


def plan(recipe: Recipe | str | Path, memory: str, *, devices: int = 1, precision: str = "auto") -> Plan:
    """Say what of stage 2 fits into a memory budget, what it costs, and what to take.

    Args:
        recipe: A recipe, its file, or the name of a shipped one.
        memory: Of each device, such as ``24GiB``.
        devices: Number of devices.
        precision: ``auto``, ``both``, ``fp32`` or ``bf16``.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, needs_data=False)
    return plan_recipe(loaded, parse_memory(str(memory)), devices=devices, precision=precision)
