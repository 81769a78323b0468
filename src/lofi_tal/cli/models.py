"""Commands on what there is: encoders, heads, schedules, recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lofi_tal.cli.common import JsonOption, print_json, print_table, say


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    models = typer.Typer(help="Encoders, heads, schedules and shipped recipes.", no_args_is_help=True)
    models.command("list")(list_models)
    models.command("info")(info)
    app.add_typer(models, name="models")


def list_models(as_json: JsonOption = False) -> None:
    """List encoders, heads, fidelity schedules and shipped recipes."""
    from lofi_tal.encoders import create_encoder, list_encoders
    from lofi_tal.fidelity import SCHEDULES
    from lofi_tal.heads import list_heads
    from lofi_tal.recipes import recipe_names

    encoders = {name: create_encoder(name) for name in list_encoders()}
    parameters = {name: sum(p.numel() for p in encoder.parameters()) for name, encoder in encoders.items()}
    if as_json:
        rows = {name: {"channels": e.channels, "parameters": parameters[name]} for name, e in encoders.items()}
        names = {"heads": list(list_heads()), "schedules": list(SCHEDULES), "recipes": list(recipe_names())}
        print_json({"encoders": rows, **names})
        return
    print_table(
        "encoders",
        ("name", "channels", "parameters", "public weights"),
        [
            (name, encoder.channels, f"{parameters[name] / 1e6:.2f} M", ", ".join(_sources(name)) or "-")
            for name, encoder in encoders.items()
        ],
    )
    print_table("heads", ("name",), [(name,) for name in list_heads()])
    print_table("schedules", ("name",), [(name,) for name in SCHEDULES])
    print_table("recipes", ("name",), [(name,) for name in recipe_names()])


def info(
    name: Annotated[str, typer.Argument(help="An encoder of `lofi models list`.")],
    weights: Annotated[
        Path | None, typer.Option(help="A weights file: say what of it fits, what is missing and what is not used.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what an encoder is (channels, parameters, preprocessing, public weights) and whether a weights file fits."""
    from torch import nn

    from lofi_tal.encoders import create_encoder, load_weights

    encoder = create_encoder(name)
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    facts: dict[str, object] = {
        "name": name,
        "options": encoder.config,
        "channels": encoder.channels,
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "batchnorm layers": len(norms),
        "mean": [round(float(value), 6) for value in encoder.mean.flatten()],
        "std": [round(1 / float(value), 6) for value in encoder.inverse_std.flatten()],
        "public weights": _sources(name),
    }
    if weights is not None:
        facts["weights"] = f"{weights}: {load_weights(encoder, weights)}"
    if as_json:
        print_json(facts)
        return
    print_table("", ("", ""), [(key, value) for key, value in facts.items() if key != "weights"])
    if weights is not None:
        say(str(facts["weights"]))


def _sources(name: str) -> list[str]:
    from lofi_tal.encoders import PUBLIC_WEIGHTS

    return [f"{source} ({names[name]})" for source, names in PUBLIC_WEIGHTS.items() if name in names]
