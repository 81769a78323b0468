"""Runs side by side: what is common to them is compared, and the rest is told. Nothing is run or trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lofi_tal.annotations import load_annotations
from lofi_tal.annotations.events import read_labels
from lofi_tal.errors import DataError, LofiError, counted
from lofi_tal.evaluation import THRESHOLDS, TIOU, GroundTruth, load_ground_truth
from lofi_tal.evaluation.arrays import restricted
from lofi_tal.evaluation.bootstrap import few_videos_warning
from lofi_tal.evaluation.comparison import Candidate, Comparison, compare
from lofi_tal.evaluation.spotting import TOLERANCES
from lofi_tal.evaluation.spotting_draws import EventComparison, compare_events
from lofi_tal.files import hash_file, with_home
from lofi_tal.run.saved import STAGES, Saved, StageCost, arms_in, choose_arm, find_source, read_file, read_saved
from lofi_tal.run.spotting import SETS
from lofi_tal.runtime.differences import differing
from lofi_tal.segments import Segments

REPLICATES = 1000
_MANY = 200_000
"""Detections from which on the bootstrap takes a fifth of the draws, so that a comparison takes minutes at most."""


@dataclass(frozen=True, eq=False)
class RunComparison:
    """Runs, or result files, side by side; the others are compared with the first.

    Args:
        comparison: Of their detections.
        sources: What they have left, in the same order.
        annotations: File with the truth.
        left_out: Reason for each video that is not compared.
        classes_left_out: Reason for each class that is not compared.
        settings: Values of the recipes that differ, by ``section.key``; None where a recipe has no such key.
        environment: Versions, devices and precision that differ, in the same form.
        events: mAP of point events by set of tolerances, if the first run found such (``data.events``).
        notes: What the reader should know.
    """

    comparison: Comparison
    sources: tuple[Saved, ...]
    annotations: Path
    left_out: dict[str, str] = field(default_factory=dict)
    classes_left_out: dict[str, str] = field(default_factory=dict)
    settings: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    environment: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    events: dict[str, EventComparison] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What the runs are called."""
        return tuple(one.name for one in self.sources)

    @property
    def settings_known(self) -> bool:
        """Whether two of them or more have a recipe: a result file does not say how it was made."""
        return sum(bool(one.recipe) for one in self.sources) > 1

    @property
    def stages(self) -> dict[str, tuple[StageCost | None, ...]]:
        """What each stage took in each run, by its name; None where a run has no such stage."""
        costs = [{stage.name: stage for stage in one.stages} for one in self.sources]
        return {name: tuple(one.get(name) for one in costs) for name in STAGES if any(name in one for one in costs)}

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON-like dict."""
        return {
            "runs": [
                {"name": one.name, "path": str(one.path), "arm": one.arm or None, "detections": _count(one)}
                for one in self.sources
            ],
            "annotations": str(self.annotations),
            "subset": self.comparison.truth.subset,
            **self.comparison.to_json(),
            "events": {name: one.to_json() for name, one in self.events.items()},
            "settings": {key: list(values) for key, values in self.settings.items()},
            "environment": {key: list(values) for key, values in self.environment.items()},
            "stages": {
                name: [None if cost is None else vars(cost) for cost in costs] for name, costs in self.stages.items()
            },
            "left_out": self.left_out,
            "classes_left_out": self.classes_left_out,
            "notes": list(self.notes),
        }


def compare_runs(
    *runs: str | Path,
    annotations: str | Path | None = None,
    subset: str | None = None,
    tiou_thresholds: Sequence[float] | None = None,
    tiou: float = TIOU,
    all_videos: bool = False,
    replicates: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> RunComparison:
    """Compare finished runs, or result files of any tool, on the videos and classes that they have in common.

    Args:
        runs: Run folders, ``RUN:ARM``, or result files in ActivityNet's form; the others are compared with the first.
            Of a run without an arm, that of stage 2 is taken, then its baseline. One run alone: all of its arms.
        annotations: The truth. Without it, the annotations that the first run was evaluated against.
        subset: Subset of it; that of the first run, or ``validation``.
        tiou_thresholds: Of mAP; those of the first run, or ActivityNet's.
        tiou: Overlap from which on an action counts as found.
        all_videos: A video without an entry in a result file has no detections, as for `lofi evaluate`; without this
            it is not compared.
        replicates: Draws of the bootstrap; 1000, or 200 if there are very many detections.
        confidence: Share of the draws within each interval.
        seed: Of the draws.

    Raises:
        LofiError: If a run or an arm is not there (the arms are listed), or there is nothing to compare it with.
        DataError: If a file is damaged or malformed, or there is no common video or class.
    """
    sources, truth, known = _read(runs, annotations, subset, all_videos=all_videos)
    left_out, dropped = _videos_left_out(sources, truth), _classes_left_out(sources, truth)
    common = _common(truth, left_out, dropped, known.file)
    if replicates is None:
        replicates = REPLICATES if max(map(_count, sources)) <= _MANY else REPLICATES // 5
    candidates = [_candidate(one, dropped) for one in sources]
    how: dict[str, Any] = {"replicates": replicates, "confidence": confidence, "seed": seed}
    return RunComparison(
        compare(common, candidates, tiou_thresholds or known.thresholds, tiou=tiou, **how),
        tuple(sources),
        known.file,
        left_out,
        dropped,
        differing([one.recipe for one in sources]),
        differing([one.environment for one in sources]),
        _events(known, common, candidates, **how),
        (*_notes(sources, known, common), *(note for one in sources for note in one.notes)),
    )


@dataclass(frozen=True)
class _Truth:
    """Where the truth is, and what the first run says of it, if there is a run.

    Args:
        file: The annotations.
        subset: The part of them that is evaluated.
        thresholds: tIoU thresholds of mAP; None for ActivityNet's.
        events: Width in seconds of the segments that stand for point events; None if they are no events.
    """

    file: Path
    subset: str
    thresholds: Sequence[float] | None
    events: float | None

    def read(self, file: Path | None = None) -> GroundTruth:
        """Read it, or the same of another file."""
        path = file or self.file
        return load_ground_truth(path if self.events is None else read_labels(path, self.events), self.subset)


def _read(
    runs: Sequence[str | Path], annotations: str | Path | None, subset: str | None, *, all_videos: bool
) -> tuple[list[Saved], GroundTruth, _Truth]:
    """Read all that is compared, and the truth."""
    places = _expanded([(str(run), *find_source(str(run))) for run in runs])
    names = _names(places)
    saved = {i: read_saved(path, arm, names[i]) for i, (_, path, arm) in enumerate(places) if path.is_dir()}
    known = _truth_of(list(saved.values()), annotations, subset)
    truth = known.read()
    sources = [saved.get(i) or read_file(path, names[i], truth) for i, (_, path, _) in enumerate(places)]
    filled = [_filled(one, truth) if all_videos and not one.arm else one for one in sources]
    return filled, truth, known


def _expanded(places: list[tuple[str, Path, str]]) -> list[tuple[str, Path, str]]:
    """Return what is compared, an arm for each run; of one run alone, all of its arms."""
    if not places:
        raise LofiError("Nothing to compare: give two runs, as `lofi compare runs/one runs/two`.")
    if len(places) > 1:
        return [(text, path, choose_arm(path, arm) if path.is_dir() else arm) for text, path, arm in places]
    ((text, path, arm),) = places
    arms = arms_in(path) if path.is_dir() and not arm else ()
    if len(arms) < 2:
        more = f": {path} has the arm {arms[0]!r} only" if arms else ""
        raise LofiError(f"{text} alone cannot be compared{more}. Give a second run, RUN:ARM or result file.")
    return [(f"{text}:{one}", path, one) for one in sorted(arms, key=lambda one: one != "baseline")]


def _names(places: Sequence[tuple[str, Path, str]]) -> list[str]:
    """Return short names that differ: the folder's, with its arm, or as given; the same run again is numbered."""
    arms = {path.resolve(): {other for _, where, other in places if where == path} for _, path, _ in places}
    forms: dict[tuple[Path, str], list[str]] = {}
    for text, path, arm in places:
        base = path.resolve().name
        named = [f"{base}:{arm}", text] if arm else [text]
        asked = text.endswith(f":{arm}") or len(arms[path.resolve()]) > 1
        forms.setdefault((path.resolve(), arm), named if asked else [base, *named])
    names = {key: form[0] for key, form in forms.items()}
    for place in (1, 2):
        count = Counter(names.values())
        names = {
            key: forms[key][min(place, len(forms[key]) - 1)] if count[name] > 1 else name for key, name in names.items()
        }
    seen: Counter[str] = Counter()
    found = []
    for _, path, arm in places:
        name = names[path.resolve(), arm]
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _truth_of(saved: Sequence[Saved], annotations: str | Path | None, subset: str | None) -> _Truth:
    """Return where the truth is: the annotations that are given, or those of the first run that knows its own."""
    known = next((one for one in saved if one.annotations is not None), None)
    path = with_home(annotations) if annotations is not None else None if known is None else known.annotations
    if path is None:
        raise LofiError("Result files alone do not say what is true: add --annotations labels.json (annotations=).")
    if not path.is_file():
        whose = "" if known is None or annotations is not None else f", against which {known.name} was evaluated,"
        raise DataError(f"{path}{whose} does not exist. Give the annotations with --annotations labels.json.")
    if known is None:
        return _Truth(path, subset or "validation", None, None)
    thresholds = THRESHOLDS.get(known.setting("tiou", "activitynet"))
    return _Truth(path, subset or known.setting("eval_subset", "validation"), thresholds, known.events)


def _filled(one: Saved, truth: GroundTruth) -> Saved:
    nothing = {name: Segments.empty(name) for name in truth.videos}
    return replace(one, detections=nothing | one.detections)


def _videos_left_out(sources: Sequence[Saved], truth: GroundTruth) -> dict[str, str]:
    """Return the reason for each video that not all have, or that the truth lacks.

    A video of the truth that none of them has stays: its actions are missed by all, as in their reports.

    Raises:
        DataError: If there is no video that all have.
    """
    known = set(truth.videos)
    every = dict.fromkeys([*truth.videos, *(name for one in sources for name in one.detections)])
    reasons = {}
    common = 0
    for name in every:
        lacking = [one.name for one in sources if name not in one.detections]
        if name not in known:
            reasons[name] = f"not in the subset {truth.subset!r} of the annotations"
        elif 0 < len(lacking) < len(sources):
            reasons[name] = f"not in {', '.join(lacking)}"
        common += name in known and not lacking
    if not common:
        counts = ", ".join(f"{one.name} has {len(one.detections)}" for one in sources)
        raise DataError(
            f"No video is common to all: {counts}, and the subset {truth.subset!r} of the annotations has "
            f"{len(truth.videos)}. Compare runs that were evaluated on the same videos, or choose truth with "
            "--annotations and --subset."
        )
    return reasons


def _classes_left_out(sources: Sequence[Saved], truth: GroundTruth) -> dict[str, str]:
    """Return the reason for each class of the truth that some of them know and others do not.

    Raises:
        DataError: If no class is left.
    """
    reasons = {}
    for label in truth.labels:
        lacking = [one.name for one in sources if one.labels is not None and label not in one.labels]
        if 0 < len(lacking) < len(sources):
            reasons[label] = f"not known to {', '.join(lacking)}"
    if len(reasons) == len(truth.labels):
        raise DataError(
            f"No class is common to all: of {len(truth.labels)}, {next(iter(reasons.items()))} comes first."
        )
    return reasons


def _common(truth: GroundTruth, left_out: Mapping[str, str], dropped: Mapping[str, str], used: Path) -> GroundTruth:
    """Return the part of the truth that is compared.

    Raises:
        DataError: If there is no action in it.
    """
    common = restricted(truth, set(truth.videos) - set(left_out), set(truth.labels) - set(dropped))
    if not len(common.label):
        raise DataError(f"The videos that all have in common hold no action of a common class in {used}.")
    return common


def _candidate(one: Saved, dropped: Mapping[str, str]) -> Candidate:
    """Return what is compared, without the detections of classes that are left out."""
    detections = list(one.detections.values())
    if dropped:
        detections = [_of_classes(part, set(part.label) - set(dropped)) for part in detections]
    return Candidate(one.name, detections, one.thresholds, one.several)


def _events(
    known: _Truth, common: GroundTruth, candidates: Sequence[Candidate], **how: Any
) -> dict[str, EventComparison]:
    """Return the mAP of the events, which start and end at one time in the file, in the common videos and classes."""
    if known.events is None:
        return {}
    labels, every = set(common.labels), load_annotations(known.file).subset(known.subset)
    truth = {video.video_id: _of_classes(video.segments, labels) for video in every if video.video_id in common.videos}
    systems = [{one.video_id: one for one in candidate.detections if one.video_id in truth} for candidate in candidates]
    return {name: compare_events(truth, systems, TOLERANCES[name], **how) for name in SETS}


def _of_classes(segments: Segments, labels: Collection[str]) -> Segments:
    return segments[np.array([label in labels for label in segments.label], dtype=bool)]


def _notes(sources: Sequence[Saved], known: _Truth, common: GroundTruth) -> list[str]:
    """Return why intervals are not to be trusted, and what differs from what the runs were evaluated against."""
    few = few_videos_warning(len(common.videos))
    now, notes = hash_file(known.file), [] if few is None else [few]
    for one in sources:
        if one.truth_hash and one.truth_hash != now:
            changed = _relabelled(one, known, common)
            notes.append(
                f"{one.name} was evaluated against other annotations than {known.file} holds now"
                + (f"; those of {counted(changed, 'common video')} differ" if changed else "")
                + ". All figures here are on the latter."
            )
        if others := _uncounted(one, common):
            notes.append(
                f"{one.name} has {counted(others.total(), 'detection')} of classes without an action that is compared "
                f"({', '.join(sorted(others)[:3])}): they count nowhere, not as false alarms either."
            )
    protocols = {one.setting("tiou", "activitynet") for one in sources if one.recipe}
    if len(protocols) > 1:
        notes.append(
            f"The runs were evaluated at different tIoU thresholds (data.tiou): {', '.join(sorted(protocols))}."
        )
    return notes


def _uncounted(one: Saved, common: GroundTruth) -> Counter[str]:
    """Return the detections in common videos whose class no action there has, by class."""
    found = (one.detections[name] for name in common.videos if name in one.detections)
    return Counter(label for segments in found for label in segments.label if label not in common.labels)


def _relabelled(one: Saved, known: _Truth, common: GroundTruth) -> int:
    """Return in how many common videos the annotations of a run differ from those that are used."""
    if one.annotations is None or not one.annotations.is_file():
        return 0
    try:
        own = replace(known, subset=one.setting("eval_subset", "validation")).read(one.annotations)
    except DataError:
        return 0
    ours, theirs = _actions(common), _actions(restricted(own, set(common.videos), set(common.labels)))
    return sum(ours.get(name) != theirs.get(name) for name in common.videos)


def _actions(truth: GroundTruth) -> dict[str, Counter[tuple[str, float, float]]]:
    found: dict[str, Counter[tuple[str, float, float]]] = {}
    for video, label, (start, end) in zip(truth.video, truth.label, truth.segment.tolist(), strict=True):
        found.setdefault(truth.videos[video], Counter())[(truth.labels[label], start, end)] += 1
    return found


def _count(one: Saved) -> int:
    return sum(map(len, one.detections.values()))
