"""The report of a run: its tables, its pictures, and the JSON beside it."""

import html.parser
import json
import re

import numpy as np
import pytest

from lofi_tal.evaluation import evaluate_detections
from lofi_tal.report import Arm, Report, StageSummary, TimelineEntry, write_report
from lofi_tal.segments import Segments

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
NASTY = "<script>alert(1)</script>"


class Page(html.parser.HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data):
        if data.strip():
            self.words.append(data.strip())

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def score(average=0.3, labels=("jump", "bend"), thresholds=THRESHOLDS):
    values = [average * (1.5 - i / max(1, len(thresholds) - 1)) for i in range(len(thresholds))]
    per_class = {
        label: {"average": average * (i + 1) / len(labels), "ap": values, "instances": i + 3, "detections": 9}
        for i, label in enumerate(labels)
    }
    return {
        "average_mAP": average,
        "mAP": values,
        "tiou_thresholds": list(thresholds),
        "videos": 12,
        "instances": 34,
        "per_class": per_class,
    }


def arm(name, average=0.3, **options):
    scores = {way: score(average + i / 10, **options) for i, way in enumerate(("fused", "agnostic", "oracle"))}
    return Arm(name, f"what {name} is", scores)


def stage(name="lofi", *, skipped=False, metrics=None):
    lines = [
        {"step": i + 1, "epoch": i // 4, "lr": 0.1, "loss": 1 / (i + 1), "loss/node": 0.5, "fidelity": "STT"[i // 4],
         "snippets": 8, "size": 32, "wait": 0.25, "seconds": 1.0 * i}
        for i in range(12)
    ]  # fmt: skip
    return StageSummary(name, 75.0, 3 * 2**29, skipped, lines if metrics is None else metrics)


def found(video_id="clip", labels=("jump", "bend")):
    count = len(labels)
    return Segments(video_id, np.arange(count), np.arange(count) + 2.0, labels, np.linspace(0.9, 0.4, count), 12.0)


def full_report(folder):
    (folder / "videos").mkdir()
    video = folder / "videos" / "clip.mp4"
    video.touch()
    entries = [TimelineEntry("clip", video, found(), found(), name, 0.5) for name in ("baseline", "lofi")]
    return Report(
        "A run",
        "of the demonstration",
        [arm("baseline"), arm("lofi", 0.345)],
        [stage("pretrain", skipped=True), stage(), stage("lofi head")],
        entries,
        {"command": "lofi demo", "seed": "0"},
        ["video_1 was left out"],
        {"training": [1.0, 2.0, 3.0]},
    )


def written(folder, report):
    path = folder / "run" / "report.html"
    write_report(path, report)
    return Page(path.read_text(encoding="utf-8"))


def test_report_shows_every_part(tmp_path):
    page = written(tmp_path, full_report(tmp_path))
    text = " ".join(page.words)
    for words in ("A run", "of the demonstration", "what lofi is", "lofi − baseline", "34 instances in 12 videos"):
        assert words in text
    for words in ("up to date, skipped", "1 min 15 s", "1.50 GiB", "Lengths of segments", "lofi demo", "was left out"):
        assert words in text
    assert page.count("svg") == 3 + 1 + 1 + 1 + 3  # ways, classes, costs, lengths, stages
    assert page.count("video") == 1  # both arms share the timeline of the video


def test_page_refers_to_nothing_outside_but_video_and_json(tmp_path):
    page = written(tmp_path, full_report(tmp_path))
    references = {
        attributes[key]
        for _, attributes in page.tags
        for key in ("src", "href", "xlink:href", "data", "poster")
        if key in attributes and not attributes[key].startswith("#")
    }
    assert references == {"data:,", "../videos/clip.mp4", "report.json"}
    assert not re.search(r"https?:|@import|url\((?!#)", (tmp_path / "run" / "report.html").read_text())


def test_headline_has_scores_and_differences_in_per_cent(tmp_path):
    words = written(tmp_path, full_report(tmp_path)).words
    start = words.index("Own class scores")
    assert words[words.index("mAP (%) at tIoU") + 1 :][:4] == ["0.5", "0.75", "0.95", "average"]
    assert words[start + 2 :][:5] == ["baseline", "45.00", "28.33", "15.00", "30.00"]
    assert words[start + 7 :][:5] == ["lofi", "51.75", "32.58", "17.25", "34.50"]
    assert words[start + 12 :][:5] == ["lofi − baseline", "+6.75", "+4.25", "+2.25", "+4.50"]


def test_json_beside_the_page_holds_the_same_numbers(tmp_path):
    report = full_report(tmp_path)
    written(tmp_path, report)
    content = json.loads((tmp_path / "run" / "report.json").read_text())
    assert content["arms"] == [vars(one) for one in report.arms]
    assert content["stages"] == [vars(one) for one in report.stages]
    assert (content["facts"], content["notes"], content["lengths"]) == (report.facts, report.notes, report.lengths)
    entry = content["timelines"][1]
    assert (entry["arm"], entry["video"], entry["threshold"]) == ("lofi", "../videos/clip.mp4", 0.5)
    assert entry["detections"] == found().to_activitynet()


def test_numbers_that_json_lacks_become_null(tmp_path):
    lines = [{"step": np.int64(1), "loss": float("inf"), "lr": np.float32(0.5)}, {"loss": 1.0}]
    written(tmp_path, Report("x", stages=[stage(metrics=lines)]))
    content = json.loads((tmp_path / "run" / "report.json").read_text())
    assert content["stages"][0]["metrics"] == [{"step": 1, "loss": None, "lr": 0.5}, {"loss": 1.0}]


def test_results_of_the_evaluation_fit(tmp_path):
    truth = {"database": {"v": {"subset": "validation", "duration": 10, "annotations": [
        {"label": "a", "segment": [1, 4]}, {"label": "b", "segment": [5, 8]}]}}}  # fmt: skip
    guesses = {"results": {"v": [{"label": "a", "score": 0.9, "segment": [1, 4]}]}}
    result = evaluate_detections(truth, guesses).to_json()
    words = written(tmp_path, Report("x", arms=[Arm("one", "", {"fused": result})])).words
    assert words[words.index("Own class scores") + 2 :][:5] == ["one", "50.00", "50.00", "50.00", "50.00"]


@pytest.mark.parametrize(
    "report",
    [
        Report("Nothing"),
        Report("One arm", arms=[arm("only")]),
        Report("No scores", arms=[Arm("only", "not evaluated", {})]),
        Report("One way", arms=[Arm("only", "", {"agnostic": score()}), arm("other")]),
        Report("Zero", arms=[arm("only", 0.0)]),
        Report("THUMOS", arms=[arm("only", thresholds=(0.3, 0.4, 0.5, 0.6, 0.7))]),
        Report("Many thresholds", arms=[arm("only", thresholds=tuple(np.linspace(0.1, 0.9, 9)))]),
        Report("One threshold", arms=[arm("only", thresholds=(0.5,))]),
        Report("No metrics", stages=[stage(metrics=[]), stage("up to date", skipped=True, metrics=[{}])]),
        Report("Not measured", stages=[StageSummary("start", 0.0, 0, False)]),
        Report("Search", stages=[stage(metrics=[{"candidate_lr": 1e-3, "selection_mAP": 0.2}])]),
        Report("No detections", timelines=[TimelineEntry("v", None, None, Segments.empty("v"), "only")]),
        Report("Lengths only", lengths={"training": [1.0], "none": []}),
        Report("Long", arms=[arm("arm " * 60, labels=("a very long label " * 20, "w" * 300))]),
    ],
    ids=lambda report: report.title,
)
def test_odd_reports_are_drawn(tmp_path, report):
    page = written(tmp_path, report)
    assert report.title in page.words


def test_no_score_is_said_in_words(tmp_path):
    assert "Nothing was evaluated." in written(tmp_path, Report("Nothing")).words


def test_of_200_classes_the_ends_are_drawn_and_all_are_listed(tmp_path):
    labels = tuple(f"class {i:03d}" for i in range(200))
    words = written(tmp_path, Report("x", arms=[arm("a", labels=labels), arm("b", labels=labels)])).words
    assert "the best 15 and the worst 15 of 200 classes" in words
    drawn = [label for label in labels if words.count(label) == 2]
    assert drawn == [*labels[:15], *labels[-15:]]
    assert all(label in words for label in labels)


def test_class_that_an_arm_lacks_is_a_dash(tmp_path):
    words = written(tmp_path, Report("x", arms=[arm("a", labels=("p", "q")), arm("b", labels=("q",))])).words
    start = len(words) - words[::-1].index("p") - 1
    assert words[start : start + 4] == ["p", "3", "15.00", "–"]


def test_markup_in_any_text_stays_text(tmp_path):
    report = Report(
        NASTY,
        NASTY,
        [Arm(NASTY, NASTY, {"fused": score(labels=(NASTY, "b"))}), arm("b")],
        [StageSummary(NASTY, 1.0, 1, False, [{"loss": 1.0, f"loss/{NASTY}": 2.0, "fidelity": NASTY}])],
        [TimelineEntry(NASTY, None, found(labels=(NASTY,)), found(NASTY, (NASTY,)), NASTY)],
        {NASTY: NASTY},
        [NASTY],
        {NASTY: [1.0]},
    )
    page = written(tmp_path, report)
    assert page.count("script") == 2
    assert page.words.count(NASTY) > 8


def test_arms_keep_their_colours_on_the_timelines(tmp_path):
    entries = [TimelineEntry("v", None, None, found(), "second")]
    written(tmp_path, Report("x", arms=[arm("first"), arm("second")], timelines=entries))
    text = (tmp_path / "run" / "report.html").read_text()
    assert '"name":"second","truth":false,"colour":"c1"' in text


def test_lowest_of_the_arms_thresholds_is_shown(tmp_path):
    entries = [TimelineEntry("v", None, None, found(), name, limit) for name, limit in (("a", 0.6), ("b", 0.45))]
    written(tmp_path, Report("x", timelines=entries))
    assert '"threshold":0.45' in (tmp_path / "run" / "report.html").read_text()


def test_threshold_that_shows_hundreds_is_raised_until_the_lanes_are_readable(tmp_path):
    many = Segments("v", np.zeros(300), np.ones(300), ("a",) * 300, np.linspace(0.001, 0.3, 300))
    written(tmp_path, Report("x", timelines=[TimelineEntry("v", None, None, many, "a", 1e-9)]))
    shown = float(re.search(r'"threshold":([\d.e-]+)', (tmp_path / "run" / "report.html").read_text())[1])
    assert len(many.above(shown - 1e-6)) == 25


def test_same_report_gives_the_same_bytes(tmp_path):
    report = full_report(tmp_path)
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, report)
    first, second = ((tmp_path / name).read_text() for name in ("a.html", "b.html"))
    assert first.replace("a.json", "b.json") == second
