"""The page of a comparison: what it says, that texts stay texts, and that it goes to the actions that changed."""

import re
import shutil
import subprocess

import pytest

from lofi_tal.evaluation import Thresholds, ground_truth_of
from lofi_tal.evaluation.comparison import Candidate, compare
from lofi_tal.report import ComparisonPage, TimelineEntry, write_comparison
from lofi_tal.segments import Segments

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NASTY = "<b id=nasty>bend</b>"
TRUTH = [
    Segments("clip", [2.0, 6.0], [4.0, 8.0], (NASTY, "turn"), [1, 1], 10.0),
    Segments("other", [0.0], [4.0], ("turn",), [1], 10.0),
]
FOUND = {
    "one": [TRUTH[0][[1]], TRUTH[1][[0]]],
    "two": [TRUTH[0], Segments("other", [0.0], [1.0], ("turn",), [1], 10.0)],
}


@pytest.fixture
def page(tmp_path):
    candidates = [Candidate(name, found, Thresholds(0.5)) for name, found in FOUND.items()]
    path = tmp_path / "page.html"
    entries = [
        TimelineEntry(truth.video_id, None, truth, found[number], name, threshold=0.5)
        for number, truth in enumerate(TRUTH)
        for name, found in FOUND.items()
    ]
    write_comparison(
        path,
        ComparisonPage(
            title=f"two against {NASTY}",
            comparison=compare(ground_truth_of(TRUTH, "validation"), candidates, replicates=10),
            timelines=entries,
            settings={"lofi.lr": (0.1, None)},
            stages={"lofi": ((60.0, 2**30), None)},
            left_out={"lost": "not in two"},
        ),
    )
    return path


def test_the_page_says_what_changed_and_keeps_texts_as_texts(page):
    text = page.read_text()
    assert "<b id=nasty>" not in text
    assert re.search(r"<strong>fixed</strong> &lt;b id=nasty&gt;bend&lt;/b&gt;, 2.0–4.0 s: missed → found", text)
    assert re.search(r"<strong>broken</strong> turn, 0.0–4.0 s: found → boundaries", text)
    assert '<code>lofi.lr</code></th><td class="text">0.1</td><td class="text">–</td>' in text
    assert "1 min 00 s" in text
    assert "<li>lost: not in two</li>" in text
    assert "http" not in text.replace("http://www.w3.org", "")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_click_on_an_action_goes_there_and_menus_choose_videos(page, tmp_path):
    script = """<script>addEventListener("load", () => {
        const out = [], all = (name) => [...document.querySelectorAll(name)];
        const shown = () => all(".case").filter((one) => !one.hidden).map((one) => one.dataset.video).join(" ");
        out.push(shown());
        all(".changes .fixed")[0].click();
        out.push(document.querySelector(".case[data-video=clip] .time").textContent);
        const kind = document.querySelector(".kind");
        kind.value = "broken"; kind.dispatchEvent(new Event("change")); out.push(shown());
        out.push(document.querySelector(".found").textContent.split(";")[0]);
        const label = document.querySelector(".class");
        label.value = "turn"; label.dispatchEvent(new Event("change")); out.push(shown());
        kind.value = "fixed"; kind.dispatchEvent(new Event("change")); out.push(shown() || "none");
        const seen = document.createElement("pre"); seen.id = "seen"; seen.textContent = out.join("|");
        document.body.append(seen);
    });</script>"""
    page.write_text(page.read_text() + script)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000"]
    run = subprocess.run([BROWSER, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    match = re.search(r'<pre id="seen">(.*?)</pre>', run.stdout, re.DOTALL)
    assert match, run.stdout[-2000:]
    assert match[1].split("|") == [
        "clip other",
        "0:02.00 / 0:10.00",
        "other",
        "1 of 2 videos with changes",
        "other",
        "none",
    ]
