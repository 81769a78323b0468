"""A user's whole loop in a real browser: label, undo, import drafts, correct, split, train, see the errors, export."""

import json
import re
import shutil
import subprocess
import sys
from urllib.parse import urlsplit
from zipfile import ZipFile

import pytest

from lofi_tal.demo import demo_recipe
from tests.tiny import SETTINGS

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("uvicorn")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

HOSTILE = '<img src=x onerror="document.title=1">'
QUICK = ("baseline=false", "pretrain.epochs=1", "lofi.epochs=1", "head.epochs=1", "classifier.epochs=1")
WAIT = 20_000
TRAINING = 240_000  # milliseconds; ten seconds of processor time, on a machine that may be busy


class Studio:
    """A server of its own process, on a folder with videos."""

    def __init__(self, home, videos):
        self.home, self.labels = home, home / "labels.json"
        shutil.copytree(videos, home / "videos")
        command = [sys.executable, "-m", "lofi_tal.cli", "studio", str(home / "videos"), "--labels", str(self.labels)]
        self.process = subprocess.Popen(
            [*command, "--no-browser", "--device", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.address = self.process.stdout.readline().strip()

    def annotations(self, video):
        """Return the actions of a video in the labels file."""
        rows = json.loads(self.labels.read_text())["database"][video]["annotations"]
        return sorted((*row["segment"], row["label"]) for row in rows)

    def close(self):
        """End the server as Ctrl-C does."""
        self.process.terminate()
        self.process.wait(timeout=60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def studio(benchmark_set, tmp_path_factory):
    server = Studio(tmp_path_factory.mktemp("studio") / "home", benchmark_set.videos)
    yield server
    server.close()


@pytest.fixture
def open_page(browser, studio):
    """Return a function that opens the studio in a window of a size; its pages must not raise errors."""
    contexts, errors = [], []

    def open_window(width=1400, height=900):
        context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.hosts = set()
        page.on("request", lambda request: page.hosts.add(urlsplit(request.url).netloc))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(studio.address)
        page.wait_for_selector("body[data-ready]")
        return page

    yield open_window
    for context in contexts:
        context.close()
    assert not errors


def is_saved(page):
    """Wait until everything is saved."""
    page.wait_for_selector("#saved.saved")


def rows(page, count):
    """Wait until the table has so many rows, and return their texts."""
    page.wait_for_function("count => document.querySelectorAll('#rows tbody tr').length === count", arg=count)
    return page.locator("#rows tbody tr").all_inner_texts()


def opened(page, video):
    """Wait until a video is open and its frames are known, so that steps are frames."""
    page.wait_for_function("name => document.getElementById('video-name').textContent === name", arg=video)
    page.wait_for_function("() => document.getElementById('time').textContent.includes('frame 0')")


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def label_by_keyboard(page, new_class):
    """Label 0.5 s to 1 s: five frames on, in, five on, out, of a class that is made or has the first key."""
    press(page, *["ArrowRight"] * 5, "i", *["ArrowRight"] * 5)
    if new_class:
        press(page, "g")
        page.keyboard.type(new_class)
        press(page, "Enter")
        page.wait_for_function("() => !document.getElementById('dialog').open")
    else:
        press(page, "1")
    press(page, "o")


def choose(page, video):
    """Open a video from the list."""
    page.click(f"#list .video >> text={video}")
    opened(page, video)


def label_one_more(page, new_class):
    """Label as :func:`label_by_keyboard` does, and return how many actions there were."""
    before = page.locator("#rows tbody tr").count()
    label_by_keyboard(page, new_class)
    rows(page, before + 1)
    return before


def import_file(page, path, kind):
    page.click("#open-import")
    page.set_input_files("#dialog input[type=file]", path)
    page.get_by_label("As", exact=True).select_option(kind)
    page.get_by_role("button", name="Import", exact=True).last.click()
    text = page.wait_for_selector("#dialog .said p.strong").inner_text()
    page.keyboard.press("Escape")
    return text


def export_file(page, form, path):
    page.click("#open-export")
    page.get_by_label("Format").select_option(form)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    download.value.save_as(path)


def test_a_user_labels_corrects_trains_looks_and_takes_the_labels_elsewhere(studio, open_page, benchmark_set, tmp_path):
    page = open_page()
    opened(page, "training_00000")
    label_by_keyboard(page, "wave")
    assert re.search(r"0:00\.50\s*0:01\.00\s*wave", rows(page, 1)[0])
    press(page, "Enter")  # checked, and the next
    opened(page, "training_00001")
    label_by_keyboard(page, None)
    rows(page, 1)
    press(page, "Home", *["ArrowRight"] * 7, "s")  # split at 0.7 s
    assert "0:00.70" in rows(page, 2)[1]
    is_saved(page)

    page.reload()
    opened(page, "training_00001")
    rows(page, 2)
    press(page, "Control+z")  # the history is the server's
    rows(page, 1)
    is_saved(page)

    _correct_drafts(studio, page, tmp_path)
    _split_and_train(studio, page, benchmark_set)
    shutil.copytree(studio.home / "runs" / "first", studio.home / "runs" / "copy")
    _see_the_errors(page)
    _export_and_import(studio, page, tmp_path)
    assert page.hosts == {urlsplit(studio.address).netloc}


def _correct_drafts(studio, page, tmp_path):
    """Import four drafts of a model: accept the first, correct the second, reject the third, leave the last."""
    spans = [(0.5, 1.5), (2.0, 3.0), (4.0, 5.0), (6.0, 6.5)]
    found = [{"segment": span, "label": "wave", "score": 0.9 - i / 10} for i, span in enumerate(spans)]
    path = tmp_path / "detections.json"
    path.write_text(json.dumps({"results": {"training_00002": found}}))
    assert "4 drafts in 1 video" in import_file(page, path, "drafts")
    press(page, "n")
    opened(page, "training_00002")
    rows(page, 4)
    press(page, "d", "a", "c")
    assert page.evaluate("document.activeElement.value") == "0:02.000"
    page.keyboard.type("2.2")
    press(page, "Enter", "x")
    rows(page, 3)
    is_saved(page)
    page.fill("#threshold", "0.8")
    rows(page, 2)  # the last draft is below the threshold
    sync_api.expect(page.locator("#list .video", has_text="training_00002")).to_contain_text("2 actions")


def _split_and_train(studio, page, benchmark_set):
    """Bring in the labels of the other videos, split them, and train a few steps, with the page closed meanwhile."""
    text = import_file(page, benchmark_set.annotations, "labels")
    assert re.search(r"\d+ actions in \d+ videos", text)
    page.click("#open-split")
    page.wait_for_function("() => /Then there are: .*validation/.test(document.querySelector('.said').textContent)")
    page.get_by_role("button", name="Split", exact=True).click()
    page.wait_for_function("() => !document.getElementById('dialog').open")
    recipe = demo_recipe(benchmark_set, seed=0, overrides=(*SETTINGS, *QUICK))
    (studio.home / "quick.yaml").write_text(json.dumps(recipe.model_dump(mode="json")))
    page.click("#open-runs")
    page.get_by_role("tab", name="Train").click()
    page.get_by_label("Name of the run").fill("first")
    page.get_by_label("Recipe").fill("quick.yaml")
    page.get_by_label("train even if").check()
    page.get_by_label("learn from checked videos").check()
    command = "() => /quick.yaml.*data.background=true/.test(document.querySelector('#runs code').textContent)"
    page.wait_for_function(command)
    page.get_by_role("button", name="Start training").click()
    page.wait_for_selector(".job.running")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.click("#open-runs")
    page.get_by_role("tab", name="Jobs").click()
    page.wait_for_selector(".job.done", timeout=TRAINING)
    assert "lofi run" in page.locator(".log").inner_text()


def _see_the_errors(page):
    """Go from the list of errors to the place of one."""
    page.get_by_role("button", name="See the errors").click()
    page.wait_for_selector(".mistakes tbody .has-case")
    page.get_by_label("Order", exact=True).select_option("score")
    scores = [float(text or -1) for text in page.locator(".mistakes tbody td:nth-child(6)").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    wide = page.viewport_size
    page.set_viewport_size({"width": 420, "height": 900})
    assert page.locator(".mistakes").evaluate("box => box.scrollWidth - box.clientWidth") <= 0
    page.set_viewport_size(wide)
    first = page.wait_for_selector(".mistakes tbody .has-case")
    video = first.query_selector("button").inner_text()
    first.query_selector("button").click()
    page.wait_for_function("name => document.getElementById('video-name').textContent === name", arg=video)
    assert page.wait_for_selector(".segment.mistake.picked").get_attribute("aria-label")
    assert "Error of runs/first: " in page.locator(".editor").inner_text()
    cut = "names => names.filter((one) => one.scrollHeight > one.clientHeight + 1).map((one) => one.title)"
    assert page.locator(".names .name").evaluate_all(cut) == []
    _compare_in_full(page)


def _compare_in_full(page):
    """Compare the run with a copy of it; the page of `lofi compare` shows, and may ask for nothing."""
    page.click("#open-runs")
    page.get_by_role("tab", name="Runs and errors").click()
    for run in ("runs/first", "runs/copy"):
        page.get_by_label(f"Compare {run}").check()
    page.get_by_role("button", name="Compare in full").click()
    page.wait_for_selector(".job.done >> text=Open the page", timeout=TRAINING)
    with page.context.expect_page() as opened_page:
        page.get_by_role("link", name="Open the page").click()
    other = opened_page.value
    other.wait_for_selector("h2 >> text=Fixed and broken")
    assert "against" in other.title()
    assert other.evaluate("fetch('/api/videos').then(() => 'asked', () => 'refused')") == "refused"
    other.close()
    press(page, "Escape")


def _export_and_import(studio, page, tmp_path):
    """Take the labels to Label Studio, delete one, and bring it back."""
    wanted = studio.annotations("training_00000")
    path = tmp_path / "label-studio.zip"  # tasks, and how Label Studio shows them
    export_file(page, "label-studio", path)
    assert any(name.endswith(".json") for name in ZipFile(path).namelist())
    choose(page, "training_00000")
    count = len(wanted)
    rows(page, count)
    for left in range(count, 0, -1):
        press(page, "Home", "ArrowDown", "Delete")
        rows(page, left - 1)
    is_saved(page)
    import_file(page, path, "labels")
    rows(page, count)
    page.wait_for_function("() => document.getElementById('saved').className === 'saved'")
    export_file(page, "activitynet", tmp_path / "back.json")
    back = json.loads((tmp_path / "back.json").read_text())["database"]["training_00000"]["annotations"]
    assert [label for *_, label in wanted] == [row["label"] for row in sorted(back, key=lambda row: row["segment"])]
    for (start, end, _), row in zip(wanted, sorted(back, key=lambda row: row["segment"]), strict=True):
        assert row["segment"] == pytest.approx([start, end], abs=0.05)


CHANGES = """async () => {
  const edits = await import("/static/edits.js");
  const entry = { segments: [], drafts: [{ id: "d", start: 5, end: 6, label: "b", score: 0.5, source: "m" }] };
  const one = edits.add(entry, 1, 4, "a", "x");
  const two = edits.split(one, "x", 3);
  const spans = (some) => some.segments.map(({ start, end, label }) => [start, end, label]);
  const frames = new Float64Array([0, 0.1, 0.3, 0.4]);
  return {
    split: spans(two), merged: spans(edits.merge(two, "x")), outside: edits.split(one, "x", 4),
    alone: edits.merge(one, "x"),
    accepted: spans(edits.accept(one, ["d"])), left: edits.reject(one, ["d"]).drafts.length, before: spans(one),
    times: ["75.2", "1:15,2", "1:01:15.2", "1:", "-3", "x", ""].map(edits.parseTime),
    snapped: [0.04, 0.19, 0.21, 0.39, 0.46, 9].map((time) => edits.snap(frames, time, 0.5)),
  };
}"""


def test_changes_split_merge_accept_and_snap_to_frames(open_page):
    found = open_page().evaluate(CHANGES)
    assert found["before"] == [[1, 4, "a"]]  # a change makes a new entry
    assert found["split"] == [[1, 3, "a"], [3, 4, "a"]]
    assert found["merged"] == [[1, 4, "a"]]
    assert [found["outside"], found["alone"]] == [None, None]
    assert found["accepted"] == [[1, 4, "a"], [5, 6, "b"]]
    assert found["left"] == 0
    assert found["times"] == pytest.approx([75.2, 75.2, 3675.2, None, None, None, None])
    assert found["snapped"] == [0, 0.1, 0.3, 0.4, 0.5, 0.5]


STEPS = """async () => {
  const video = document.getElementById("player");
  const shown = [];
  for (const key of ["ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"]) {
    const frame = new Promise((done) => video.requestVideoFrameCallback((now, { mediaTime }) => done(mediaTime)));
    document.body.dispatchEvent(new KeyboardEvent("keydown", { bubbles: true, key }));
    shown.push([document.getElementById("time").textContent, await frame]);
  }
  return shown;
}"""


def test_a_step_shows_the_frame_of_its_time(open_page):
    page = open_page()
    choose(page, "validation_00000")
    page.wait_for_function("() => document.getElementById('player').readyState >= 2")
    shown = page.evaluate(STEPS)
    assert [text.split()[0] for text, _ in shown] == ["0:00.100", "0:00.200", "0:00.300", "0:00.200"]
    assert [time for _, time in shown] == pytest.approx([0.1, 0.2, 0.3, 0.2], abs=1e-3)


def test_the_mouse_drags_an_edge_to_a_frame_and_overlapping_actions_have_rows(open_page):
    page = open_page()
    choose(page, "validation_00001")
    before = label_one_more(page, "turn")
    bar = page.locator(".segment.action.picked")
    box, area = bar.bounding_box(), page.locator(".area").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + area["width"] / 10, middle, steps=3)
    page.mouse.up()
    start, end = (page.get_by_label(f"{name} of the action").input_value() for name in ("Start", "End"))
    assert start == "0:00.500"
    assert re.fullmatch(r"0:0[1-3]\.\d00", end)
    assert end > "0:01.500"
    press(page, "Escape", "Home", *["ArrowRight"] * 7, "i", *["ArrowRight"] * 3, "o")  # within the first
    rows(page, before + 2)
    bars = page.locator(".segment.action", has_text=re.compile("turn|^$"))
    tops = {bars.nth(i).bounding_box()["y"] for i in range(bars.count())}
    assert len(tops) >= 2
    press(page, "u", "u")
    page.wait_for_function("() => document.querySelector('#rows').textContent.includes('0:01.00')")
    is_saved(page)


def test_labels_with_html_stay_text(studio, open_page):
    page = open_page()
    choose(page, "validation_00003")
    label_by_keyboard(page, HOSTILE)
    page.wait_for_function("text => document.querySelector('#rows tbody').textContent.includes(text)", arg=HOSTILE)
    press(page, "?")
    page.wait_for_selector("#help[open]")
    assert page.locator("img[src=x]").count() == 0
    assert page.title() == "validation_00003 – lofi studio"
    assert page.hosts == {urlsplit(studio.address).netloc}


def test_a_narrow_page_has_no_horizontal_overflow(open_page):
    page = open_page(420, 900)
    overflow = "document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate(overflow) <= 0
    page.click("#show-videos")
    page.click("#list .video >> nth=1")
    opened(page, "training_00001")
    for button in ("#open-help", "#open-runs", "#open-drafts", "#open-split", "#open-import", "#open-export"):
        page.click(button)
        page.wait_for_selector("dialog[open]")
        assert page.evaluate(overflow) <= 0, button
        inside = "box => box.scrollWidth - box.clientWidth"
        assert page.locator("dialog[open]").evaluate(inside) <= 0, button
        press(page, "Escape")
        page.wait_for_function("() => !document.querySelector('dialog[open]')")


def test_an_answer_that_comes_late_takes_nothing_away(open_page):
    page, held = open_page(), []
    page.route("**/api/jobs", lambda route: held.append(route) if route.request.method == "GET" else route.continue_())
    page.click("#open-runs")  # asks for the jobs, and gets no answer yet
    page.get_by_role("tab", name="Train").click()
    page.get_by_label("Name of the run").fill("mine")
    with page.expect_response("**/api/jobs", timeout=WAIT):
        held.pop().fulfill(json=[])
    page.evaluate("new Promise((done) => setTimeout(done))")
    assert page.get_by_label("Name of the run").input_value() == "mine"
    assert "Nothing was started yet" not in page.locator("#runs").inner_text()


def test_news_of_a_job_take_no_click_away(open_page):
    page, shares = open_page(), iter(range(1, 100))
    job = {"id": "j", "kind": "train", "command": "lofi run", "state": "running", "text": "", "output": "runs/j"}
    news = 'retry: 20\ndata: {"kind": "job", "id": "j"}\n\n'
    page.route("**/api/jobs", lambda route: route.fulfill(json=[{**job, "share": next(shares) / 100}]))
    page.route("**/api/jobs/j/log*", lambda route: route.fulfill(json={"text": "", "next": 0}))
    page.route("**/api/events", lambda route: route.fulfill(body=news, content_type="text/event-stream"))
    page.reload()
    page.click("#open-runs")
    row = page.wait_for_selector(".job.running")
    before = row.query_selector("progress").evaluate("bar => bar.value")
    page.wait_for_function("before => document.querySelector('.job progress').value > before + 0.02", arg=before)
    assert row.evaluate("row => row.isConnected")


def test_times_are_typed_one_after_the_other_without_a_false_alarm(open_page):
    page = open_page()
    choose(page, "training_00003")
    label_one_more(page, "walk")
    press(page, "e")
    page.keyboard.type("1.52")  # beyond the end, which is typed next
    press(page, "Tab")
    assert "the end comes after" not in page.locator("#toast").inner_text()
    page.keyboard.type("2.5")
    press(page, "Enter")
    page.wait_for_function("() => document.querySelector('#rows').textContent.includes('0:02.50')")
    assert page.get_by_label("Start of the action").input_value() == "0:01.500"  # on a frame
    press(page, "e")
    page.keyboard.type("9999")
    page.mouse.click(700, 300)
    assert "the end comes after the start" in page.wait_for_selector("#toast").inner_text()
    assert page.get_by_label("Start of the action").input_value() == "0:01.500"
    is_saved(page)


def test_the_last_frame_ends_with_the_video_and_an_action_needs_an_end(open_page):
    page = open_page()
    choose(page, "training_00004")
    before = page.locator("#rows tbody tr").count()
    press(page, "End", "ArrowLeft", "i", "Enter")  # the start of the last frame
    assert "no end" in page.wait_for_selector("#toast").inner_text()
    assert page.locator("#video-name").inner_text() == "training_00004"
    press(page, "ArrowRight", "1", "o")
    rows(page, before + 1)
    end = page.get_by_label("End of the action").input_value()
    assert page.locator("#time").inner_text().startswith(f"{end} / ")
    press(page, "ArrowLeft", "s")
    assert "in no action" in page.wait_for_selector("#toast >> text=action").inner_text()
    is_saved(page)


def test_a_class_takes_a_letter_as_its_key_and_becomes_part_of_another(studio, open_page):
    page = open_page()
    choose(page, "training_00005")
    before = page.locator("#rows tbody tr").count()
    press(page, "g")
    page.keyboard.type("jig")
    press(page, "Enter")
    page.wait_for_selector("#classes .chip:has-text('jig')")
    label_by_keyboard(page, "skip")
    rows(page, before + 1)
    press(page, "g")
    page.get_by_label("Own key of skip").fill("w")
    press(page, "Tab", "Escape")
    page.wait_for_selector("#classes .chip:has-text('skip') kbd:has-text('W')")
    press(page, "g")
    page.locator(".class-row", has=page.get_by_label("Own key of skip")).get_by_role("button", name="Rename").click()
    page.get_by_label("New name of skip").fill("jig")
    press(page, "Enter")
    page.get_by_role("button", name="Make skip a part of jig").click()
    press(page, "Escape")
    page.wait_for_function("() => !document.querySelector('#rows').textContent.includes('skip')")
    press(page, "Control+z")
    page.wait_for_selector("#rows >> text=skip")
    page.wait_for_selector("#classes .chip:has-text('skip')")
    is_saved(page)


def test_a_menu_used_with_the_mouse_gives_the_keys_back(open_page):
    page = open_page()
    name = page.locator("#video-name").inner_text()
    page.locator("#sort").click()
    page.locator("#sort").select_option("length")
    page.wait_for_function("() => document.activeElement.id !== 'sort'")
    press(page, "n")
    page.wait_for_function("name => document.getElementById('video-name').textContent !== name", arg=name)


def test_a_second_window_learns_of_a_change_and_nothing_of_it_is_overwritten(studio, open_page):
    first, second = open_page(), open_page()
    for page in (first, second):
        choose(page, "validation_00002")
    before = first.locator("#rows tbody tr").count()
    label_by_keyboard(first, "hop")
    rows(first, before + 1)
    rows(second, before + 1)
    second.route("**/entry", lambda route: route.abort())  # the server is gone
    press(second, "Home", "ArrowDown", "Delete")
    second.wait_for_selector("#saved.unsaved")
    assert "does not answer" in second.locator("#trouble").inner_text()
    press(first, "Home")
    label_by_keyboard(first, None)
    rows(first, before + 2)
    second.unroute("**/entry")
    second.wait_for_selector("#dialog[open] >> text=Changed elsewhere")
    second.get_by_role("button", name="Keep theirs").click()
    rows(second, before + 2)
    is_saved(second)
