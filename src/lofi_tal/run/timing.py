"""A few real steps of every stage, on the run's own data and device, that say how long a unit of work takes.

The stages themselves run, with a few of the items, in a scratch folder; what they note of their steps is read. Where a
whole batch takes too long, a smaller one is timed and scaled. Stage 3 gets random features: its time does not depend on
what they are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lofi_tal.classifier import POOLINGS
from lofi_tal.config import FinetuneSection, PretrainSection
from lofi_tal.data import Request, TruthVideo, training_windows
from lofi_tal.errors import DataError
from lofi_tal.features import FeatureSet
from lofi_tal.fidelity import Fidelity
from lofi_tal.planning.work import Amounts, step_seconds
from lofi_tal.run.context import Context
from lofi_tal.run.data import Clips, settled_features
from lofi_tal.run.folder import RunFolder
from lofi_tal.run.training import adapted, clip_dataset, segment_clips
from lofi_tal.runtime import StageFolder, open_stage, precision_of, read_metrics
from lofi_tal.stages.extract import encode_snippets, snippets_at_once
from lofi_tal.stages.head import fit_on, train_head
from lofi_tal.stages.localise import ClassScorer, fuse_all, localise
from lofi_tal.stages.lofi import train_lofi
from lofi_tal.stages.pretrain import ClipClassifier, evaluate_clips, pretrain
from lofi_tal.stages.scoring import best_threshold, evaluate, truth_of
from lofi_tal.tasks import create_task

ROUNDS = 3  # steps of each kind; the first of them warms up, and decodes
LIMIT = 4.0  # seconds that a kind of step may take, as far as a smaller batch can help
_FEW = 4  # videos


@dataclass(frozen=True)
class _Step:
    """Seconds of a step, and of the reading of its data in one process."""

    compute: float
    data: float


class Trial:
    """Measures what a run does.

    Args:
        context: The run; nothing is written into its folder but what is known of the files.
        scratch: An empty folder.
        limit: Seconds that a kind of step may take, as far as a smaller batch can help.

    Attributes:
        seconds: Of a unit of work, by the keys of :mod:`lofi_tal.planning.work`.
        peak: Bytes that a stage held, where its batch was whole.
    """

    def __init__(self, context: Context, scratch: Path, limit: float = LIMIT) -> None:
        data = context.recipe.data.model_copy(update={"manifest": context.manifest.path})
        recipe = context.recipe.model_copy(update={"data": data})
        options: dict[str, Any] = {"shared": None, "patience": None, "resume": False, "tracking": {}}
        folder = RunFolder(scratch, overwrite=True, **options)
        compiling = "off" if context.compile == "auto" else context.compile
        device, precision = context.device, precision_of(context.fabric)
        self.context = Context(
            recipe, folder, device=device, precision=precision, compile=compiling, quiet=True, known=context
        )
        self.limit = limit
        self.seconds: dict[str, float] = {}
        self.peak: dict[str, int] = {}

    def run(self) -> Trial:
        """Measure everything that the recipe does."""
        recipe = self.context.recipe
        if recipe.features is None:
            for name in ("pretrain", "second", "finetune"):
                section = getattr(recipe, name)
                if section is not None:
                    self._clips(name, section)
            if recipe.lofi is not None:
                self._stage2()
            channels = self._extraction()
        else:
            channels = _published_channels(self.context)
        self._stage3(channels)
        return self

    def _stage(self, name: str) -> StageFolder:
        """Return an empty folder for a stage."""
        return open_stage(self.context.output / name, name, {}, overwrite=True)

    def _clips(self, name: str, section: PretrainSection | FinetuneSection) -> None:
        """Time stage 1 or ACP+."""
        context, recipe = self.context, self.context.recipe
        clips = clips_of(context, section)
        task = create_task(section.task if isinstance(section, PretrainSection) else "acp")
        everything = [*clips.train, *clips.validate]
        make = clip_dataset(context, section, task.sampling or section.sampling, everything, clips.labels)
        untrained = isinstance(section, PretrainSection) and not recipe.encoder.starts_from_weights
        shared: dict[str, Any] = {"labels": clips.labels, "size": recipe.snippets.size, "seed": 0, "workers": 0}

        def steps(batch: int) -> list[_Step]:
            began, stage = time.perf_counter(), self._stage(name)
            short = section.model_copy(update={"epochs": ROUNDS, "batch": batch})
            encoder = context.ready(adapted(context, context.new_encoder, untrained=untrained))
            outcome = pretrain(
                stage, context.fabric, encoder, task=task, train=make(_turned(clips.train, batch)), validate=None,
                section=short, quiet=True, **shared,
            )  # fmt: skip
            self._note_peak(name, outcome.peak_memory_bytes, batch >= min(section.batch, len(clips.train)))
            return self._steps(name, stage, began)

        found, scale = _scaled(min(section.batch, len(clips.train)), steps, kinds=1, limit=self.limit)
        step = _mean(found[1:], scale)
        self.seconds[name] = self._together(step)
        cold = _Step(step.compute, max(step.data, found[0].data * scale))
        self.seconds[f"{name} first"] = self._together(cold) - self._together(step)
        if clips.validate:
            some = make(_turned(clips.validate, min(section.batch, len(clips.validate), _FEW * 4)))
            classes = len(task.labels or clips.labels)
            model = ClipClassifier(context.ready(context.new_encoder()), classes, 0.0).to(context.fabric.device)
            fidelity = Fidelity("clip", 1, recipe.snippets.size)
            took = _seconds(
                lambda: evaluate_clips(model, some, task, context.fabric, fidelity, len(some), 0, quiet=True)
            )
            self.seconds[f"{name} check"] = took / len(some) * min(section.batch, len(clips.validate))

    def _stage2(self) -> None:
        """Time stage 2 at each of its fidelities."""
        context, section = self.context, self.context.recipe.lofi
        assert section is not None
        every, fidelities = context.stage2_videos().videos, context.schedule.fidelities
        whole = min(section.batch, len(every))

        def steps(batch: int) -> list[_Step]:
            began = time.perf_counter()
            videos = context.snippets(
                _turned(every, batch), flip=context.recipe.data.flip, fidelities=context.schedule.fidelities
            )
            parts = max(1, round(section.accumulate * batch / section.batch))
            change = {"batch": batch, "accumulate": parts, "reestimate": 0, "c_l": 1, "c_s": 1}
            short = section.model_copy(update={**change, "epochs": ROUNDS * len(fidelities)})
            encoder = context.ready(adapted(context, context.new_encoder))
            stage, head = self._stage("lofi"), context.new_head(encoder.channels)
            outcome = train_lofi(
                stage, context.fabric, encoder, head, videos=videos, classes=len(context.data().labels),
                full=context.full, section=short, seed=0, workers=0, quiet=True,
            )  # fmt: skip
            self._note_peak("lofi", outcome.peak_memory_bytes, batch >= whole)
            return self._steps("lofi", stage, began)

        kinds = len(fidelities)
        found, scale = _scaled(whole, steps, kinds=kinds, limit=self.limit)
        for number, fidelity in enumerate(fidelities):
            step = _mean(found[kinds + number :: kinds], scale)
            self.seconds[f"lofi {fidelity}"] = self._together(step)
            if number == 0:
                cold = _Step(step.compute, max(step.data, found[0].data * scale))
                self.seconds["lofi first"] = self._together(cold) - self._together(step)

    def _extraction(self) -> int:
        """Time extraction, video by video; return the channels of the features."""
        context, recipe = self.context, self.context.recipe
        videos = context.data().videos
        counts = [context.windows.snippets(video.file.duration) for video in videos]
        few = videos[:: -(-len(videos) // _FEW)][:_FEW]
        data = context.snippets(few)
        pieces = [context.windows.pieces(context.windows.snippets(video.file.duration))[0].count for video in few]
        requests = [Request(i, Fidelity("full", count, context.full.size), None) for i, count in enumerate(pieces)]
        first = _seconds(lambda: [data[request] for request in requests]) / sum(pieces)
        again = _seconds(lambda: [data[request] for request in requests]) / sum(pieces)
        encoder = context.new_encoder().to(context.fabric.device).eval()
        context.ready(encoder)
        size, most = context.full.size, min(snippets_at_once(recipe.snippets.frames), max(pieces))

        def encode(count: int) -> float:
            frames = torch.zeros((count, recipe.snippets.frames, size, size, 3), dtype=torch.uint8)
            return _seconds(lambda: encode_snippets(encoder, frames, context.fabric))

        each = encode(1)  # warms up
        count = max(1, min(most, int(self.limit / 2 / max(each, 1e-6))))
        encode(count)
        each = encode(count) / count * (1 if recipe.second is None else 2)
        mean = sum(counts) / len(counts)
        self.seconds["extract"] = self._together(_Step(each * mean, first * mean))
        self.seconds["extract again"] = self._together(_Step(each * mean, again * mean))
        self.seconds["statistics"] = self._together(_Step(each * context.full.snippets, first * context.full.snippets))
        return encoder.channels * (1 if recipe.second is None else 2)

    def _stage3(self, channels: int) -> None:
        """Time stage 3 on random features."""
        context, recipe = self.context, self.context.recipe
        data, windows, section = context.data(), context.windows, context.recipe.head

        def features(videos: Sequence[TruthVideo]) -> FeatureSet:
            counts = [video.file.snippets(windows) for video in videos]
            return FeatureSet(videos, [torch.randn(channels, count) for count in counts])

        train = [*data.train, *data.selection]
        head = context.new_head(channels)
        if section.weights is None:
            count = 1
            while count < len(train) and len(training_windows(train[:count], windows)) < section.batch:
                count += 1
            began = time.perf_counter()
            stage, short = self._stage("head"), section.model_copy(update={"epochs": ROUNDS})
            outcome = train_head(
                stage, context.exact, head, features(train[:count]), windows, lr=section.lrs[0], section=short, seed=0,
                quiet=True,
            )  # fmt: skip
            found = self._steps("head", stage, began)
            self.seconds["head"] = _mean(found[1:] or found, 1.0).compute
            self._note_peak("head", outcome.peak_memory_bytes, True)
        some = features(train[: 4 * _FEW])
        short_fit = recipe.classifier.model_copy(update={"epochs": 2})
        several = recipe.detect.multi_label
        took = _seconds(lambda: fit_on(some, len(data.labels), short_fit, 0, multi_label=several), tries=2)
        self.seconds["classifier"] = took / 3 * (recipe.classifier.epochs + 1) / len(some.videos)
        classifier = fit_on(some, len(data.labels), short_fit, 0, multi_label=several)
        self.seconds |= _decisions(context, head.cpu().eval(), features(data.evaluation[:_FEW]), classifier)

    def _steps(self, name: str, stage: StageFolder, began: float) -> list[_Step]:
        """Return what a stage has noted of its steps; the rest of its time since ``began`` is its start and end."""
        elapsed, steps, before = time.perf_counter() - began, list[_Step](), 0.0
        for record in read_metrics(stage.path / "metrics.jsonl")[0]:
            took, before = record["seconds"] - before, record["seconds"]
            steps.append(_Step(took * (1 - record["wait"]), took * record["wait"]))
        self.seconds[f"{name} start"] = max(0.0, elapsed - before)
        return steps

    def _together(self, step: _Step) -> float:
        """Return the time of a step whose data the recipe's loader processes read."""
        gpu = self.context.fabric.device.type != "cpu"
        return step_seconds(
            step.compute,
            step.data,
            workers=self.context.recipe.data.workers,
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            threads=0 if gpu else torch.get_num_threads(),
        )

    def _note_peak(self, name: str, peak: int, whole: bool) -> None:
        if whole:
            self.peak[name] = peak


def _scaled(whole: int, steps: Callable[[int], list[_Step]], *, kinds: int, limit: float) -> tuple[list[_Step], float]:
    """Return steps of as large a batch as the limit allows, and how many times larger a whole one is."""
    found = steps(1)
    each = sum(step.compute + step.data for step in found[-kinds:])
    batch = max(1, min(whole, int(limit / (ROUNDS * max(each, 1e-6)))))
    return (found, float(whole)) if batch == 1 else (steps(batch), whole / batch)


def _decisions(context: Context, head: Any, some: FeatureSet, classifier: Any) -> dict[str, float]:
    """Return the seconds of what stage 3 decides and scores, video by video."""
    labels, detect, events = context.data().labels, context.recipe.detect, context.recipe.data.events
    truth, videos = truth_of(some.videos, labels, "trial"), some.videos

    def proposals() -> Any:
        scorer = ClassScorer(classifier, POOLINGS[0])
        return localise(head, some.features, context.windows, detect, scorer=scorer)

    found = proposals()

    def fused(pooling: str) -> Any:
        return fuse_all(some, found, classifier, labels, detect, pooling, events)

    def score(fused: Any) -> None:
        evaluate(truth, videos, found, fused, labels)

    detections = fused(POOLINGS[0])
    place, give = _seconds(proposals, 2), _seconds(lambda: fused(POOLINGS[0]), 2)
    alone, whole = _seconds(lambda: score([]), 2), _seconds(lambda: score(detections), 2)
    decide = _seconds(lambda: best_threshold(detections, videos, labels), 2)
    count = len(videos)
    return {
        "score": (place + alone) / count,
        "choices": (place + len(POOLINGS) * (give + whole) + decide) / count,
        "evaluate": (place + give + whole) / count,
    }


def _published_channels(context: Context) -> int:
    """Return the channels of the recipe's published features, without reading them."""
    layouts = settled_features(context.recipe, context.data().videos).layouts
    channels = sum(layout.channels for layout in layouts if layout is not None)
    if not channels:
        raise DataError("No features can be read; `lofi run` says why of each file.")
    return channels


def amounts_of(context: Context) -> Amounts:
    """Return how much data a run has.

    Raises:
        LofiError: If something is missing that the recipe needs.
    """
    recipe, data, windows = context.recipe, context.data(), context.windows
    published = recipe.features is not None
    clips = None if published or not (recipe.pretrain or recipe.second) else context.clips()
    segments = None if published or recipe.finetune is None else segment_clips(context, recipe.finetune)
    return Amounts(
        clips=len(clips.train) if clips else 0,
        clip_checks=len(clips.validate) if clips else 0,
        segments=len(segments.train) if segments else 0,
        segment_checks=len(segments.validate) if segments else 0,
        windows=len(training_windows(data.train, windows)),
        refit_windows=len(training_windows([*data.train, *data.selection], windows)),
        train=len(data.train),
        selection=len(data.selection),
        evaluation=len(data.evaluation),
    )


def clips_of(context: Context, section: PretrainSection | FinetuneSection) -> Clips:
    """Return the clips on which a section trains."""
    return segment_clips(context, section) if isinstance(section, FinetuneSection) else context.clips()


def _turned(items: Sequence[Any], count: int) -> list[Any]:
    """Return ``count`` items, the first one last: a trial with one item has read it."""
    turned = [*items[1:], items[0]]
    return [turned[number % len(turned)] for number in range(count)]


def _mean(steps: Sequence[_Step], scale: float) -> _Step:
    count = len(steps)
    return _Step(scale * sum(s.compute for s in steps) / count, scale * sum(s.data for s in steps) / count)


def _seconds(work: Callable[[], Any], tries: int = 1) -> float:
    """Return the time that ``work`` takes; of several tries the least, which other programs disturbed least."""
    times = []
    for _ in range(tries):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
