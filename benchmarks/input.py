"""Speed of the input path: snippets per second without and with the frame cache, against ffmpeg, torchcodec and OpenCV.

    python benchmarks/input.py [VIDEO ...] [--rounds N] [--seconds S] [--json FILE]

Without VIDEO, two H.264 videos of 640 × 360 at 30 frames/s and 2 minutes are made, with a key frame every 250 and every
12 frames. Each row reads the frames of L snippets of 8 frames, short side 8/7 of the size, with one thread; the ways
take turns in every round, and a ratio is the median over the rounds of the ratio within a round. Ours is an item of
training, frames decoded and one random crop of them all in one array. torchcodec and OpenCV make the same:

* ffmpeg: the limit. It decodes, scales (bilinear) and converts to rgb24 as many frames, evenly spread, to nowhere;
* torchcodec: the same frames by index, scaled in its decoder;
* OpenCV: reads all frames, resizes the wanted ones (without antialiasing) and crops each as it comes;
* cached: the frame cache of a process that starts anew, the crop copied out of it; the most that any cache of frames
  could give is the time of copying such an item from memory to memory.

Pictures differ, too: how far ours and OpenCV's are from an exact conversion is printed before each video's rows.

What is not installed is left out (`pip install opencv-python-headless torchcodec`, and FFmpeg's libraries).
Limits: at least 80 % of ffmpeg, faster than the others, 20 times faster from the cache; peak memory flat in length.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from lofi_tal.data import Request, SnippetDataset, Square, TruthVideo, VideoFile
from lofi_tal.fidelity import Fidelity
from lofi_tal.files import file_stamp
from lofi_tal.snippets import SnippetGrid
from lofi_tal.video import FrameCache, VideoInfo, VideoRecord, decode_frames, probe_video, write_video

WIDTH, HEIGHT, FPS = 640, 360, 30
ROWS = [(snippets, size) for snippets in (100, 50, 25) for size in (224, 158, 112)]


def scene(seconds: float) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a video: a camera that moves over a texture, film grain, something that moves by itself."""
    random = np.random.default_rng(0)
    texture = random.integers(60, 190, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    grain = random.integers(0, 24, (8, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for i in range(round(seconds * FPS)):
        top, left = (round(edge / 2 * (1 + np.sin(i / pace))) for edge, pace in ((HEIGHT, 90), (WIDTH, 130)))
        frame = texture[top : top + HEIGHT, left : left + WIDTH] + grain[i % len(grain)]
        y, x = round(100 + 80 * np.sin(i / 20)), round(300 + 200 * np.cos(i / 31))
        frame[y : y + 60, x : x + 60] = (3 * i) % 256
        yield frame


def one_action(path: Path, record: VideoRecord) -> TruthVideo:
    """Return a video with one action from a fifth of it to three fifths."""
    file = VideoFile(path, record.stamp, record.duration, record.frames)
    return TruthVideo(path.stem, file, torch.tensor([[0.2, 0.6]]), torch.tensor([0]))


def ways(path: Path, info: VideoInfo, snippets: int, size: int, cache: Path) -> dict[str, Callable[[], Any]]:
    """Return for each way that is installed a function that reads the frames once."""
    times = SnippetGrid(snippets, 8, 8).times(info.duration, info.frames).reshape(-1)
    short = round(size * 8 / 7)
    shown = np.searchsorted(info.times, times + 1e-6, side="right") - 1
    numbers = np.unique(shown)
    scale = short / min(info.height, info.width)
    height, width = round(info.height * scale), round(info.width * scale)
    file = VideoFile(path, file_stamp(path), info.duration, info.frames)
    video = TruthVideo(path.stem, file, torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    request = Request(0, Fidelity("full", snippets, size), 0)
    into = torch.empty(snippets, 8, size, size, 3, dtype=torch.uint8)

    def read(folder: Path | None) -> None:
        frame_cache = FrameCache(folder, 2**40)
        assert not SnippetDataset([video], frames=8, stride=8, cache=frame_cache).read(request, into)

    read(cache)

    square, pixels = Square.draw((height, width), size, 0, flip=False), into.flatten(0, 1).numpy()

    def put(number: int, frame: NDArray[np.uint8]) -> None:
        first, *others = np.flatnonzero(shown == number).tolist()
        pixels[first] = frame[square.top : square.top + size, square.left : square.left + size]
        pixels[others] = pixels[first]

    def ours() -> None:
        read(None)

    def cached() -> None:
        read(cache)

    def ffmpeg() -> None:
        count, total = len(numbers), info.frames
        select = f"select='lt(mod(n*{count}\\,{total})\\,{count})',scale={width}:{height}:flags=bilinear,format=rgb24"
        command = ["ffmpeg", "-nostdin", "-v", "fatal", "-threads", "1", "-filter_threads", "1", "-i", str(path)]
        subprocess.run([*command, "-vf", select, "-vsync", "0", "-f", "null", "-"], check=True)

    def torchcodec() -> None:
        from torchcodec.decoders import VideoDecoder
        from torchvision.transforms import v2

        decoder = VideoDecoder(path, num_ffmpeg_threads=1, transforms=[v2.Resize((height, width))])
        for number, frame in zip(numbers.tolist(), decoder.get_frames_at(numbers.tolist()).data, strict=True):
            put(number, frame.permute(1, 2, 0).numpy())

    def opencv() -> None:
        import cv2

        cv2.setNumThreads(1)
        reader, wanted = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]), set(numbers.tolist())
        for number in range(info.frames):
            good, frame = reader.read()
            if good and number in wanted:
                small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
                put(number, cv2.cvtColor(small, cv2.COLOR_BGR2RGB))

    ready = into.clone()
    found: dict[str, Callable[[], Any]] = {"ours": ours, "cached": cached, "copied": lambda: into.copy_(ready)}
    if shutil.which("ffmpeg"):
        found["ffmpeg"] = ffmpeg
    others = {"torchcodec": ("torchcodec", torchcodec), "opencv": ("cv2", opencv)}
    return found | {name: way for name, (module, way) in others.items() if importlib.util.find_spec(module)}


def exact(frame: av.VideoFrame, height: int, width: int) -> NDArray[np.float64]:
    """Return a yuv420p frame of limited range as RGB (BT.601): bilinear with antialiasing, in 64-bit floats."""
    y, u, v = (
        functional.interpolate(
            torch.from_numpy(
                np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
            ).double()[None, None],
            (height, width),
            mode="bilinear",
            antialias=True,
        )[0, 0]
        for plane in frame.planes
    )
    y, u, v = (y - 16) * 255 / 219, (u - 128) * 255 / 224, (v - 128) * 255 / 224
    return torch.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], -1).clamp(0, 255).numpy()


def fidelity_of_pictures(path: Path, info: VideoInfo, size: int, count: int = 10) -> None:
    """Print how far the pictures of each way are from an exact conversion, in levels of 255."""
    short = round(size * 8 / 7)
    chosen = np.linspace(0, info.frames - 1, count).astype(int).tolist()
    ours = decode_frames(path, info.times[chosen], short_side=short).frames
    height, width = ours.shape[1:3]
    with av.open(str(path)) as container:
        frames = [frame for place, frame in enumerate(container.decode(video=0)) if place in set(chosen)]
    if any(frame.format.name != "yuv420p" or frame.colorspace not in (2, 5, 6) for frame in frames):
        return  # BT.601, or not said
    truth = np.stack([exact(frame, height, width) for frame in frames])
    found = {"ours": ours}
    if importlib.util.find_spec("cv2"):
        import cv2

        reader = cv2.VideoCapture(str(path))
        read = (reader.read()[1] for _ in range(info.frames))
        kept = [frame for place, frame in enumerate(read) if place in set(chosen)]
        small = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR) for frame in kept]
        found["opencv"] = np.stack([cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in small])
    for name, pictures in found.items():
        off = pictures - truth
        mean, most = np.abs(off).mean(), np.quantile(np.abs(off), 0.99)
        print(
            f"  {size} px, {name}: off by {mean:.2f}, in one of 100 values by {most:.0f}; brighter by {off.mean():.2f}"
        )


def measure(path: Path, rounds: int, cache: Path) -> list[dict[str, Any]]:
    """Time every way on every row, and print the table."""
    info, rows = probe_video(path), []
    print(f"{path.name}: {info.width} × {info.height}, {info.frames} frames, {info.codec}")
    for size in (224, 158, 112):
        fidelity_of_pictures(path, info, size)
    for snippets, size in ROWS:
        functions = ways(path, info, snippets, size, cache)
        seconds: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(rounds):
            for name, function in functions.items():
                began = time.perf_counter()
                function()
                seconds[name].append(time.perf_counter() - began)
        row: dict[str, Any] = {"video": path.name, "snippets": snippets, "size": size}
        row["snippets/s"] = snippets / statistics.median(seconds["ours"])
        row["ratio"] = {
            name: statistics.median(theirs / ours for ours, theirs in zip(seconds["ours"], values, strict=True))
            for name, values in seconds.items()
            if name not in ("ours", "cached", "copied")
        }
        for name, way in (("cache", "cached"), ("most", "copied")):
            row[name] = statistics.median(o / c for o, c in zip(seconds["ours"], seconds[way], strict=True))
        rows.append(row)
        against = ", ".join(f"{ratio:.2f} × {name}" for name, ratio in row["ratio"].items())
        print(
            f"  L = {snippets:>3}, {size} px: {row['snippets/s']:7.1f} snippets/s; speed {against}; "
            f"cache {row['cache']:.0f} × (at most {row['most']:.0f})",
            flush=True,
        )
    return rows


def peak_of_stream(path: Path) -> float:
    """Return the memory in MiB, beside the libraries, of a process that streams 25 snippets of a video."""
    code = """if True:
        import re, sys
        from pathlib import Path
        from lofi_tal.video import probe_video, stream_frames

        def peak():
            return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

        info = probe_video(sys.argv[1])
        times = [info.duration * (i + 0.5) / 200 for i in range(200)]
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak, which is inherited from the parent process
        before = peak()
        for _ in stream_frames(sys.argv[1], times, short_side=128):
            pass
        print(peak() - before)
        """
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Print the tables and write the figures to a file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=120.0, help="length of the videos that are made")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        videos = options.videos
        if not videos:
            videos = [Path(folder) / f"gop{gop}.mp4" for gop in (250, 12)]
            for path, gop in zip(videos, (250, 12), strict=True):
                write_video(path, scene(options.seconds), fps=FPS, crf=23, gop=gop, deterministic=False)
        rows = [row for path in videos for row in measure(path, options.rounds, Path(folder) / "cache")]
        print(f"worst: {min(row['ratio'].get('ffmpeg', np.inf) for row in rows):.2f} of ffmpeg (at least 0.80), cache "
              f"{min(row['cache'] for row in rows):.0f} × (at least 20)")  # fmt: skip
        lengths = {}
        for minutes in (1, 4):
            path = Path(folder) / f"{minutes}.mp4"
            write_video(path, scene(60 * minutes), fps=FPS, crf=23, gop=250, deterministic=False)
            lengths[minutes] = peak_of_stream(path)
        print("peak memory: " + ", ".join(f"{minutes} min {peak:.0f} MiB" for minutes, peak in lengths.items()))
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "peak_mib": lengths}, indent=1) + "\n")


if __name__ == "__main__":
    main()
