"""The group `lofi data`: what other modules have of it, and cache, export-features, synth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lofi_tal.cli import annotations as annotation_commands
from lofi_tal.cli import splitting, versions
from lofi_tal.cli.common import (
    JsonOption,
    OutputOption,
    PatienceOption,
    QuietOption,
    RecipeArgument,
    SetOption,
    ShareOption,
    command_line,
    complain,
    print_json,
    say,
)
from lofi_tal.errors import counted
from lofi_tal.leases import PATIENCE


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    data = typer.Typer(help="Check, convert, split, describe or create data sets.", no_args_is_help=True)
    annotation_commands.register(data)
    splitting.register(data)
    versions.register(data)
    data.command("cache")(cache)
    data.command("export-features")(export_features)
    data.command("synth")(synth)
    app.add_typer(data, name="data")


def cache(
    recipe: RecipeArgument,
    output: OutputOption = None,
    settings: SetOption = None,
    share: ShareOption = False,
    patience: PatienceOption = PATIENCE,
    quiet: QuietOption = False,
) -> None:
    """Decode all videos of a recipe once, before any training, into the frame cache of its run folder.

    One pass over a file serves all fidelities of stage 2. Cached videos are not decoded again. Without this command,
    training fills the cache in its first epoch. Exit status 4 if a video cannot be decoded.

    Example: lofi data cache recipe.yaml -o runs/mine
    """
    from lofi_tal.recipes import load_recipe
    from lofi_tal.run import Run

    loaded = load_recipe(recipe, tuple(settings or ()))
    run = Run(
        loaded,
        output or Path("runs") / loaded.name,
        device="cpu",
        precision="fp32",
        quiet=quiet,
        patience=patience if share else None,
    )
    with run.open(command_line(), trains=False):
        whole, failed = run.fill_cache()
    held, limit = run.cache.held_bytes() / 2**30, loaded.data.cache_gib
    say(f"{run.cache.folder}: {held:.2f} GiB (limit {limit:g} GiB)")
    if not whole:
        complain(
            "The cache or its disk is full: other videos are decoded each time they are needed. Raise data.cache_gib."
        )
    for video_id, reason in failed.items():
        complain(f"{video_id}: {reason}")
    if failed:
        raise typer.Exit(4)


def export_features(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write <id>.npy files to.")],
    arm: Annotated[str, typer.Option(help="Arm whose encoder computed the features: lofi or baseline.")] = "lofi",
) -> None:
    """Write a run's features as OpenTAD and ActionFormer read them: one .npy file a video, (snippets, channels).

    Example: lofi data export-features runs/mine -o features/
    """
    from lofi_tal.features import export_npy

    exported, failed = export_npy(run / "arms" / arm / "features", output)
    say(f"{counted(exported, 'video')}: {output}")
    for reason in failed:
        complain(reason)
    if failed:
        raise typer.Exit(4)


def synth(
    output: Annotated[Path, typer.Argument(help="Folder to create; an incomplete one is completed.")],
    preset: Annotated[
        str, typer.Option(help="tiny (tests), small (demo), bench, bench_broad, bench_gpu (experiments).")
    ] = "small",
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same bytes.")] = 0,
    overlap: Annotated[
        bool, typer.Option("--overlap", help="Two objects act in every video, in two classes that overlap.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Rendering processes. Default: all cores.")] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Create the embedded benchmark: real encoded videos whose classes differ only in motion."""
    from lofi_tal.demo import make_benchmark

    dataset = make_benchmark(output, preset=preset, seed=seed, overlap=overlap, workers=workers, quiet=quiet)
    made = {"annotations": dataset.annotations, "videos": dataset.videos, "clips": dataset.clips_csv}
    if as_json:
        print_json({name: str(path) for name, path in made.items()})
        return
    for path in made.values():
        say(str(path))
