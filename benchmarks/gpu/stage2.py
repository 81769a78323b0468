"""(d) A step of stage 2 with 16 videos, by `lofi_tal.stages.lofi` itself: seconds, memory, and waiting for the cache.

L = 100, T = 8, 224 pixels, TSM-ResNet-18 and G-TAD in bf16; videos of 10 seconds, decoded once into a frame cache for
all fidelities and read from there by loader processes, as in a run. Steps count from the one on whose batch no loader
process had ready at the start. A step goes through the encoder in two micro-batches: of 16 videos at once, the first
activations have more than 2³¹ elements, which the fast kernels do not take. Full fidelity is chunked: plain needs more
than 150 GiB. Limit: less than 10 % of the time is spent waiting for data.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.setting import Jobs, Row, Setting
from benchmarks.input import FPS, one_action, scene
from lofi_tal.config import LofiSection
from lofi_tal.data import SnippetDataset, fill
from lofi_tal.encoders import create_encoder
from lofi_tal.fidelity import Fidelity, create_schedule, full_fidelity
from lofi_tal.heads import create_head
from lofi_tal.runtime import make_fabric, open_stage
from lofi_tal.stages.lofi import train_lofi
from lofi_tal.video import FrameCache, VideoManifest, write_video

TITLE = "a step of stage 2 with 16 videos"
LIMIT = 0.10
SECTION = LofiSection(epochs=8, batch=16, accumulate=2, chunk=100, lr=0.01)


def jobs(setting: Setting) -> Jobs:
    """Yield a job for each fidelity."""
    full = full_fidelity(8, 32) if setting.smoke else full_fidelity(100, 224)
    fidelities = {name: create_schedule(name, full).fidelities[0] for name in ("t", "st", "s", "full")}

    @cache
    def videos() -> SnippetDataset:
        return _videos(setting, full, list(fidelities.values()))

    for name, fidelity in fidelities.items():
        yield name, partial(_measure, setting, videos, full, fidelity)


def _videos(setting: Setting, full: Fidelity, fidelities: list[Fidelity]) -> SnippetDataset:
    """Return 64 videos that share 16 files, all in the frame cache."""
    folder = setting.scratch / ("smoke" if setting.smoke else "videos")
    files, seconds = (2, 2.0) if setting.smoke else (16, 10.0)
    first = folder / "0.mp4"
    if not first.exists():
        write_video(first, scene(seconds), fps=FPS, crf=23, gop=250, deterministic=False)
    for number in range(1, files):
        if not (folder / f"{number}.mp4").exists():
            shutil.copy(first, folder / f"{number}.mp4")
    records = VideoManifest(None, workers=_cores()).examine(sorted(folder.glob("*.mp4")))
    truth = [one_action(path, record) for path, record in records.items()]
    dataset = SnippetDataset(
        truth, frames=8, stride=8, cache=FrameCache(folder / "cache", 2**40), flip=True, fidelities=fidelities
    )
    for _ in fill(dataset, fidelities, _cores()):
        pass
    return SnippetDataset(
        truth * (2 if setting.smoke else 4), frames=8, stride=8, cache=dataset.cache, flip=True, fidelities=fidelities
    )


def _cores() -> int:
    return max(1, (os.cpu_count() or 2) - 2)


def _workers(fidelity: Fidelity, batch: int, smoke: bool) -> int:
    """Return as many loader processes, of four, as there are cores and shared memory (of 8 GiB) for."""
    if smoke:
        return 1
    item = fidelity.snippets * 8 * fidelity.size**2 * 3
    shared = Path("/dev/shm")
    room = shutil.disk_usage(shared).free if shared.exists() else 2**40
    return max(0, min(4, _cores(), int(min(0.9 * room, 2.0**33) / (batch * item) - 2) // 2))


def _measure(setting: Setting, videos: Any, full: Fidelity, fidelity: Fidelity, seconds: float) -> Row:
    dataset = videos()
    section = SECTION.model_copy(update={
        "schedule": "full" if fidelity == full else fidelity.name.lower(),
        "epochs": 3 if setting.smoke or fidelity == full else SECTION.epochs,
        "batch": 4 if setting.smoke else SECTION.batch,
        "strategy": "chunked" if fidelity == full else "plain",
    })  # fmt: skip
    workers = _workers(fidelity, section.batch, setting.smoke)
    fabric = make_fabric(setting.device.type, "bf16", alone=True)
    torch.manual_seed(0)
    encoder = create_encoder("tsm_resnet18_narrow" if setting.smoke else "tsm_resnet18")
    head = create_head("gtad", encoder.channels)
    folder = setting.scratch / f"stage2-{fidelity.name}"
    shutil.rmtree(folder, ignore_errors=True)
    stage = open_stage(folder, "lofi", {})
    outcome = train_lofi(
        stage, fabric, encoder, head,
        videos=dataset, classes=1, full=full, section=section, seed=0, workers=workers, quiet=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    ready = min(len(lines) // 2, 2 * workers + 2)  # batches that were under way from the start
    took = [after["seconds"] - before["seconds"] for before, after in itertools.pairwise(lines)]
    later = list(zip(took[ready - 1 :], lines[ready:], strict=True))
    frames = section.batch * fidelity.snippets * 8
    return {
        "fidelity": str(fidelity),
        "strategy": section.strategy,
        "steps": len(later),
        "workers": workers,
        "seconds_a_step": statistics.median(time for time, _ in later),
        "frames_a_second": frames / statistics.median(time for time, _ in later),
        "waiting": sum(time * line["wait"] for time, line in later) / sum(time for time, _ in later),
        "peak_gib": outcome.peak_memory_bytes / 2**30,
        "loss": [round(line["loss"], 4) for line in lines],
    }


def show(rows: dict[str, Row]) -> list[str]:
    """Return a line for each fidelity, and how far S, T and ST lie apart."""
    lines = [
        f"{key:5} {row['fidelity']:16} {row['strategy']:8} {row['seconds_a_step']:7.3f} s a step, "
        f"{row['frames_a_second']:8.0f} frames/s, {row['peak_gib']:6.2f} GiB, waiting {row['waiting']:.1%} "
        f"({row['workers']} loader processes)"
        for key, row in rows.items()
        if "seconds_a_step" in row
    ]
    for name, what in (("seconds_a_step", "time"), ("peak_gib", "memory")):
        values = [rows[key][name] for key in ("s", "t", "st") if name in rows.get(key, {})]
        if len(values) == 3:
            lines.append(f"S, T, ST: {what} at most {max(values) / min(values) - 1:.1%} apart")
    return lines


def is_good(rows: dict[str, Row]) -> bool:
    """Say whether no fidelity waits for more than the limit."""
    return all(row.get("waiting", 0.0) < LIMIT for row in rows.values())
