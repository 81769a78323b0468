"""Speed and memory of localisation: heads, evaluation, post-processing.

    python benchmarks/localisation.py [--only head actionformer evaluation nms training] [--json FILE] [--threads N]

Every figure is a median over repeats, and every ratio comes from one run on one machine. Plain ways are in
``plain.py`` and ``plain_actionformer.py``; where one takes minutes it runs on a part, and the figure is scaled up and
marked "scaled". Memory is the growth of the process's peak resident size over the size before the step, measured in a
process of its own. One thread unless told otherwise: then other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lofi_tal.evaluation import evaluate_detections
from lofi_tal.heads import GTAD, ActionFormer
from lofi_tal.postprocess import soft_nms_indices
from plain import PlainGTAD
from plain import evaluate as plain_evaluate
from plain import soft_nms as plain_soft_nms
from plain_actionformer import PlainActionFormer

THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
ANNOTATIONS = Path(__file__).resolve().parents[1].parent / "shared/data/activitynet_v1-3.json"


def median_time(function: Callable[[], Any], repeats: int) -> float:
    """Return the median seconds of ``repeats`` calls."""
    times = []
    for _ in range(repeats):
        gc.collect()
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def training_step(head: GTAD, videos: int) -> Callable[[], None]:
    """Return one training step: forward, loss, backward, Adam."""
    features = torch.randn(videos, head.in_channels, 100)
    segments = [torch.tensor([[0.2, 0.6], [0.7, 0.75]])] * videos
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        head.loss(head(features), segments)["total"].backward()
        optimizer.step()

    return step


def measure_step(kind: str, repeats: int) -> dict[str, float]:
    """Time and size of a step at L = 100, C = 512, batch 4; called in a process of its own."""
    torch.manual_seed(0)
    head = {"plain": PlainGTAD, "ours": GTAD}[kind](512)
    step = training_step(head, 4)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    before = pages * resource.getpagesize()
    step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {"seconds": median_time(step, repeats), "peak_mib": peak / 2**20}


def head_benchmark() -> dict[str, Any]:
    """(a) A G-TAD training step against the plain way."""
    found = {}
    for kind, repeats in (("ours", 7), ("plain", 3)):
        command = [sys.executable, __file__, "--threads", str(torch.get_num_threads())]
        command += ["--step", kind, str(repeats)]
        found[kind] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        **{f"{kind} {key}": value for kind, values in found.items() for key, value in values.items()},
        "times faster (at least 30)": found["plain"]["seconds"] / found["ours"]["seconds"],
        "times less peak memory (at least 6)": found["plain"]["peak_mib"] / found["ours"]["peak_mib"],
    }


ACTIONFORMERS = {
    "activitynet, T = 192, batch 4": ("activitynet", 192, 4),
    "thumos, T = 2,304, batch 1": ("thumos", 2304, 1),
}
"""Published variant, T and batch."""


def actionformer_step(kind: str, case: str, *, training: bool) -> Callable[[], None]:
    """Return one step of ActionFormer: forward, loss, backward, AdamW; or forward and decoding."""
    variant, steps, videos = ACTIONFORMERS[case]
    head = getattr({"ours": ActionFormer, "plain": PlainActionFormer}[kind], variant)().train(training)
    features = torch.randn(videos, head.in_channels, steps)
    segments, labels = [torch.tensor([[0.2, 0.6], [0.7, 0.75]])] * videos, [torch.tensor([0, 0])] * videos
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-4)

    def train() -> None:
        optimizer.zero_grad()
        head.loss(head(features), segments, labels)["total"].backward()
        optimizer.step()

    def detect() -> None:
        with torch.inference_mode():
            head.proposals(head(features))

    return train if training else detect


def actionformer_peak(kind: str, case: str, training: bool) -> float:
    """Return the MiB by which the process grows in two steps; called in a process of its own."""
    step = actionformer_step(kind, case, training=training)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    for _ in range(2):
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - pages * resource.getpagesize()) / 2**20


def actionformer_benchmark() -> dict[str, Any]:
    """(e) ActionFormer against its plain definition; seconds are processor time, of steps that take turns."""
    found: dict[str, Any] = {}
    for case in ACTIONFORMERS:
        for training in (True, False):
            steps = {kind: actionformer_step(kind, case, training=training) for kind in ("ours", "plain")}
            times: dict[str, list[float]] = {kind: [] for kind in steps}
            for turn in range(4):
                for kind, step in steps.items():
                    gc.collect()
                    began = time.process_time()
                    step()
                    if turn:  # the first warms up
                        times[kind].append(time.process_time() - began)
            seconds = {kind: statistics.median(values) for kind, values in times.items()}
            peaks = {}
            for kind in steps:
                command = [sys.executable, __file__, "--threads", str(torch.get_num_threads())]
                command += ["--peak", kind, case, str(int(training))]
                peaks[kind] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            what = f"{case}, {'training' if training else 'inference'}"
            found |= {f"{what}: {kind} seconds": value for kind, value in seconds.items()}
            found |= {f"{what}: {kind} peak MiB": value for kind, value in peaks.items()}
            found[f"{what}: times faster (at least 1)"] = seconds["plain"] / seconds["ours"]
            found[f"{what}: times less memory (at least 1)"] = peaks["plain"] / peaks["ours"]
    return found


def annotations(path: Path) -> dict[str, Any]:
    """Return the validation part of the real annotations, or invented ones of the same size."""
    if path.exists():
        database = json.loads(path.read_text())["database"]
        return {"database": {v: e for v, e in database.items() if e["subset"] == "validation"}}
    rng = np.random.default_rng(0)
    database = {}
    for i in range(4728):
        ends = np.sort(rng.random((rng.geometric(0.65), 2)) * 120, axis=1)
        label = f"class {rng.integers(200)}"
        database[f"video {i}"] = {
            "subset": "validation",
            "duration": 120.0,
            "annotations": [{"label": label, "segment": segment} for segment in ends.tolist()],
        }
    return {"database": database}


def detections(truth: dict[str, Any], per_video: int) -> dict[str, Any]:
    """Return detections around the instances and elsewhere, of the video's class and one other."""
    rng = np.random.default_rng(4)
    labels = sorted({a["label"] for e in truth["database"].values() for a in e["annotations"]})
    results = {}
    for video, entry in truth["database"].items():
        instances = entry["annotations"]
        own = instances[0]["label"] if instances else labels[0]
        other = labels[rng.integers(len(labels))]
        records = []
        for i in range(per_video):
            if instances and i < 3 * len(instances):
                start, end = instances[i % len(instances)]["segment"]
                start, end = np.sort([start, end] + rng.normal(size=2) * 0.15 * max(end - start, 0.1))
            else:
                start, end = np.sort(rng.random(2)) * entry["duration"]
            label, score = (own, rng.random()) if i % 2 == 0 else (other, 0.1 * rng.random())
            records.append({"label": label, "score": float(score), "segment": [float(start), float(end)]})
        results[video] = records
    return {"results": results}


def evaluation_benchmark(path: Path) -> dict[str, Any]:
    """(b) Detection mAP of 100 detections a video on the validation set."""
    truth = annotations(path)
    found = detections(truth, 100)
    ours = median_time(lambda: evaluate_detections(truth, found), 5)
    plain = median_time(lambda: plain_evaluate(truth["database"], found["results"], THRESHOLDS), 1)
    return {
        "detections": sum(map(len, found["results"].values())),
        "real annotations": path.exists(),
        "ours seconds (under 1.5)": ours,
        "plain loop seconds": plain,
        "times faster": plain / ours,
    }


def nms_benchmark() -> dict[str, Any]:
    """(c) Soft-NMS of 4,728 videos × 200 proposals to the best 100."""
    rng = np.random.default_rng(0)
    segments = [np.sort(rng.random((200, 2)), axis=1) for _ in range(4728)]
    scores = [rng.random(200) for _ in range(4728)]
    ours = median_time(lambda: soft_nms_indices(segments, scores), 5)
    part = 40

    def loop() -> None:
        for s, p in zip(segments[:part], scores[:part], strict=True):
            plain_soft_nms(s.tolist(), p.tolist())

    plain = median_time(loop, 3) * 4728 / part
    return {"ours seconds (under 5)": ours, "plain loop seconds (scaled)": plain, "times faster": plain / ours}


def training_benchmark() -> dict[str, Any]:
    """(d) One epoch of the G-TAD head on 500 videos' random features, batch 16."""
    torch.manual_seed(0)
    head = GTAD(512)
    features = torch.randn(500, 512, 100)
    segments = [torch.rand(3, 2).sort(dim=1).values for _ in range(500)]
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    own = 0.0
    begin = time.perf_counter()
    for chosen in torch.randperm(500).split(16):
        batch = features[chosen]
        mark = time.perf_counter()
        outputs = head(batch)
        own += time.perf_counter() - mark
        loss = head.loss(outputs, [segments[i] for i in chosen])["total"]
        optimizer.zero_grad()
        mark = time.perf_counter()
        loss.backward()
        optimizer.step()
        own += time.perf_counter() - mark
    total = time.perf_counter() - begin
    return {"videos a second": 500 / total, "share of time outside the head's arithmetic": 1 - own / total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=["head", "actionformer", "evaluation", "nms", "training"])
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--ground-truth", type=Path, default=ANNOTATIONS, help="ActivityNet-1.3 annotations")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.step:
        print(json.dumps(measure_step(options.step[0], int(options.step[1]))))
        return
    if options.peak:
        kind, case, training = options.peak
        print(actionformer_peak(kind, case, training == "1"))
        return
    benchmarks = {
        "head": head_benchmark,
        "actionformer": actionformer_benchmark,
        "evaluation": lambda: evaluation_benchmark(options.ground_truth),
        "nms": nms_benchmark,
        "training": training_benchmark,
    }
    results: dict[str, Any] = {
        "machine": {"torch": torch.__version__, "threads": torch.get_num_threads(), "cpu": platform.machine()}
    }
    for name in options.only or benchmarks:
        function = benchmarks[name]
        results[name] = function()
        print(f"\n{name}")
        for key, value in results[name].items():
            print(f"  {key:<48} {f'{value:,.3f}' if isinstance(value, float) else value}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
