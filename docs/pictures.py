"""Make the pictures of the site from a real run, in a headless Chromium.

    python docs/pictures.py runs/demo

The run is one of `lofi demo`; any finished run with a report and a timeline page does. Pictures are PNG files of less
than 200 kB each in docs/pictures.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

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


def main() -> None:
    """Photograph the timeline page and the report of a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished `lofi demo`")
    run = parser.parse_args().run
    timeline = next(iter(sorted((run / "detections").glob("*.html"))), None)
    if timeline is None or not (run / "report.html").exists():
        sys.exit(f"{run} holds no report and no detections/*.html: give the folder of a finished `lofi demo`.")
    PICTURES.mkdir(exist_ok=True)
    for page, name, height in ((timeline, "timeline", 900), (run / "report.html", "report", 900)):
        picture = PICTURES / f"{name}.png"
        photograph(page, picture, 1200, height)
        size = picture.stat().st_size
        print(f"{picture}: {size / 1000:.0f} kB")
        if size > MOST_BYTES:
            sys.exit(f"{picture} is larger than {MOST_BYTES / 1000:.0f} kB: photograph less of the page.")


if __name__ == "__main__":
    main()
