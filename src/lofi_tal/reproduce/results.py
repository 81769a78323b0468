"""What a row left for one seed: one small JSON file, which is all that the tables are made from.

``results/<data>/<row>/seed-<n>.json``, or ``results/<data>-bf16/...`` for rows in bf16. Files of several machines go
into one folder; nothing else needs to be kept. Detections are not in it; for intervals over videos it holds the average
mAP on fixed draws of the videos, which pair up between rows and seeds.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.config import Recipe
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import hash_object, inside, write_json
from lofi_tal.reproduce.result_file import FORMAT, checked_result
from lofi_tal.reproduce.tables import Row
from lofi_tal.runtime import device

DEFAULT = "bench"
"""The base recipe of the rows without ``--data``."""
PRECISIONS = tuple(name for name in device.PRECISIONS if name != "auto")  # a trial would not come out the same twice
REPLICATES = 1000
WAYS = {
    "external": "class scores of a file",
    "oracle": "true class",
    "agnostic": "class-agnostic",
    "fused": "own class scores",
}
"""Ways to evaluate; the first that a result has is its main figure. The paper takes class scores from an external
classifier that is the same for every row: with the true class, too, only the localisation differs."""


def settings_of(recipe: Recipe, row: Row, precision: str) -> dict[str, Any]:
    """Return everything that decides a row's figures but seed and data: no folder, nothing of how it is run.

    Values that are the defaults are left out, so that a setting that a later version adds changes nothing here.
    """
    content = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"name", "seed", "features", "tracking"})
    for key in ("annotations", "videos", "manifest", "clips", "clips_root", "workers", "cache_gib"):
        content["data"].pop(key, None)
    for section, key in (("encoder", "weights"), ("classifier", "scores")):
        if path := content.get(section, {}).get(key):
            content[section][key] = Path(path).name
    return {**content, "motion": row.motion, "precision": precision}


def settings_hash(recipe: Recipe, row: Row, precision: str) -> str:
    """Return a hash of :func:`settings_of`."""
    return hash_object(settings_of(recipe, row, precision))


def reproduce_command(data: str | None = None, precision: str = "fp32", device: str = "auto") -> str:
    """Return the command with all that the figures of a row depend on but row and seed."""
    options = {"--data": (data, DEFAULT), "--device": (device, "auto"), "--precision": (precision, "fp32")}
    said = [part for name, (value, usual) in options.items() if value and value != usual for part in (name, value)]
    return shlex.join(["lofi", "reproduce", *said])


def results_folder(root: Path, data: str, precision: str) -> Path:
    """Return the folder of the results of some data; those of another precision than fp32 are kept apart.

    Raises:
        LofiError: If the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise LofiError(f"precision {precision!r} is unknown; allowed: {', '.join(PRECISIONS)}.")
    return inside(root, data if precision == "fp32" else f"{data}-{precision}")


def result_path(folder: Path, row: str, seed: int) -> Path:
    """Return the file of a row and seed."""
    return inside(folder, row) / f"seed-{seed}.json"


def read_result(path: Path) -> dict[str, Any] | None:
    """Return a result, or None if there is none.

    Raises:
        DataError: If the file is not one of this version.
    """
    if not path.exists():
        return None
    return checked_result(path)


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result in one atomic step."""
    write_json(path, {"format": FORMAT, **result})


def finished(result: Mapping[str, Any] | None) -> bool:
    """Say whether there is a result, and the row did not fail."""
    return result is not None and "failed" not in result


def read_results(folder: Path, rows: Iterable[str]) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the finished results by row and seed; a row without any is empty.

    Raises:
        DataError: If a file is damaged, or seeds of one row, or rows, saw different data.
    """
    by_row: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        results = {}
        for path in sorted(inside(folder, row).glob("seed-*.json")):
            result = read_result(path)
            if result is not None and finished(result):
                results[int(result["seed"])] = result
        by_row[row] = dict(sorted(results.items()))
    for row, results in by_row.items():
        if len({result["settings"] for result in results.values()}) > 1:
            raise DataError(
                f"{inside(folder, row)} mixes results of different settings: run them again with --overwrite."
            )
    every = [result["replicates"] for results in by_row.values() for result in results.values()]
    if len({len(draws.split()) for one in every for key, draws in one.items() if key != "count"}) > 1:
        raise DataError(f"{folder} mixes results with different numbers of draws: run them again with --overwrite.")
    hashes = {
        result["data_hash"]: f"{row} seed {seed}" for row, results in by_row.items() for seed, result in results.items()
    }
    if len(hashes) > 1:
        raise DataError(f"{folder} mixes results of different data: {', '.join(hashes.values())} differ.")
    return by_row


def main_way(results: Iterable[Mapping[str, Any]]) -> str:
    """Return the first way of evaluation that all results have."""
    results = list(results)
    return next((way for way in WAYS if results and all(way in result["scores"] for result in results)), "oracle")


def pack(values: NDArray[np.float64]) -> str:
    """Return shares as text with five digits, on one line."""
    return " ".join(f"{value:.5f}" for value in values)


def unpack(text: str) -> NDArray[np.float64]:
    """Return what :func:`pack` wrote."""
    return np.array(text.split(), dtype=np.float64)
