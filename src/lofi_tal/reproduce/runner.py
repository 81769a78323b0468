"""Running rows of the tables, seed by seed, so that what is there at any time can be compared.

What rows of a seed have in common is done once: decoded frames, stage 1, features of equal encoders. Each row and seed
ends in one small result file; a result of the same settings and data is never made again, so the work goes on where it
stopped, on this machine or another.
"""

from __future__ import annotations

import contextlib
import gc
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.utils.deterministic

from lofi_tal.config import Recipe, make_recipe
from lofi_tal.demo import demo_recipe, make_benchmark
from lofi_tal.errors import LofiError, nearest
from lofi_tal.files import hash_file, hash_object, inside, read_json, write_text
from lofi_tal.locks import locked
from lofi_tal.recipes import load_recipe, recipe_names, shipped_recipe
from lofi_tal.reproduce.figures import measure
from lofi_tal.reproduce.motion import motion_features
from lofi_tal.reproduce.results import (
    DEFAULT,
    finished,
    read_result,
    result_path,
    results_folder,
    settings_hash,
    write_result,
)
from lofi_tal.reproduce.tables import Row
from lofi_tal.run import Run
from lofi_tal.runtime import InterruptedRunError
from lofi_tal.synthetic import PRESETS
from lofi_tal.synthetic.dataset import dataset_paths

_SEED = 0  # of the embedded benchmark: the videos are the same for every seed of the training


@dataclass(frozen=True)
class Base:
    """The recipe that the rows change.

    Args:
        name: Of the data in the results: that of the shipped recipe, or the stem of the file.
        content: Every section of the recipe.
        benchmark: Folder of the embedded benchmark and its preset, if that is the data.
    """

    name: str
    content: Mapping[str, Any]
    benchmark: tuple[Path, str] | None = None

    def recipe(self, row: Row, seed: int) -> Recipe:
        """Return the recipe of a row."""
        return make_recipe(row.content(self.content, seed), f"{self.name}, row {row.id}")

    def prepare(self, *, quiet: bool) -> str:
        """Make the embedded benchmark, if that is the data, and return a hash of truth, clips and class scores."""
        if self.benchmark is not None:
            make_benchmark(self.benchmark[0], preset=self.benchmark[1], seed=_SEED, quiet=quiet)
        data, scores = self.content["data"], self.content["classifier"]["scores"]
        clips = None if data["clips"] is None else hash_file(Path(data["clips"]))
        content = [read_json(Path(data["annotations"])), clips]
        return hash_object(content if scores is None else [*content, hash_file(Path(scores))])


def open_base(data: str | None, out: Path) -> Base:
    """Return the base recipe.

    Args:
        data: A shipped recipe or a recipe file; :data:`DEFAULT` without it. A shipped recipe without data of its own
            takes the embedded benchmark.
        out: Folder in which the embedded benchmark is made.

    Raises:
        LofiError: If there is no such recipe, or it has published features instead of an encoder.
    """
    name = data or DEFAULT
    if name in recipe_names() and "annotations" not in shipped_recipe(name).get("data", {}):
        folder = out / "data"
        recipe = demo_recipe(dataset_paths(folder), seed=0, name=name)
        return Base(name, recipe.model_dump(mode="json"), (folder, name if name in PRESETS else "small"))
    if name in recipe_names():
        recipe = make_recipe(shipped_recipe(name), name)
    elif Path(name).is_file():
        recipe = load_recipe(Path(name))
        name = Path(name).stem
    else:
        raise LofiError(
            f"--data {name!r} is neither a recipe file nor a shipped recipe.{nearest(name, recipe_names())}"
        )
    if recipe.features is not None:
        raise LofiError(f"--data {data}: the tables compare encoders, and this recipe has published features instead.")
    return Base(name, recipe.model_dump(mode="json"))


@dataclass(frozen=True)
class Runner:
    """Runs rows of one base recipe.

    Args:
        base: The base recipe.
        out: Folder for encoders, features and runs, which several base recipes and processes may share.
        results: Folder of this data's result files.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32``, ``bf16`` or ``fp16``; never chosen by a trial, or a row would not come out the same twice.
        command: The command without rows and seeds, for the results; they get the number of threads as well.
        overwrite: Replace results that were made with other settings or data.
        quiet: No progress.
    """

    base: Base
    out: Path
    results: Path
    device: str = "auto"
    precision: str = "fp32"
    command: str = "lofi reproduce"
    overwrite: bool = False
    quiet: bool = False

    def state(self, row: Row, seed: int) -> str:
        """Return ``done``, ``missing``, ``failed``, or ``other settings`` for a result that these would not give."""
        result = read_result(result_path(self.results, row.id, seed))
        if result is None:
            return "missing"
        if not finished(result):
            return "failed"
        same = result["settings"] == settings_hash(self.base.recipe(row, seed), row, self.precision)
        return "done" if same else "other settings"

    def run(self, rows: Sequence[Row], seeds: Sequence[int]) -> Iterator[tuple[Row, int, dict[str, Any]]]:
        """Run what is missing, all rows of a seed before the next seed; yield each new result.

        A row that fails leaves its reason in its result, and the others go on. Rows at which another process is at work
        are left to it, and what it makes for several rows is waited for.

        Raises:
            LofiError: If a result of other settings or data is in the way.
        """
        todo = [(row, seed) for seed in seeds for row in rows]
        states = {(row.id, seed): self.state(row, seed) for row, seed in todo}
        other = [f"{row.id} seed {seed}" for row, seed in todo if states[row.id, seed] == "other settings"]
        if other and not self.overwrite:
            raise LofiError(
                f"{self.results} holds results of other settings: {', '.join(other)}. Choose another --results folder, "
                "or add --overwrite to run these rows again."
            )
        todo = [(row, seed) for row, seed in todo if states[row.id, seed] != "done"]
        if not todo:
            return
        with locked(self.out / ".data.lock", "held", wait=True):
            data = self.base.prepare(quiet=self.quiet)
        with _deterministic():
            for row, seed in todo:
                with contextlib.ExitStack() as stack:
                    try:
                        stack.enter_context(locked(self.folder(row, seed) / ".row.lock", "held"))
                    except LofiError:
                        continue
                    if self.state(row, seed) == "done":  # by another process, meanwhile
                        continue
                    yield row, seed, self._run(row, seed, data)
                gc.collect()

    def folder(self, row: Row, seed: int) -> Path:
        """Return the run folder of a row and seed; ``failed.txt`` in it is the traceback of one that failed."""
        return inside(results_folder(self.out, self.base.name, self.precision), row.id) / f"seed-{seed}"

    def _run(self, row: Row, seed: int, data: str) -> dict[str, Any]:
        began, recipe = time.monotonic(), self.base.recipe(row, seed)
        command = f"OMP_NUM_THREADS={torch.get_num_threads()} {self.command} --rows {row.id} --seeds {seed}-{seed}"
        report = self.folder(row, seed) / "failed.txt"
        known = {
            "row": row.id,
            "title": row.title,
            "seed": seed,
            "data": self.base.name,
            "data_hash": data,
            "settings": settings_hash(recipe, row, self.precision),
            "command": command,
        }
        try:
            outcome = self._figures(row, recipe, command)
            report.unlink(missing_ok=True)
        except InterruptedRunError as error:
            raise InterruptedRunError(
                f"Stopped as asked in seed {seed}, row {row.id}; the same command goes on from there."
            ) from error
        except Exception as error:
            write_text(report, traceback.format_exc())
            outcome = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
        result = {**known, **outcome, "seconds": time.monotonic() - began}
        write_result(result_path(self.results, row.id, seed), result)
        return result

    def _figures(self, row: Row, recipe: Recipe, command: str) -> dict[str, Any]:
        folder = self.folder(row, recipe.seed)
        run = self._open(recipe, folder)
        stages: dict[str, Any] = {}
        if row.motion:
            with run.folder.alone_in(self.out / "shared" / "motion"):
                motion = motion_features(run, self.out / "shared", quiet=self.quiet)
            content = {**recipe.model_dump(mode="json"), "features": {"sources": [str(motion / "features")]}}
            run = self._open(make_recipe(content), folder)
            facts = read_json(motion / "stage.json")
            stages["motion"] = {key: facts[key] for key in ("seconds", "peak_memory_bytes")}
        with run.open(command):
            figures = measure(run, run.head(run.arms[-1]))
        return {**figures, "stages": {**stages, **figures["stages"]}}

    def _open(self, recipe: Recipe, folder: Path) -> Run:
        return Run(
            recipe,
            folder,
            device=self.device,
            precision=self.precision,
            resume=(folder / "recipe.yaml").exists(),
            overwrite=self.overwrite,
            quiet=self.quiet,
            shared=self.out / "shared",
        )


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Let torch take operations that give the same numbers every time, where it has them."""
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, fill = torch.backends.cudnn.benchmark, memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    memory.fill_uninitialized_memory = False  # nothing here reads memory that it has not written
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark, memory.fill_uninitialized_memory = benchmark, fill
