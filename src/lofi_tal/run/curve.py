"""Would more labels help? Stage 3 on shares of the training videos of a run, in several draws.

The encoder is the run's, which has seen all of them: the curve is that of head and class scores alone. That of all
stages is :mod:`lofi_tal.run.whole_curve`.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from lofi_tal.data import TruthVideo, training_windows
from lofi_tal.errors import LofiError
from lofi_tal.evaluation.learning_curve import EVENTS, CurvePoint
from lofi_tal.features import FeatureSet
from lofi_tal.files import write_json
from lofi_tal.run.arms import ArmResult, ArmRun
from lofi_tal.run.run import Run
from lofi_tal.run.spotting import score_events
from lofi_tal.runtime import Outcome, StageFolder, derive_seed, on_first, open_stage
from lofi_tal.segments import Segments
from lofi_tal.stages.extract import usable
from lofi_tal.stages.head import fit_on, train_head
from lofi_tal.stages.localise import ClassScorer, fuse_all, localise
from lofi_tal.stages.scoring import Scores, evaluate

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of the training videos, unless others are asked for."""
DRAWS = 3


class CurveRun(ArmRun):
    """One arm of a run, trained on fewer videos."""

    where = "curve"
    """Where the results lie in the arm's folder."""

    def points(self, shares: Sequence[float] = SHARES, draws: int = DRAWS) -> list[CurvePoint]:
        """Train and evaluate stage 3 on every share of the training videos, in every draw.

        The learning rate and the pooling of class scores are those that the run chose with all videos. Within a draw,
        the smaller shares are part of the larger ones, and every class is in them as early as it can be. What was
        trained before, with the same inputs, is not trained again.

        Args:
            shares: Of the training videos, above 0 and at most 1.
            draws: Random orders of the videos; each has weights of its own.

        Raises:
            LofiError: If a share or the number of draws is out of range, shares are too close for the number of videos,
                or the recipe's head is not trained (``head.weights``).
        """
        if not shares or not all(0 < share <= 1 for share in shares) or draws < 1:
            given = ", ".join(map(str, shares))
            raise LofiError(f"shares {given}, draws {draws}: shares lie above 0 and at most at 1, draws at 1 or more.")
        if self.context.recipe.head.weights is not None:
            raise LofiError("head.weights is set: that head is not trained, and there is no curve.")
        known = self.head()
        data = self.context.data()
        train = usable([*data.train, *data.selection], known.failed)
        counts = sorted({max(1, round(share * len(train))) for share in shares})
        found = []
        for draw in range(draws):
            order = stratified(train, derive_seed(self._seed, f"curve {draw}"))
            found += [self.drawn(known, order[:count], draw) for count in counts]
        document = {"arm": self.name, "chosen": known.chosen, "points": [vars(point) for point in found]}
        on_first(lambda: write_json(self.folder / f"{self.where}.json", document))
        return found

    @cached_property
    def _read(self) -> tuple[FeatureSet, str, dict[str, str]]:
        """The features of the run."""
        return self.read()

    def drawn(self, known: ArmResult, videos: Sequence[TruthVideo], draw: int) -> CurvePoint:
        """Return the figures of stage 3 on some training videos."""
        features, provenance, failed = self._read
        evaluated = features.of(usable(self.context.data().evaluation, failed))
        inputs = {**self.inputs(provenance), **self._evaluation_inputs()}
        return self._point(known, inputs, features.of(usable(videos, failed)), evaluated, draw)

    def _point(
        self, known: ArmResult, inputs: dict[str, Any], part: FeatureSet, evaluated: FeatureSet, draw: int
    ) -> CurvePoint:
        """Return the figures of one training, made now or before."""
        ids = [video.video_id for video in part.videos]
        chosen = {"lr": known.chosen["lr"], "pooling": known.chosen["pooling"]}
        facts = {**inputs, **chosen, "videos": ids, "draw": draw}
        facts |= {} if self.context.recipe.data.events is None else {"figure": EVENTS}
        name = f"{len(ids)}-{draw}"

        def begin() -> StageFolder:
            # derived from what is there: what is out of date or interrupted is made anew
            return open_stage(self.folder / "curve" / name, f"curve {name}", facts, resume=True, overwrite=True)

        stage = on_first(begin)
        done = stage.record
        result = self._trained(stage, known, part, evaluated, draw) if done is None else done.result
        instances = sum(len(video.labels) for video in part.videos)
        return CurvePoint(len(ids), instances, draw, result["scores"], result["classes"])

    def _trained(
        self, stage: StageFolder, known: ArmResult, part: FeatureSet, evaluated: FeatureSet, draw: int
    ) -> dict[str, Any]:
        context, recipe, labels = self.context, self.context.recipe, self.context.data().labels
        if not training_windows(part.videos, context.windows):
            raise LofiError(f"{len(part.videos)} videos give no training window: choose larger --shares.")
        seed = derive_seed(self._seed, f"curve {draw}")
        torch.manual_seed(seed)
        head, chosen = context.new_head(part.channels), known.chosen
        outcome = train_head(
            stage, context.exact, head, part, context.windows, lr=chosen["lr"], section=recipe.head, seed=seed,
            balance=recipe.balance, quiet=context.quiet,
        )  # fmt: skip
        head = head.cpu().eval()
        several, weights = recipe.detect.multi_label, recipe.balance.weights
        classifier = fit_on(part, len(labels), recipe.classifier, seed, weights, multi_label=several)
        scorer = ClassScorer(classifier, chosen["pooling"])
        found = localise(head, evaluated.features, context.windows, recipe.detect, scorer=scorer)
        how = (classifier, labels, recipe.detect, chosen["pooling"], recipe.data.events)
        fused = fuse_all(evaluated, found, *how)
        scores = evaluate(context.data().truth, evaluated.videos, found, fused, labels, self._tiou)
        result = self._figures(scores, fused)
        on_first(lambda: stage.finish(Outcome(outcome.seconds, outcome.peak_memory_bytes, result)))
        return result

    def _figures(self, scores: Scores, fused: Sequence[Segments]) -> dict[str, Any]:
        """Return average mAPs and those of the classes: of point events, if the labels are such, over tolerances."""
        summary, section = scores.summary(), self.context.recipe.data
        detections = {one.video_id: one for one in fused}
        if section.events is not None and (
            events := score_events(section.annotations, section.eval_subset, detections)
        ):
            return {
                "scores": {**summary, EVENTS: events["tight"]["average_mAP"]},
                "classes": events["tight"]["averages"],
            }
        return {"scores": summary, "classes": {label: one.average for label, one in scores.fused.per_class.items()}}


def learning_curve(run: Run, arm: str, shares: Sequence[float] = SHARES, draws: int = DRAWS) -> list[CurvePoint]:
    """Return the learning curve of an arm of a run; see :meth:`CurveRun.points`."""
    return CurveRun(arm, run, run.training).points(shares, draws)


def stratified(videos: Sequence[TruthVideo], seed: int) -> list[TruthVideo]:
    """Return videos in a random order in which every beginning has each class in about its share.

    Videos stand by how much of their classes has come before them: the first video of each class, then all others.
    """
    order = list(videos)
    random.Random(seed).shuffle(order)
    of_class: dict[int, int] = Counter(label for video in order for label in classes_of(video))
    seen: dict[int, int] = defaultdict(int)
    place: dict[int, float] = {}
    for number, video in enumerate(order):
        place[number] = min(seen[label] / of_class[label] for label in classes_of(video))
        for label in classes_of(video):
            seen[label] += 1
    return [order[number] for number in sorted(place, key=lambda number: (place[number], number))]


def classes_of(video: TruthVideo) -> set[int]:
    """Return the classes of a video; -1 stands for a video without any."""
    return set(video.labels.tolist()) or {-1}
