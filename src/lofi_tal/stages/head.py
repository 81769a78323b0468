"""Stage 3: a fresh head on frozen full-fidelity features, with a learning-rate search (paper sec. 4.3).

Every learning rate is tried on the training videos without the selection part, and judged on the selection part, which
the encoder has not seen either; validation videos take no part in any choice. Adam, ×0.1 after half of the epochs,
unless the recipe asks for another schedule.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from lofi_tal.balance import NO_BALANCE, BalanceSection, video_shares
from lofi_tal.classifier import POOLINGS, ProposalClassifier, fit_classifier
from lofi_tal.config import ClassifierSection, DetectSection
from lofi_tal.data import epoch_batches, steps_per_epoch, training_windows
from lofi_tal.errors import DivergedError, LofiError
from lofi_tal.evaluation import Verdicts, judge
from lofi_tal.features import FeatureSet, stack_features
from lofi_tal.head_settings import HeadSection
from lofi_tal.heads import HEAD_FILES, Head, Proposals, load_head, save_head
from lofi_tal.runtime import (
    Outcome,
    StageFolder,
    StageRecord,
    TrainingRun,
    WeightAverage,
    derive_seed,
    on_first,
    open_stage,
)
from lofi_tal.snippets import Windows
from lofi_tal.stages.beginning import weigh_classes, weights_over
from lofi_tal.stages.end_to_end import video_generator
from lofi_tal.stages.head_rate import head_optimizer, rate_at_step
from lofi_tal.stages.localise import ClassScorer, fuse_all, localise
from lofi_tal.stages.scoring import Scores, best_threshold, evaluate, truth_of

logger = logging.getLogger("lofi_tal")


def train_head(
    folder: StageFolder,
    fabric: Fabric,
    head: Head,
    data: FeatureSet,
    windows: Windows,
    *,
    lr: float,
    section: HeadSection,
    seed: int,
    balance: BalanceSection = NO_BALANCE,
    quiet: bool = False,
) -> Outcome:
    """Train ``head`` in place with one learning rate, on windows of the videos.

    ``balance`` says how often videos are drawn, and what classes weigh in the loss of a head that scores them itself.

    Raises:
        DivergedError: If the loss or a weight is no longer finite.
    """
    data = data.of(training_windows(data.videos, windows))
    weigh_classes(head, data.videos, balance)
    model, optimizer = fabric.setup(head, head_optimizer(head, section, lr, fabric))
    steps = steps_per_epoch(len(data.videos), section.batch)
    average = None if section.ema is None else WeightAverage(head, section.ema, ramp=not section.ema_constant)
    run = TrainingRun(
        folder, fabric, modules={"head": head}, optimizer=optimizer, epochs=section.passes, steps_per_epoch=steps,
        seed=seed, average=average, clip_norm=section.clip_norm, quiet=quiet, **_rates(section, lr, steps),
    )  # fmt: skip
    batch_of = _batch_maker(data.features, fabric.device)
    model.train()
    shares = video_shares([video.labels.tolist() for video in data.videos]) if balance.sampling else None
    for step, indices in run.batches(_batches(run, len(data.videos), section.batch, shares)):
        mine = indices[fabric.global_rank :: fabric.world_size]
        if not mine:
            raise LofiError(
                f"A batch of {len(indices)} videos cannot be spread over {fabric.world_size} processes: use fewer "
                "processes or a larger head.batch."
            )
        features, more = batch_of(mine)
        outputs = model(features, **more)
        draws = [video_generator(seed, step.index, data.videos[i].name) for i in mine]
        segments, labels = zip(*((data.videos[i].segments, data.videos[i].labels) for i in mine), strict=True)
        run.update(head.loss(outputs, segments, labels, draws))
    if run.average is not None:
        run.average.apply()
    model.eval()
    if not all(bool(value.isfinite().all()) for value in head.state_dict().values()):
        raise DivergedError(f"Stage {folder.stage!r} in {folder.path}: its last step made weights NaN or infinite.")
    return run.outcome({"lr": lr})


def _rates(section: HeadSection, lr: float, steps: int) -> dict[str, Any]:
    """Return the learning rates of a training with ``steps`` a pass, as arguments of a run."""
    rates: dict[str, Any] = {"lr_at": lambda epoch: lr * (1.0 if epoch < (section.epochs + 1) // 2 else 0.1)}
    if section.warmup is not None:
        rates["lr_at_step"] = rate_at_step(lr, section.warmup * steps, section.passes * steps)
    return rates


def _batch_maker(
    features: Sequence[Tensor], device: torch.device
) -> Callable[[list[int]], tuple[Tensor, dict[str, Tensor]]]:
    """Return what makes a batch of some items, with what else the head needs; items as long are moved once for all."""
    if len({one.shape[1] for one in features}) == 1:
        every = torch.stack(list(features)).to(device)
        return lambda chosen: (every[chosen], {})

    def make(chosen: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
        batch, more = stack_features([features[index] for index in chosen])
        return batch.to(device), {name: value.to(device) for name, value in more.items()}

    return make


def _batches(run: TrainingRun, count: int, batch: int, shares: NDArray[np.float64] | None) -> Iterator[list[int]]:
    """Yield the indices of every batch from the step at which the run begins."""
    steps = steps_per_epoch(count, batch)
    for epoch in range(run.start // steps, run.epochs):
        yield from epoch_batches(count, batch, run.seed, epoch, shares)[max(0, run.start - epoch * steps) :]


def fit_on(
    data: FeatureSet,
    classes: int,
    section: ClassifierSection,
    seed: int,
    weights: str | None = None,
    *,
    multi_label: bool = False,
) -> ProposalClassifier:
    """Fit the class scores to the true segments of some videos.

    ``weights`` as in the recipe's `balance.weights`, ``multi_label`` as in its `detect.multi_label`.
    """
    return fit_classifier(
        data.features,
        [video.segments for video in data.videos],
        [video.labels for video in data.videos],
        classes,
        epochs=section.epochs,
        lr=section.lr,
        hidden=section.hidden,
        dropout=section.dropout,
        seed=seed,
        class_weights=weights_over(data.videos, classes, weights),
        multi_label=multi_label,
    )


@dataclass
class Search:
    """Choose learning rate, class pooling and display threshold on the selection videos; train the final head.

    Args:
        folder: Holds one stage folder for each training.
        fabric: Device, precision and processes.
        make_head: Builds the head from which trainings start.
        windows: How videos are cut.
        labels: Class names.
        section: Of the head's training.
        classifier: Of the class scores.
        detect: Post-processing.
        tiou: Thresholds of the mAP that decides.
        inputs: What the features depend on, for the records.
        seed: Of weights and orders.
        resume: Go on with interrupted trainings.
        overwrite: Replace outdated ones.
        tracking: Loggers of the metrics with their options.
        balance: What is done for rare classes.
        quiet: No progress.
        make_refit: Builds the head from which the refit starts, if it is another one.
        events: Width of the segments that stand for point events, in seconds; None if they are no events.
    """

    folder: Path
    fabric: Fabric
    make_head: Callable[[], Head]
    windows: Windows
    labels: Sequence[str]
    section: HeadSection
    classifier: ClassifierSection
    detect: DetectSection
    tiou: Sequence[float]
    inputs: dict[str, Any]
    seed: int
    resume: bool
    overwrite: bool
    tracking: Mapping[str, Mapping[str, Any]]
    balance: BalanceSection = field(default_factory=BalanceSection)
    quiet: bool = False
    make_refit: Callable[[], Head] | None = None
    events: float | None = None
    records: list[StageRecord] = field(default_factory=list)
    trainings: list[Path] = field(default_factory=list)
    """Folders of the trainings that were needed."""
    verdicts: Verdicts | None = None
    """On the detections of the selection videos, by the head that has not seen them; there once it has run."""

    def run(self, train: FeatureSet, selection: FeatureSet) -> tuple[Head, ProposalClassifier, dict[str, Any]]:
        """Search, and train the final head.

        Args:
            train: Training videos without the selection part.
            selection: The selection part; without it the first learning rate is taken unseen.

        Returns:
            The head (eval mode, CPU), the classifier, and what was chosen and why.
        """
        judge = any(len(video.labels) for video in selection.videos)
        chosen: dict[str, Any]
        if self.section.weights is None:
            lr, head, candidates = self._best_rate(train, selection, judge)
            chosen = {"lr": lr, "candidates": candidates, "pooling": "proposal", "threshold": 0.0}
        else:
            lr, head = None, self.make_head().eval()
            head.load_official(self.section.weights)
            chosen = {"weights": str(self.section.weights), "pooling": "proposal", "threshold": 0.0}
        classifier = self._fitted(train)
        if judge:
            chosen |= self._best_pooling(head, classifier, selection)
        if self.section.refit and len(selection.videos):
            everything = FeatureSet([*train.videos, *selection.videos], [*train.features, *selection.features])
            head = head if lr is None else self._trained("refit", everything, lr)
            classifier = self._fitted(everything)
        return head, classifier, {**chosen, **_cost(self.records)}

    def _fitted(self, data: FeatureSet) -> ProposalClassifier:
        """Return class scores that were fitted to some videos."""
        weights, several = self.balance.weights, self.detect.multi_label
        return fit_on(data, len(self.labels), self.classifier, self.seed, weights, multi_label=several)

    def _best_rate(
        self, train: FeatureSet, selection: FeatureSet, judge: bool
    ) -> tuple[float, Head, list[dict[str, Any]]]:
        """Return the learning rate that wins, its head, and what each of them got; those that diverge are dropped."""
        candidates: list[dict[str, Any]] = []
        best: tuple[float, float, Head] | None = None
        told = ""
        for lr in self.section.lrs:
            if best is not None and not judge:
                break  # nothing tells which is better
            try:
                head = self._trained(f"lr-{lr:g}", train, lr)
            except DivergedError as error:
                told = str(error)
                logger.warning("head.lrs: %g is dropped, for the training diverged: %s", lr, told)
                candidates.append({"lr": lr, "diverged": told})
                continue
            score = self._scores(head, selection).oracle.average_mAP if judge else 0.0
            candidates.append({"lr": lr, "selection_mAP": score})
            if best is None or score > best[0]:
                best = (score, lr, head)
        if best is None:
            raise DivergedError(
                f"Every learning rate of head.lrs diverged ({', '.join(f'{lr:g}' for lr in self.section.lrs)}): give "
                f"smaller ones, and look for NaN or huge numbers in the features. The last one: {told}"
            )
        return best[1], best[2], candidates

    def _best_pooling(self, head: Head, classifier: ProposalClassifier, selection: FeatureSet) -> dict[str, Any]:
        """Return how class scores are pooled best, from which score on a detection is worth showing, and why."""
        truth = truth_of(selection.videos, self.labels, "selection")
        results = {}
        for pooling, proposals in self._by_pooling(head, classifier, selection).items():
            how = (classifier, self.labels, self.detect, pooling, self.events)
            fused = fuse_all(selection, proposals, *how)
            scores = evaluate(truth, selection.videos, proposals, fused, self.labels, self.tiou)
            results[pooling] = (scores, fused)
        pooling = max(results, key=lambda name: results[name][0].fused.average_mAP)
        fused = results[pooling][1]
        self.verdicts = judge(fused, truth, self.labels, several=self.detect.multi_label)
        return {
            "pooling": pooling,
            "threshold": best_threshold(fused, selection.videos, self.labels),
            "selection_mAP": {name: result[0].summary() for name, result in results.items()},
        }

    def _by_pooling(
        self, head: Head, classifier: ProposalClassifier, selection: FeatureSet
    ) -> dict[str, list[Proposals]]:
        """Return the proposals for each pooling of class scores: the same unless classes may overlap."""
        if not self.detect.multi_label:
            return dict.fromkeys(POOLINGS, localise(head, selection.features, self.windows, self.detect))
        scorers = {pooling: ClassScorer(classifier, pooling) for pooling in POOLINGS}
        return {
            pooling: localise(head, selection.features, self.windows, self.detect, scorer=scorer)
            for pooling, scorer in scorers.items()
        }

    def _scores(self, head: Head, selection: FeatureSet) -> Scores:
        proposals = localise(head, selection.features, self.windows, self.detect)
        truth = truth_of(selection.videos, self.labels, "selection")
        return evaluate(truth, selection.videos, proposals, [], self.labels, self.tiou)

    def _trained(self, name: str, data: FeatureSet, lr: float) -> Head:
        """Return a head that was trained with a learning rate, now or before."""
        facts = {**self.inputs, "lr": lr, "videos": [video.video_id for video in data.videos]}
        stage = on_first(
            lambda: open_stage(
                self.folder / name,
                f"head {name}",
                facts,
                resume=self.resume,
                overwrite=self.overwrite,
                tracking=self.tracking,
            )
        )
        self.trainings.append(stage.path)
        if stage.record:
            self.records.append(stage.record)
            if told := stage.record.result.get("diverged"):
                raise DivergedError(told)
            return load_head(stage.path, trusted=self.section.name)
        torch.manual_seed(derive_seed(self.seed, "head"))  # the same initial weights for every learning rate
        head = self.make_refit() if name == "refit" and self.make_refit else self.make_head()
        try:
            outcome = train_head(
                stage,
                self.fabric,
                head,
                data,
                self.windows,
                lr=lr,
                section=self.section,
                seed=self.seed,
                balance=self.balance,
                quiet=self.quiet,
            )
        except DivergedError as error:
            if name != "refit":  # of the search: it goes on, and need not try this one again
                told = str(error)
                on_first(lambda: stage.finish(Outcome(0.0, 0, {"lr": lr, "diverged": told})))
            raise

        def finish() -> StageRecord:
            save_head(head, stage.path)
            return stage.finish(outcome, HEAD_FILES)

        self.records.append(on_first(finish))
        return head.cpu().eval()


def _cost(records: Sequence[StageRecord]) -> dict[str, Any]:
    """Return what trainings took in all."""
    return {
        "seconds": sum((record.seconds for record in records), 0.0),
        "peak_memory_bytes": max((record.peak_memory_bytes for record in records), default=0),
    }
