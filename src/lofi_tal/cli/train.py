"""Commands that train: run, the single stages, init and demo."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lofi_tal.cli.common import (
    CompileOption,
    DeviceOption,
    JsonOption,
    MemoryOption,
    OutputOption,
    OverwriteOption,
    PatienceOption,
    PrecisionOption,
    QuietOption,
    RecipeArgument,
    ResumeOption,
    SetOption,
    ShareOption,
    StepDownOption,
    command_line,
    complain,
    percent,
    print_json,
    print_table,
    say,
)
from lofi_tal.errors import DiskFullError, LofiError
from lofi_tal.files import is_disk_full
from lofi_tal.leases import PATIENCE

if TYPE_CHECKING:
    from lofi_tal.pipeline import ArmResult, Pipeline

_MOST = 10  # files that each training names


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("run")(run)
    _add_stage(app, "pretrain", "Stage 1: train the encoder to classify trimmed clips.", _pretrain)
    _add_stage(
        app,
        "train",
        "Stage 2: train encoder and head end to end at low fidelity (after stage 1, if it is not up to date).",
        _train,
    )
    app.command("extract")(extract)
    app.command("head")(head)
    app.command("classify")(classify)
    app.command("init")(init)
    app.command("demo")(demo)


def run(
    recipe: RecipeArgument,
    output: OutputOption = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    compiling: CompileOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    memory: MemoryOption = None,
    step_down: StepDownOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run all stages of a recipe that are not up to date, evaluate, and write the report.

    Example: lofi run recipe.yaml -o runs/first --set lofi.epochs=6
    """
    pipeline = _pipeline(
        recipe, output, settings, device, precision, compiling, resume, overwrite, quiet, memory, step_down
    )
    from lofi_tal.pipeline import write_run_report
    from lofi_tal.runtime import on_first

    with _opened(pipeline):
        results = pipeline.run()
        page = on_first(lambda: write_run_report(pipeline, results, command=command_line()))
    _show(pipeline, results, as_json)
    say(f"Report: {page}")
    raise typer.Exit(_status(pipeline, _lost(pipeline, results)))


def _add_stage(app: typer.Typer, name: str, text: str, work: Callable[[Pipeline], int]) -> None:
    """Add a command that runs one stage of a recipe and those before it; ``work`` returns the exit status."""

    @app.command(name, help=text)
    def stage(
        recipe: RecipeArgument,
        output: OutputOption = None,
        settings: SetOption = None,
        device: DeviceOption = "auto",
        precision: PrecisionOption = "auto",
        compiling: CompileOption = None,
        resume: ResumeOption = False,
        overwrite: OverwriteOption = False,
        memory: MemoryOption = None,
        step_down: StepDownOption = False,
        quiet: QuietOption = False,
    ) -> None:
        pipeline = _pipeline(
            recipe, output, settings, device, precision, compiling, resume, overwrite, quiet, memory, step_down
        )
        with _opened(pipeline):
            status = work(pipeline)
        if status:
            raise typer.Exit(status)


def _pretrain(pipeline: Pipeline) -> int:
    say(f"Encoder: {pipeline.finetuned}")
    if pipeline.second is not None:
        say(f"Second encoder: {pipeline.second}")
    for name, facts in pipeline.clip_accuracies().items():
        say(f"{name}: {percent(facts['accuracy'])} % of {facts['validation_clips']} held-out clips are right")
    return _status(pipeline, {})


def _train(pipeline: Pipeline) -> int:
    _ = pipeline.data  # what is wrong with the data is said before any training
    say(f"Encoder: {pipeline.optimised}")
    return _status(pipeline, pipeline.data.failed)


def extract(
    recipe: RecipeArgument,
    output: OutputOption = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    compiling: CompileOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    memory: MemoryOption = None,
    step_down: StepDownOption = False,
    share: ShareOption = False,
    patience: PatienceOption = PATIENCE,
    quiet: QuietOption = False,
) -> None:
    """Features of all videos at full fidelity (after the stages before, if they are not up to date).

    Example: lofi extract recipe.yaml -o runs/mine --share (as often, and on as many machines, as you like)
    """
    pipeline = _pipeline(
        recipe, output, settings, device, precision, compiling, resume, overwrite, quiet, memory, step_down,
        patience if share else None,
    )  # fmt: skip
    with _opened(pipeline):
        lost = dict(pipeline.data.failed)
        for arm in pipeline.arms:
            store, videos, failed = pipeline.extract(arm)
            say(f"{arm}: features of {len(videos)} videos in {store.folder}")
            lost |= failed
        status = _status(pipeline, lost)
    if status:
        raise typer.Exit(status)


def head(
    recipe: RecipeArgument,
    output: OutputOption = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    compiling: CompileOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    memory: MemoryOption = None,
    step_down: StepDownOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stage 3: a fresh head on frozen features, detections and mAP (after the stages before)."""
    pipeline = _pipeline(
        recipe, output, settings, device, precision, compiling, resume, overwrite, quiet, memory, step_down
    )
    with _opened(pipeline):
        results = pipeline.run()
    _show(pipeline, results, as_json)
    raise typer.Exit(_status(pipeline, _lost(pipeline, results)))


def classify(
    recipe: RecipeArgument,
    scores: Annotated[Path, typer.Option(help="JSON file to write: class scores of every evaluated video.")],
    layout: Annotated[
        str, typer.Option(help="cuhk (BSN, BMN, G-TAD, OpenTAD) or hacs (G-TAD's HACS branch).")
    ] = "cuhk",
    arm: Annotated[str | None, typer.Option(help="Which features: lofi, baseline or features; the last arm's.")] = None,
    output: OutputOption = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    compiling: CompileOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fit the built-in classifier alone and export class scores of whole videos for other systems.

    The features are extracted (after the stages before) if they are not up to date. A recipe of any system, this one
    included, reads the file back with classifier.scores.
    """
    from lofi_tal.postprocess import write_cuhk_scores, write_hacs_scores

    if layout not in ("cuhk", "hacs"):
        raise LofiError(f"--layout {layout!r} is unknown; allowed: cuhk, hacs.")
    pipeline = _pipeline(recipe, output, settings, device, precision, compiling, resume, overwrite, quiet)
    with _opened(pipeline):
        result = pipeline.classify(arm or pipeline.arms[-1])
    if layout == "cuhk":
        write_cuhk_scores(scores, result.scores)
    else:
        write_hacs_scores(scores, result.scores, result.order)
    say(
        f"{scores}: {len(result.scores.scores)} videos, {len(result.scores.labels)} classes; a true class is the best "
        f"in {percent(result.accuracy['top1'])} % and among the best five in {percent(result.accuracy['top5'])} %"
    )
    raise typer.Exit(_status(pipeline, pipeline.data.failed | result.failed))


def init(
    annotations: Annotated[Path, typer.Option(help="ActivityNet-style JSON.")],
    videos: Annotated[Path, typer.Option(help="Folder of the videos.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The recipe to write.")] = Path("recipe.yaml"),
    clips: Annotated[Path | None, typer.Option(help="Kinetics-style CSV of trimmed clips for stage 1.")] = None,
    clips_root: Annotated[Path | None, typer.Option(help="Folder of the clips.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Encoder weights to start from.")] = None,
    train_subset: Annotated[str, typer.Option(help="Subset to train on.")] = "training",
    eval_subset: Annotated[str, typer.Option(help="Subset to evaluate.")] = "validation",
    trial: Annotated[
        bool,
        typer.Option(
            "--trial/--no-trial",
            help="Try stage 2 with and without its class loss on a part of the training videos, and keep what wins.",
        ),
    ] = True,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a commented recipe that fits your data and this machine, and say why.

    Example: lofi init --annotations labels.json --videos videos/ --clips clips.csv --clips-root clips/ -o recipe.yaml
    """
    from lofi_tal.initialise import write_recipe

    reasons = write_recipe(
        output,
        annotations=annotations,
        videos=videos,
        clips=clips,
        clips_root=clips_root,
        weights=weights,
        train_subset=train_subset,
        eval_subset=eval_subset,
        trial=trial,
        overwrite=overwrite,
        quiet=quiet,
    )
    print_table("", ("setting", "value", "why"), reasons)
    say(f"Recipe: {output}   next: lofi run {output}")


def demo(
    recipe: Annotated[
        str, typer.Option(help="Shipped recipe: demo, or one of the arms mini_* (`lofi models list`).")
    ] = "demo",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder; runs/<recipe> without it.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the benchmark, made if need be; <run folder>/data without it.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Embedded benchmark: tiny, small, bench, bench_broad, bench_gpu.")
    ] = "small",
    seed: Annotated[int, typer.Option(help="Of data and training.")] = 0,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """The whole story in minutes on a CPU: benchmark, stage 1, stage 3 with and without stage 2, report.

    Run again, it goes on where it stopped and skips what is up to date.
    """
    from lofi_tal.demo import run_demo

    result = run_demo(
        output or Path("runs") / recipe,
        recipe=recipe,
        data=data,
        preset=preset,
        seed=seed,
        overrides=tuple(settings or ()),
        device=device,
        overwrite=overwrite,
        quiet=quiet,
        command=command_line(),
    )
    _show(result.pipeline, result.arms, False)
    print_table("", ("stage", "time", "peak memory"), result.stages)
    say(f"Detections on {result.video.name}: {result.timeline}")
    say(f"Report: {result.report}")


def _pipeline(
    recipe: Path,
    output: Path | None,
    settings: list[str] | None,
    device: str,
    precision: str,
    compiling: str | None,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    memory: str | None = None,
    step_down: bool = False,
    patience: float | None = None,
) -> Pipeline:
    from lofi_tal.cli.plan import describe
    from lofi_tal.pipeline import Pipeline
    from lofi_tal.planning import parse_memory
    from lofi_tal.recipes import load_recipe
    from lofi_tal.runtime import describe_device

    loaded = load_recipe(recipe, tuple(settings or ()))
    pipeline = Pipeline(
        loaded,
        output or Path("runs") / loaded.name,
        device=device,
        precision=precision,
        resume=resume,
        overwrite=overwrite,
        quiet=quiet,
        memory=None if memory is None else parse_memory(memory),
        step_down=step_down,
        patience=patience,
        compile=compiling,
    )
    if pipeline.plan is not None and pipeline.plan.recommended is not None and not quiet:
        say(f"Planned: {describe(pipeline.plan.recommended, pipeline.plan)}")
    if not quiet:
        say(f"{loaded.name}: {describe_device(pipeline.fabric)}; seed {loaded.seed}; {pipeline.output}")
    return pipeline


@contextlib.contextmanager
def _opened(pipeline: Pipeline) -> Iterator[None]:
    """Hold the run folder, and say what the next command needs where the disk is full."""
    try:
        with pipeline.open(command_line()):
            yield
    except (DiskFullError, OSError) as error:
        if isinstance(error, OSError) and not is_disk_full(error):
            raise
        what = error.what if isinstance(error, DiskFullError) else str(error.filename or "a file")
        raise DiskFullError(what, " with --resume" if pipeline.interrupted else "") from error


def _show(pipeline: Pipeline, results: list[ArmResult], as_json: bool) -> None:
    if as_json:
        documents: dict[str, Any] = {
            result.arm: {"scores": result.scores, "chosen": result.chosen, "model": str(result.model)}
            for result in results
        }
        print_json(documents)
        return
    names = {
        "fused": "own class scores",
        "external": "class scores of a file",
        "agnostic": "class-agnostic",
        "oracle": "true class",
    }
    rows = []
    first = results[0].scores["fused"]
    thresholds = [round(t, 2) for t in first["tiou_thresholds"]]
    columns = [0.5, 0.75, 0.95] if 0.95 in thresholds else thresholds
    for result in results:
        for key, title in names.items():
            if key not in result.scores:
                continue
            score = result.scores[key]
            at = dict(zip(thresholds, score["mAP"], strict=True))
            rows.append((result.arm, title, *(percent(at[t]) for t in columns), percent(score["average_mAP"])))
    print_table(
        f"{pipeline.recipe.name}: mAP on {first['videos']} videos, {first['instances']} instances "
        f"of {pipeline.recipe.data.eval_subset!r}",
        ("arm", "classes", *map(str, columns), "average"),
        rows,
    )


def _lost(pipeline: Pipeline, results: list[ArmResult]) -> dict[str, str]:
    """Return why videos could not be used, by id."""
    return pipeline.data.failed | {name: why for result in results for name, why in result.failed.items()}


def _status(pipeline: Pipeline, lost: dict[str, str]) -> int:
    """Say which videos and clips a run had to do without, and return the exit status."""
    trained = pipeline.lost_in_training()
    for record, reasons in trained.items():
        for name, reason in list(reasons.items())[:_MOST]:
            complain(f"{record.parent.name}: {name} was left out: {reason}")
        complain(f"{record.parent.name}: {len(reasons)} files could not be used in training; {record} lists them all.")
    for video_id, reason in lost.items():
        complain(f"{video_id} was left out: {reason}")
    if lost:
        complain(f"{len(lost)} videos could not be used.")
    return 4 if lost or trained else 0
