"""Commands on what there is: encoders, heads, schedules, formats, recipes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lofi_tal.cli.common import JsonOption, print_json, print_table, say
from lofi_tal.errors import LofiError

if TYPE_CHECKING:
    from lofi_tal.encoders import Encoder
    from lofi_tal.registry import Registry

_TITLES = {
    "importers": "annotation formats: lofi data convert --from",
    "writers": "detection formats, beside html: lofi detect --format",
}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    models = typer.Typer(help="Encoders, heads, schedules, formats and shipped recipes.", no_args_is_help=True)
    models.command("list")(list_models)
    models.command("info")(info)
    app.add_typer(models, name="models")


def list_models(as_json: JsonOption = False) -> None:
    """List encoders, heads, fidelity schedules, formats and shipped recipes, with their packages."""
    from lofi_tal.encoders import list_encoders
    from lofi_tal.recipes import recipe_names

    encoders = {name: _encoder_row(name) for name in list_encoders()}
    registries = _registries()
    if as_json:
        print_json({
            "encoders": encoders,
            **{title: list(registry.names()) for title, registry in registries.items()},
            "recipes": list(recipe_names()),
            "packages": {title: registry.outside() for title, registry in registries.items()},
        })  # fmt: skip
        return
    print_table(
        "encoders",
        ("name", "channels", "parameters", "public weights", "their licence", "package"),
        [
            (name, "-", "-", f"cannot be built: {row['error']}", row["licence"] or "-", row["package"])
            if "error" in row
            else (
                name,
                row["channels"] or "-",
                f"{row['parameters'] / 1e6:.2f} M" if row["parameters"] else "of its model",
                ", ".join(_sources(name)) or "-",
                row["licence"] or "-",
                row["package"],
            )
            for name, row in encoders.items()
        ],
    )
    for title, registry in registries.items():
        rows = [(name, registry.package(name)) for name in registry.names()]
        print_table(_TITLES.get(title, title), ("name", "package"), rows)
    print_table("recipes", ("name",), [(name,) for name in recipe_names()])


def _registries() -> dict[str, Registry[Any]]:
    """Return what is listed by name alone."""
    from lofi_tal.annotations.formats import READERS
    from lofi_tal.fidelity import SCHEDULES
    from lofi_tal.heads import HEADS
    from lofi_tal.tasks import TASKS
    from lofi_tal.tracking import LOGGERS
    from lofi_tal.writers import WRITERS

    return {
        "heads": HEADS,
        "tasks": TASKS,
        "schedules": SCHEDULES,
        "importers": READERS,
        "writers": WRITERS,
        "loggers": LOGGERS,
    }


def _encoder_row(name: str) -> dict[str, Any]:
    """Return what is known of an encoder; one of another package may need options, or fail."""
    from lofi_tal.encoders import ENCODERS, FOUNDATION, LICENCES, outline_encoder

    known = {"licence": LICENCES.get(name, ""), "package": ENCODERS.package(name)}
    if name == "timm" or name in FOUNDATION:  # channels and parameters are those of a model or checkpoint
        return {"channels": None, "parameters": None, **known}
    try:
        encoder = outline_encoder(name, {})
    except Exception as error:
        return {"error": str(error) or type(error).__name__, **known}
    return {"channels": encoder.channels, "parameters": sum(p.numel() for p in encoder.parameters()), **known}


def info(
    name: Annotated[str, typer.Argument(help="An encoder of `lofi models list`.")],
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights file to check: which weights fit, which are missing, which are not used."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show an encoder (channels, parameters, preprocessing, public weights), and whether a weights file fits."""
    from lofi_tal.encoders import ENCODERS, LICENCES, batchnorms, create_encoder, layer_groups

    encoder, loaded = (create_encoder(name), "") if weights is None else _with_weights(name, weights)
    takes = encoder.takes
    facts: dict[str, object] = {
        "name": name,
        "package": ENCODERS.package(name),
        "options": encoder.config,
        "channels": encoder.channels,
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "batchnorm layers": len(batchnorms(encoder)),
        "layer groups": [group for group, _ in layer_groups(encoder)],
        "mean": [round(float(value), 6) for value in encoder.mean.flatten()],
        "std": [round(float(value), 6) for value in encoder.std.flatten()],
        "takes": f"{takes.frames_text}; {takes.size_text}" + ("; square" if takes.square else ""),
        "resize": round(takes.resize, 4),
        "public weights": _sources(name),
        "their licence": LICENCES.get(name, ""),
    }
    if weights is not None:
        facts["weights"] = f"{weights}: {loaded}"
    if as_json:
        print_json(facts)
        return
    print_table("", ("", ""), [(key, value) for key, value in facts.items() if key != "weights"])
    if weights is not None:
        say(str(facts["weights"]))


def _with_weights(name: str, weights: Path) -> tuple[Encoder, str]:
    """Return an encoder with the weights of a file or folder, built as these say, and what was loaded."""
    from lofi_tal.encoders import create_encoder, identify_encoder, load_weights

    found = None
    with contextlib.suppress(LofiError):
        found = identify_encoder(weights)
    options = found.options if found is not None and found.name == name else {}
    if weights.is_dir():
        return create_encoder(name, pretrained=str(weights), **options), "all tensors loaded"
    encoder = create_encoder(name, **options)
    return encoder, str(load_weights(encoder, weights))


def _sources(name: str) -> list[str]:
    from lofi_tal.encoders import FOUNDATION, PUBLIC_WEIGHTS

    if name in FOUNDATION:
        return ["a folder of save_pretrained, or a name on the hub"]
    if name == "timm":
        return ["imagenet (timm's of the model)"]
    return [f"{source} ({names[name]})" for source, names in PUBLIC_WEIGHTS.items() if name in names]
