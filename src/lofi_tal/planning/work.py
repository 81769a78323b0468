"""What a recipe will do: every stage as so many units of work, and how long it takes if one unit takes so long.

A unit is named by a key, and whoever measures says how many seconds a unit of each key takes. What nobody has measured
stays unknown: a total is then said to be "at least".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lofi_tal.config import ClassificationSection, Recipe
from lofi_tal.data import steps_per_epoch
from lofi_tal.recipes.encoder import full_of


@dataclass(frozen=True)
class Amounts:
    """How much data a recipe has.

    Args:
        clips: Clips of stage 1.
        clip_checks: Clips for its accuracy.
        segments: Clips of ACP+.
        segment_checks: Clips for its accuracy.
        windows: Videos, or windows of them, on which stage 2 and the search of stage 3 train.
        refit_windows: The same with the selection videos.
        train: Training videos without the selection part.
        selection: Selection videos.
        evaluation: Evaluated videos.
    """

    clips: int = 0
    clip_checks: int = 0
    segments: int = 0
    segment_checks: int = 0
    windows: int = 0
    refit_windows: int = 0
    train: int = 0
    selection: int = 0
    evaluation: int = 0

    @property
    def videos(self) -> int:
        """All videos."""
        return self.train + self.selection + self.evaluation


@dataclass(frozen=True)
class Work:
    """Units of one kind in one stage.

    Args:
        stage: The stage, as its progress is titled.
        what: What is done.
        count: Units.
        unit: What a unit is.
        key: Of the measurement that says how long a unit takes.
    """

    stage: str
    what: str
    count: int
    unit: str
    key: str


def work_of(recipe: Recipe, amounts: Amounts) -> tuple[Work, ...]:
    """Return all that a run of a recipe does, in its order, from its first stage on."""
    files = amounts.videos + amounts.clips + amounts.clip_checks
    work = [Work("files", "files: examined", files if recipe.features is None else 0, "files", "files")]
    if recipe.features is None:
        work += _encoders(recipe, amounts)
    seen = False
    for arm in arms_of(recipe):
        if arm == "lofi":
            work += _stage2(recipe, amounts)
        if arm != "features":
            key = "extract again" if seen else "extract"
            work.append(Work("extract", f"features of {arm}", amounts.videos, "videos", key))
        work += _stage3(recipe, amounts, arm)
        seen = True
    return tuple(one for one in work if one.count)


def arms_of(recipe: Recipe) -> tuple[str, ...]:
    """Return the arms of a recipe, the baseline first."""
    if recipe.features is not None:
        return ("features",)
    if recipe.lofi is None:
        return ("baseline",)
    return ("baseline", "lofi") if recipe.baseline else ("lofi",)


def _encoders(recipe: Recipe, amounts: Amounts) -> Iterator[Work]:
    """Yield the work of stage 1 and what belongs to it."""
    if recipe.pretrain is not None:
        yield from _clips("pretrain", "pretrain", recipe.pretrain, amounts.clips, amounts.clip_checks)
    if recipe.finetune is not None:
        yield from _clips("finetune", "finetune", recipe.finetune, amounts.segments, amounts.segment_checks)
    if recipe.second is not None:
        yield from _clips("pretrain", "second", recipe.second, amounts.clips, amounts.clip_checks)


def _clips(stage: str, key: str, section: ClassificationSection, clips: int, checks: int) -> Iterator[Work]:
    """Yield the work of a training on clips."""
    steps = steps_per_epoch(clips, section.batch)
    yield Work(stage, f"{key}: start and end", 1, "training", f"{key} start")
    yield Work(stage, f"{key}: {section.epochs} epochs", section.epochs * steps, "steps", key)
    yield Work(stage, f"{key}: first reading", steps, "steps", f"{key} first")
    yield Work("clip accuracy", f"{key}: accuracy", steps_per_epoch(checks, section.batch), "batches", f"{key} check")


def _stage2(recipe: Recipe, amounts: Amounts) -> Iterator[Work]:
    section = recipe.lofi
    assert section is not None
    steps = steps_per_epoch(amounts.windows, section.batch)
    schedule = section.fidelities_over(full_of(recipe))
    counts = dict.fromkeys(schedule.fidelities, 0)
    for epoch in range(section.epochs):
        for step in range(epoch * steps, (epoch + 1) * steps):
            fidelity = schedule.at(epoch=epoch, step=step)
            counts[fidelity] = counts.get(fidelity, 0) + 1
    yield Work("lofi", "lofi: start and end", 1, "training", "lofi start")
    for fidelity, count in counts.items():
        yield Work("lofi", f"lofi: {fidelity}", count, "steps", f"lofi {fidelity}")
    yield Work("lofi", "lofi: first reading", steps, "steps", "lofi first")
    yield Work("lofi", "lofi: statistics of BatchNorm", section.reestimate * section.batch, "videos", "statistics")


def _stage3(recipe: Recipe, amounts: Amounts, arm: str) -> Iterator[Work]:
    """Yield the work of stage 3: the search of the learning rate, choices, the refit, evaluation."""
    section, selection = recipe.head, amounts.selection
    trains = section.weights is None
    rates = section.lrs if selection else section.lrs[:1]
    refit = section.refit and selection > 0
    trainings = len(rates) + refit if trains else 0
    yield Work(f"head lr-{rates[0]:g}", f"heads of {arm}: start and end", trainings, "trainings", "head start")
    for lr in rates if trains else ():
        steps = section.passes * steps_per_epoch(amounts.windows, section.batch)
        yield Work(f"head lr-{lr:g}", f"head of {arm}: lr {lr:g}", steps, "steps", "head")
        yield Work(f"head lr-{lr:g}", f"head of {arm}: lr {lr:g}, its score", selection, "videos", "score")
    yield Work("classifier", f"classifier of {arm}", amounts.train, "videos", "classifier")
    yield Work("choices", f"pooling and threshold of {arm}", selection, "videos", "choices")
    if refit:
        steps = section.passes * steps_per_epoch(amounts.refit_windows, section.batch)
        if trains:
            yield Work("head refit", f"head of {arm}: refit", steps, "steps", "head")
        yield Work("classifier", f"classifier of {arm}: refit", amounts.train + selection, "videos", "classifier")
    yield Work("evaluation", f"evaluation of {arm}", amounts.evaluation, "videos", "evaluate")


@dataclass(frozen=True)
class Line:
    """Work and the seconds of one unit; None where nobody has measured it."""

    work: Work
    each: float | None

    @property
    def seconds(self) -> float:
        """Of all of it, as far as is known."""
        return self.work.count * (self.each or 0.0)


@dataclass(frozen=True)
class Estimate:
    """How long a run takes.

    Args:
        lines: Of the table, in the order of the run.
    """

    lines: tuple[Line, ...]

    @property
    def total(self) -> float:
        """Seconds of all that is known."""
        return sum(line.seconds for line in self.lines)

    @property
    def unknown(self) -> tuple[str, ...]:
        """What nobody has measured."""
        return tuple(line.work.what for line in self.lines if line.each is None)

    def by_stage(self) -> list[tuple[str, float]]:
        """Return the stages in their order, as their progress is titled, with their seconds."""
        stages: list[tuple[str, float]] = []
        for line in self.lines:
            if stages and stages[-1][0] == line.work.stage:
                stages[-1] = (line.work.stage, stages[-1][1] + line.seconds)
            else:
                stages.append((line.work.stage, line.seconds))
        return stages


def estimate(recipe: Recipe, amounts: Amounts, seconds: Mapping[str, float]) -> Estimate:
    """Return how long a run of a recipe takes, given the seconds of a unit by key."""
    return Estimate(tuple(Line(work, seconds.get(work.key)) for work in work_of(recipe, amounts)))


def step_seconds(compute: float, data: float, *, workers: int, cores: int, threads: int) -> float:
    """Return the time of a step whose data are read beside it.

    Args:
        compute: Seconds of the step with its data at hand.
        data: Seconds of one process for them.
        workers: Loader processes; 0 reads in the process that trains.
        cores: Of the machine.
        threads: Cores that computing takes; 0 on a GPU.
    """
    if not workers:
        return compute + data
    return max(compute, data / min(workers, cores), (compute * min(threads, cores) + data) / cores)
