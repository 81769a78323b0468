"""Commands that train: run, the single stages, init and demo."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lofi_tal.cli.changes import tell_changes
from lofi_tal.cli.common import (
    DeviceOption,
    JsonOption,
    OverwriteOption,
    PatienceOption,
    QuietOption,
    RecursiveOption,
    SetOption,
    ShareOption,
    command_line,
    complain,
    pasted,
    percent,
    print_json,
    print_table,
    say,
)
from lofi_tal.cli.log import show_log
from lofi_tal.cli.run_options import RunOptions, with_run_options
from lofi_tal.cli.times import BudgetOption, DryRunOption, recipe_times
from lofi_tal.errors import DiskFullError, LofiError, counted
from lofi_tal.files import is_disk_full
from lofi_tal.leases import PATIENCE

if TYPE_CHECKING:
    from lofi_tal.run import ArmResult, Run, RunData

_MOST = 10  # files that each training names
WeightsOption = Annotated[
    Path | None, typer.Option(help="Encoder weights to start from: a file (.pth, .safetensors) or an encoder folder.")
]
LicenceOption = Annotated[
    str, typer.Option(help="Licences of public weights that may be proposed: permissive (commercial use), or any.")
]

_Trial = Annotated[
    bool,
    typer.Option(
        "--trial",
        help="Then compare stage 2 with and without its class loss on training videos, from the stage-1 encoder, and "
        "change the recipe if one is clearly better. Needs minutes to hours, prints the time first, and continues if "
        "it was interrupted.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (run, pretrain, train, extract, head, classify):
        app.command(command.__name__)(with_run_options(command))
    app.command("init")(init)
    app.command("demo")(demo)


def run(
    options: RunOptions, *, dry_run: DryRunOption = False, budget: BudgetOption = None, as_json: JsonOption = False
) -> None:
    """Run all stages of a recipe that are not up to date, evaluate, and write the report.

    Example: lofi run recipe.yaml -o runs/first --set lofi.epochs=6; how long it takes: lofi run recipe.yaml --dry-run
    """
    from lofi_tal.cli import times
    from lofi_tal.run import live_report, write_run_report
    from lofi_tal.runtime import on_first

    show_log(options.quiet)
    if dry_run:
        times.dry_run(options, budget, as_json=as_json)
    options = times.prepared(options, budget)
    run = options.open_run()
    with _opened(run):
        tell_changes(run, options.recipe)
        with live_report(run, command_line(), replaced=True):
            results = run.run()
        page = on_first(lambda: write_run_report(run, results, command=command_line()))
    _show(run, results, as_json)
    say(f"Report: {page}")
    _end(run, _lost(run, results), run.data())


def pretrain(options: RunOptions) -> None:
    """Stage 1: train the encoder to classify trimmed clips."""
    from lofi_tal.run.report import clip_accuracies

    run = options.open_run()
    with _at_work(run):
        encoder, second = run.ensure("finetune"), run.ensure("second")
        say(f"Encoder: {encoder}")
        if second is not None:
            say(f"Second encoder: {second}")
        for name, facts in clip_accuracies(run).items():
            say(f"{name}: {percent(facts['accuracy'])} % accuracy on {facts['validation_clips']} held-out clips")
    _end(run, {}, None)


def train(options: RunOptions) -> None:
    """Stage 2: train encoder and head end to end at low fidelity; runs stage 1 first if it is out of date."""
    run = options.open_run()
    with _at_work(run):
        data = _data(run)  # what is wrong with the data is said before any training
        encoder = run.ensure("lofi")
        say(f"Encoder: {encoder}")
    _end(run, data.failed, data)


def extract(
    options: RunOptions, *, share: ShareOption = False, patience: PatienceOption = PATIENCE, as_json: JsonOption = False
) -> None:
    """Extract features of all videos at full fidelity; runs earlier stages first if they are out of date.

    Example: lofi extract recipe.yaml -o runs/mine --share (on any number of machines)
    """
    run = options.open_run(patience=patience if share else None)
    with _at_work(run):
        lost, made = dict(_data(run).failed), {}
        for arm in run.arms:
            store, videos, failed = run.extract(arm)
            made[arm] = {"folder": str(store.folder), "videos": len(videos), "failed": failed}
            say(f"{arm}: features of {counted(len(videos), 'video')} in {store.folder}")
            lost |= failed
    if as_json:
        print_json(made)
    _end(run, lost, run.data())


def head(
    options: RunOptions,
    *,
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint of the head's published code: it is taken as it is.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Stage 3: train a fresh head on frozen features, detect, compute mAP; runs earlier stages first if needed."""
    if weights is not None:
        options = replace(options, settings=[*(options.settings or ()), f"head.weights={json.dumps(str(weights))}"])
    run = options.open_run()
    with _at_work(run):
        _data(run)
        results = run.run()
    _show(run, results, as_json)
    _end(run, _lost(run, results), run.data())


def classify(
    options: RunOptions,
    *,
    scores: Annotated[Path, typer.Option(help="JSON file to write, with class scores of every evaluated video.")],
    layout: Annotated[
        str, typer.Option(help="Layout: cuhk (BSN, BMN, G-TAD, OpenTAD) or hacs (G-TAD's HACS branch).")
    ] = "cuhk",
    arm: Annotated[
        str | None, typer.Option(help="Arm whose features are used: lofi, baseline or features. Default: the last.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the built-in classifier alone and export class scores of whole videos for other systems.

    Features are extracted first if they are out of date. A recipe reads the file with classifier.scores.
    """
    from lofi_tal.postprocess import write_cuhk_scores, write_hacs_scores

    if layout not in ("cuhk", "hacs"):
        raise LofiError(f"--layout {layout!r} is unknown; allowed: cuhk, hacs.")
    run = options.open_run()
    with _at_work(run):
        _data(run)
        result = run.classify(arm or run.arms[-1])
    if layout == "cuhk":
        write_cuhk_scores(scores, result.scores)
    else:
        write_hacs_scores(scores, result.scores, result.order)
    say(
        f"{scores}: {counted(len(result.scores.scores), 'video')}, {counted(len(result.scores.labels), 'class')}; "
        f"a true class is the best in {percent(result.accuracy['top1'])} % and among the best five in "
        f"{percent(result.accuracy['top5'])} %"
    )
    if as_json:
        found = {"scores": str(scores), "videos": len(result.scores.scores), "labels": list(result.scores.labels)}
        print_json({**found, "accuracy": result.accuracy})
    _end(run, run.data().failed | result.failed, run.data())


def init(
    annotations: Annotated[Path, typer.Option(help="ActivityNet-style JSON.")],
    videos: Annotated[Path, typer.Option(help="Folder of the videos.")],
    recursive: RecursiveOption = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Recipe file to write.")] = Path("recipe.yaml"),
    clips: Annotated[Path | None, typer.Option(help="Kinetics-style CSV of trimmed clips for stage 1.")] = None,
    clips_root: Annotated[Path | None, typer.Option(help="Folder of the clips.")] = None,
    weights: WeightsOption = None,
    licence: LicenceOption = "permissive",
    train_subset: Annotated[str, typer.Option(help="Subset to train on.")] = "training",
    eval_subset: Annotated[str, typer.Option(help="Subset to evaluate.")] = "validation",
    trial: _Trial = False,
    budget: BudgetOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a commented recipe that fits your data and this machine, with the reason for each value.

    Example: lofi init --annotations labels.json --videos videos/ --clips clips.csv --clips-root clips/ -o recipe.yaml
    """
    from lofi_tal.initialise import write_recipe
    from lofi_tal.video import everywhere

    show_log(quiet)
    reasons = write_recipe(
        output,
        annotations=annotations,
        videos=everywhere(videos, recursive),
        clips=clips,
        clips_root=clips_root,
        weights=weights,
        licence=licence,
        train_subset=train_subset,
        eval_subset=eval_subset,
        trial=trial,
        overwrite=overwrite,
        quiet=quiet,
    )
    if not as_json:
        print_table("", ("setting", "value", "why"), reasons)
    fitting = recipe_times(output, budget, shown=not as_json)
    if as_json:
        print_json({"recipe": str(output), "reasons": _reasons_json(reasons), "settings": fitting})
    chosen = [part for setting in fitting for part in ("--set", setting)]
    say(f"Recipe: {output}   next: {pasted('lofi', 'run', output, *chosen)}")


def _reasons_json(rows: Iterable[tuple[str, str, str]]) -> list[dict[str, str]]:
    return [dict(zip(("setting", "value", "why"), row, strict=True)) for row in rows]


def demo(
    recipe: Annotated[
        str | None, typer.Option(help="Shipped recipe: demo_quick, demo, or one of mini_* (`lofi models list`).")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder. Default: runs/<recipe>.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the benchmark, created if missing. Default: <run folder>/data.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Embedded benchmark: demo, tiny, small, bench, bench_broad or bench_gpu. Default: fits the recipe."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of data and training.")] = 0,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train stage 1 too, on a larger benchmark (recipe `demo`).")
    ] = False,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show what LoFi changes, in minutes on a CPU: train on the embedded benchmark with and without it, write a page.

    Stage 1 comes with the package; --from-scratch trains it too. The same command continues an interrupted run and
    skips finished stages.
    """
    from lofi_tal.demo import QUICK, run_demo

    if from_scratch and recipe is not None:
        raise LofiError(f"--from-scratch is the recipe demo: leave out --recipe {recipe}.")
    recipe = recipe or ("demo" if from_scratch else QUICK)
    show_log(quiet)
    result = run_demo(
        output or Path("runs") / {QUICK: "demo", "demo": "demo_from_scratch"}.get(recipe, recipe),
        recipe=recipe,
        data=data,
        preset=preset or ("demo" if recipe == QUICK else "small"),
        seed=seed,
        overrides=tuple(settings or ()),
        device=device,
        overwrite=overwrite,
        quiet=quiet,
        command=command_line(),
    )
    _show(result.run, result.arms, False)
    print_table("", ("stage", "time", "peak memory"), result.stages)
    say(f"Open this page first: {result.page}")
    say(f"The whole report: {result.report}")


@contextlib.contextmanager
def _opened(run: Run) -> Iterator[None]:
    """Hold the run folder, and say what the next command needs where the disk is full."""
    try:
        with run.open(command_line()):
            yield
    except (DiskFullError, OSError) as error:
        if isinstance(error, OSError) and not is_disk_full(error):
            raise
        what = error.what if isinstance(error, DiskFullError) else str(error.filename or "a file")
        raise DiskFullError(what, " with --resume" if run.folder.interrupted else "") from error


@contextlib.contextmanager
def _at_work(run: Run) -> Iterator[None]:
    """Hold the run folder, and keep its report up to date."""
    from lofi_tal.run import live_report

    with _opened(run), live_report(run, command_line()):
        yield


def _data(run: Run) -> RunData:
    """Return the data of a run, after it has been written down what of it is used."""
    from lofi_tal.run.report import record_data
    from lofi_tal.runtime import on_first

    data = run.data()
    on_first(lambda: record_data(run))
    return data


def _show(run: Run, results: list[ArmResult], as_json: bool) -> None:
    if as_json:
        from lofi_tal.run.report import data_json

        documents: dict[str, Any] = {
            result.arm: {
                "scores": result.scores,
                **({"events": result.events} if result.events else {}),
                "chosen": result.chosen,
                "model": str(result.model),
            }
            for result in results
        }
        print_json({**documents, "data": data_json(run.data())})
        return
    from lofi_tal.cli.events import show_run_events

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
        f"{run.recipe.name}: mAP on {counted(first['videos'], 'video')}, {counted(first['instances'], 'instance')} "
        f"of {run.recipe.data.eval_subset!r}",
        ("arm", "classes", *map(str, columns), "average"),
        rows,
    )
    show_run_events({result.arm: result.events for result in results})


def _lost(run: Run, results: list[ArmResult]) -> dict[str, str]:
    """Return why videos could not be used, by id."""
    return run.data().failed | {name: why for result in results for name, why in result.failed.items()}


def _end(run: Run, lost: dict[str, str], data: RunData | None) -> None:
    """List skipped videos, clips and annotations, and exit with status 4 if there are any."""
    from lofi_tal.run.report import lost_in_training, tell_dropped

    trained = lost_in_training(run)
    for record, reasons in trained.items():
        for name, reason in list(reasons.items())[:_MOST]:
            complain(f"{record.parent.name}: {name} was left out: {reason}")
        complain(f"{record.parent.name}: not used in training: {counted(len(reasons), 'file')}; {record} lists all.")
    for video_id, reason in lost.items():
        complain(f"{video_id} was left out: {reason}")
    if lost:
        complain(f"Not used: {counted(len(lost), 'video')}.")
    for line in tell_dropped(data) if data else ():
        complain(line)
    raise typer.Exit(4 if lost or trained or (data and data.dropped) else 0)
