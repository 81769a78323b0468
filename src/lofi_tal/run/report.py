"""What a run has to tell: its finished stages, what it had to do without, and the report page."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lofi_tal.artefacts import damage, told
from lofi_tal.data import cut_actions
from lofi_tal.errors import DataError, counted
from lofi_tal.evaluation import VideoMistakes
from lofi_tal.files import write_json
from lofi_tal.report import Arm, Judgement, Report, StageSummary, TimelineEntry, write_report
from lofi_tal.report.timeline import relative_url
from lofi_tal.run.arms import ARMS, ArmResult
from lofi_tal.run.context import arm_folder
from lofi_tal.run.data import RunData
from lofi_tal.run.first_batch import SHEET
from lofi_tal.run.judging import ArmOutput, judge_arms, read_output
from lofi_tal.run.run import Run
from lofi_tal.runtime import StageRecord, describe_device, environment, read_metrics

logger = logging.getLogger("lofi_tal")
ENCODER_STAGES = ("pretrain", "second", "finetune", "lofi")
"""Stages that train an encoder, in order."""
SUBTITLE = "temporal action localisation: own class scores, class-agnostic, and with the true class"
_MOST = 20  # annotations that are named


def stage_summaries(run: Run, *, running: bool = False) -> list[StageSummary]:
    """Return the finished stages with their metrics, in order; with ``running`` those at work, too."""
    found = []
    for name, folder in _stage_folders(run, "started.json" if running else "stage.json").items():
        rows, _ = read_metrics(folder / "metrics.jsonl")
        if record := _record(folder):
            name = record.stage if record.stage == "start" else name  # weights that were only taken over
            skipped = folder in run.folder.skipped
            found.append(StageSummary(name, record.seconds, record.peak_memory_bytes, skipped, rows))
        elif running and rows:
            found.append(StageSummary(name, rows[-1].get("seconds", 0.0), 0, False, rows, running=True))
    return found


def _stage_folders(run: Run, record: str) -> dict[str, Path]:
    """Return the folders of all trainings by name, in order; of heads those that have a record."""
    folders = {name: run.folder.stage_folder(name) for name in ENCODER_STAGES}
    for arm in run.arms:
        trainings = (arm_folder(run.output, arm) / "head").glob(f"*/{record}")
        for path in sorted(trainings, key=lambda path: path.stat().st_mtime):
            folders[f"{arm} head {path.parent.name}"] = path.parent
    return folders


def _record(folder: Path) -> StageRecord | None:
    """Return the record of a finished stage; None if it is not finished, or its record is damaged."""
    with contextlib.suppress(DataError):
        return StageRecord.read(folder)
    return None


def damaged_curves(run: Run) -> Iterator[str]:
    """Yield which metrics of the finished stages are damaged, and what of them the report does not show."""
    for name, folder in _stage_folders(run, "stage.json").items():
        path, record = folder / "metrics.jsonl", _record(folder)
        _, bad = read_metrics(path)
        if bad:
            yield f"{name}: not shown, for they are damaged: {counted(bad, 'line')} of {path}"
        elif record and (wrong := damage(folder, {key: record.notes[key] for key in record.notes if key == path.name})):
            yield f"{name}: {told(wrong)}; its curves may be wrong"


def first_batches(run: Run) -> dict[str, str]:
    """Return the contact sheets of a run by name, as URLs relative to its report."""
    sheets = {name: run.folder.stage_folder(name) / SHEET for name in ENCODER_STAGES}
    page = run.output / "report.html"
    return {f"first batch of {name}": relative_url(path, page) for name, path in sheets.items() if path.exists()}


def lost_in_training(run: Run) -> dict[Path, dict[str, str]]:
    """Return the videos and clips that trainings of an encoder had to do without and why, by the stage's record."""
    results = {run.folder.opened[name] / "stage.json": result for name, result in _training_results(run).items()}
    lost = {path: result.get("missing_clips", {}) | result.get("unreadable", {}) for path, result in results.items()}
    return {path: reasons for path, reasons in lost.items() if reasons}


def clip_accuracies(run: Run) -> dict[str, dict[str, Any]]:
    """Return, for each finished training on clips that had a validation split, its accuracy there."""
    return {name: result for name, result in _training_results(run).items() if "accuracy" in result}


def _training_results(run: Run) -> dict[str, dict[str, Any]]:
    """Return the results of the stages that train an encoder, those that this run needs and that are finished."""
    paths = {name: folder / "stage.json" for name, folder in run.folder.opened.items()}
    return {name: record.result for name, path in paths.items() if (record := _record(path.parent))}


def data_json(data: RunData) -> dict[str, Any]:
    """Return what a run uses of its data, and what it does not and why, as plain values."""
    return {
        "videos": {
            "training": len(data.train),
            "selection": len(data.selection),
            "evaluation": len(data.evaluation),
        },
        "classes": list(data.labels),
        "failed": data.failed,
        "dropped": [asdict(change) for change in data.dropped],
        "findings": [asdict(line) for line in data.findings],
    }


def record_data(run: Run) -> None:
    """Write ``data.json``: what a run uses of its data, and what it does not and why."""
    write_json(run.output / "data.json", data_json(run.data()))


def tell_dropped(data: RunData) -> Iterator[str]:
    """Yield which annotations a run could not use, the first of them, and what becomes of those that are evaluated."""
    if not data.dropped:
        return
    yield from map(str, data.dropped[:_MOST])
    yield f"Not used: {counted(len(data.dropped), 'annotation')}; data.json of the run folder lists all."
    evaluated = sum(bool(change.label) and change.video_id in data.truth.videos for change in data.dropped)
    if evaluated:
        yield (
            f"{evaluated} of them {'is' if evaluated == 1 else 'are'} in the evaluated subset and still "
            f"{'counts' if evaluated == 1 else 'count'} there as ground truth, as in the official evaluator: missed, "
            "since no detection can match them. Mend or remove them in the annotations."
        )


def write_run_report(run: Run, results: list[ArmResult], *, command: str = "", most: int = 12) -> Path:
    """Write ``report.html`` (and ``report.json``) of a run and return its path.

    Args:
        run: The run.
        results: Its arms.
        command: How it was started.
        most: Number of videos shown on a timeline, those with most mistakes first; as many more at most show kinds of
            mistakes and classes that these do not.
    """
    outputs = [read_output(run, result) for result in results]
    data, judgement = run.data(), judge_arms(run, outputs)
    report = Report(
        title=run.recipe.name,
        subtitle=SUBTITLE,
        arms=[Arm(result.arm, ARMS[result.arm], result.scores, result.events) for result in results],
        stages=stage_summaries(run),
        timelines=list(_timelines(run, outputs, judgement, most)),
        facts=run_facts(run, command),
        notes=list(_notes(run, results)),
        lengths=segment_lengths(data),
        links=first_batches(run),
        judgement=judgement,
    )
    record_data(run)
    path = run.output / "report.html"
    write_report(path, report)
    return path


def segment_lengths(data: RunData) -> dict[str, list[float]]:
    """Return the lengths of all segments in seconds, of training and evaluation."""
    return {
        name: [float(e - s) * video.duration for video in videos for s, e in video.segments.tolist()]
        for name, videos in (("training", [*data.train, *data.selection]), ("evaluation", data.evaluation))
    }


def _timelines(run: Run, outputs: Sequence[ArmOutput], judgement: Judgement, most: int) -> Iterator[TimelineEntry]:
    """Yield what each arm found in the videos with most mistakes; then in others with segments, if there are few."""
    data = run.data()
    rank = {one.video_id: i for i, one in enumerate(_worst(judgement))}
    videos = [video for video in data.evaluation if len(video.labels) or video.video_id in rank]
    videos.sort(key=lambda video: rank.get(video.video_id, len(rank)))
    wanted = {video.video_id for video in videos[:most]}
    wanted |= set(examples(_worst(judgement), wanted)[:most])
    shown = [one.shown for one in outputs]
    for video in videos:
        if video.video_id not in wanted:
            continue
        for one, limits in zip(outputs, shown, strict=True):
            if video.video_id not in one.result.failed:
                segments = one.detections[video.video_id]
                yield TimelineEntry(
                    video_id=video.video_id,
                    video=video.file.path,
                    truth=video.to_segments(data.labels),
                    detections=segments if one.sheet is None else one.sheet.calibrated(segments),
                    arm=one.result.arm,
                    shown=limits,
                )


def examples(worst: Sequence[VideoMistakes], shown: Collection[str]) -> list[str]:
    """Return the ids of videos with a kind of mistake, or mistakes of a class, that the shown ones do not have.

    Args:
        worst: Videos with mistakes, worst first.
        shown: Ids of those that are shown anyway.
    """
    chosen: list[str] = []
    covered: set[tuple[str, str]] = set()
    for one in sorted(worst, key=lambda one: one.video_id not in shown):  # those that are shown first
        traits = {("kind", kind) for kind, count in one.counts.items() if count}
        traits |= {("class", label) for label in one.classes}
        if one.video_id not in shown and traits - covered:
            chosen.append(one.video_id)
        if one.video_id in (*shown, *chosen):
            covered |= traits
    return chosen


def _worst(judgement: Judgement) -> tuple[VideoMistakes, ...]:
    main = judgement.assessments.get(judgement.main)
    return () if main is None else main.mistakes.videos


def run_facts(run: Run, command: str) -> dict[str, str]:
    """Return what a reader of a report may want to know of a run."""
    machine, data = environment(), run.data()
    return {
        "command": command,
        "seed": str(run.recipe.seed),
        **({} if run.origin is None else {"starts from": str(run.origin)}),
        "device": describe_device(run.fabric),
        "processor": f"{machine['processor']}, {machine['cores']} cores",
        "videos": f"{len(data.train)} training, {len(data.selection)} selection, {len(data.evaluation)} evaluation",
        "classes": str(len(data.labels)),
        "full fidelity": str(run.full),
        "low fidelity": ", ".join(map(str, run.schedule.fidelities)) if run.recipe.lofi else "none",
        "versions": ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
    }


def _notes(run: Run, results: list[ArmResult]) -> Iterator[str]:
    """Yield what a reader of the report should know: what was lost, and what no window shows."""
    data = run.data()
    lost = dict(data.failed)
    for result in results:
        lost |= result.failed
    for video_id, reason in lost.items():
        yield f"{video_id} was left out: {reason}"
    yield from tell_dropped(data)
    yield from map(str, data.findings)
    if run.origin is not None and (caution := run.origin.caution(data)):
        yield caution
    for line in damaged_curves(run):
        logger.warning("%s.", line)
        yield line
    for record, reasons in lost_in_training(run).items():
        yield f"not read in training: {counted(len(reasons), 'file')}; {record} lists all"
    for result in results:
        for candidate in result.chosen.get("candidates", ()):
            if "diverged" in candidate:
                yield f"{result.arm}: {candidate['lr']:g} of head.lrs was dropped. {candidate['diverged']}"
    if cut := cut_actions(data.train, run.windows):
        yield (
            f"{cut} of {sum(len(video.labels) for video in data.train)} training actions lie whole in no window of "
            f"{run.windows.seconds:g} s: raise snippets.window to twice the length of the longest actions"
        )
