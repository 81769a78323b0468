"""Stage 3 on the encoder of an arm: its features, its head, its detections and their mAP.

An arm is one encoder with its own stage 3. `lofi` is the encoder of stage 2, `baseline` the one it started from.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lofi_tal.classifier import ProposalClassifier, video_probabilities
from lofi_tal.config import Recipe
from lofi_tal.data import TruthVideo, content_hash, video_contents
from lofi_tal.evaluation import THRESHOLDS, ScoreSheet, make_sheet
from lofi_tal.features import FeatureSet
from lofi_tal.files import hash_file, read_json, write_json
from lofi_tal.heads import HEAD_FILES, Head, takes_classes
from lofi_tal.localizer import Localizer
from lofi_tal.model_folders import OWN_FILES
from lofi_tal.postprocess import ClassScores
from lofi_tal.run.arm_features import ArmFeatures
from lofi_tal.run.context import arm_folder
from lofi_tal.run.data import read_class_scores
from lofi_tal.run.spotting import score_events
from lofi_tal.runtime import Outcome, StageFolder, derive_seed, on_first
from lofi_tal.segments import Segments, detections_to_activitynet
from lofi_tal.stages.extract import usable
from lofi_tal.stages.head import Search, fit_on
from lofi_tal.stages.localise import with_class_scores
from lofi_tal.stages.scoring import evaluate, evaluate_known

ARMS = {
    "lofi": "the encoder of stage 2, trained end to end at low fidelity",
    "baseline": "the encoder that stage 2 started from",
    "features": "published features",
}


@dataclass(frozen=True, eq=False)
class ArmResult:
    """Stage 3 on one encoder.

    Args:
        arm: Name of the arm.
        scores: ``fused``, ``agnostic`` and ``oracle`` evaluation results, JSON-like.
        chosen: What the selection videos decided.
        model: Folder of the localiser.
        failed: Videos that could not be extracted.
        events: Results on point events by set of tolerances, JSON-like, if the recipe's labels are such.
    """

    arm: str
    scores: dict[str, dict[str, Any]]
    chosen: dict[str, Any]
    model: Path
    failed: dict[str, str]
    events: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Classification:
    """Class scores of whole videos.

    Args:
        scores: Of the evaluated videos.
        accuracy: ``top1`` and ``top5``: shares of the videos with segments of which a class is among the best.
        order: Ids of the evaluated subset in the order of the annotation file.
        failed: Reason for each video without features.
    """

    scores: ClassScores
    accuracy: dict[str, float]
    order: list[str]
    failed: dict[str, str]


class ArmRun(ArmFeatures):
    """One arm of a run: its features, and stage 3 on them."""

    @property
    def folder(self) -> Path:
        """Where head, model and evaluation lie."""
        return arm_folder(self.context.output, self.name)

    def head(self) -> ArmResult:
        """Run stage 3: features, head, detections, mAP, localiser."""
        data, external = self.context.data(), read_class_scores(self.context.recipe, self.context.data())
        features, provenance, failed = self.read()
        inputs = self.inputs(provenance)
        evaluation = self.evaluation(inputs)
        model = self.folder / "model"
        if evaluation.record and (model / "localizer.json").exists():
            result = evaluation.record.result
            return self._result(result["scores"], result["chosen"], failed)
        began = time.monotonic()
        search = self._search(inputs, features.channels)
        head, classifier, chosen = search.run(
            features.of(usable(data.train, failed)), features.of(usable(data.selection, failed))
        )
        validation = features.of(usable(data.evaluation, failed))

        def finish() -> dict[str, dict[str, Any]]:
            sheet = None if search.verdicts is None else make_sheet(search.verdicts)
            localizer = self._localizer(head, classifier, chosen, sheet)
            localizer.save_pretrained(model)
            scores = self._evaluate(localizer, validation, external)
            return _record(evaluation, began, scores, chosen, self._written(search))

        return self._result(on_first(finish), chosen, failed)

    def _result(self, scores: dict[str, dict[str, Any]], chosen: dict[str, Any], failed: dict[str, str]) -> ArmResult:
        """Return what the arm has reached, once its detections are written."""
        section, events = self.context.recipe.data, {}
        if section.events is not None:
            events = score_events(section.annotations, section.eval_subset, read_detections(self.folder))
        return ArmResult(self.name, scores, chosen, self.folder / "model", failed, events)

    def evaluation(self, inputs: dict[str, Any]) -> StageFolder:
        """Open the evaluation; ``inputs`` are what every head depends on."""
        return self.context.folder.evaluation(
            self.folder / "evaluation",
            f"evaluation of {self.name}",
            self.context.stage_inputs({**inputs, **self._evaluation_inputs()}),
            self._contents(),
        )

    def inputs(self, provenance: str) -> dict[str, Any]:
        """Return what every head depends on."""
        context, data = self.context, self.context.data()
        inputs: dict[str, Any] = {
            "features": provenance,
            "head": context.recipe.head.model_dump(mode="json", exclude={"lrs", "refit"}),
            "data": content_hash([*data.train, *data.selection]),
            **context.origin_inputs(),
        }
        if balance := _head_balance(context.recipe):
            inputs["balance"] = balance
        if context.windows.seconds is not None:
            inputs["windows"] = {key: value for key, value in vars(context.windows).items() if key != "keep"}
        if context.windows.keep:
            inputs["windows"] = vars(context.windows)
        if context.recipe.head.weights is not None:
            inputs["weights"] = hash_file(context.recipe.head.weights)
        if context.recipe.data.tiou != "activitynet":
            inputs["tiou"] = list(self._tiou)
        return inputs

    def _contents(self) -> dict[str, Any]:
        """Return what hashes among the inputs stand for."""
        data = self.context.data()
        return {
            "data": video_contents([*data.train, *data.selection], data.labels),
            "evaluated": video_contents(data.evaluation, data.labels),
            **({} if self.name == "features" else {"features": {"inputs": self.made_from}}),
        }

    def _evaluation_inputs(self) -> dict[str, Any]:
        """Return what the evaluation depends on besides."""
        recipe = self.context.recipe
        return {
            "search": recipe.head.model_dump(mode="json", include={"lrs", "refit"}),
            "classifier": recipe.classifier.model_dump(mode="json"),
            "class_scores": recipe.classifier.scores and hash_file(recipe.classifier.scores),
            "detect": recipe.detect.model_dump(mode="json"),
            "truth": hash_file(recipe.data.annotations),
            "evaluated": content_hash(self.context.data().evaluation),
            **({} if recipe.balance.weights is None else {"class_weights": recipe.balance.weights}),
        }

    @property
    def _tiou(self) -> Sequence[float]:
        return THRESHOLDS[self.context.recipe.data.tiou]

    @property
    def _seed(self) -> int:
        return derive_seed(self.context.recipe.seed, "head")

    def _search(self, inputs: dict[str, Any], channels: int) -> Search:
        context, recipe = self.context, self.context.recipe
        return Search(
            self.folder / "head",
            context.exact,
            lambda: context.first_head(channels),
            windows=context.windows,
            labels=context.data().labels,
            section=recipe.head,
            classifier=recipe.classifier,
            detect=recipe.detect,
            tiou=self._tiou,
            inputs=inputs,
            seed=self._seed,
            resume=context.folder.goes_on,
            overwrite=context.folder.overwrite,
            tracking=context.folder.tracking,
            balance=recipe.balance,
            quiet=context.quiet,
            make_refit=None if context.origin is None else lambda: context.first_head(channels, final=True),
            events=recipe.data.events,
        )

    def _localizer(
        self, head: Head, classifier: ProposalClassifier, chosen: dict[str, Any], sheet: ScoreSheet | None
    ) -> Localizer:
        context, recipe = self.context, self.context.recipe
        origin = {} if context.origin is None else {"from": context.origin.facts}
        return Localizer(
            encoder=None if self.name == "features" else self.encoder(),
            encoder_name=recipe.encoder.name if recipe.second is None else "joined",
            head=head,
            classifier=classifier,
            labels=context.data().labels,
            snippets={**recipe.snippets.record(), **({"keep": True} if context.windows.keep else {})},
            detect=recipe.detect,
            pooling=chosen["pooling"],
            threshold=chosen["threshold"],
            sheet=sheet,
            decoder=context.cache.decoder,
            facts={"recipe": recipe.name, "arm": self.name, "seed": recipe.seed, **origin, "chosen": chosen},
            events=recipe.data.events,
            device=context.device,
            precision=context.precision,
        )

    def _evaluate(
        self, localizer: Localizer, validation: FeatureSet, external: ClassScores | None
    ) -> dict[str, dict[str, Any]]:
        """Write the detections and return how good they are."""
        data = self.context.data()
        found = localizer.localise_features(validation.features)
        fused = [
            localizer.fuse(video.video_id, video.clock, one, proposals)
            for video, one, proposals in zip(validation.videos, validation.features, found, strict=True)
        ]
        write_json(self.folder / "detections.json", detections_to_activitynet(fused))
        scores = evaluate(data.truth, validation.videos, found, fused, data.labels, self._tiou).to_json()
        if external is not None:
            detect, width = self.context.recipe.detect, self.context.recipe.data.events
            with_file = [
                with_class_scores(video.video_id, video.clock, proposals, external, detect, width)
                for video, proposals in zip(validation.videos, found, strict=True)
            ]
            write_json(self.folder / "detections-external.json", detections_to_activitynet(with_file))
            scores["external"] = evaluate_known(data.truth, with_file, self._tiou).to_json()
        return scores

    def _written(self, search: Search) -> list[Path]:
        """Return all that stage 3 leaves behind: heads, model and detections."""
        heads = [folder / name for folder in search.trainings for name in (*HEAD_FILES, "stage.json")]
        model = [path for name in OWN_FILES if (path := self.folder / "model" / name).exists()]
        detections = sorted(self.folder.glob("detections*.json"))
        return [*heads, *model, *detections]

    def classify(self) -> Classification:
        """Fit the built-in classifier alone, and score every evaluated video as a whole."""
        data, (features, _, failed) = self.context.data(), self.read()
        train = features.of(usable([*data.train, *data.selection], failed))
        recipe = self.context.recipe
        classifier = fit_on(train, len(data.labels), recipe.classifier, self._seed, recipe.balance.weights)
        evaluated = features.of(usable(data.evaluation, failed))
        alphabetical = sorted(range(len(data.labels)), key=data.labels.__getitem__)  # as HACS numbers its classes
        labels = tuple(data.labels[number] for number in alphabetical)
        scores = {
            video.video_id: video_probabilities(classifier, one).double().numpy()[alphabetical]
            for video, one in zip(evaluated.videos, evaluated.features, strict=True)
        }
        order = list(data.truth.videos)
        found = ClassScores(labels, scores)
        return Classification(found, _accuracy(found, evaluated.videos, data.labels), order, failed)


def _record(
    evaluation: StageFolder,
    began: float,
    scores: dict[str, dict[str, Any]],
    chosen: dict[str, Any],
    written: Sequence[Path],
) -> dict[str, dict[str, Any]]:
    """Finish an evaluation, and return its scores."""
    result = {"scores": scores, "chosen": chosen}
    names = [os.path.relpath(path, evaluation.path) for path in written]
    evaluation.finish(Outcome(time.monotonic() - began, chosen["peak_memory_bytes"], result), names)
    return scores


def _head_balance(recipe: Recipe) -> dict[str, Any]:
    """Return what is done for rare classes when the head is trained: weights only if it scores classes itself."""
    without = set() if takes_classes(recipe.head.name) else {"weights"}
    return recipe.balance.model_dump(mode="json", exclude=without)


def _accuracy(scores: ClassScores, videos: Sequence[TruthVideo], labels: Sequence[str]) -> dict[str, float]:
    """Return the shares of the videos with segments of which a class is the best, and among the best five."""
    ranked = [
        [
            labels.index(scores.labels[number]) in video.labels.tolist()
            for number in scores.scores[video.video_id].argsort(kind="stable")[::-1]
        ]
        for video in videos
        if len(video.labels)
    ]
    return {f"top{n}": sum(any(row[:n]) for row in ranked) / max(1, len(ranked)) for n in (1, 5)}


def read_detections(folder: Path, *, external: bool = False) -> dict[str, Segments]:
    """Return the detections of an arm by video id, with its own class scores or with those of another system."""
    results = read_json(folder / ("detections-external.json" if external else "detections.json"))["results"]
    return {video_id: Segments.from_activitynet(video_id, records) for video_id, records in results.items()}
