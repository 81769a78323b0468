"""(e) A training step of G-TAD at L = 100 with 16 videos, against the plain way: align all cells, then convolve."""

from __future__ import annotations

import statistics
import time
from functools import partial

import torch

from benchmarks.gpu.setting import Jobs, Row, Setting, synchronise
from benchmarks.plain import PlainGTAD
from lofi_tal.heads import GTAD

TITLE = "a training step of G-TAD"
CHANNELS = 512


def jobs(setting: Setting) -> Jobs:
    """Yield ours and the plain way."""
    yield "ours", partial(_measure, setting, GTAD)
    yield "plain", partial(_measure, setting, PlainGTAD)


def _measure(setting: Setting, kind: type[GTAD], seconds: float) -> Row:
    videos, snippets, rounds = (2, 8, 1) if setting.smoke else (16, 100, 10)
    torch.manual_seed(0)
    head = kind(CHANNELS).to(setting.device)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    features = torch.randn(videos, CHANNELS, snippets, device=setting.device)
    segments = [torch.tensor([[0.2, 0.6], [0.7, 0.75]])] * videos
    times = []
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(rounds + 2):
        synchronise(setting.device)
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        head.loss(head(features), segments)["total"].backward()
        optimizer.step()
        synchronise(setting.device)
        times.append(time.perf_counter() - began)
    row: Row = {"videos": videos, "snippets": snippets, "seconds": statistics.median(times[2:])}
    if setting.device.type == "cuda":
        row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return row


def show(rows: dict[str, Row]) -> list[str]:
    """Return both, and their ratio."""
    lines = [
        f"{key:6} {1000 * row['seconds']:8.1f} ms, {row.get('peak_gib', 0.0):6.2f} GiB" for key, row in rows.items()
    ]
    if {"ours", "plain"} <= rows.keys() and all("seconds" in row for row in rows.values()):
        lines.append(f"{rows['plain']['seconds'] / rows['ours']['seconds']:.1f} times as fast as the plain way")
    return lines


def is_good(rows: dict[str, Row]) -> bool:
    """Say whether ours is the faster one."""
    return "plain" not in rows or rows["plain"]["seconds"] > rows["ours"]["seconds"]
