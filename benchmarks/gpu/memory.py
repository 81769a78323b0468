"""(b) What `lofi plan` predicts against what a training step holds, at the paper's setting.

L = 100, T = 8, G-TAD; TSM-ResNet-18 and -50 at 224 pixels, R(2+1)D-18 at 112; full, S, T and ST fidelity. One video of
full fidelity, four of the others, which cost the same. A row holds the peak of the first step, in which cuDNN tries its
algorithms, and that of the second one, which the prediction is held against. Limits: 10 % on every row; S, T and ST
within 15 % of each other. What the process holds beside a step (cuBLAS's workspaces, about 0.1 GiB) is measured with a
tiny step before, and taken off.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache, partial
from typing import Any

import torch

from benchmarks.gpu.setting import Jobs, Row, Setting
from lofi_tal.encoders import create_encoder
from lofi_tal.fidelity import Fidelity, create_schedule, full_fidelity
from lofi_tal.heads import create_head
from lofi_tal.heads.alignment import roi_align_interpolation, valid_anchors
from lofi_tal.planning import StepModel
from lofi_tal.planning.measure import train_steps
from lofi_tal.runtime import free_unused, tuned_convolutions
from lofi_tal.stages.strategies import STRATEGIES, Strategy

TITLE = "memory of a training step: predicted and measured"
ENCODERS = {"tsm_resnet18": 224, "tsm_resnet50": 224, "r2plus1d_18": 112}
FRAMES = 8
LIMIT = 0.10
SPREAD = 0.15  # of the memory of S, T and ST
_SPARE = 0.92  # of the device's memory: what is predicted above it is not tried


def jobs(setting: Setting) -> Jobs:
    """Yield a job for each encoder, precision, strategy and fidelity; predictions run on the CPU beside them."""
    encoders = {"tsm_resnet18_narrow": 48} if setting.smoke else ENCODERS
    strategies = STRATEGIES[::2] if setting.smoke else STRATEGIES

    @cache
    def predictions() -> dict[tuple[str, str], Future[dict[str, float]]]:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(len(encoders) * len(setting.precisions), mp_context=context)
        return {
            (name, precision): pool.submit(predict, name, precision, strategies, _fidelities(size, setting.smoke))
            for name, size in encoders.items()
            for precision in setting.precisions
        }

    for precision in setting.precisions:
        for name, size in encoders.items():
            for strategy in strategies:
                for fidelity in _fidelities(size, setting.smoke):
                    predicted = partial(lambda key: predictions()[key].result(), (name, precision))
                    key = f"{name} {precision} {strategy} {fidelity.name}"
                    yield key, partial(_measure, setting, name, precision, strategy, fidelity, predicted)


def _fidelities(size: int, smoke: bool) -> list[Fidelity]:
    full = full_fidelity(8 if smoke else 100, size)
    return [full, *(create_schedule(name, full).fidelities[0] for name in (("t",) if smoke else ("s", "t", "st")))]


def videos_of(fidelity: Fidelity) -> int:
    """Return how many videos a step has."""
    return 1 if fidelity.name == "full" else 4


def predict(name: str, precision: str, strategies: tuple[str, ...], fidelities: list[Fidelity]) -> dict[str, float]:
    """Return the bytes of a step for each strategy and fidelity, by ``"strategy fidelity"``."""
    torch.set_num_threads(1)
    encoder = create_encoder(name)
    model = StepModel(encoder, create_head("gtad", encoder.channels), frames=FRAMES, optimizer="sgd", momentum=0.0)
    return {
        f"{strategy} {fidelity.name}": model.memory(videos_of(fidelity), fidelity, Strategy(strategy), precision).peak
        for strategy in strategies
        for fidelity in fidelities
    }


def _measure(
    setting: Setting, name: str, precision: str, strategy: str, fidelity: Fidelity, predicted: Any, seconds: float
) -> Row:
    expected = predicted()[f"{strategy} {fidelity.name}"]
    row: Row = {"videos": videos_of(fidelity), "fidelity": str(fidelity), "predicted_gib": expected / 2**30}
    total = torch.cuda.get_device_properties(0).total_memory if setting.device.type == "cuda" else 2**40
    if expected > _SPARE * total:
        return {**row, "left_out": f"predicted above {_SPARE:.0%} of the device's {total / 2**30:.0f} GiB"}
    peaks: list[int] = []

    def note() -> None:
        if setting.device.type == "cuda":
            peaks.append(torch.cuda.max_memory_allocated() - held)
            torch.cuda.reset_peak_memory_stats()
        else:
            peaks.append(0)

    request = {
        "encoder": {"name": name}, "head": {"name": "gtad"}, "videos": videos_of(fidelity),
        "snippets": fidelity.snippets, "frames": FRAMES, "size": fidelity.size, "strategy": {"name": strategy},
        "precision": precision, "optimizer": "sgd", "momentum": 0.0, "steps": 2,
    }  # fmt: skip
    train_steps({**request, "videos": 1, "snippets": 2, "size": 32, "steps": 1}, setting.device)
    _free(setting)
    held = torch.cuda.memory_allocated() if setting.device.type == "cuda" else 0
    row["held_gib"] = held / 2**30
    try:
        with tuned_convolutions(setting.device):
            row["seconds"] = train_steps(request, setting.device, after=note)
    except torch.OutOfMemoryError as error:
        row["out_of_memory"] = str(error).splitlines()[0]
        return row
    finally:
        _free(setting)
    row |= {"first_gib": peaks[0] / 2**30, "measured_gib": peaks[1] / 2**30}
    if peaks[1]:
        row["error_share"] = expected / peaks[1] - 1
    return row


def _free(setting: Setting) -> None:
    roi_align_interpolation.cache_clear()
    valid_anchors.cache_clear()
    free_unused()
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def show(rows: dict[str, Row]) -> list[str]:
    """Return a line for each row, the largest error, and how far S, T and ST lie apart."""
    lines = []
    for key, row in rows.items():
        if "measured_gib" in row:
            off = f"{row['error_share']:+.1%}" if "error_share" in row else ""
            lines.append(
                f"{key:44} predicted {row['predicted_gib']:7.2f} GiB, measured {row['measured_gib']:7.2f} "
                f"(first step {row['first_gib']:.2f}) {off}"
            )
        else:
            lines.append(
                f"{key:44} predicted {row['predicted_gib']:7.2f} GiB; {row.get('left_out') or 'out of memory'}"
            )
    errors = [abs(row["error_share"]) for row in rows.values() if "error_share" in row]
    if errors:
        lines.append(f"largest error {max(errors):.1%} of {len(errors)} rows (limit {LIMIT:.0%})")
    spread = [max(group) / min(group) - 1 for group in _phases(rows)]
    if spread:
        lines.append(f"S, T, ST: at most {max(spread):.1%} apart (limit {SPREAD:.0%})")
    return lines


def _phases(rows: dict[str, Row]) -> list[list[float]]:
    groups: dict[str, list[float]] = {}
    for key, row in rows.items():
        name, _, fidelity = key.rpartition(" ")
        if fidelity != "full" and "plain" in key and row.get("measured_gib"):
            groups.setdefault(name, []).append(row["measured_gib"])
    return [group for group in groups.values() if len(group) == 3]


def is_good(rows: dict[str, Row]) -> bool:
    """Say whether every prediction is within the limit, and S, T and ST lie close together."""
    close = all(max(group) / min(group) - 1 <= SPREAD for group in _phases(rows))
    return close and all(
        abs(row.get("error_share", 0.0)) <= LIMIT and "out_of_memory" not in row for row in rows.values()
    )
