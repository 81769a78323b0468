"""What is well-formed and hardly meant: times in another unit, one class under two names, subsets without truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lofi_tal.annotations import (
    Annotations,
    VideoAnnotation,
    check_annotations,
    group_findings,
    load_annotations,
    require_usable,
)
from lofi_tal.cli.app import app
from lofi_tal.errors import DataError
from lofi_tal.segments import Segments
from lofi_tal.video import write_video


def video(name, spans, *, duration=None, subset="training", label="pour"):
    labels = [label] * len(spans) if isinstance(label, str) else label
    starts, ends = zip(*spans, strict=True) if spans else ((), ())
    segments = Segments(name, starts, ends, labels, np.ones(len(spans)), duration)
    return VideoAnnotation(name, duration, subset, segments)


def annotations(*videos):
    return Annotations({one.video_id: one for one in videos})


def make_videos(folder, seconds, fps=10):
    folder.mkdir()
    for seed, (name, length) in enumerate(seconds.items()):
        pictures = [np.full((32, 32, 3), 40 * seed + i % 30, np.uint8) for i in range(round(length * fps))]
        write_video(folder / f"{name}.mp4", pictures, fps=fps)
    return folder


def details(report, kind):
    return [finding.detail for finding in report.findings if finding.kind == kind]


@pytest.mark.parametrize(
    ("spans", "duration", "unit"),
    [
        ([(10, 30)], None, "frames"),  # of a video of 8 s with 10 frames a second
        ([(0, 12), (40, 79)], 8.0, "frames"),
        ([(20, 60)], 80, "frames"),  # the duration counts frames too
        ([(1500.5, 3000.25)], 8.0, "milliseconds"),
        ([(100, 200), (250, 900)], None, "milliseconds"),
        ([(500, 7000)], 8000, "milliseconds"),
        ([(2e6, 5e6)], 8.0, "microseconds"),
    ],
)
def test_times_that_are_no_seconds_are_told_by_the_length_of_the_file(tmp_path, spans, duration, unit):
    folder = make_videos(tmp_path / "videos", {"a": 8, "b": 8})
    fine = video("b", [(1, 3)], subset="validation")
    report = check_annotations(annotations(video("a", spans, duration=duration), fine), folder)
    (finding,) = [finding for finding in report.findings if finding.kind == "units"]
    assert (finding.severity, finding.video_id) == ("error", "a")
    assert f"are these {unit}?" in finding.detail
    assert "lasts 8 s" in finding.detail
    assert not details(report, "segment-outside")
    with pytest.raises(DataError, match=f"'training' lies outside.*are these {unit}"):
        require_usable(report)


@pytest.mark.parametrize(
    ("duration", "spans"),
    [
        (10.0, [(0.5, 10.4), (0, 11.5)]),  # carelessly cut
        (30.0, [(20, 25)]),  # the file has lost its end
        (8.0, [(1, 3), (4, 7)]),
    ],
)
def test_times_in_seconds_are_taken_for_what_they_are(tmp_path, duration, spans):
    folder = make_videos(tmp_path / "videos", {"a": min(duration, 10.5)})
    report = check_annotations(annotations(video("a", spans, duration=duration)), folder)
    assert not details(report, "units")


@pytest.mark.parametrize(
    ("spans", "duration", "units"),
    [
        ([(0.5, 0.8), (1.5, 3.2), (4.1, 9.5)], 600, "minutes"),
        ([(0.1, 0.25), (0.4, 0.7), (0.8, 0.95)], 45, "shares of the video"),
        ([(0.05, 0.1), (0.2, 0.3), (0.6, 0.99)], 90, "minutes or shares of the video"),
    ],
)
def test_times_that_all_lie_at_the_very_start_are_doubted(spans, duration, units):
    report = check_annotations(annotations(video("a", spans, duration=duration)), None)
    (detail,) = details(report, "units")
    assert f"are these {units}?" in detail
    assert report.verdict != "No errors."


def test_a_few_early_segments_are_not_doubted_but_a_whole_set_of_them_is():
    early = [video(f"v{i}", [(0, 1.5)], duration=300.0) for i in range(5)]
    assert len(details(check_annotations(annotations(*early), None), "units")) == 5
    late = video("late", [(100, 120)], duration=300.0)
    assert not details(check_annotations(annotations(*early, late), None), "units")


@pytest.mark.parametrize(
    "names",
    [
        ("Pour", "pour"),
        ("bend", "Bend"),
        ("pour  water", "pour water"),
        ("jump", "jump "),
        ("open_door", "open door"),
        ("Öffnen", "öffnen"),
        ("Straße", "STRASSE"),
        ("Ku\u0308che", "K\u00fcche"),
        ("puor", "pour"),
        ("pourr water", "pour water"),
        ("stiring", "stirring"),
        ("climb stars", "climb stairs"),
        ("kneding", "kneading"),
    ],
)
def test_one_class_under_two_names_is_found(names):
    spans = [(i, i + 0.5) for i in range(5)]
    several = video("a", spans, duration=10, label=[names[0]] + [names[1]] * 4)
    (detail,) = details(check_annotations(annotations(several), None), "similar-labels")
    assert repr(names[0]) in detail
    assert repr(names[1]) in detail


@pytest.mark.parametrize(
    "names", [("walk", "talk"), ("step 1", "step 2"), ("sit down", "sit up"), ("arm a", "arm b"), ("jump", "throw")]
)
def test_two_classes_are_two(names):
    spans = [(i, i + 0.5) for i in range(5)]
    several = video("a", spans, duration=10, label=[names[0]] + [names[1]] * 4)
    assert not details(check_annotations(annotations(several), None), "similar-labels")


def test_names_that_differ_in_a_letter_are_two_classes_if_both_are_frequent():
    spans = [(i, i + 0.5) for i in range(8)]
    several = video("a", spans, duration=10, label=["Playing polo"] * 4 + ["Playing pool"] * 4)
    assert not details(check_annotations(annotations(several), None), "similar-labels")


def test_classes_of_one_instance_are_named_in_one_finding():
    several = video("a", [(0, 1), (1, 2), (2, 3), (3, 4)], duration=10, label=["pour", "stir", "cut", "cut"])
    (detail,) = details(check_annotations(annotations(several), None), "single-instance")
    assert detail.startswith("2 classes have one instance in 'training': 'pour', 'stir'.")
    assert not details(
        check_annotations(annotations(video("a", [(0, 1), (1, 2)], duration=3)), None), "single-instance"
    )


def test_segments_that_stand_there_twice_are_found():
    rows = [(0, 1), (0, 1), (0, 1), (0, 1), (2, 3), (2, 3.5)]
    several = video("a", rows, duration=10, label=["x", "x", "x", "y", "x", "x"])
    assert details(check_annotations(annotations(several), None), "duplicate-segment") == [
        "The segment [0, 1] s (x) stands there 3 times."
    ]


@pytest.mark.parametrize("subsets", [("training", "validation"), ("train", "val"), ("validation", "testing")])
def test_a_subset_without_videos_is_an_error_that_names_the_way_out(subsets):
    everything = [video("a", [(0, 1), (2, 3)], duration=10, subset=subsets[0])]
    (detail,) = details(check_annotations(annotations(*everything), None, subsets=subsets), "missing-subset")
    assert f"No video is in subset {subsets[1]!r}" in detail
    assert "`lofi data split`" in detail
    everything.append(video("b", [(0, 1)], duration=10, subset=subsets[1]))
    assert check_annotations(annotations(*everything), None, subsets=subsets).verdict == "No errors."


@pytest.mark.parametrize("subset", ["training", "validation"])
@pytest.mark.parametrize("span", [(5, 4), (3, 3), (60, 70)])
def test_a_class_that_loses_all_its_truth_is_an_error(subset, span):
    videos = [video(f"{one}{i}", [(0, 1), (1, 2)], duration=10, subset=one, label=["pour", "stir"])
              for one in ("training", "validation") for i in range(2)]  # fmt: skip
    require_usable(check_annotations(annotations(*videos), None))
    videos = [video(one.video_id, [(0, 1), span], duration=10, subset=one.subset, label=["pour", "stir"])
              if one.subset == subset else one for one in videos]  # fmt: skip
    report = check_annotations(annotations(*videos), None)
    with pytest.raises(DataError, match=f"Every segment of class 'stir' in '{subset}'"):
        require_usable(report)


def test_equal_findings_are_one_line_with_a_count(tmp_path):
    videos = [video(f"v{i}", [(1, 9), (2, 9)], duration=8.0) for i in range(30)]
    report = check_annotations(annotations(*videos), make_videos(tmp_path / "videos", {"none": 1}))
    lines = {line.kind: line for line in group_findings(report.findings)}
    assert lines["missing-video"].count == 30
    assert lines["segment-outside"].count == 60
    assert lines["segment-outside"].videos == tuple(f"v{i}" for i in range(30))
    assert lines["segment-outside"].named == "v0, v1, v2, v3, ..."
    assert [line.severity for line in group_findings(report.findings)] == ["error", "error", "warning"]
    assert report.counts["missing-video"] == 30


@pytest.fixture
def check(tmp_path):
    """`lofi data check` of some videos, without files."""

    def run(videos, *options):
        database = {}
        for one in videos:
            rows = zip(one.segments.start, one.segments.end, one.segments.label, strict=True)
            records = [{"segment": [start, end], "label": label} for start, end, label in rows]
            database[one.video_id] = {"subset": one.subset, "duration": one.duration, "annotations": records}
        (tmp_path / "labels.json").write_text(json.dumps({"database": database}))
        assert load_annotations(tmp_path / "labels.json").subsets
        result = CliRunner().invoke(app, ["data", "check", str(tmp_path / "labels.json"), *options])
        return result.exit_code, result.output

    return run


def test_the_command_says_no_errors_only_if_there_is_nothing_to_say(check):
    fine = [video(name, [(0, 1), (2, 3)], duration=10, subset=name) for name in ("training", "validation")]
    assert check(fine)[0] == 0
    assert "No errors." in check(fine)[1]
    status, output = check([*fine, video("b", [(0, 1), (2, 3)], duration=10, label="Pour")])
    assert (status, "No errors" in output) == (0, False)
    assert "2 warnings: `lofi run` would train." in output  # of case, and never evaluated
    status, output = check([*fine, video("c", [(1000, 2000)], duration=10)])
    assert (status, "No errors" in output) == (3, False)
    status, output = check([video("a", [(0, 1), (2, 3)], duration=10, subset="train")], "--train-subset", "train")
    assert (status, "lofi data split" in output) == (3, True)
    several = [video(f"v{i}", [(1000, 2000)], duration=10) for i in range(9)]
    assert check([*fine, *several])[1].count("are these milliseconds") == 1
    assert check([*fine, *several], "--all")[1].count("are these milliseconds") == 9


times = st.floats(-1e8, 1e8) | st.integers(-5, 100).map(float)
labels = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(str.strip)


@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(1e-3, 1e8),
            st.sampled_from(["training", "validation", "testing", "other"]),
            st.lists(st.tuples(times, times, labels), max_size=4),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_annotations_can_be_checked(rows):
    videos = [
        video(f"v{i}", [row[:2] for row in spans], duration=duration, subset=subset, label=[row[2] for row in spans])
        for i, (duration, subset, spans) in enumerate(rows)
    ]
    report = check_annotations(annotations(*videos), None)
    lines = group_findings(report.findings)
    assert sum(line.count for line in lines) == len(report.findings)
    assert (report.verdict == "No errors.") == (not lines)
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["counts"] == report.counts
