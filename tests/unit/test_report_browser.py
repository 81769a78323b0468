"""The viewer in a real browser, where one is installed: threshold, keys, clicks and text that stays text."""

import re
import shutil
import subprocess

import pytest

from lofi_tal.report import write_timeline
from lofi_tal.segments import Segments

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

NASTY = "<img src=x onerror=\"document.title='broken'\">"
TRUTH = Segments("clip", [1.0], [3.0], (NASTY,), [1.0], 10.0)
FOUND = Segments("clip", [1.0, 2.0, 6.0], [3.0, 4.0, 8.0], (NASTY, NASTY, "bend"), [0.9, 0.5, 0.1], 10.0)


def shown(folder, actions, **settings):
    """Return what ``actions`` (JavaScript that fills the list ``out``) saw in the page."""
    path = folder / "page.html"
    write_timeline(path, detections=FOUND, **settings)
    script = f"""<script>addEventListener("load", () => {{
        const out = [], find = (name) => document.querySelector(name), all = (name) => document.querySelectorAll(name);
        const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", {{ key, bubbles: true }}));
        const slider = find(".threshold");
        const limit = (value) => {{ slider.value = value; slider.dispatchEvent(new Event("input")); }};
        {actions}
        const seen = document.createElement("pre"); seen.id = "seen"; seen.textContent = out.join("|");
        document.body.append(seen);
    }});</script>"""
    path.write_text(path.read_text(encoding="utf-8") + script, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    options += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=2000"]
    command = [str(BROWSER), *options, path.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    match = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)
    assert match, dom[-2000:]
    return match[1].split("|")


def test_threshold_keys_clicks_and_order(tmp_path):
    actions = """
        out.push(all("tbody tr").length, all(".segment").length, find(".count").textContent);
        limit(0.5); out.push(all("tbody tr").length, all(".segment").length);
        limit(0); find("th[data-sort=score]").click();
        out.push([...all("tbody td:nth-child(5)")].map((cell) => cell.textContent).join(" "));
        out.push(find("tbody .tiou").textContent);
        press("ArrowRight"); press("ArrowRight"); press("ArrowLeft"); out.push(find(".playhead").style.left);
        all("tbody tr")[2].click(); out.push(find(".time").textContent, all("tr.now").length);
        all(".segment")[0].click(); out.push(find(".time").textContent);
        out.push(document.title, all(".viewer img").length, find(".group .label").textContent.startsWith("<img"));
    """
    assert shown(tmp_path, actions, truth=TRUTH, threshold=0.3) == [
        "2", "3", "2 of 3 detections", "2", "3", "0.900 0.500 0.100", "1.00", "10%",
        "0:06.00 / 0:10.00", "1", "0:01.00 / 0:10.00", "clip", "0", "true",
    ]  # fmt: skip


def test_video_that_does_not_play_leaves_note_and_lanes(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video at all")
    actions = """
        find("video").dispatchEvent(new Event("error"));
        out.push(find("video").hidden, find(".unplayable").hidden, all(".segment").length);
        press("ArrowRight"); out.push(find(".playhead").style.left);
    """
    seen = shown(tmp_path, actions, video=tmp_path / "clip.mp4", threshold=0.0)
    assert seen == ["true", "false", "3", "10%"]


def test_threshold_above_every_score_says_so_and_can_be_lowered(tmp_path):
    actions = """
        out.push(all("tbody tr").length, find(".nothing").hidden);
        limit(0.9); out.push(all("tbody tr").length, find(".nothing").hidden);
    """
    assert shown(tmp_path, actions, threshold=0.95) == ["0", "false", "1", "true"]
