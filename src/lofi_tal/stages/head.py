"""Stage 3: a fresh head on frozen full-fidelity features, with a learning-rate search (paper sec. 4.3).

Every learning rate is tried on the training videos without the selection part, and judged on the selection part, which
the encoder has not seen either; validation videos take no part in any choice. Adam, ×0.1 after half of the epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from lofi_tal.classifier import POOLINGS, ProposalClassifier, fit_classifier
from lofi_tal.errors import LofiError
from lofi_tal.heads import Head, load_head, save_head
from lofi_tal.runtime import (
    Outcome,
    StageFolder,
    StageRecord,
    TrainingRun,
    derive_seed,
    make_optimizer,
    on_first,
    open_stage,
)
from lofi_tal.snippets import Windows
from lofi_tal.stages.data import TruthVideo, epoch_batches, steps_per_epoch, training_windows
from lofi_tal.stages.detect import (
    DetectOptions,
    best_threshold,
    evaluate,
    fuse,
    localise,
    truth_document,
    window_features,
)
from lofi_tal.stages.lofi import video_generator


@dataclass(frozen=True)
class HeadOptions:
    """Options of stage 3; the recipe's section `head` documents each."""

    epochs: int
    batch: int
    lrs: tuple[float, ...]
    weight_decay: float
    refit: bool
    seed: int


@dataclass(frozen=True)
class ClassifierOptions:
    """Options of the class scores; the recipe's section `classifier` documents each."""

    epochs: int
    lr: float
    hidden: int
    dropout: float
    seed: int


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Videos or windows of them, and their features ``(C, N)`` on the CPU."""

    videos: Sequence[TruthVideo]
    features: Sequence[Tensor]

    @property
    def channels(self) -> int:
        """C."""
        return self.features[0].shape[0]

    def of(self, videos: Sequence[TruthVideo]) -> FeatureSet:
        """Return the part of the set that holds ``videos``, or windows of its videos."""
        place = {video.video_id: i for i, video in enumerate(self.videos)}
        return FeatureSet(
            videos, [window_features(self.features[place[video.video_id]], video.window) for video in videos]
        )


def train_head(
    folder: StageFolder,
    fabric: Fabric,
    head: Head,
    data: FeatureSet,
    windows: Windows,
    *,
    lr: float,
    options: HeadOptions,
    quiet: bool = False,
) -> Outcome:
    """Train ``head`` in place with one learning rate, on windows of the videos."""
    data = data.of(training_windows(data.videos, windows))
    optimizer = make_optimizer("adam", head.parameters(), fabric, lr=lr, weight_decay=options.weight_decay)
    model, optimizer = fabric.setup(head, optimizer)
    steps = steps_per_epoch(len(data.videos), options.batch)
    run = TrainingRun(
        folder,
        fabric,
        modules={"head": head},
        optimizer=optimizer,
        lr_at=lambda epoch: lr * (1.0 if epoch < (options.epochs + 1) // 2 else 0.1),
        epochs=options.epochs,
        steps_per_epoch=steps,
        seed=options.seed,
        quiet=quiet,
    )

    def batches() -> Iterator[list[int]]:
        for epoch in range(run.start // steps, options.epochs):
            order = epoch_batches(len(data.videos), options.batch, options.seed, epoch)
            yield from order[max(0, run.start - epoch * steps) :]

    features = torch.stack(list(data.features)).to(fabric.device)
    model.train()
    for step, indices in run.batches(batches()):
        mine = indices[fabric.global_rank :: fabric.world_size]
        if not mine:
            raise LofiError(
                f"A batch of {len(indices)} videos cannot be spread over {fabric.world_size} processes: use fewer "
                "processes or a larger head.batch."
            )
        outputs = model(features[mine])
        draws = [video_generator(options.seed, step.index, data.videos[i].name) for i in mine]
        segments, labels = zip(*((data.videos[i].segments, data.videos[i].labels) for i in mine), strict=True)
        run.update(head.loss(outputs, segments, labels, draws))
    model.eval()
    return run.outcome({"lr": lr})


def fit_on(data: FeatureSet, classes: int, options: ClassifierOptions) -> ProposalClassifier:
    """Fit the class scores to the true segments of some videos."""
    return fit_classifier(
        data.features,
        [video.segments for video in data.videos],
        [video.labels for video in data.videos],
        classes,
        **vars(options),
    )


def search_head(
    folder: Path,
    fabric: Fabric,
    make_head: Callable[[], Head],
    *,
    train: FeatureSet,
    selection: FeatureSet,
    windows: Windows,
    labels: Sequence[str],
    options: HeadOptions,
    class_options: ClassifierOptions,
    detect: DetectOptions,
    tiou: Sequence[float],
    inputs: dict[str, Any],
    resume: bool,
    overwrite: bool,
    quiet: bool = False,
) -> tuple[Head, ProposalClassifier, dict[str, Any]]:
    """Choose learning rate, class pooling and display threshold on the selection videos; train the final head.

    Args:
        folder: Holds one stage folder for each training.
        fabric: Device, precision and processes.
        make_head: Builds a head with random weights.
        train: Training videos without the selection part.
        selection: The selection part; without it the first learning rate is taken unseen.
        windows: How videos are cut.
        labels: Class names.
        options: Of the head's training.
        class_options: Of the class scores.
        detect: Post-processing.
        tiou: Thresholds of the mAP that decides.
        inputs: What the features depend on, for the records.
        resume: Go on with interrupted trainings.
        overwrite: Replace outdated ones.
        quiet: No progress.

    Returns:
        The head (eval mode, CPU), the classifier, and what was chosen and why.
    """

    def trained(name: str, data: FeatureSet, lr: float) -> tuple[Head, StageRecord]:
        facts = {**inputs, "lr": lr, "videos": [video.video_id for video in data.videos]}
        stage = on_first(lambda: open_stage(folder / name, f"head {name}", facts, resume=resume, overwrite=overwrite))
        if stage.record:
            return load_head(stage.path, trusted=make_head().name), stage.record
        torch.manual_seed(derive_seed(options.seed, "head"))  # the same initial weights for every learning rate
        head = make_head()
        outcome = train_head(stage, fabric, head, data, windows, lr=lr, options=options, quiet=quiet)

        def finish() -> StageRecord:
            save_head(head, stage.path)
            return stage.finish(outcome)

        record = on_first(finish)
        return head.cpu().eval(), record

    seconds, peak = 0.0, 0
    candidates: list[dict[str, Any]] = []
    best: tuple[float, float, Head] | None = None
    judge = bool(len(selection.videos)) and any(len(video.labels) for video in selection.videos)
    truth = truth_document(selection.videos, labels, "selection") if judge else {}
    for lr in options.lrs if judge else options.lrs[:1]:
        head, record = trained(f"lr-{lr:g}", train, lr)
        seconds, peak = seconds + record.seconds, max(peak, record.peak_memory_bytes)
        score = 0.0
        if judge:
            proposals = localise(head, selection.features, windows, detect)
            scores = evaluate(truth, "selection", selection.videos, proposals, [], labels, tiou)
            score = scores.oracle.average_mAP
        candidates.append({"lr": lr, "selection_mAP": score})
        if best is None or score > best[0]:
            best = (score, lr, head)
    assert best is not None
    _, lr, head = best

    classifier = fit_on(train, len(labels), class_options)
    chosen: dict[str, Any] = {"lr": lr, "candidates": candidates, "pooling": "proposal", "threshold": 0.0}
    if judge:
        proposals = localise(head, selection.features, windows, detect)
        results = {}
        for pooling in POOLINGS:
            ways = replace(detect, pooling=pooling)
            fused = [
                fuse(video.video_id, video.duration, features, found, classifier, labels, ways)
                for video, features, found in zip(selection.videos, selection.features, proposals, strict=True)
            ]
            scores = evaluate(truth, "selection", selection.videos, proposals, fused, labels, tiou)
            results[pooling] = (scores, best_threshold(fused, selection.videos, labels))
        pooling = max(results, key=lambda name: results[name][0].fused.average_mAP)
        chosen |= {
            "pooling": pooling,
            "threshold": results[pooling][1],
            "selection_mAP": {name: result[0].summary() for name, result in results.items()},
        }
    if options.refit and len(selection.videos):
        everything = FeatureSet([*train.videos, *selection.videos], [*train.features, *selection.features])
        head, record = trained("refit", everything, lr)
        seconds, peak = seconds + record.seconds, max(peak, record.peak_memory_bytes)
        classifier = fit_on(everything, len(labels), class_options)
    return head, classifier, {**chosen, "seconds": seconds, "peak_memory_bytes": peak}
