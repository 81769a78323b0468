"""ActivityNet's size: check, manifest, frame cache and extraction over many files, with throughput and memory.

    python benchmarks/scale.py ANNOTATIONS [--videos N] [--seconds S] [--workers N] [--json FILE]

ANNOTATIONS is an ActivityNet file. Of its first N training and validation videos (half and half), stand-ins are made:
short H.264 videos with different content, named as ActivityNet names its files; the annotations are scaled to their
length. Then the commands run as a user would type them, each in processes of its own; time is wall time, memory is the
largest resident set of any one process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from input import FPS, scene
from lofi_tal.annotations import Annotations, VideoAnnotation, load_annotations, save_annotations
from lofi_tal.segments import Segments
from lofi_tal.video import write_video

DISTINCT = 8  # encoded videos; the stand-ins are copies that differ in an MP4 box which nothing reads


def stand_ins(annotations: Annotations, count: int, seconds: float, folder: Path) -> Path:
    """Make the videos and their annotations; return the annotation file."""
    sources = []
    for number in range(DISTINCT):
        path = folder / f"source{number}.mp4"
        frames = list(scene(seconds + number))[number * FPS :]
        write_video(path, frames, fps=FPS, crf=28, gop=60, deterministic=False)
        sources.append(path.read_bytes())
        path.unlink()
    (folder / "videos").mkdir()
    chosen: dict[str, VideoAnnotation] = {}
    for subset in ("training", "validation"):
        for video in [video for video in annotations.subset(subset) if len(video.segments)][: count // 2]:
            assert video.duration is not None
            box = video.video_id.encode()
            data = sources[len(chosen) % DISTINCT] + (len(box) + 8).to_bytes(4, "big") + b"free" + box
            (folder / "videos" / f"v_{video.video_id.removeprefix('v_')}.mp4").write_bytes(data)
            scale, own = seconds / video.duration, video.segments
            segments = Segments(own.video_id, own.start * scale, own.end * scale, own.label, own.score, seconds)
            chosen[video.video_id] = VideoAnnotation(video.video_id, seconds, subset, segments)
    save_annotations(folder / "annotations.json", Annotations(chosen))
    return folder / "annotations.json"


def timed(title: str, command: list[str], count: int) -> dict[str, float]:
    """Run a command and return seconds, videos a second and the peak of its largest process in MiB."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "lofi_tal.cli", *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    row = {"seconds": time.monotonic() - began, "status": os.waitstatus_to_exitcode(status)}
    row |= {"videos/s": count / row["seconds"], "peak_mib": usage.ru_maxrss / 1024}
    print(
        f"{title:<24} {row['seconds']:7.1f} s, {row['videos/s']:7.1f} videos/s, {row['peak_mib']:6.0f} MiB, "
        f"exit status {row['status']:.0f}",
        flush=True,
    )
    return row


def main() -> None:
    """Print a line for each command, and write the figures to a file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels = stand_ins(load_annotations(options.annotations), options.videos, options.seconds, folder)
        manifest, run = folder / "manifest.jsonl", folder / "run"
        recipe: dict[str, Any] = {
            "data": {
                "annotations": str(labels), "videos": str(folder / "videos"), "manifest": str(manifest),
                "workers": options.workers, "selection_share": 0.1,
            },
            "encoder": {"name": "tsm_resnet18_narrow"}, "snippets": {"count": 25, "size": 64, "stride": 1},
            "pretrain": None, "lofi": {"schedule": "long"},
        }  # fmt: skip
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        (folder / "plain.yaml").write_text(yaml.safe_dump({**recipe, "lofi": None}))
        check = ["data", "check", str(labels), "--videos", str(folder / "videos"), "--manifest", str(manifest)]
        check += ["--workers", str(options.workers), "-q"]
        cache = ["data", "cache", str(folder / "recipe.yaml"), "-o", str(run), "-q"]
        extract = ["extract", str(folder / "plain.yaml"), "-o", str(run), "-q"]
        rows = {
            title: timed(title, command, options.videos)
            for title, command in (
                ("check", check), ("check, again", check), ("cache", cache), ("cache, again", cache),
                ("extract from the cache", extract), ("extract, again", extract),
            )
        }  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
