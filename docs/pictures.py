"""Make the pictures of the site from a real run, in a headless Chromium.

    python docs/pictures.py runs/demo
    python docs/pictures.py runs/demo --only studio

Any finished `lofi demo` or `lofi run` does: the timeline shows the first validation video that has actions, with its
ground truth and what the run found in it. Pictures are files of less than 200 kB each in docs/pictures.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from studio_pictures import photograph_studio

from lofi_tal.annotations import load_annotations
from lofi_tal.files import read_json
from lofi_tal.model_folders import find_model
from lofi_tal.recipes import load_recipe
from lofi_tal.report import write_timeline
from lofi_tal.segments import Segments
from lofi_tal.video import find_videos

PICTURES = Path(__file__).parent / "pictures"
MOST_BYTES = 200_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NARROWEST = 500
"""Pixels: a narrower window is not opened; the page is shown in a frame of its own width instead."""


def photograph(page: Path, picture: Path, width: int, height: int) -> None:
    """Write a PNG picture of the top of a page.

    Args:
        page: HTML file.
        picture: PNG file to write.
        width: Of the window, in pixels.
        height: Of the window, in pixels.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"No browser: install one of {', '.join(BROWSERS)}.")
    with tempfile.TemporaryDirectory() as scratch:
        address = page.resolve().as_uri()
        if width < NARROWEST:
            frame = Path(scratch) / "frame.html"
            style = f"width:{width}px;height:{height}px;border:0"
            frame.write_text(f'<body style="margin:0"><iframe src="{address}" style="{style}"></iframe>')
            address = frame.as_uri()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
        options += [f"--user-data-dir={scratch}/profile", "--virtual-time-budget=5000"]
        options += [f"--window-size={max(width, NARROWEST)},{height}", f"--screenshot={picture.resolve()}"]
        subprocess.run([browser, *options, address], check=True, capture_output=True, timeout=120)


def write_first_timeline(run: Path, page: Path) -> None:
    """Write the timeline page of the first validation video with actions, ground truth beside the run's detections."""
    data = load_recipe(run / "recipe.yaml").data
    truth = next(video for video in load_annotations(data.annotations).subset(data.eval_subset) if len(video.segments))
    model = find_model(run)
    rows = read_json(model.parent / "detections.json")["results"][truth.video_id]
    found = Segments(
        truth.video_id,
        [row["segment"][0] for row in rows],
        [row["segment"][1] for row in rows],
        tuple(row["label"] for row in rows),
        [row["score"] for row in rows],
        truth.duration,
    )
    threshold = read_json(model / "localizer.json")["threshold"]
    video = find_videos(data.videos)[truth.video_id]
    write_timeline(page, detections=found, truth=truth.segments, video=video, threshold=threshold)


def _photograph_pages(run: Path, scratch: Path) -> list[Path]:
    """Photograph a timeline page and the report of a run."""
    timeline = scratch / "timeline.html"
    write_first_timeline(run, timeline)
    pages = ((timeline, "timeline", 750), (run / "report.html", "report", 900))
    for page, name, height in pages:
        photograph(page, PICTURES / f"{name}.png", 1200, height)
    return [PICTURES / f"{name}.png" for _, name, _ in pages]


def main() -> None:
    """Photograph the pages of a run and the studio on its videos."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished `lofi demo` or `lofi run`")
    parser.add_argument("--only", choices=("pages", "studio"), help="only these pictures")
    arguments = parser.parse_args()
    run: Path = arguments.run
    if not (run / "report.html").exists():
        sys.exit(f"{run / 'report.html'} does not exist: give the folder of a finished `lofi demo` or `lofi run`.")
    PICTURES.mkdir(exist_ok=True)
    pictures: list[Path] = []
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.only != "studio":
            pictures += _photograph_pages(run, Path(scratch))
        if arguments.only != "pages":
            pictures += photograph_studio(run, Path(scratch), PICTURES)
    for picture in pictures:
        size = picture.stat().st_size
        print(f"{picture}: {size / 1000:.0f} kB")
        if size > MOST_BYTES:
            sys.exit(f"{picture} is larger than {MOST_BYTES / 1000:.0f} kB: photograph less of the page.")


if __name__ == "__main__":
    main()
