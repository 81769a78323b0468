"""The page of a comparison: what it says, that texts stay texts, and that it goes to the actions that changed."""

import re
import shutil
import subprocess

import pytest

from lofi_tal.evaluation import Thresholds, ground_truth_of
from lofi_tal.evaluation.comparison import Candidate, compare
from lofi_tal.report import ComparisonPage, TimelineEntry, write_comparison
from lofi_tal.segments import Segments
from lofi_tal.showing import Shown

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
    return written(tmp_path / "page.html")


def written(path, video=None):
    """Write the page of two results, with a video file if there is one."""
    candidates = [Candidate(name, found, Thresholds(0.5)) for name, found in FOUND.items()]
    entries = [
        TimelineEntry(truth.video_id, video, truth, found[number], name, threshold=0.5)
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


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_where_no_video_may_be_loaded_lanes_and_table_work_and_the_page_says_why(tmp_path):
    """As the studio shows it: in an origin of its own, which may load nothing."""
    sync_api = pytest.importorskip("playwright.sync_api")
    (tmp_path / "clip.mp4").write_bytes(b"a video")
    content = written(tmp_path / "page.html", tmp_path / "clip.mp4").read_text()
    policy = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        window, errors = browser.new_page(), []
        window.on("pageerror", lambda error: errors.append(str(error)))
        answer = {"body": content, "content_type": "text/html", "headers": {"Content-Security-Policy": policy}}
        window.route("http://studio.test/**", lambda route: route.fulfill(**answer))
        window.goto("http://studio.test/page")
        window.wait_for_selector(".unplayable >> text=this page shows no video")
        assert window.locator(".viewer").first.locator(".lane .segment").count() > 2
        assert errors == []
        browser.close()


BESIDE = """() => [...document.querySelectorAll(".card")].filter((card) => card.offsetParent).flatMap((card) => {
  const edge = card.getBoundingClientRect().right;
  const wide = [...card.querySelectorAll("*")].filter((one) => !one.closest(".scroll, .lanes, .rows, svg, .hidden") &&
    one.getBoundingClientRect().right > edge + 1).map((one) => `${card.className}: ${one.tagName} ${one.className}`);
  return card.matches(".scroll") && innerWidth > 1000 && card.scrollWidth > card.clientWidth ? [...wide, card.innerText] : wide;
})"""  # noqa: E501
CUT = """() => [...document.querySelectorAll(".lane .name")].filter((one) => one.offsetParent)
  .filter((one) => one.scrollWidth > one.clientWidth || one.scrollHeight > one.clientHeight + 1)
  .map((one) => one.title)"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("count", [2, 3])
def test_nothing_is_wider_than_its_card_and_lanes_name_what_differs(tmp_path, count):
    sync_api = pytest.importorskip("playwright.sync_api")
    names = [f"demo_quick_gpu:{arm}" for arm in ("baseline", "lofi", "features")][:count]
    found = dict(zip(names, (FOUND["one"], FOUND["two"], TRUTH), strict=False))
    limits = Shown(0.5, {"turn": 0.4, NASTY: 0.3})
    rows = [
        TimelineEntry(truth.video_id, None, truth, one[number], name, shown=limits)
        for number, truth in enumerate(TRUTH)
        for name, one in found.items()
    ]
    candidates = [Candidate(name, one, Thresholds(0.5)) for name, one in found.items()]
    comparison = compare(ground_truth_of(TRUTH, "validation"), candidates, replicates=10)
    write_comparison(tmp_path / "page.html", ComparisonPage("three", comparison, timelines=rows))
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for width in (1400, 420):
            window = chromium.new_page(viewport={"width": width, "height": 900})
            window.goto((tmp_path / "page.html").as_uri())
            assert window.evaluate("document.documentElement.scrollWidth") <= width
            assert window.evaluate(BESIDE) == []
            assert window.evaluate(CUT) == []
            called = set(window.locator(".lane .name").all_inner_texts())
            assert {"truth", "baseline", "lofi"} <= called
        chromium.close()
