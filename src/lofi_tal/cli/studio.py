"""The command that serves the labelling studio."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lofi_tal.cli.common import DeviceOption, RecursiveOption, complain, print_table, say
from lofi_tal.errors import LofiError, counted

if TYPE_CHECKING:
    from lofi_tal.studio.place import Place


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("studio")(studio)


def studio(
    folder: Annotated[Path, typer.Argument(help="Folder of the videos.")],
    labels: Annotated[
        Path | None, typer.Option(help="ActivityNet-style JSON, made on the first change. Default: FOLDER/labels.json.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Model folder or run folder that suggests drafts.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    host: Annotated[
        str, typer.Option(help="Address to listen at. Anything but this machine's own lets others in.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    device: DeviceOption = "auto",
    recursive: RecursiveOption = False,
    history: Annotated[
        bool, typer.Option("--history", help="List all changes of the labels, and serve nothing.")
    ] = False,
    restore: Annotated[
        int | None, typer.Option(metavar="N", help="Bring the labels back as they were after change N; serve nothing.")
    ] = None,
) -> None:
    """Label videos in the browser, correct a model's drafts, train, and see what went wrong.

    Everything stays on this machine. Needs the extra named studio: without it, the command says what to install.

    Example: lofi studio videos/ --labels labels.json --model runs/mine
    """
    from lofi_tal.studio.place import Place

    place = Place(folder, labels or folder / "labels.json", model, device, recursive)
    if history:
        _show_history(place)
    elif restore is not None:
        from lofi_tal.studio.place import restore as bring_back

        say(f"State {restore} is back in {place.labels}: changed: {counted(bring_back(place, restore), 'video')}.")
    else:
        _serve(place, host, port, browser)


def _serve(place: Place, host: str, port: int, browser: bool) -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise LofiError(
            f"lofi studio needs {error.name}, which is not installed: pip install 'lofi-tal[studio]'"
        ) from error
    from lofi_tal.studio.server import serve

    if status := serve(place, host=host, port=port, browser=browser, say=say, warn=complain):
        raise typer.Exit(status)


def _show_history(place: Place) -> None:
    from lofi_tal.studio.place import list_states

    states = list_states(place)
    rows = [(one.number, one.at, one.did, one.videos[0] if len(one.videos) == 1 else len(one.videos)) for one in states]
    print_table(
        f"{len(states)} changes of {place.labels}", ("state", "time (UTC)", "change", "video, or how many"), rows
    )
    say("--restore N brings the labels back as they were after change N; 0 is before the first one.")
