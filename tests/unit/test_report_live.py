"""What is shown of a run at work: its state, and its first batch."""

import base64
import io
import re
import shutil
import subprocess
import time

import av
import numpy as np
import pytest

from lofi_tal.progress import Progress, followed
from lofi_tal.report import (
    Report,
    SheetAction,
    SheetItem,
    StageSummary,
    Status,
    report_page,
    status_html,
    write_contact_sheet,
    write_report,
)
from lofi_tal.report.status import SILENT

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NASTY = "<script>alert(1)</script>"
RANDOM = np.random.default_rng(0)


def pictures(count, size=16):
    return RANDOM.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def running(**changes):
    now = time.time()
    values = {"state": "running", "stage": "lofi", "done": 3, "total": 9, "detail": "loss 1.234", "started": now - 60}
    return Status(**{**values, "advanced": now - 5, "updated": now, "seconds_left": 120.0, **changes})


def shown_pictures(page):
    """Return the pictures of a sheet as arrays."""
    found = re.findall(r'data:image/png;base64,([^"]+)', page.read_text())
    with_frames = [next(av.open(io.BytesIO(base64.b64decode(one))).decode(video=0)) for one in found]
    return [frame.to_ndarray(format="rgb24") for frame in with_frames]


def test_a_sheet_has_the_pixels_of_the_batch_in_order(tmp_path):
    frames = pictures(14)
    write_contact_sheet(tmp_path / "a.html", [SheetItem("clip", frames, "run")], title="x", detail="y")
    first, second = shown_pictures(tmp_path / "a.html")
    assert np.array_equal(first, np.concatenate(list(frames[:12]), axis=1))
    assert np.array_equal(second, np.concatenate(list(frames[12:]), axis=1))


def test_large_pictures_are_averaged_and_many_are_thinned_evenly(tmp_path):
    frames = np.broadcast_to(np.arange(48, dtype=np.uint8)[:, None, None, None], (48, 224, 224, 3))
    write_contact_sheet(tmp_path / "a.html", [SheetItem("clip", frames)], title="x", detail="y")
    rows = shown_pictures(tmp_path / "a.html")
    assert [row.shape for row in rows] == [(112, 12 * 112, 3)] * 2
    assert np.concatenate(rows, axis=1)[0, ::112, 0].tolist() == list(range(1, 48, 2))


def test_labels_lie_above_their_pictures_and_never_cover_each_other(tmp_path):
    actions = [SheetAction(0.25, 0.75, "long", 0), SheetAction(0.5, 1.0, NASTY, 1)]
    item = SheetItem("video", pictures(24), actions=actions, seconds=60.0)
    write_contact_sheet(tmp_path / "a.html", [item], title="x", detail="y")
    text = (tmp_path / "a.html").read_text()
    bars = re.findall(r"left: ([\d.]+)%; width: ([\d.]+)%; top: ([\d.]+)rem", text)
    assert [tuple(map(float, bar)) for bar in bars] == [(50, 50, 0), (0, 50, 0), (0, 100, 1.35)]
    assert NASTY not in text
    assert re.findall(r"<span>(\d:\d\d\.\d)</span>", text) == ["0:00.0", "0:30.0", "0:30.0", "1:00.0"]


def test_a_page_says_what_is_done_and_escapes_it(tmp_path):
    html = status_html(running(detail=NASTY))
    assert "Running: lofi" in html
    assert "3 of 9, 2 min 00 s left of lofi" in html
    assert NASTY not in html
    page = report_page(tmp_path / "r.html", Report("a run", links={"first batch": "lofi/a.html"}), status=html)
    assert html in page
    assert 'href="lofi/a.html"' in page
    assert "Nothing was evaluated" not in page


@pytest.mark.parametrize("state", ["ended", "stopped", "failed"])
def test_a_run_that_is_over_has_a_page_that_stays(state):
    html = status_html(running(state=state, message="what to do"))
    assert "what to do" in html
    assert "<script" not in html


def test_the_report_of_a_finished_run_has_no_state(tmp_path):
    write_report(tmp_path / "r.html", Report("a run"))
    text = (tmp_path / "r.html").read_text()
    assert "data-updated" not in text
    assert "reload" not in text


def test_held_out_figures_are_drawn(tmp_path):
    lines = [{"step": i + 1, "epoch": i, "loss": 1.0, "lr": 0.1, "held_out/loss": 2.0} for i in range(4)]
    lines[-1]["held_out/mAP"] = 0.25
    write_report(tmp_path / "r.html", Report("a run", stages=[StageSummary("lofi", 1.0, 1, False, lines)]))
    text = (tmp_path / "r.html").read_text()
    assert "held-out videos" in text
    assert "mAP (%)" in text


def test_followers_are_told_of_quiet_tasks_while_they_follow():
    told = []
    with followed(lambda *task: told.append(task)), Progress("a", 2, quiet=True) as progress:
        progress.advance("one")
    progress.advance("two")
    assert told == [("a", 0, 2, ""), ("a", 1, 2, "one")]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("silent", [False, True])
def test_a_browser_says_when_there_is_no_news(tmp_path, silent):
    status = running(updated=time.time() - (SILENT + 60 if silent else 0))
    page = tmp_path / "page.html"
    text = report_page(page, Report("a run"), status=status_html(status))
    page.write_text(text.replace("location.reload()", 'document.title = "reloaded"'))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=30000"]
    command = [str(BROWSER), *options, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert ('<div class="name">No news from this run' in dom) == silent
    assert ("<title>reloaded</title>" in dom) != silent
    assert bool(re.search(r'<p class="notice" hidden="?', dom)) != silent
