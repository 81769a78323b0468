"""How long a run takes, and what it needs, before it begins: measured by a few real steps, told as a table."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lofi_tal.config import Recipe
from lofi_tal.data import TruthVideo, training_windows, whole_files_fit
from lofi_tal.errors import LofiError
from lofi_tal.planning.budget import fit_budget
from lofi_tal.planning.work import Amounts, Estimate, estimate
from lofi_tal.recipes.encoder import full_of
from lofi_tal.run.context import Context
from lofi_tal.run.folder import looked_at
from lofi_tal.run.memory import predicted_peak
from lofi_tal.run.origin import REPLACED, Origin
from lofi_tal.run.origin_files import origin_of, read_origin
from lofi_tal.run.outlook import Outlook, outlook
from lofi_tal.run.parts import check_parts
from lofi_tal.run.run import Run
from lofi_tal.run.timing import Trial, amounts_of, clips_of
from lofi_tal.run.training import held_out_looks
from lofi_tal.video import View, entry_bytes


@dataclass(frozen=True)
class Forecast:
    """What a run will take.

    Args:
        recipe: What was measured.
        amounts: Of its data.
        seconds: Of a unit of work by key.
        peak: Bytes that a stage holds, where it was measured.
        predicted: Bytes that stage 2 is predicted to hold, where it was not measured; 0 otherwise.
        cache: Bytes of the frame cache.
        lost: Reason for each video or clip that cannot be used.
        outlook: What a run in the folder would do again, if there is one or it starts from another.
    """

    recipe: Recipe
    amounts: Amounts
    seconds: dict[str, float]
    peak: dict[str, int]
    predicted: float
    cache: int
    lost: dict[str, str]
    outlook: Outlook | None = None

    @property
    def estimate(self) -> Estimate:
        """How long each part takes."""
        return estimate(self.recipe, self.amounts, self.seconds)

    def seconds_of(self, recipe: Recipe) -> float:
        """Return how long another recipe takes whose epochs, rates or frames differ: frames count by their pixels."""
        pixels = (recipe.snippets.size / self.recipe.snippets.size) ** 2
        scaled = {}
        ours, theirs = _lofi_keys(self.recipe), _lofi_keys(recipe)
        for key, value in self.seconds.items():
            frames = key not in ("files", "head", "classifier", "score", "choices", "evaluate") and "start" not in key
            name = dict(zip(ours, theirs, strict=False)).get(key, key)
            scaled[name] = value * pixels if frames else value
        return estimate(recipe, self.amounts, scaled).total


def _lofi_keys(recipe: Recipe) -> list[str]:
    if recipe.lofi is None or recipe.features is not None:
        return []
    schedule = recipe.lofi.fidelities_over(full_of(recipe))
    return [f"lofi {fidelity}" for fidelity in schedule.fidelities]


def forecast(
    recipe: Recipe,
    *,
    output: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    compile: str | None = None,
    memory: int | None = None,
    start_from: Path | None = None,
) -> Forecast:
    """Measure a few real steps of every stage in a scratch folder; everything that can be checked is checked first.

    Args:
        recipe: The recipe.
        output: The folder of a run, whose knowledge of the files is used; nothing is written there.
        device: As of the run.
        precision: As of the run.
        compile: As of the run.
        memory: As of the run.
        start_from: As of the run.

    Raises:
        LofiError: If something is wrong with the recipe, or several processes are at work.
        DataError: If something is wrong with the data.
    """
    asked, origin = recipe, _origin(recipe, output, start_from)
    recipe = recipe if origin is None else recipe.model_copy(update=dict.fromkeys(REPLACED))
    with tempfile.TemporaryDirectory(prefix="lofi-trial-") as scratch:
        known = recipe.data.manifest or (None if output is None else output / "videos.jsonl")
        if known is not None and known.exists():
            (Path(scratch) / "run").mkdir()
            (Path(scratch) / "run" / "videos.jsonl").write_bytes(known.read_bytes())
        data = recipe.data.model_copy(update={"manifest": None, "cache": None})  # nothing is written there
        recipe = recipe.model_copy(update={"data": data})
        options = {"device": device, "precision": precision, "compile": compile}
        run = Run(recipe, Path(scratch) / "run", quiet=True, memory=memory, **options)  # type: ignore[arg-type]
        if run.fabric.world_size > 1:
            raise LofiError("Times are measured by one process: start the command without torchrun or srun.")
        run.origin = origin
        began = time.perf_counter()
        lost, amounts = run.data().failed, amounts_of(run)  # examines every file that is not known yet
        examined = time.perf_counter() - began
        check_parts(run)
        trial = Trial(run, Path(scratch) / "trial").run()
        trains = run.recipe.lofi is not None and run.recipe.features is None
        predicted = predicted_peak(run.recipe, run.fabric) if trains and "lofi" not in trial.peak else 0.0
        files = amounts.videos + amounts.clips + amounts.clip_checks
        seconds = {"files": examined / max(1, files), **trial.seconds}
        cache, looked = cache_bytes(run), _looked(run, output, asked)
        return Forecast(run.recipe, amounts, seconds, trial.peak, predicted, cache, dict(lost), looked)


def _looked(run: Run, output: Path | None, recipe: Recipe) -> Outlook | None:
    """Return what a run in ``output`` would do again, if there is one or it starts from another."""
    if output is None or (run.origin is None and not (output / "recipe.yaml").exists()):
        return None
    return outlook(run, output, recipe, run.origin)


def _origin(recipe: Recipe, output: Path | None, start_from: Path | None) -> Origin | None:
    """Return the weights that a run in ``output`` would start from; nothing is written."""
    if output is None:
        return None if start_from is None else read_origin(start_from.absolute())
    folder = looked_at(output, recipe.tracking)
    return origin_of(folder, start_from)


def within(found: Forecast, budget: float) -> tuple[list[str], Forecast]:
    """Return the settings with which a run fits into ``budget`` seconds, and what it then takes, by calculation.

    Raises:
        LofiError: If nothing fits.
    """
    settings, recipe = fit_budget(found.recipe, found.seconds_of, budget)
    if not settings:
        return settings, found
    return settings, replace(found, recipe=recipe)


def cache_bytes(context: Context) -> int:
    """Return the bytes of the frame cache that a run fills: those of every entry, at most its limit."""
    limit = context.cache.limit_bytes
    if context.cache.folder is None or context.recipe.features is not None:
        return 0
    total = 0
    for path, views in _views(context):
        record = context.manifest.known.get(str(path.absolute()))
        if record is None:
            continue
        entries = {(view.short_side, np.unique(view.times).tobytes()): view for view in views}
        total += sum(entry_bytes(view, record.height, record.width) for view in entries.values())
        if total > limit:
            return limit
    return total


def _views(context: Context) -> Iterator[tuple[Path, list[View]]]:
    """Yield each file with the views of it that are kept."""
    recipe, data = context.recipe, context.data()
    views: dict[Path, list[View]] = defaultdict(list)
    snippets = context.snippets(data.videos)
    if recipe.lofi is not None:
        for video in training_windows(data.train, context.windows):
            views[video.file.path] += [snippets.view(video, fidelity) for fidelity in context.schedule.fidelities]
        if looks := held_out_looks(context):
            for video in looks.seen.videos:
                views[video.file.path].append(looks.seen.view(video, looks.fidelity))
    for video in data.videos:
        pieces = context.windows.pieces(context.windows.snippets(video.file.duration))
        for piece in pieces:
            part: TruthVideo = replace(video, window=piece)
            views[video.file.path].append(snippets.view(part, replace(context.full, snippets=piece.count)))
    for section in (recipe.pretrain, recipe.finetune, recipe.second):
        if section is None:
            continue
        clips = clips_of(context, section)
        everything = [*clips.train, *clips.validate]
        if not whole_files_fit(
            everything, recipe.snippets.size, recipe.data.cache_gib * 2**30, context.full.takes.resize
        ):
            continue  # single clips, drawn anew in every epoch: they fill what is left
        for file in {clip.file for clip in everything}:
            every = (np.arange(file.frames) + 0.5) * file.duration / file.frames
            views[file.path].append(View(every, round(recipe.snippets.size * context.full.takes.resize)))
    yield from views.items()
