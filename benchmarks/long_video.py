"""Detection in long videos: peak memory and time for files of 2, 20 and 120 minutes, as windows and as one window.

    python benchmarks/long_video.py [--minutes M ...] [--json FILE]

A file is one rendered minute whose packets are written again and again (320 × 180 pixels, 10 frames a second, a key
frame every 25 s). Every measurement is a process of its own: `Localizer.predict` with a narrow TSM-ResNet-18 at 112
pixels and a narrow G-TAD, both untrained, so that soft-NMS has as many proposals as it can get. Limit: with windows,
the longest file needs at most 1.5 times the memory of the shortest, the libraries and weights (which are there before)
left out.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from lofi_tal.classifier import ProposalClassifier
from lofi_tal.config import DetectSection
from lofi_tal.encoders import create_encoder
from lofi_tal.heads import create_head
from lofi_tal.localizer import Localizer
from lofi_tal.video import probe_video, write_video

FPS, SIZE = 10, (180, 320)
SNIPPETS = {"count": 64, "frames": 8, "stride": 1, "size": 112}
WINDOW = 64.0
LIMIT = 1.5


def render_minute(path: Path) -> None:
    """Write a minute of a grey square that goes round on a still picture."""
    random = np.random.default_rng(0)
    still = random.integers(90, 130, (SIZE[0] // 20, SIZE[1] // 20, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)

    def frames() -> Any:
        for number in range(60 * FPS):
            picture = still.copy()
            left = 4 * number % (SIZE[1] - 40)
            picture[70:110, left : left + 40] = 200
            yield picture

    write_video(path, frames(), fps=FPS, gop=250, crf=28)


def repeat(source: Path, target: Path, times: int) -> None:
    """Write the packets of ``source`` ``times`` times, one after the other, without decoding."""
    with av.open(str(target), "w") as output:
        stream = None
        for round_ in range(times):
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(video)
                for packet in container.demux(video):
                    if packet.dts is None:
                        continue
                    shift = round(round_ * 60 / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    output.mux(packet)


def measure(path: Path, window: float | None) -> dict[str, Any]:
    """Detect in one file and return what this process needed."""
    torch.manual_seed(0)
    encoder = create_encoder("tsm_resnet18_narrow")
    head = create_head("gtad", encoder.channels, hidden_1d=64, hidden_2d=32, hidden_3d=64)
    labels = [f"class {number}" for number in range(20)]
    cut = {"window": window, "overlap": 0.5} if window else {}
    localizer = Localizer(
        encoder=encoder,
        encoder_name="tsm_resnet18_narrow",
        head=head,
        classifier=ProposalClassifier(encoder.channels, len(labels)).eval(),
        labels=labels,
        snippets={**SNIPPETS, **cut},
        detect=DetectSection(),
        device="cpu",
        precision="fp32",
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    found = localizer.predict(path)
    return {
        "seconds": time.monotonic() - began,
        "detections": len(found),
        "before": before * 1024,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, nargs="+", default=[2, 20, 120])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--window", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.window)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        minute = Path(folder) / "minute.mp4"
        render_minute(minute)
        print(f"{'minutes':>8} {'videos as':>12} {'detections':>10} {'seconds':>8} {'memory MiB':>10} {'ratio':>6}")
        for window in (WINDOW, None):
            first = 0.0
            for minutes in options.minutes:
                path = Path(folder) / f"{minutes}.mp4"
                if not path.exists():
                    repeat(minute, path, minutes)
                    assert abs(probe_video(path).duration - 60 * minutes) < 1
                command = [sys.executable, __file__, "--measure", str(path)]
                command += ["--window", str(window)] if window else []
                row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                grown = row["peak"] - row["before"]
                first = first or grown
                rows.append({"minutes": minutes, "window": window, **row, "ratio": grown / first})
                kind = "windows" if window else "one window"
                print(
                    f"{minutes:8d} {kind:>12} {row['detections']:10d} {row['seconds']:8.1f} "
                    f"{grown / 2**20:10.0f} {grown / first:6.2f}"
                )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    worst = max(row["ratio"] for row in rows if row["window"])
    print(f"windows: {worst:.2f} times the memory of the shortest file; limit {LIMIT}")
    if worst > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
