"""The pictures of `lofi studio`: a server on the videos of a run, photographed in a headless Chromium.

The validation videos lose their labels and get the run's detections as drafts, so that every part of the page is seen.
Nothing of the run or its data is changed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from lofi_tal.files import read_json
from lofi_tal.recipes import load_recipe

WIDE, NARROW, HEIGHT = 1400, 420, 860


@contextlib.contextmanager
def _serve(command: list[str]) -> Iterator[str]:
    """Yield the address of a studio that runs meanwhile."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(timeout=60)


def _prepare(run: Path, scratch: Path) -> tuple[list[str], str, Path]:
    """Return the command of the studio, a labelled video to show, and a file of drafts."""
    data = load_recipe(run / "recipe.yaml").data
    labels = read_json(data.annotations)
    entries = labels["database"]
    (scratch / "labels.json").write_text(json.dumps(labels))
    found = {
        name: [row for row in rows if row["score"] >= 0.05][:8]
        for name, rows in read_json(run / "arms" / "lofi" / "detections.json")["results"].items()
    }
    (scratch / "drafts.json").write_text(json.dumps({"results": found}))
    most = max(
        (name for name, one in entries.items() if one["subset"] == data.train_subset),
        key=lambda n: len(entries[n]["annotations"]),
    )
    command = [
        sys.executable,
        "-m",
        "lofi_tal.cli",
        "studio",
        str(data.videos),
        "--labels",
        str(scratch / "labels.json"),
    ]
    return [*command, "--model", str(run), "--no-browser"], most, scratch / "drafts.json"


def _open(page: Page, video: str) -> None:
    page.evaluate("name => { location.hash = `video=${encodeURIComponent(name)}`; }", video)
    page.wait_for_function("name => document.getElementById('video-name').textContent === name", arg=video)
    page.wait_for_function("() => document.getElementById('player').readyState >= 2")
    page.wait_for_function("() => document.getElementById('time').textContent.includes('frame')")


def _import_drafts(page: Page, drafts: Path) -> None:
    page.click("#open-import")
    page.set_input_files("#dialog input[type=file]", drafts)
    page.get_by_label("As", exact=True).select_option("drafts")
    page.get_by_role("button", name="Import", exact=True).last.click()
    page.wait_for_selector("#dialog .said p.strong")
    page.keyboard.press("Escape")


def _shoot(page: Page, file: Path) -> None:
    page.screenshot(path=file, type="jpeg", quality=85)  # most of it is video


def _thumbnails_are_there(page: Page) -> None:
    page.wait_for_function("() => [...document.querySelectorAll('.thumb')].every((one) => one.complete)")


def photograph_studio(run: Path, scratch: Path, pictures: Path) -> list[Path]:
    """Write the pictures of the studio, and return their files.

    Args:
        run: Folder of a finished run whose videos are still there.
        scratch: Empty folder to work in.
        pictures: Folder of the pictures.
    """
    command, video, drafts = _prepare(run, scratch)
    names = ["studio", "studio-drafts", "studio-errors", "studio-narrow"]
    files = [pictures / f"{name}.jpg" for name in names]
    with _serve(command) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDE, "height": HEIGHT})
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        _open(page, video)
        page.keyboard.press("ArrowDown")
        _thumbnails_are_there(page)
        _shoot(page, files[0])
        _import_drafts(page, drafts)
        page.select_option("#sort", "drafts")
        first = page.wait_for_selector("#list .video:has-text('draft')")
        _open(page, str(first.query_selector(".file").inner_text()))  # type: ignore[union-attr]
        page.wait_for_selector("#draft-tools:not([hidden])")
        page.keyboard.press("d")
        page.wait_for_selector(".segment.draft.picked")
        _shoot(page, files[1])
        page.click("#open-runs")
        page.get_by_role("tab", name="Runs and errors").click()
        page.get_by_role("button", name="Errors", exact=True).first.click()
        page.wait_for_selector(".mistakes tbody .has-case")
        page.get_by_label("Show", exact=True).select_option("mislabelled")
        _shoot(page, files[2])
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": NARROW, "height": HEIGHT})
        _open(page, video)
        _shoot(page, files[3])
        browser.close()
    return files
