"""Which video next: how well each measure of doubt ranks the evaluated videos of a run by their true mistakes.

    python benchmarks/next_video.py RUN... [--arm lofi] [--draws 2000] [--json FILE]

A measure sees the detections alone; the mistakes are counted against the labels afterwards, as ``lofi evaluate`` does.
Several runs are one sample: ranks are taken within each run. Printed for each measure:

* Spearman's rank correlation of the measure with the number of mistakes, mean over the runs, with a 95 % interval from
  a bootstrap over the videos of each run;
* the share of all mistakes that lie in the first 10, 25 and 50 % of the videos, and in brackets how many points that is
  above a random order, with the share of 10,000 random orders that do as well or better as p.

Videos that tie are counted as their mean. "length" is the length of the video, "oracle" the true order.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.annotations import load_annotations
from lofi_tal.evaluation import Thresholds, detections_of, find_mistakes, ground_truth_of
from lofi_tal.evaluation.sureness import MEASURES, measure_doubt
from lofi_tal.studio.runs import RunFacts

Floats = NDArray[np.float64]
SHARES = (0.10, 0.25, 0.50)
ORDERS = 10_000


@dataclass(frozen=True)
class Sample:
    """The evaluated videos of a run: their true mistakes ``(V,)``, and each measure ``(V,)``."""

    mistakes: Floats
    measures: dict[str, Floats]


def read_run(folder: Path, arm: str) -> Sample:
    """Return the mistakes and the measures of the evaluated videos of a run."""
    run = RunFacts(folder.name, folder)
    found, shown = run.detections(arm)
    settings = run.settings()
    videos = load_annotations(settings["data.annotations"]).subset(settings["data.eval_subset"])
    found = [one for one in found if one.video_id in videos.videos]
    truth = ground_truth_of([videos[one.video_id].segments for one in found])
    thresholds = Thresholds(shown.limit, shown.limits)
    counts = {one.video_id: one.total for one in find_mistakes(truth, detections_of(found, truth), thresholds).videos}
    rows = [
        {**measure_doubt(one, shown), "length": videos[one.video_id].duration or 0.0} for one in found
    ]  # fmt: skip
    mistakes = np.array([counts.get(one.video_id, 0) for one in found], dtype=np.float64)
    measures = {name: np.array([row[name] for row in rows]) for name in (*MEASURES, "length")}
    return Sample(mistakes, {**measures, "oracle": mistakes})


def ranks(values: Floats) -> Floats:
    """Return ranks from 0 on; equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    mean: Floats = (np.cumsum(count) - count + (count - 1) / 2)[place]
    return mean


def spearman(first: Floats, second: Floats) -> float:
    """Return Spearman's rank correlation; 0 where one of them does not vary."""
    one, other = ranks(first), ranks(second)
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def found_in_first(value: Floats, mistakes: Floats, share: float) -> float:
    """Return the mistakes in the first ``share`` of the videos by falling value; those that tie count as their mean."""
    _, place = np.unique(-value, return_inverse=True)
    mean = (np.bincount(place, weights=mistakes) / np.bincount(place))[place]
    order = np.argsort(-value, kind="stable")
    wanted = share * len(value)
    whole = int(wanted)
    part = mean[order[whole]] * (wanted - whole) if whole < len(value) else 0.0
    return float(mean[order[:whole]].sum() + part)


def report(samples: list[Sample], name: str, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the figures of one measure over all runs."""
    value = float(np.mean([spearman(one.measures[name], one.mistakes) for one in samples]))
    drawn = []
    for _ in range(draws):
        again = []
        for one in samples:
            pick = rng.integers(len(one.mistakes), size=len(one.mistakes))
            again.append(spearman(one.measures[name][pick], one.mistakes[pick]))
        drawn.append(np.mean(again))
    total = sum(one.mistakes.sum() for one in samples)
    first = []
    for share in SHARES:
        got = sum(found_in_first(one.measures[name], one.mistakes, share) for one in samples) / total
        chance = np.zeros(ORDERS)
        for one in samples:
            shuffled = rng.permuted(np.tile(one.mistakes, (ORDERS, 1)), axis=1)
            wanted = share * len(one.mistakes)
            whole = int(wanted)
            chance += shuffled[:, :whole].sum(axis=1) + (wanted - whole) * shuffled[:, whole]
        first.append({"share": got, "gain": got - share, "p": float((chance / total >= got - 1e-12).mean())})
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return {"spearman": value, "low": low, "high": high, "first": first}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--arm", default="lofi")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    samples = [read_run(folder, options.arm) for folder in options.runs]
    videos = " + ".join(str(len(one.mistakes)) for one in samples)
    mistakes = " + ".join(f"{one.mistakes.sum():.0f}" for one in samples)
    print(f"{videos} videos with {mistakes} mistakes\n")
    print("| measure | Spearman (95 %) | first 10 % | first 25 % | first 50 % |\n|---|---|---|---|---|")
    rng, results = np.random.default_rng(0), {}
    for name in samples[0].measures:
        results[name] = got = report(samples, name, options.draws, rng)
        cells = [f"{100 * one['share']:.0f} ({100 * one['gain']:+.0f}, p {one['p']:.3f})" for one in got["first"]]
        print(f"| {name} | {got['spearman']:.2f} ({got['low']:.2f} to {got['high']:.2f}) | {' | '.join(cells)} |")
    if options.json:
        options.json.write_text(json.dumps({"videos": videos, "mistakes": mistakes, "measures": results}, indent=1))


if __name__ == "__main__":
    main()
