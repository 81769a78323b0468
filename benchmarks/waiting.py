"""How long stage 2 waits for data at the paper's sizes, with an encoder that takes as long as one on an H100 would.

    python benchmarks/waiting.py [--videos N] [--files N] [--workers N] [--frames-per-second F] [--epochs N]

The loader is that of `lofi run`: L = 100, T = 8, 224 pixels, random crops and flips, Long Cyclic LoFi, 16 videos a
step, frame cache on disk. An epoch has 128 videos, more than the workers prepare ahead; they share 16 files, so that
the cache (200 MB a video) stays in the main memory of a small machine.
In place of the encoder the main process sleeps for as long as TSM-ResNet-18 would need at F frames of 224 × 224 a
second in training; smaller frames take less in proportion to their pixels, so each phase of the cycle takes as long.
The default, 10,000, follows from the 1.8 GMAC of ResNet-18 against the 4.1 of ResNet-50 and about 4,500 images/s of the
latter in mixed precision. The first epoch decodes every video, once for all phases. Limit: from the second epoch on,
less than 10 % of the time is spent waiting. The workers must hand over 1.5 GB/s: a GPU's host has more than two cores.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from input import FPS, one_action, scene
from lofi_tal.data import SnippetDataset, StepRequests, make_batches, steps_per_epoch
from lofi_tal.fidelity import create_schedule, full_fidelity
from lofi_tal.video import FrameCache, VideoManifest, write_video

SNIPPETS, FRAMES, SIZE, BATCH = 100, 8, 224, 16


def main() -> None:
    """Print for each epoch how long it took and how much of it was waiting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=128)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a video")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--frames-per-second", type=float, default=10_000.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_video(folder / "0.mp4", scene(options.seconds), fps=FPS, crf=23, gop=250, deterministic=False)
        for number in range(1, options.files):
            shutil.copy(folder / "0.mp4", folder / f"{number}.mp4")
        records = VideoManifest(None).examine(sorted(folder.glob("*.mp4")))
        files = [one_action(path, record) for path, record in records.items()]
        videos = [files[number % len(files)] for number in range(options.videos)]
        schedule = create_schedule("long", full_fidelity(SNIPPETS, SIZE))
        dataset = SnippetDataset(
            videos,
            frames=FRAMES,
            stride=8,
            cache=FrameCache(folder / "cache", 2**40),
            flip=True,
            fidelities=schedule.fidelities,
        )
        requests = StepRequests(
            count=len(videos),
            batch=BATCH,
            epochs=options.epochs,
            seed=0,
            schedule=schedule,
        )
        batches = make_batches(dataset, requests, options.workers, count=BATCH, fidelities=schedule.fidelities)
        steps = steps_per_epoch(len(videos), BATCH)
        total: list[tuple[float, float]] = []
        for epoch in range(options.epochs):
            waited = worked = 0.0
            for _ in range(steps):
                began = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - began
                pixels = batch.frames.shape[:3].numel() * batch.frames.shape[3] ** 2
                work = pixels / SIZE**2 / options.frames_per_second
                del batch  # which is on its way to the device
                time.sleep(work)
                worked += work
            phase = schedule.at(epoch=epoch, step=epoch * steps)
            total.append((waited, worked))
            print(f"epoch {epoch + 1} {phase!s:<18} waiting {100 * waited / (waited + worked):5.1f} % of "
                  f"{waited + worked:6.2f} s, {len(videos) / (waited + worked):6.1f} videos/s", flush=True)  # fmt: skip
        waited, worked = (sum(part) for part in zip(*total[1:], strict=True))
        print(f"from epoch 2 on: waiting {100 * waited / (waited + worked):.1f} % (under 10)")


if __name__ == "__main__":
    main()
