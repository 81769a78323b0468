"""The command that serves the labelling studio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lofi_tal.cli.common import DeviceOption, RecursiveOption, complain, say
from lofi_tal.errors import LofiError


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
) -> None:
    """Label videos in the browser, correct a model's drafts, train, and see what went wrong.

    Everything stays on this machine. Needs the extra: pip install 'lofi-tal[studio]'

    Example: lofi studio videos/ --labels labels.json --model runs/mine
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise LofiError(
            f"lofi studio needs {error.name}, which is not installed: pip install 'lofi-tal[studio]'"
        ) from error
    from lofi_tal.studio.server import serve

    serve(
        folder,
        labels or folder / "labels.json",
        model=model,
        device=device,
        recursive=recursive,
        host=host,
        port=port,
        browser=browser,
        say=say,
        warn=complain,
    )
