"""Everything that a finished row leaves in its result: mAP each way, recall, probes, what the grid allows, costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from lofi_tal.evaluation import THRESHOLDS, as_one_class, detections_of, score_proposals
from lofi_tal.evaluation.bootstrap import replicated_map
from lofi_tal.evaluation.detection import match_detections
from lofi_tal.evaluation.proposals import REPORTED
from lofi_tal.files import read_json
from lofi_tal.localizer import Localizer
from lofi_tal.reproduce.grid import grid_facts
from lofi_tal.reproduce.probe import probe
from lofi_tal.reproduce.results import REPLICATES, pack
from lofi_tal.run import ArmResult, Run
from lofi_tal.run.report import clip_accuracies, stage_summaries
from lofi_tal.runtime import describe_device, environment
from lofi_tal.segments import Segments
from lofi_tal.stages.extract import usable
from lofi_tal.stages.scoring import with_true_class


def measure(run: Run, result: ArmResult) -> dict[str, Any]:
    """Return the figures of a run that is done, JSON-like.

    Args:
        run: The run, with its folder open.
        result: Stage 3 of the arm in question.
    """
    data = run.data()
    features, _, failed = run.features(result.arm)
    training = features.of(usable([*data.train, *data.selection], failed))
    evaluated = features.of(usable(data.evaluation, failed))
    localised = Localizer.from_pretrained(result.model, device=run.device).localise_features(evaluated.features)
    name = data.labels[0]
    proposals = [
        with_true_class(replace(video, labels=torch.zeros(1, dtype=torch.long)), one, (name,))
        for video, one in zip(evaluated.videos, localised, strict=True)
    ]
    oracle = [with_true_class(v, p, data.labels) for v, p in zip(evaluated.videos, localised, strict=True)]
    one_class = as_one_class(data.truth)
    recall = score_proposals(one_class, detections_of(proposals, one_class))
    accuracies = clip_accuracies(run)
    ways = {"fused": list(run.detections(result.arm).values()), "agnostic": proposals, "oracle": oracle}
    if "external" in result.scores:
        ways["external"] = list(run.detections(result.arm, external=True).values())
    return {
        "scores": {
            way: {key: score[key] for key in ("average_mAP", "mAP", "tiou_thresholds", "videos", "instances")}
            for way, score in result.scores.items()
        },
        "proposals": {"AUC": recall.auc, **{f"AR@{number}": recall.at(number) for number in REPORTED}},
        "probe": probe(training, evaluated),
        "grids": [asdict(grid_facts(count, data.train, data.evaluation)) for count in _grids(run)],
        "clips": {name: facts["accuracy"] for name, facts in accuracies.items()},
        "chosen": result.chosen,
        "stages": _stages(run, result),
        "replicates": {
            "count": REPLICATES,
            **{way: _replicates(run, every, class_agnostic=way == "agnostic") for way, every in ways.items()},
        },
        "failed_videos": {**data.failed, **failed},
        "device": describe_device(run.fabric),
        "environment": environment(),
    }


def _grids(run: Run) -> list[int]:
    """Return the numbers of snippets that the run sees, full fidelity first; none where videos are cut into windows."""
    if run.windows.seconds is not None:
        return []
    low = run.schedule.fidelities if run.recipe.lofi is not None else ()
    return list(dict.fromkeys([run.recipe.snippets.count, *(fidelity.snippets for fidelity in low)]))


def _stages(run: Run, result: ArmResult) -> dict[str, dict[str, float]]:
    """Return time and peak memory of what the row is made of, whether it was done for this row or for one before."""
    stages = {
        stage.name: {"seconds": stage.seconds, "peak_memory_bytes": stage.peak_memory_bytes}
        for stage in stage_summaries(run)
        if not stage.name.startswith(f"{result.arm} ")
    }
    if result.arm != "features":
        store, _, _ = run.extract(result.arm)
        facts = read_json(store.folder.with_suffix(".json"))
        stages["extract"] = {key: facts[key] for key in ("seconds", "peak_memory_bytes")}
    stages["head"] = {key: result.chosen[key] for key in ("seconds", "peak_memory_bytes")}
    return stages


def _replicates(run: Run, detections: Sequence[Segments], *, class_agnostic: bool) -> str:
    """Return the average mAP on fixed draws of the evaluated videos, as text."""
    truth = as_one_class(run.data().truth) if class_agnostic else run.data().truth
    matched = match_detections(truth, detections_of(detections, truth), THRESHOLDS[run.recipe.data.tiou])
    return pack(replicated_map(matched, REPLICATES).mean(axis=1))
