"""A trial on training videos: does stage 2 gain from its class loss on this data?"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lofi_tal.config import Recipe, make_recipe
from lofi_tal.data import TruthVideo, split_selection
from lofi_tal.errors import counted
from lofi_tal.evaluation import bootstrap_detections
from lofi_tal.files import write_json
from lofi_tal.planning.measure import measure_step
from lofi_tal.progress import duration_text
from lofi_tal.recipes.encoder import arguments_of
from lofi_tal.run import Run, RunData
from lofi_tal.runtime import precision_of

logger = logging.getLogger("lofi_tal")
LEAST_JUDGED = 10
"""Videos that judge a trial, at least; fewer show no difference that is not chance."""

_MOST_LEARNT, _MOST_JUDGED = 60, 40  # videos
_EPOCHS = 6
_WEIGHTS = (0.0, 1.0)
_FORWARD = 1 / 3  # of a training step


@dataclass(frozen=True)
class Verdict:
    """What a trial decides: the weight of the class loss, and why."""

    class_loss: float
    reason: str


def try_class_loss(recipe: Recipe, folder: Path, run_folder: Path, *, overwrite: bool, quiet: bool) -> Verdict:
    """Try stage 2 with and without its class loss, and keep the recipe's choice unless the other is clearly better.

    Both start from the encoder of the recipe's own stage 1, which is trained in the run folder, where a run of the
    recipe takes it up. They learn on training videos and are judged on the recipe's selection videos, with the paired
    bootstrap over these: the other choice must win in 95 % of the draws from either side. Interrupted, the same call
    goes on.

    Args:
        recipe: The recipe; it needs stage 2.
        folder: Folder of the trial.
        run_folder: Folder of the run that the recipe will have.
        overwrite: Begin a trial of other data again.
        quiet: No progress.

    Raises:
        LofiError: If the run folder holds another run.
    """
    assert recipe.lofi is not None
    run = Run(recipe, run_folder, resume=(run_folder / "recipe.yaml").exists(), quiet=quiet)
    data = run.data()
    default = recipe.lofi.class_loss
    learn, judge = _some(data.train, _MOST_LEARNT, recipe.seed), _some(data.selection, _MOST_JUDGED, recipe.seed)
    if len(judge) < LEAST_JUDGED:
        reason = f"not tried: {len(judge)} selection videos would judge, and fewer than {LEAST_JUDGED} show only chance"
        logger.warning("lofi.class_loss: %s; it stays %g.", reason, default)
        return Verdict(default, reason)
    logger.info("%s", _cost(recipe, run, data, len(learn), len(judge)))
    with run.open():
        start = run.ensure("finetune")
    truth = truth_document(learn, data.labels, "training")
    truth["database"] |= truth_document(judge, data.labels, "validation")["database"]
    write_json(folder / "trial.json", truth)
    for weight in _WEIGHTS:
        trial, output = _trial_recipe(recipe, folder / "trial.json", start, weight), _output(folder, weight)
        logger.info("%s: %s", trial.name, output)
        again = (output / "recipe.yaml").exists()
        one = Run(trial, output, resume=again, overwrite=overwrite, shared=folder / "shared", quiet=quiet)
        with one.open():
            one.run()
    return judged(truth, _output(folder, _WEIGHTS[0]), _output(folder, _WEIGHTS[1]), default, len(learn))


def judged(truth: dict[str, Any], without: Path, with_it: Path, default: float, learnt: int) -> Verdict:
    """Return what the detections of two finished trials say.

    Args:
        truth: ActivityNet document whose validation videos judge.
        without: Run folder of the trial without the class loss.
        with_it: Run folder of the trial with it.
        default: Weight of the class loss if they do not differ clearly.
        learnt: Number of videos that both learnt on.
    """
    paths = [str(folder / "arms" / "lofi" / "detections.json") for folder in (with_it, without)]
    result = bootstrap_detections(truth, paths[0], baseline=paths[1])
    gain = result.average_mAP
    clear = gain.low > 0 or gain.high < 0
    chosen = default if not clear else float(gain.value > 0)
    figures = (
        f"average mAP on {counted(result.videos, 'selection video')} {100 * gain.value:+.1f} with the class loss "
        f"(95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f}) after a trial on {counted(learnt, 'video')}"
    )
    outcome = "clear" if clear else "no clear difference, so the default stays"
    return Verdict(chosen, f"{figures}: {outcome}; one seed")


def _output(folder: Path, weight: float) -> Path:
    return folder / f"class-loss-{weight:g}"


def _some(videos: list[TruthVideo], most: int, seed: int) -> list[TruthVideo]:
    """Return at most so many videos, of every class its share."""
    return videos if len(videos) <= most else split_selection(videos, most / len(videos), seed)[1]


def _trial_recipe(recipe: Recipe, annotations: Path, start: Path | None, class_loss: float) -> Recipe:
    """Return the recipe of a short run from an encoder, whose stage 2 has this class loss."""
    content = recipe.model_dump(mode="json")
    content["data"] |= {
        "annotations": str(annotations.absolute()),
        "train_subset": "training",
        "eval_subset": "validation",
        "selection_share": 0.0,
    }
    content["encoder"] |= {"weights": None if start is None else str(start.absolute()), "pretrained": None}
    content["lofi"] |= {"epochs": _EPOCHS, "lr_step": max(1, _EPOCHS // 3), "class_loss": class_loss}
    content["head"] |= {"lrs": [1e-3], "refit": False}
    name = f"trial with class loss {class_loss:g}"
    return make_recipe({**content, "name": name, "pretrain": None, "finetune": None, "baseline": False})


def _cost(recipe: Recipe, run: Run, data: RunData, learn: int, judge: int) -> str:
    """Return what the trial will take, from one step that is measured here."""
    section, fidelity = recipe.lofi, run.schedule.fidelities[0]
    assert section is not None
    options = {key: value for key, value in run.new_head(1).config.items() if key != "in_channels"}
    step = measure_step(
        adapting=recipe.encoder.adapting(),
        encoder=arguments_of(recipe.encoder),
        head={"name": recipe.head.name, **options},
        videos=1,
        snippets=fidelity.snippets,
        frames=recipe.snippets.frames,
        size=fidelity.size,
        strategy={"name": section.strategy, "chunk": section.chunk, "gradient_share": section.gradient_share},
        precision=precision_of(run.fabric),
        optimizer=section.optimizer,
    )["seconds"]
    clip = step / fidelity.snippets * (recipe.snippets.size / fidelity.size) ** 2
    full = clip * recipe.snippets.count * _FORWARD
    trial = len(_WEIGHTS) * (_EPOCHS * learn * step + (learn + judge) * full)
    text = (
        f"The trial: twice {_EPOCHS} epochs of stage 2 on {counted(learn, 'video')}, judged on {judge} others: about "
        f"{duration_text(trial)} of computing on this machine; decoding and heads come on top."
    )
    if recipe.pretrain is not None and not (run.output / "pretrain" / "stage.json").exists():
        clips = len(run.clips().train)
        first = duration_text(clips * recipe.pretrain.epochs * clip)
        text += f" Stage 1 comes first, about {first} more, in {run.output}, where `lofi run` takes it up."
    return f"{text} Interrupted, the same command goes on."


def truth_document(videos: Iterable[TruthVideo], labels: Sequence[str], subset: str) -> dict[str, Any]:
    """Return the truth of some videos as an ActivityNet document, to evaluate on exactly these."""
    return {
        "database": {
            video.video_id: {
                "subset": subset,
                "duration": video.clock.end,
                "annotations": [
                    {"segment": record["segment"], "label": record["label"]}
                    for record in video.to_segments(labels).to_activitynet()
                ],
            }
            for video in videos
        }
    }
